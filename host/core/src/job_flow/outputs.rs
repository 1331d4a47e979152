//! What a step leaves for others: read off the termination message of a pod that succeeded.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;
use operon_api::job_flow::{Phase, StepStatus};
use serde_json::{Map, Value};

use crate::{action::Failure, jobs::text::stored};

/// The longest termination message; Kubernetes cuts what is longer.
const MAX_BYTES: usize = 4096;

/// Why a step failed that did not leave what it declares.
pub(super) const INVALID: &str = "OutputInvalid";

/// What a step left, by its declared names.
pub(super) type Outputs = BTreeMap<String, String>;

/// What the first of these pods that succeeded left; none if none has yet.
pub(super) fn take(declared: &[String], pods: &[Arc<Pod>]) -> Option<Result<Outputs, Failure>> {
    let succeeded = pods.iter().filter(|pod| {
        let status = pod.status.as_ref();
        status.and_then(|status| status.phase.as_deref()) == Some("Succeeded")
    });
    let first = succeeded.min_by_key(|pod| {
        let ends = terminated(pod).into_iter().map(|(_, end)| end);
        let end = ends.filter_map(|end| end.finished_at.as_ref()).max();
        (end.map(|time| time.0), pod.name_any())
    })?;
    Some(read(declared, first))
}

/// Whether all that a step declares is there.
pub(super) fn are_complete(declared: &[String], outputs: &Outputs) -> bool {
    declared.iter().all(|key| outputs.contains_key(key))
}

/// How many bytes of outputs, as the API server stores them, a flow's status has room for.
const MAX_TOTAL: usize = 256 << 10;

/// How many more bytes of outputs there is room for beside those of these steps.
pub(super) fn room<'a>(steps: impl Iterator<Item = &'a StepStatus>) -> usize {
    MAX_TOTAL.saturating_sub(steps.map(|step| size(&step.outputs)).sum())
}

/// Fails a step whose outputs there is no room for; what room is left.
pub(super) fn within(step: &mut StepStatus, room: usize) -> usize {
    if let Some(left) = room.checked_sub(size(&step.outputs)) {
        return left;
    }
    step.outputs.clear();
    let why = invalid(&format!(
        "the outputs of all steps have more than {MAX_TOTAL} bytes: leave less, or keep it elsewhere"
    ));
    step.reason = Some(why.reason);
    step.message = Some(why.message);
    if step.phase == Phase::Succeeded {
        step.phase = Phase::Failed;
    }
    room
}

fn size(outputs: &Outputs) -> usize {
    outputs
        .iter()
        .map(|(key, value)| stored(key) + stored(value))
        .sum()
}

/// The ends of a pod's containers, in the order of its spec.
fn terminated(pod: &Pod) -> Vec<(&str, &ContainerStateTerminated)> {
    let statuses = pod.status.iter();
    let statuses: Vec<_> = statuses
        .flat_map(|status| status.container_statuses.iter().flatten())
        .collect();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .filter_map(|container| {
            let status = statuses.iter().find(|s| s.name == container.name)?;
            let end = status.state.as_ref()?.terminated.as_ref()?;
            Some((container.name.as_str(), end))
        })
        .collect()
}

fn read(declared: &[String], pod: &Pod) -> Result<Outputs, Failure> {
    let said = terminated(pod).into_iter().find_map(|(container, end)| {
        let message = end.message.as_deref().filter(|m| !m.trim().is_empty())?;
        Some((container, message))
    });
    let Some((container, message)) = said else {
        return Err(invalid(&format!(
            "pod {:?} left no termination message: the step must write a JSON object with {} to /dev/termination-log",
            pod.name_any(),
            listed(declared)
        )));
    };
    let whose = format!(
        "the termination message of container {container:?} of pod {:?}",
        pod.name_any()
    );
    if message.len() > MAX_BYTES {
        return Err(invalid(&format!(
            "{whose} has {} bytes, {MAX_BYTES} are the most",
            message.len()
        )));
    }
    let object = match serde_json::from_str::<Value>(message) {
        Ok(Value::Object(object)) => object,
        Ok(other) => {
            let kind = kind(&other);
            return Err(invalid(&format!("{whose} is {kind} and no JSON object")));
        }
        Err(error) => {
            let cut = if message.len() == MAX_BYTES {
                "; Kubernetes cut it at 4096 bytes"
            } else {
                ""
            };
            return Err(invalid(&format!("{whose} is no JSON: {error}{cut}")));
        }
    };
    declared
        .iter()
        .map(|key| value(&object, key).ok_or_else(|| missing(&whose, key, &object)))
        .collect()
}

/// A value as text: texts as they are, everything else as JSON.
fn value(object: &Map<String, Value>, key: &str) -> Option<(String, String)> {
    let text = match object.get(key)? {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some((key.to_owned(), text))
}

fn missing(whose: &str, key: &str, object: &Map<String, Value>) -> Failure {
    let keys: Vec<_> = object.keys().take(8).cloned().collect();
    invalid(&format!("{whose} has no {key:?}, it has {}", listed(&keys)))
}

fn invalid(message: &str) -> Failure {
    Failure::new(INVALID, message)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn listed(keys: &[String]) -> String {
    if keys.is_empty() {
        return "nothing".to_owned();
    }
    let quoted: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
    quoted.join(", ")
}
