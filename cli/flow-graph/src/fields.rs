//! Checks that the fields of a flow's spec exist in its CRD, with the type and within the limits that the
//! CRD sets, as the API server checks them; an error names the line.

use anyhow::{bail, ensure};
use kube::CustomResourceExt as _;
use operon_api::JobFlow;
use operon_core::job_flow::graph::nearest;
use serde_json::{Value, json};

use super::{
    limits,
    yaml::{Content, Node},
};

/// Checks the spec of a JobFlow.
///
/// # Errors
/// The first field that is unknown, of another type, or breaks a limit.
pub(super) fn check(flow: &Node) -> anyhow::Result<()> {
    let crd = json!(JobFlow::crd());
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    match (flow.get("spec"), schema) {
        (Some(spec), Some(schema)) => check_value(spec, schema, "spec"),
        _ => Ok(()),
    }
}

fn check_value(node: &Node, schema: &Value, path: &str) -> anyhow::Result<()> {
    let at = node.at();
    match (&node.content, schema["type"].as_str()) {
        (Content::Map(_), Some("object")) => check_fields(node, schema, path)?,
        (Content::List(items), Some("array")) => {
            for (place, item) in items.iter().enumerate() {
                let path = format!("{path}[{place}]");
                ensure!(!is_null(item), "{at}{path} must not be null");
                check_value(item, &schema["items"], &path)?;
            }
        }
        (Content::Scalar(value), Some(type_)) if is_of(value, type_) => {}
        (_, None) => {}
        (content, Some(type_)) => {
            bail!("{at}{path} must be of type {type_}, not {}", shown(content))
        }
    }
    limits::check(node, schema, path)
}

fn check_fields(node: &Node, schema: &Value, path: &str) -> anyhow::Result<()> {
    let Content::Map(entries) = &node.content else {
        return Ok(());
    };
    let any = &schema["additionalProperties"];
    let takes_any = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let known = schema["properties"].as_object();
    for entry in entries {
        let path = format!("{path}.{}", entry.key);
        let field = known.and_then(|known| known.get(&entry.key));
        let Some(field) = field.or_else(|| any.is_object().then_some(any)) else {
            ensure!(
                takes_any,
                "{}{path} is not a known field{}",
                entry.at(),
                meant(&entry.key, schema)
            );
            continue;
        };
        // The API server takes null for absent.
        if !is_null(&entry.value) {
            check_value(&entry.value, field, &path)?;
        }
    }
    Ok(())
}

fn meant(key: &str, schema: &Value) -> String {
    let known = schema["properties"].as_object().into_iter().flatten();
    let hint = nearest(key, known.map(|(name, _)| name.as_str()));
    hint.map_or_else(String::new, |hint| format!("; did you mean {hint:?}?"))
}

fn is_null(node: &Node) -> bool {
    matches!(node.content, Content::Scalar(Value::Null))
}

fn is_of(value: &Value, type_: &str) -> bool {
    match type_ {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

fn shown(content: &Content) -> String {
    match content {
        Content::Scalar(value @ (Value::Bool(_) | Value::Number(_))) => {
            format!("{value}: put it in quotes if it is meant as a string")
        }
        Content::Scalar(value) => value.to_string(),
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "an object".to_owned(),
    }
}
