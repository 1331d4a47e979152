//! The differences between two Jobs, field by field, for people. Values that may be secret are not shown.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::keys;
use serde_json::{Map, Value, json};

use crate::jobs::stored::stored;

/// The most differences that are reported.
const TOLD: usize = 10;

/// The longest text of a reported value, in characters.
const VALUE: usize = 48;

/// Keys with a new value on every Job, set by Kubernetes or a controller.
const OF_EVERY_JOB: [&str; 4] = [
    "batch.cs.sap.com/",
    "operon.dev/",
    "batch.kubernetes.io/",
    "controller-uid",
];

/// Fields with values that may be secret.
const HIDDEN: [&str; 7] = [
    "env",
    "command",
    "args",
    "httpGet",
    "volumeAttributes",
    "flexVolume",
    "gitRepo",
];

/// Finalizers that are on a Job because of its deletion.
const OF_DELETION: [&str; 3] = [keys::REACTIVE_JOB_FINALIZER, "foregroundDeletion", "orphan"];

/// The report of a change of the template after the previous Job was deleted.
const NO_JOB: &str =
    "spec.jobTemplate changed; its fields are not compared, because the previous Job was deleted";

/// The report of a change of the template that no field of the Jobs shows.
const NO_FIELD: &str =
    "only the hash of spec.jobTemplate changed: the Jobs are equal in every field";

/// The changes of a template in the Job, at least one line: `path: old → new`. If two Jobs mean the same,
/// and SAP's hash saw a change nevertheless, the notations are compared.
pub(super) fn of_template(old: Option<&Job>, new: &Job) -> Vec<String> {
    let Some(old) = old else {
        return vec![NO_JOB.to_owned()];
    };
    let means = |job: &Job| stored(&essence(job));
    let found = differences(&means(old), &means(new));
    if !found.is_empty() {
        return found;
    }
    let found = differences(&essence(old), &essence(new));
    if found.is_empty() {
        vec![NO_FIELD.to_owned()]
    } else {
        found
    }
}

fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    let more = found.len().saturating_sub(TOLD);
    if more > 0 {
        found.truncate(TOLD);
        found.push(format!("and {more} more"));
    }
    found
}

/// The part of a Job that comes from the user's template.
fn essence(job: &Job) -> Value {
    let texts = |map: Option<&std::collections::BTreeMap<String, String>>| {
        let own = |key: &&String| {
            !OF_EVERY_JOB.iter().any(|prefix| key.starts_with(prefix)) && *key != "job-name"
        };
        let pairs = map.into_iter().flatten().filter(|(key, _)| own(key));
        json!(pairs.collect::<std::collections::BTreeMap<_, _>>())
    };
    let mut spec = json!(job.spec);
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("selector");
    }
    let template = job.spec.as_ref().map(|spec| &spec.template);
    let pod = template.and_then(|template| template.metadata.as_ref());
    if let Some(metadata) = spec.pointer_mut("/template/metadata") {
        metadata["labels"] = texts(pod.and_then(|pod| pod.labels.as_ref()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("creationTimestamp");
        }
    }
    let finalizers = job.finalizers().iter();
    let finalizers: Vec<_> = finalizers
        .filter(|finalizer| !OF_DELETION.contains(&finalizer.as_str()))
        .collect();
    json!({
        "metadata": {
            "labels": texts(job.metadata.labels.as_ref()),
            "annotations": texts(job.metadata.annotations.as_ref()),
            "finalizers": finalizers,
        },
        "spec": spec,
    })
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<String>) {
    if old == new {
        return;
    }
    // Labels and annotations are listed one by one, also if there were none before.
    let is_by_key = ["metadata", "labels", "annotations"]
        .iter()
        .any(|end| path.ends_with(end));
    let none = if is_by_key { json!({}) } else { Value::Null };
    match (old.unwrap_or(&none), new.unwrap_or(&none)) {
        (Value::Object(old), Value::Object(new)) => compare_fields(path, old, new, found),
        (Value::Array(old), Value::Array(new)) => {
            compare_fields(path, &by_name(old), &by_name(new), found);
        }
        (old, new) => found.push(describe(path, old, new)),
    }
}

fn compare_fields(
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    found: &mut Vec<String>,
) {
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let inner = if key.starts_with('[') || path.is_empty() {
            format!("{path}{key}")
        } else {
            format!("{path}.{key}")
        };
        compare(&inner, old.get(key), new.get(key), found);
    }
}

/// A list by the names of its items, or by their places.
fn by_name(list: &[Value]) -> Map<String, Value> {
    let items = list.iter().enumerate().map(|(place, item)| {
        let name = item.get("name").and_then(Value::as_str);
        let key = name.map_or_else(|| format!("[{place}]"), |name| format!("[{name}]"));
        (key, item.clone())
    });
    items.collect()
}

fn describe(path: &str, old: &Value, new: &Value) -> String {
    if is_hidden(path) {
        return format!("{path} changed");
    }
    match (old, new) {
        (Value::Null, new) => format!("{path}: added {}", text(new)),
        (_, Value::Null) => format!("{path}: removed"),
        (old, new) => format!("{path}: {} → {}", text(old), text(new)),
    }
}

/// Whether a value may be a secret: users write secrets into commands, environment variables, the headers
/// and paths of probes, and the parameters of volume drivers.
fn is_hidden(path: &str) -> bool {
    path.split('.').any(|part| {
        let field = part.split('[').next().unwrap_or_default();
        HIDDEN.contains(&field)
    })
}

fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => return "(an object)".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    let mut short: String = text.chars().take(VALUE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
