//! The outputs of a step for other steps: read from the termination messages of successful pods.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod},
};
use kube::ResourceExt;
use operon_api::job_flow::{OutputsFrom, Phase, StepStatus};
use serde_json::{Map, Value};

use crate::{
    action::Failure,
    jobs::{self, text::stored},
};

/// The longest termination message; Kubernetes truncates longer ones.
const MAX_BYTES: usize = 4096;

/// How many bytes the termination messages of all containers of a pod may have.
const MAX_OF_POD: usize = 12 << 10;

/// Why a step failed that did not write its declared outputs.
pub(super) const INVALID: &str = "OutputInvalid";

/// The outputs of a step, by their declared names.
pub(super) type Outputs = BTreeMap<String, String>;

/// The outputs that the pods of a Job must write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) job: &'a Job,
    /// The names that the step declares.
    pub(super) declared: &'a [String],
    /// The pod and the container that must have written them, if the step names them.
    pub(super) from: Option<&'a OutputsFrom>,
}

/// The outputs of the successful pods. None if a later pod may still write them: while the Job runs, an
/// Indexed Job's outputs come from the pod of index 0, any other Job's from the first pod that wrote the
/// declared outputs. If it `is_late`, no other pod is waited for.
pub(super) fn take(
    asked: Asked<'_>,
    pods: &[Arc<Pod>],
    is_late: bool,
) -> Option<Result<Outputs, Failure>> {
    let succeeded = succeeded(pods);
    let are_all = !succeeded.is_empty() && (is_late || succeeded.len() >= expected(asked.job));
    let wanted = asked.from.and_then(|from| from.index);
    let is_indexed = is_indexed(asked.job);
    let first = wanted.or(is_indexed.then_some(0));
    let speaks = |pod: &&&Pod| {
        let is_first = first.is_none_or(|first| index(pod) == Some(first));
        is_first || (are_all && wanted.is_none())
    };
    let speakers: Vec<_> = succeeded.iter().filter(speaks).copied().collect();
    let mut left = speakers.iter().map(|pod| read(asked, pod));
    if let Some(outputs) = left.find_map(Result::ok) {
        return Some(Ok(outputs));
    }
    are_all.then(|| Err(why_none(asked, &speakers)))
}

/// The pods that succeeded: by their index, then in the order in which they ended.
fn succeeded(pods: &[Arc<Pod>]) -> Vec<&Pod> {
    let succeeded = pods.iter().filter(|pod| {
        let status = pod.status.as_ref();
        status.and_then(|status| status.phase.as_deref()) == Some("Succeeded")
    });
    let mut succeeded: Vec<&Pod> = succeeded.map(|pod| &**pod).collect();
    succeeded.sort_by_cached_key(|pod| {
        let ends = terminated(pod).into_iter().map(|(_, end)| end);
        let end = ends.filter_map(|end| end.finished_at.as_ref()).max();
        (index(pod), end.map(|time| time.0), pod.name_any())
    });
    succeeded
}

/// The index of a pod of an Indexed Job.
fn index(pod: &Pod) -> Option<i32> {
    let index = pod
        .annotations()
        .get("batch.kubernetes.io/job-completion-index");
    index?.parse().ok()
}

