//! The flows of a text in YAML or JSON. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use kube::{Resource as _, ResourceExt as _};
use operon_api::{JobFlow, JobTemplate};
use serde::Deserialize as _;
use serde_json::Value;

use super::{
    fields,
    yaml::{self, Content, Node},
};

/// What a file has to draw.
#[derive(Debug)]
pub struct Manifest {
    /// The flows, at least one.
    pub flows: Vec<JobFlow>,
    /// A sentence for each JobTemplate that the flows refer to and the file does not have. The cluster may have it.
    pub missing: Vec<String>,
}

impl Manifest {
    /// The flows of a text in YAML or JSON; only those of this name, if there is one.
    ///
    /// # Errors
    /// The text cannot be read, a JobFlow breaks the rules of its CRD, or there is no such JobFlow.
    pub fn parse(text: &str, name: Option<&str>) -> anyhow::Result<Self> {
        let objects = objects(text)?;
        let flows = picked(&objects, name)?;
        let missing = flows.iter().flat_map(|flow| missing(flow, &objects));
        Ok(Self {
            missing: missing.collect(),
            flows,
        })
    }
}

/// All objects of a text in YAML or JSON; of a list of objects, those in it.
fn objects(text: &str) -> anyhow::Result<Vec<Node>> {
    let mut all = Vec::new();
    for document in documents(text)? {
        let is_list = document.get("kind").and_then(Node::text);
        let is_list = is_list.is_some_and(|kind| kind.ends_with("List"));
        match document.get("items").map(|items| &items.content) {
            Some(Content::List(items)) if is_list => all.extend(items.iter().cloned()),
            _ => all.push(document),
        }
    }
    Ok(all)
}

fn documents(text: &str) -> anyhow::Result<Vec<Node>> {
    let found = yaml::documents(text);
    // YAML does not take every JSON, for example not one object after another.
    if found.is_err() && text.trim_start().starts_with('{') {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        if let Ok(values) = values.collect::<Result<Vec<_>, _>>() {
            return Ok(values.into_iter().map(Node::from).collect());
        }
    }
    found
}

/// The flows among some objects; the one of this name, if there is one to pick.
fn picked(objects: &[Node], name: Option<&str>) -> anyhow::Result<Vec<JobFlow>> {
    let kind = JobFlow::kind(&());
    let mut flows = Vec::new();
    let mut others = BTreeSet::new();
    for (place, object) in objects.iter().enumerate() {
        if !is_a(object, &kind) {
            let (version, kind) = (text(object, "apiVersion"), text(object, "kind"));
            others.insert(format!("{version} {kind}"));
            continue;
        }
        let flow = fields::check(object).and_then(|()| Ok(JobFlow::deserialize(object.to_json())?));
        let name = metadata(object, "name");
        flows.push(flow.with_context(|| format!("JobFlow {name:?} (object {})", place + 1))?);
    }
    if flows.is_empty() {
        let found = found(objects, others);
        bail!(
            "{found}; pass a file with a {kind} of {}",
            JobFlow::api_version(&())
        );
    }
    let Some(name) = name else {
        return Ok(flows);
    };
    let names: Vec<_> = flows
        .iter()
        .map(|flow| format!("{:?}", flow.name_any()))
        .collect();
    flows.retain(|flow| flow.name_any() == name);
    ensure!(
        !flows.is_empty(),
        "there is no JobFlow {name:?} in it, only {}",
        names.join(", ")
    );
    Ok(flows)
}

/// What there is in a file that has no flow.
fn found(objects: &[Node], mut kinds: BTreeSet<String>) -> String {
    let is_null = |node: &Node| matches!(node.content, Content::Scalar(Value::Null));
    if objects.iter().all(is_null) {
        return "it is empty".to_owned();
    }
    kinds.remove(" ");
    if kinds.is_empty() {
        return "there is no object in it".to_owned();
    }
    let kinds: Vec<_> = kinds.into_iter().collect();
    format!("there is only {} in it", kinds.join(", "))
}

/// The JobTemplates that a flow refers to and that are not among the objects.
fn missing(flow: &JobFlow, objects: &[Node]) -> Vec<String> {
    let namespace = flow.namespace().unwrap_or_default();
    let kind = JobTemplate::kind(&());
    let templates = objects.iter().filter(|object| is_a(object, &kind));
    let templates = templates.filter(|template| {
        // Without a namespace, both get the one of the command that applies them.
        let other = metadata(template, "namespace");
        other.is_empty() || namespace.is_empty() || other == namespace
    });
    let known: BTreeSet<_> = templates.map(|object| metadata(object, "name")).collect();
    let mut users: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, step) in flow.spec.flows.iter().enumerate() {
        let template = step.job_template_ref.as_deref();
        if let Some(template) = template.filter(|template| !known.contains(template)) {
            users.entry(template).or_default().push(place);
        }
    }
    let sentences = users.into_iter().map(|(template, steps)| {
        let (first, name) = (steps[0], &flow.spec.flows[steps[0]].name);
        let waits = match steps.len() - 1 {
            0 => format!("step {name:?} waits"),
            more => format!("step {name:?} and {more} more wait"),
        };
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!(" in namespace {namespace:?}")
        };
        format!(
            "JobFlow {:?}: spec.flows[{first}].jobTemplateRef: the file has no JobTemplate {template:?}{place}; {waits} until it is applied",
            flow.name_any()
        )
    });
    sentences.collect()
}

/// Whether an object is of this kind of JobFlow's group.
fn is_a(object: &Node, kind: &str) -> bool {
    text(object, "kind") == kind && text(object, "apiVersion") == JobFlow::api_version(&())
}

fn text<'a>(object: &'a Node, key: &str) -> &'a str {
    object.get(key).and_then(Node::text).unwrap_or_default()
}

fn metadata<'a>(object: &'a Node, key: &str) -> &'a str {
    let metadata = object.get("metadata");
    metadata.map_or("", |metadata| text(metadata, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_json_and_other_kinds_are_read() {
        let flow = r#"{"apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow", "metadata": {"name": "NAME"}, "spec": {"flows": [{"name": "a", "jobTemplateRef": "t"}]}}"#;
        let named = |name| flow.replace("NAME", name);
        let list = format!(
            "{{\n\t\"kind\": \"List\", \"items\": [{}, {}]}}",
            named("a"),
            named("b")
        );
        let yaml = format!("kind: ConfigMap\nitems: 3\n---\n---\n{}\n", named("a"));
        for (text, expected) in [(list, 2), (yaml, 1), (named("a") + &named("b"), 2)] {
            let flows = objects(&text).and_then(|objects| picked(&objects, None));
            assert_eq!(flows.expect("flows").len(), expected, "{text}");
        }
    }

    #[test]
    fn a_template_of_another_namespace_is_missing() {
        let flow = "apiVersion: api.practice.com/v1alpha1\nkind: JobFlow\nmetadata: {name: f, namespace: ci}\nspec: {flows: [{name: a, jobTemplateRef: t}]}\n";
        for (namespace, expected) in [("", 0), ("namespace: ci", 0), ("namespace: prod", 1)] {
            let template = format!(
                "apiVersion: api.practice.com/v1alpha1\nkind: JobTemplate\nmetadata: {{name: t, {namespace}}}\n"
            );
            let manifest = Manifest::parse(&format!("{flow}---\n{template}"), None);
            let missing = manifest.expect("a flow").missing;
            assert_eq!(missing.len(), expected, "{namespace}: {missing:?}");
        }
    }
}
