//! A pod as the lifecycle sees it, and the writes of its next transition. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    jiff::Timestamp,
};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::json;

use super::{
    labels::{AVAILABLE_CONDITIONS, GATE},
    transition::{Gate, Observed, Transition, Verdict, transition},
};
use crate::{
    action::{Effect, Failure, PatchKind},
    driver,
    jobs::text::short,
};

/// What the readiness gate's condition says besides its status.
const MESSAGE: &str = "updated by PodOpsLifecycle";

/// How much of an annotation is quoted.
const QUOTED: usize = 200;

/// The next transition of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    next: Transition,
    /// The gate before.
    gate: Gate,
}

/// What comes next for a pod; and why it cannot serve, if the annotation that says which finalizers it must have
/// cannot be read.
pub fn step(pod: &Pod, now: Timestamp) -> (Step, Option<Failure>) {
    let expected = expected(pod);
    let gate = gate(pod);
    let next = transition(&Observed {
        labels: pod.labels(),
        finalizers: pod.finalizers(),
        expected: expected.as_ref().ok(),
        gate,
        is_ready: is_ready(pod),
        is_deleting: pod.metadata.deletion_timestamp.is_some(),
        before: Verdict::Allowed,
        after: Verdict::Allowed,
        now: now.as_nanosecond(),
    });
    (Step { next, gate }, expected.err())
}

impl Step {
    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        self.next == Transition::default()
    }

    /// The change of labels, if there is one, of this version of the pod.
    pub fn labels(&self, pod: &Pod, version: Option<String>) -> Option<Effect> {
        let labels = &self.next.labels;
        (!labels.is_empty()).then(|| Effect::Patch {
            object: driver::reference(pod),
            subresource: None,
            kind: PatchKind::Merge,
            body: json!({"metadata": {"labels": labels}}),
            uid: pod.uid(),
            resource_version: version,
        })
    }

    /// The change of the readiness gate, if there is one, of this version of the pod.
    pub fn gate(&self, pod: &Pod, version: Option<String>, now: Timestamp) -> Option<Effect> {
        let is_open = self.next.gate?;
        let condition = json!({
            "type": GATE,
            "status": if is_open { "True" } else { "False" },
            "lastTransitionTime": now.round(k8s_openapi::jiff::Unit::Second).unwrap_or(now),
            "message": MESSAGE,
        });
        Some(Effect::Patch {
            object: driver::reference(pod),
            subresource: Some("status".to_owned()),
            kind: PatchKind::Strategic,
            body: json!({"status": {"conditions": [condition]}}),
            uid: pod.uid(),
            resource_version: version,
        })
    }

    /// Reason and message of the Event about a change of the gate; none of a new pod, whose gate is open from
    /// the beginning.
    pub fn event(&self) -> Option<(&'static str, &'static str)> {
        match (self.gate, self.next.gate?) {
            (Gate::Unset, true) => None,
            (_, true) => Some((
                "ServiceReady",
                "the readiness gate is open: the pod may serve",
            )),
            (_, false) => Some((
                "ServiceNotReady",
                "the readiness gate is closed: the pod is taken out of service",
            )),
        }
    }
}

/// The annotation that says which finalizers a pod must have before it serves.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AvailableConditions {
    #[serde(default)]
    expected_finalizers: BTreeMap<String, String>,
}

fn expected(pod: &Pod) -> Result<BTreeSet<String>, Failure> {
    let Some(text) = pod.annotations().get(AVAILABLE_CONDITIONS) else {
        return Ok(BTreeSet::new());
    };
    let conditions: AvailableConditions = serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "annotation {AVAILABLE_CONDITIONS} of the pod cannot be read, so the pod does not count as serving: \
             {error}: {:?}",
            short(text, QUOTED)
        );
        Failure::new("InvalidAvailableConditions", message)
    })?;
    Ok(conditions.expected_finalizers.into_values().collect())
}

/// The readiness gate of a pod.
pub(crate) fn gate(pod: &Pod) -> Gate {
    let gates = pod.spec.iter().flat_map(|spec| &spec.readiness_gates);
    let mut gates = gates.flatten();
    if !gates.any(|gate| gate.condition_type == GATE) {
        return Gate::Absent;
    }
    match condition(pod, GATE).map(|condition| condition.status.as_str()) {
        None => Gate::Unset,
        Some("True") => Gate::Open,
        Some(_) => Gate::Closed,
    }
}

/// Whether a pod is Ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// A condition of a pod.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    conditions
        .flatten()
        .find(|condition| condition.type_ == type_)
}
