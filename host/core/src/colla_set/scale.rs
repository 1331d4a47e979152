//! Scaling: how many pods are missing, and which are too many. A pod is deleted only when its lifecycle
//! has taken it out of service.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::keys;

use super::{
    Seen,
    pods::{Pods, condition, is_ready, is_scheduled},
};
use crate::{
    action::{Effect, Propagation},
    driver,
    pod_lifecycle::{
        adapter::{Adapter, Edit, Standing},
        labels::{Operation, PREPARING_TO_DELETE},
    },
};
use serde_json::json;

/// The operation that takes a pod out of service for a scale-in.
pub(super) const SCALE_IN: Adapter<'static> = Adapter {
    id: keys::COLLA_SET_OPERATION,
    kind: "scale-in",
};

/// What scaling does.
#[derive(Debug, Default)]
pub(super) struct Scale {
    /// How many pods are missing.
    pub(super) missing: usize,
    /// The changes of labels that begin or take back a scale-in.
    pub(super) edits: Vec<Effect>,
    /// The deletions of pods that are out of service.
    pub(super) deletions: Vec<Effect>,
    /// The pods that cannot begin, and the operations that they wait for.
    pub(super) blocked: Vec<(String, Vec<String>)>,
}

impl Scale {
    /// What brings the set to its number of pods.
    pub(super) fn of(seen: &Seen, pods: &Pods<'_>) -> Self {
        let desired = usize::try_from(seen.object.spec.replicas).unwrap_or(0);
        let surplus = pods.active.len().saturating_sub(desired);
        let mut ranked = pods.active.clone();
        ranked.sort_by_cached_key(|pod| rank(pod));
        let (leaving, staying) = ranked.split_at(surplus);
        let mut scale = Self {
            missing: desired.saturating_sub(pods.active.len()),
            ..Self::default()
        };
        for pod in leaving {
            scale.take_out(pod, seen);
        }
        for pod in staying.iter().filter(|pod| is_scaling_in(pod)) {
            if let Some(mut undo) = SCALE_IN.undo(pod.labels()) {
                undo.insert(PREPARING_TO_DELETE.to_owned(), None);
                scale.edits.push(edited(pod, &undo));
            }
        }
        scale
    }

    fn take_out(&mut self, pod: &Pod, seen: &Seen) {
        let now = seen.now.as_nanosecond();
        match SCALE_IN.standing(pod.labels(), now) {
            Standing::Begin(mut begin) => {
                begin.insert(PREPARING_TO_DELETE.to_owned(), Some(now.to_string()));
                self.edits.push(edited(pod, &begin));
            }
            Standing::Allowed(_) => {
                self.deletions
                    .push(driver::delete(pod, Propagation::Background));
            }
            Standing::Blocked(operations) => self.blocked.push((pod.name_any(), operations)),
            Standing::Waits(_) | Standing::Returning => {}
        }
    }
}

/// Whether a scale-in of the set has begun on a pod.
pub(super) fn is_scaling_in(pod: &Pod) -> bool {
    let operation = Operation::of(pod.labels(), SCALE_IN.id);
    operation.kind() == Some(SCALE_IN.kind)
}

/// Pods of a lower rank go first: those that are on their way already, then those that serve least. Of
/// Ready pods the one that is Ready for the shortest time goes first.
fn rank(pod: &Pod) -> impl Ord + use<> {
    let ready =
        condition(pod, "Ready").and_then(|condition| condition.last_transition_time.clone());
    let cost = pod
        .annotations()
        .get("controller.kubernetes.io/pod-deletion-cost");
    (
        !is_scaling_in(pod),
        is_scheduled(pod),
        is_ready(pod),
        cost.and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0),
        Reverse(ready),
        Reverse(pod.metadata.creation_timestamp.clone()),
        Reverse(pod.name_any()),
    )
}

/// A change of a pod's labels, if the pod has not changed.
fn edited(pod: &Pod, edit: &Edit) -> Effect {
    driver::unchanged(pod, json!({"metadata": {"labels": edit}}))
}
