//! Where flows come from: a file, standard input, or the cluster.

use std::{collections::BTreeSet, io::Read as _, path::Path};

use anyhow::{Context as _, bail, ensure};
use kube::{Resource as _, ResourceExt as _};
use operon_api::JobFlow;
use serde::Deserialize as _;
use serde_json::Value;

use super::{
    cluster, fields,
    yaml::{self, Content, Node},
};

/// The flow to draw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All flows of a file, or one of them.
    File { path: String, name: Option<String> },
    /// A flow of the cluster.
    Live {
        namespace: Option<String>,
        name: String,
    },
}

impl Wanted {
    /// What an argument means: a file if there is one or if it looks like one, a name otherwise.
    ///
    /// # Errors
    /// An option belongs to the other of the two.
    pub(super) fn new(
        what: String,
        name: Option<String>,
        namespace: Option<String>,
    ) -> anyhow::Result<Self> {
        if looks_like_a_file(&what) || Path::new(&what).is_file() {
            ensure!(
                namespace.is_none(),
                "--namespace applies to a flow in the cluster, but {what:?} is a file"
            );
            return Ok(Self::File { path: what, name });
        }
        ensure!(
            name.is_none(),
            "--name selects a flow from a file, but {what:?} is not a file"
        );
        Ok(Self::Live {
            namespace,
            name: what,
        })
    }
}

fn looks_like_a_file(what: &str) -> bool {
    let endings = [".yaml", ".yml", ".json"];
    what == "-" || what.contains('/') || endings.iter().any(|ending| what.ends_with(ending))
}

/// The flows that are wanted, at least one.
pub(super) fn flows(wanted: &Wanted) -> anyhow::Result<Vec<JobFlow>> {
    match wanted {
        Wanted::Live { namespace, name } => Ok(vec![cluster::flow(namespace.as_deref(), name)?]),
        Wanted::File { path, name } => {
            let shown = if path == "-" { "standard input" } else { path };
            let text = read(path).with_context(|| format!("failed to read {shown}"))?;
            let objects = objects(&text).with_context(|| format!("failed to read {shown}"))?;
            picked(&objects, name.as_deref()).with_context(|| shown.to_owned())
        }
    }
}

fn read(path: &str) -> std::io::Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
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
    fn a_file_is_told_from_a_name() {
        for (what, is_file) in [
            ("-", true),
            ("a/b", true),
            ("flow.yaml", true),
            ("flow.yml", true),
            ("flow.json", true),
            // The folder of the tests has it.
            ("Cargo.toml", true),
            ("jobflow-example", false),
            ("jobflow.example", false),
            // A folder is no file.
            ("src", false),
        ] {
            let wanted = Wanted::new(what.to_owned(), None, None).expect("no options");
            assert_eq!(matches!(wanted, Wanted::File { .. }), is_file, "{what}");
        }
    }

    #[test]
    fn an_option_of_the_other_source_is_refused() {
        let some = || Some("x".to_owned());
        assert!(Wanted::new("flow.yaml".to_owned(), None, some()).is_err());
        assert!(Wanted::new("flow".to_owned(), some(), None).is_err());
    }

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
