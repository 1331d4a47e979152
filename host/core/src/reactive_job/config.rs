//! The ConfigMaps and Secrets that a pod template refers to, and which of them changed.

use std::collections::{BTreeMap, BTreeSet};

use operon_api::ReactiveJob;
use serde_json::Value;

/// An object that a pod template refers to, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A ConfigMap.
    ConfigMap(String),
    /// A Secret.
    Secret(String),
}

impl std::fmt::Display for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(formatter, "ConfigMap/{name}"),
            Self::Secret(name) => write!(formatter, "Secret/{name}"),
        }
    }
}

/// The digest of an object that does not exist.
pub const ABSENT: &str = "absent";

/// What `spec.triggers` asks to look at, of all that the pod template refers to: environment variables
/// and volumes of all containers.
pub fn references(object: &ReactiveJob) -> BTreeSet<Reference> {
    let triggers = object.spec.triggers.clone().unwrap_or_default();
    let mut found = BTreeSet::new();
    if let Some(spec) = object
        .spec
        .job_template
        .at(&["spec", "template", "spec"])
        .filter(|_| asks(object))
    {
        collect(spec, &mut found);
    }
    found.retain(|reference| match reference {
        Reference::ConfigMap(_) => triggers.config_maps == Some(true),
        Reference::Secret(_) => triggers.secrets == Some(true),
    });
    found
}

/// Whether `spec.triggers` asks to look at anything.
pub fn asks(object: &ReactiveJob) -> bool {
    let triggers = object.spec.triggers.as_ref();
    triggers.is_some_and(|t| t.config_maps == Some(true) || t.secrets == Some(true))
}

/// References have the same few forms wherever they are in a pod's spec.
fn collect(value: &Value, found: &mut BTreeSet<Reference>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = |field: &str| value.get(field)?.as_str().map(str::to_owned);
                let reference = match key.as_str() {
                    "configMapKeyRef" | "configMapRef" | "configMap" => {
                        name("name").map(Reference::ConfigMap)
                    }
                    "secretKeyRef" | "secretRef" => name("name").map(Reference::Secret),
                    "secret" => name("secretName")
                        .or_else(|| name("name"))
                        .map(Reference::Secret),
                    _ => None,
                };
                found.extend(reference);
                collect(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What changed of what is in both: what only one of them has is a matter of what is looked at.
pub(super) fn changed<'a>(
    before: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a str> {
    let both = before
        .iter()
        .filter_map(|(name, digest)| Some((name, digest, now.get(name)?)));
    both.filter(|(_, before, now)| before != now)
        .map(|(name, ..)| name.as_str())
}
