//! The parameters of a job: what it waits for. All that are given must hold at the same time.

use operon_attributes::{Kind as _, Labels, key_schema};
use operon_sdk::{Value, json};

/// `spec.parameters`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// A condition in the status of the pod.
    pub(crate) condition: Option<Condition>,
    /// A label of the pod.
    pub(crate) label: Option<Label>,
    /// A container of the pod.
    pub(crate) container: Option<Container>,
}

/// The pod has a condition of this type and status.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
}

/// The pod has this label.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The pod has a container of this name in this state.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) state: State,
    /// Of a terminated container; none: any.
    pub(crate) exit_code: Option<i32>,
    /// Of a running container; none: either.
    pub(crate) ready: Option<bool>,
}

/// The states that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) enum State {
    Running,
    Terminated,
}

/// The JSON Schema of the parameters.
pub(crate) fn schema() -> Value {
    let object = |required: &[&str], properties: Value| {
        json!({"type": "object", "required": required, "properties": properties,
            "additionalProperties": false})
    };
    let condition = object(
        &["type", "status"],
        json!({"type": key_schema(), "status": {"enum": ["True", "False", "Unknown"]}}),
    );
    let label = object(
        &["key", "value"],
        json!({"key": key_schema(), "value": Labels::value_schema()}),
    );
    let name = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
    let mut container = object(
        &["name", "state"],
        json!({
            "name": {"type": "string", "pattern": name},
            "state": {"enum": ["Running", "Terminated"]},
            "exitCode": {"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX},
            "ready": {"type": "boolean"},
        }),
    );
    // An exit code is that of a container that has ended, and one that has ended is never ready.
    container["dependentSchemas"] = json!({
        "exitCode": {"properties": {"state": {"const": "Terminated"}}},
        "ready": {"properties": {"state": {"const": "Running"}}},
    });
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "properties": {"condition": condition, "label": label, "container": container},
    })
}
