//! The ConfigMaps and Secrets that a pod template refers to, and which of them changed.

use std::collections::{BTreeMap, BTreeSet};

use operon_api::ReactiveJob;
use serde_json::Value;

use super::ConfigState;

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

/// The ConfigMaps and Secrets that `spec.triggers` selects, of all that the pod template refers to:
/// environment variables and volumes of all containers.
pub fn references(object: &ReactiveJob) -> BTreeSet<Reference> {
    uses(object).into_keys().collect()
}

/// Those of the references without which the pods can't start, because a use of them is not `optional`.
fn required(object: &ReactiveJob) -> BTreeSet<String> {
    named(object, true)
}

/// The others.
pub(super) fn optional(object: &ReactiveJob) -> BTreeSet<String> {
    named(object, false)
}

fn named(object: &ReactiveJob, are_needed: bool) -> BTreeSet<String> {
    let uses = uses(object).into_iter();
    let uses = uses.filter(|(_, is_needed)| *is_needed == are_needed);
    uses.map(|(reference, _)| reference.to_string()).collect()
}

/// The references, and whether the pods need them.
fn uses(object: &ReactiveJob) -> BTreeMap<Reference, bool> {
    let triggers = object.spec.triggers.clone().unwrap_or_default();
    let mut found = BTreeMap::new();
    if let Some(spec) = object
        .spec
        .job_template
        .at(&["spec", "template", "spec"])
        .filter(|_| asks(object))
    {
        collect(spec, &mut found);
    }
    found.retain(|reference, _| match reference {
        Reference::ConfigMap(_) => triggers.config_maps == Some(true),
        Reference::Secret(_) => triggers.secrets == Some(true),
    });
    found
}

/// The required references that do not exist: no Job is created while there are any.
pub(super) fn missing(object: &ReactiveJob, digests: &BTreeMap<String, String>) -> Vec<String> {
    let is_absent = |name: &String| digests.get(name).is_some_and(|digest| digest == ABSENT);
    required(object).into_iter().filter(is_absent).collect()
}

/// The digests that count now: a missing required reference counts with its previous content, because no
/// Job runs without it, and it may come back unchanged.
pub(super) fn counted(
    object: &ReactiveJob,
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut counted = now.clone();
    for name in missing(object, now) {
        if let Some(digest) = before.get(&name) {
            counted.insert(name, digest.clone());
        }
    }
    counted
}

/// The digests that a Job is created for, of the present objects, if the triggers select any. An object
/// that can't be watched counts as it was `before`: when it can be watched again, a change of it is
/// noticed.
pub(super) fn accepted(
    object: &ReactiveJob,
    before: Option<BTreeMap<String, String>>,
    now: &ConfigState,
) -> Option<BTreeMap<String, String>> {
    let ConfigState {
        known,
        unkeyed: _,
        is_listing,
        unwatched,
    } = now;
    let is_whole = !is_listing && unwatched.is_empty();
    if known.is_empty() && is_whole && !asks(object) {
        return None;
    }
    let Some(before) = before else {
        return (is_whole || !known.is_empty()).then(|| known.clone());
    };
    let mut accepted = counted(object, &before, known);
    for (name, digest) in before.into_iter().filter(|_| !is_whole) {
        accepted.entry(name).or_insert(digest);
    }
    Some(accepted)
}

/// Digests as they would be written today: that of an older version, without a key, is replaced if the content is
/// still the same, so that an upgrade is no change.
pub(super) fn renewed(
    mut before: BTreeMap<String, String>,
    now: &ConfigState,
) -> BTreeMap<String, String> {
    for (name, digest) in &mut before {
        if now.unkeyed.get(name) == Some(digest)
            && let Some(known) = now.known.get(name)
        {
            digest.clone_from(known);
        }
    }
    before
}

/// Whether `spec.triggers` selects any kind.
pub fn asks(object: &ReactiveJob) -> bool {
    let triggers = object.spec.triggers.as_ref();
    triggers.is_some_and(|t| t.config_maps == Some(true) || t.secrets == Some(true))
}

/// References have the same few forms wherever they are in a pod's spec.
fn collect(value: &Value, found: &mut BTreeMap<Reference, bool>) {
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
                if let Some(reference) = reference {
                    let is_optional = value.get("optional") == Some(&Value::Bool(true));
                    *found.entry(reference).or_insert(false) |= !is_optional;
                }
                collect(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The changes of the objects in both: an object in only one of them means that other objects are selected.
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
