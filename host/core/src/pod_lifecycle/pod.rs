//! A pod as the lifecycle sees it, and the writes of its next transition. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    jiff::{Timestamp, Unit},
};
use kube::ResourceExt;
use operon_api::keys;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    deletion::{self, DELETION},
    labels::{
        AVAILABLE_CONDITIONS, GATE, Labels, Operation, SERVICE_AVAILABLE, apply, difference,
        protecting,
    },
    rule::{Answers, noted},
    transition::{Gate, Observed, Transition, transition},
};
use crate::{
    action::{Effect, Failure, PatchKind, Propagation},
    driver,
    jobs::{
        blocked::is_live,
        text::{joined, short},
    },
};

/// What the readiness gate's condition says besides its status.
const MESSAGE: &str = "updated by PodOpsLifecycle";

/// How much of an annotation is quoted.
const QUOTED: usize = 200;

/// What happens to a pod next, in one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The change of its labels, and of its readiness gate.
    next: Transition,
    /// The annotations that say what the pod waits for: set, or removed where there is no value.
    notes: BTreeMap<String, Option<String>>,
    /// What the pod waits for from now on.
    waits: Option<String>,
    /// The gate before.
    gate: Gate,
    /// The pod is deleted instead.
    deletes: bool,
    /// It leaves service only to be deleted, and waits for no other operation.
    goes: bool,
}

/// What comes next for a pod, by what rules say of it; and why it cannot serve, if the annotation that says which
/// finalizers it must have cannot be read. `answers` gets the pod with the labels of an operation that begins now.
pub fn step(
    pod: &Pod,
    answers: impl FnOnce(&Pod) -> Answers,
    now: Timestamp,
) -> (Step, Option<Failure>) {
    let mut begun = Cow::Borrowed(pod);
    if let Some(edit) = deletion::edit(pod, now) {
        apply(edit, begun.to_mut().labels_mut());
    }
    let answers = answers(&begun);
    let expected = expected(pod);
    let gate = gate(pod);
    let is_deleting = pod.metadata.deletion_timestamp.is_some();
    let next = transition(&Observed {
        labels: begun.labels(),
        finalizers: pod.finalizers(),
        expected: expected.as_ref().ok(),
        gate,
        is_ready: is_ready(pod),
        is_scheduled: pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some()),
        is_deleting,
        before: answers.before,
        after: answers.after,
        now: now.as_nanosecond(),
    });
    let notes = if is_deleting {
        BTreeMap::new()
    } else {
        notes(pod, &answers)
    };
    let is_new = |key: &&String| notes.contains_key(*key) && !pod.annotations().contains_key(*key);
    let new = answers.waits.iter().filter(|(key, _)| is_new(key));
    let waits = joined(new.map(|(key, note)| note.sentence(key)));
    let mut labels = begun.labels().clone();
    apply(next.labels, &mut labels);
    let step = Step {
        gate,
        waits: (!waits.is_empty()).then_some(waits),
        notes,
        deletes: deletion::is_due(pod, &labels, now),
        goes: goes(pod, &labels),
        next: Transition {
            labels: difference(pod.labels(), &labels),
            gate: next.gate,
        },
    };
    (step, expected.err())
}

/// Whether a pod with these labels leaves service only to be deleted, and no finalizer is waited for.
fn goes(pod: &Pod, labels: &Labels) -> bool {
    let all = Operation::all(labels);
    all.iter().all(|operation| operation.id == DELETION.id)
        && protecting(pod.finalizers()).next().is_none()
}

/// What changes in the annotations that say what a pod waits for.
fn notes(pod: &Pod, answers: &Answers) -> BTreeMap<String, Option<String>> {
    let waits = answers.waits.iter();
    let wanted = waits.map(|(key, note)| (key.clone(), Some(note.text())));
    let known: BTreeMap<_, _> = noted(pod).collect();
    let removed = known.keys().map(|key| ((*key).to_owned(), None));
    let all: BTreeMap<_, _> = removed.chain(wanted).collect();
    all.into_iter()
        .filter(|(key, text)| known.get(key.as_str()).copied() != text.as_deref())
        .collect()
}

impl Step {
    /// The write of this version of the pod; none if nothing changes.
    pub fn write(&self, pod: &Pod, now: Timestamp) -> Option<Effect> {
        if self.deletes {
            return Some(driver::delete_unchanged(pod, Propagation::Background));
        }
        let mut metadata = Map::new();
        if !self.next.labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(self.next.labels));
        }
        if !self.notes.is_empty() {
            metadata.insert("annotations".to_owned(), json!(self.notes));
        }
        let Some(is_open) = self.next.gate else {
            let body = json!({"metadata": metadata});
            return (!metadata.is_empty()).then(|| driver::unchanged(pod, body));
        };
        // Of pods, the API server takes metadata with the status.
        let condition = json!({
            "type": GATE,
            "status": if is_open { "True" } else { "False" },
            "lastTransitionTime": now.round(Unit::Second).unwrap_or(now),
            "message": MESSAGE,
        });
        Some(Effect::Patch {
            object: driver::reference(pod),
            subresource: Some("status".to_owned()),
            kind: PatchKind::Strategic,
            body: json!({"metadata": metadata, "status": {"conditions": [condition]}}),
            uid: pod.uid(),
            resource_version: pod.resource_version(),
        })
    }

    /// What the pod waits for, if it did not wait for that before.
    pub fn waits(&self) -> Option<&str> {
        self.waits.as_deref()
    }

    /// Reason and message of the Event about the write; none about the gate of a new pod, which is open from the
    /// beginning, nor about that of a pod whose deletion is reported in a moment.
    pub fn event(&self) -> Option<(&'static str, &'static str)> {
        if self.deletes {
            return Some(("PodDeletion", "the pod is out of service and is deleted"));
        }
        match (self.gate, self.next.gate?) {
            (Gate::Unset, true) => None,
            (_, true) => Some((
                "ServiceReady",
                "the readiness gate is open: the pod may serve",
            )),
            (_, false) if self.goes => None,
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

/// Whether a pod takes part in the lifecycle.
pub fn takes_part(pod: &Pod) -> bool {
    pod.labels().get(keys::CONTROL).map(String::as_str) == Some("true")
}

/// Whether a pod has finished: none of its containers will run again.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    !is_live(pod)
}

/// Whether a pod serves, as its lifecycle says.
pub(crate) fn is_available(pod: &Pod) -> bool {
    pod.labels().contains_key(SERVICE_AVAILABLE)
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