fn is_indexed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// How many pods will have succeeded when all have spoken.
fn expected(job: &Job) -> usize {
    let count = |count: Option<i32>| count.and_then(|count| usize::try_from(count).ok());
    if jobs::finish(job).is_some() {
        let status = job.status.as_ref();
        return count(status.and_then(|status| status.succeeded))
            .unwrap_or(1)
            .max(1);
    }
    let spec = job.spec.as_ref();
    let completions = count(spec.and_then(|spec| spec.completions));
    let parallelism = count(spec.and_then(|spec| spec.parallelism));
    // Without completions it is known only at the end how many there are.
    let is_one = parallelism.is_none_or(|parallelism| parallelism <= 1);
    completions
        .unwrap_or(if is_one { 1 } else { usize::MAX })
        .max(1)
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

/// Fails a step if there is no room for its outputs; returns the remaining room.
pub(super) fn within(step: &mut StepStatus, room: usize) -> usize {
    if let Some(left) = room.checked_sub(size(&step.outputs)) {
        return left;
    }
    step.outputs.clear();
    let why = invalid(&format!(
        "the outputs of all steps together have more than {MAX_TOTAL} bytes: write shorter outputs, or store the data elsewhere"
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

/// The termination messages of the containers that may write the outputs.
fn messages<'a>(asked: Asked<'_>, pod: &'a Pod) -> Vec<(&'a str, &'a str)> {
    let wanted = asked.from.and_then(|from| from.container.as_deref());
    let ends = terminated(pod).into_iter();
    ends.filter(|(container, _)| wanted.is_none_or(|wanted| wanted == *container))
        .filter_map(|(container, end)| {
            let message = end.message.as_deref().filter(|m| !m.trim().is_empty())?;
            Some((container, message))
        })
        .collect()
}

/// The outputs of a pod: each output from the first container with a JSON object that has it. Other
/// messages of other containers are ignored.
fn read(asked: Asked<'_>, pod: &Pod) -> Result<Outputs, Failure> {
    let messages = messages(asked, pod);
    let objects: Vec<_> = messages
        .iter()
        .filter(|(_, message)| message.len() <= MAX_BYTES)
        .filter_map(|(_, message)| serde_json::from_str::<Map<String, Value>>(message).ok())
        .collect();
    let found = asked.declared.iter().map(|key| {
        let found = objects.iter().find_map(|object| value(object, key));
        found.ok_or_else(|| why_not(asked, pod, key, &messages))
    });
    found.collect()
}

/// Why none of these pods wrote the declared outputs, by the first pod with a termination message.
fn why_none(asked: Asked<'_>, pods: &[&Pod]) -> Failure {
    let says = |pod: &&&Pod| !messages(asked, pod).is_empty();
    let Some(pod) = pods.iter().find(says).or(pods.first()) else {
        return invalid(&format!(
            "no pod of index {} succeeded (outputsFrom.index)",
            asked.from.and_then(|from| from.index).unwrap_or_default()
        ));
    };
    match read(asked, pod) {
        Err(why) => why,
        Ok(_) => invalid("the outputs of the pods are not complete"),
    }
}

/// Why a pod did not write an output: the error in the termination message that looks most like one.
fn why_not(asked: Asked<'_>, pod: &Pod, key: &str, messages: &[(&str, &str)]) -> Failure {
    let name = pod.name_any();
    let is_object = |(_, message): &&(&str, &str)| message.trim_start().starts_with('{');
    let Some((container, message)) = messages.iter().find(is_object).or(messages.first()) else {
        let wanted = asked.from.and_then(|from| from.container.as_ref());
        let of = wanted.map_or_else(String::new, |wanted| format!("container {wanted:?} of "));
        return invalid(&format!(
            "{of}pod {name:?} wrote no termination message: the step must write a JSON object with {} to /dev/termination-log",
            listed(asked.declared)
        ));
    };
    let whose = format!("the termination message of container {container:?} of pod {name:?}");
    if message.len() > MAX_BYTES {
        return invalid(&format!(
            "{whose} has {} bytes; at most {MAX_BYTES} are allowed",
            message.len()
        ));
    }
    match serde_json::from_str::<Value>(message) {
        Ok(Value::Object(object)) => missing(&whose, key, &object),
        Ok(other) => invalid(&format!("{whose} is {}, not a JSON object", kind(&other))),
        Err(error) => invalid(&format!(
            "{whose} is not valid JSON: {error}{}",
            cut(pod, message)
        )),
    }
}

/// Whether Kubernetes truncated a message, and to what length: the containers of a pod share [`MAX_OF_POD`]
/// bytes.
fn cut(pod: &Pod, message: &str) -> String {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    let init = init.map_or(0, Vec::len);
    let containers = spec.map_or(0, |spec| spec.containers.len()) + init;
    let most = MAX_BYTES.min(MAX_OF_POD / containers.max(1));
    // A character at the limit is left out as a whole.
    if message.len() + 4 <= most {
        return String::new();
    }
    let shared = if most < MAX_BYTES {
        format!(": the {containers} containers of a pod share {MAX_OF_POD} bytes evenly")
    } else {
        String::new()
    };
    format!("; Kubernetes truncated it to {most} bytes{shared}")
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
    invalid(&format!(
        "{whose} has no key {key:?}; it has {}",
        listed(&keys)
    ))
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

#[cfg(test)]
mod tests;
