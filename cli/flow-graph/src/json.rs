//! Flows as JSON, for programs: the layers, and each step with what it depends on and its state. Pure.

use operon_api::job_flow::Phase;
use serde_json::{Map, Value, json};

use super::picture::{Picture, Step};

/// All flows as one object. What is not known is left out.
pub(super) fn draw(pictures: &[Picture]) -> String {
    let flows: Vec<_> = pictures.iter().map(flow).collect();
    format!("{:#}\n", json!({ "flows": flows }))
}

fn flow(picture: &Picture) -> Value {
    let name = |place: usize| picture.steps[place].name.as_str();
    let names = |places: &[usize]| places.iter().map(|place| name(*place)).collect::<Vec<_>>();
    let layers: Vec<_> = picture.layers.iter().map(|layer| names(layer)).collect();
    let steps = picture.steps.iter();
    let steps: Vec<_> = steps
        .map(|step| entry(step, &names(&step.dependencies)))
        .collect();
    let mut fields = Map::new();
    add(&mut fields, "namespace", picture.namespace.as_deref());
    add(&mut fields, "name", Some(picture.name.as_str()));
    for (field, text) in &picture.standing {
        add(&mut fields, field, Some(text.as_str()));
    }
    add(&mut fields, "message", picture.message.as_deref());
    add(&mut fields, "layers", Some(layers));
    add(&mut fields, "onExit", picture.exit.map(name));
    add(&mut fields, "steps", Some(steps));
    Value::Object(fields)
}

fn entry(step: &Step, dependencies: &[&str]) -> Value {
    let mut fields = Map::new();
    add(&mut fields, "name", Some(step.name.as_str()));
    add(&mut fields, "dependencies", Some(dependencies));
    add(&mut fields, "when", step.when.as_deref());
    add(&mut fields, "phase", step.phase.map(Phase::as_str));
    add(&mut fields, "reason", step.reason.as_deref());
    add(&mut fields, "message", step.message.as_deref());
    add(&mut fields, "attempts", step.attempts);
    add(&mut fields, "duration", step.duration.as_deref());
    Value::Object(fields)
}

fn add(fields: &mut Map<String, Value>, field: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        fields.insert(field.to_owned(), json!(value));
    }
}
