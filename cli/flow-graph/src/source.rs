//! The flows of a text in YAML or JSON. Pure.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use kube::{Resource as _, ResourceExt as _};
use operon_api::JobFlow;
use serde::Deserialize as _;
use serde_json::Value;

use super::{
    fields,
    yaml::{self, Content, Node},
};

/// The flows of a file, at least one; only those of this name, if there is one. `shown` is the name of the file in errors.
///
/// # Errors
/// The text cannot be read, an object is not what it says, or there is no such flow.
pub fn flows(text: &str, shown: &str, name: Option<&str>) -> anyhow::Result<Vec<JobFlow>> {
    let objects = objects(text).with_context(|| format!("failed to read {shown}"))?;
    picked(&objects, name).with_context(|| shown.to_owned())
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
    let (api_version, kind) = (JobFlow::api_version(&()), JobFlow::kind(&()));
    let mut flows = Vec::new();
    let mut others = BTreeSet::new();
    for (place, object) in objects.iter().enumerate() {
        let text = |key: &str| object.get(key).and_then(Node::text).unwrap_or_default();
        if text("kind") != kind || text("apiVersion") != api_version {
            others.insert(format!("{} {}", text("apiVersion"), text("kind")));
            continue;
        }
        let flow = fields::check(object).and_then(|()| Ok(JobFlow::deserialize(object.to_json())?));
        flows.push(flow.with_context(|| format!("object {} is not a valid JobFlow", place + 1))?);
    }
    if flows.is_empty() {
        others.remove(" ");
        let others: Vec<_> = others.into_iter().collect();
        let has = if others.is_empty() {
            String::new()
        } else {
            format!(", only {}", others.join(", "))
        };
        bail!("there is no {kind} of {api_version} in it{has}");
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
    fn a_flow_of_another_group_is_no_flow_of_ours() {
        let text = "apiVersion: flow.volcano.sh/v1alpha1\nkind: JobFlow\n";
        let error = picked(&objects(text).expect("YAML"), None).expect_err("none");
        assert_eq!(
            error.to_string(),
            "there is no JobFlow of api.practice.com/v1alpha1 in it, only flow.volcano.sh/v1alpha1 JobFlow"
        );
    }
}
