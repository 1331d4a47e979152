//! Scaling: how many pods are missing, and which are too many. A pod is deleted only when its lifecycle
//! has taken it out of service.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::keys;

use super::{
    Seen, delay,
    edits::Edits,
    named::Named,
    pair::Pairs,
    pods::{Pods, condition, is_ready, is_scheduled},
    update::{UPDATE, is_updating},
};
use crate::{
    action::{Effect, Propagation},
    driver,
    pod_lifecycle::{
        adapter::{Adapter, Standing},
        deletion::DELETION,
        labels::{PREPARING_TO_DELETE, Stage, protecting},
        rule,
    },
};

/// The operation that takes a pod out of service for a scale-in.
pub(super) const SCALE_IN: Adapter<'static> = Adapter {
    id: keys::COLLA_SET_OPERATION,
    kind: "scale-in",
};

/// What scaling does besides changing labels.
#[derive(Debug, Default)]
pub(super) struct Scale {
    /// How many pods are missing.
    pub(super) missing: usize,
    /// How many pods are deleted though they are not too many: others are created instead.
    pub(super) returning: usize,
    /// The names of the pods that leave.
    pub(super) leaving: BTreeSet<String>,
    /// The names of the pods that are deleted.
    pub(super) deleted: Vec<String>,
    /// The deletions of pods that are out of service.
    pub(super) deletions: Vec<Effect>,
    /// The pods that do not get on, and what they wait for.
    pub(super) waiting: Vec<(String, String)>,
    /// When the next pod may be deleted.
    pub(super) requeue_after: Option<Duration>,
}

impl Scale {
    /// What brings the set to its number of pods. A pair counts as one, and goes together.
    pub(super) fn of<'a>(
        seen: &Seen,
        pods: &Pods<'a>,
        pairs: &Pairs<'a>,
        edits: &mut Edits<'a>,
    ) -> Self {
        let desired = usize::try_from(seen.object.spec.replicas).unwrap_or(0);
        let counted = pods.active.iter().copied().filter(|pod| !pairs.is_new(pod));
        let mut ranked: Vec<_> = counted.collect();
        let named = Named::of(&seen.object);
        ranked.sort_by_cached_key(|pod| (!named.deletes(pod), rank(pod)));
        let surplus = ranked.len().saturating_sub(desired);
        let deleted = ranked.iter().filter(|pod| named.deletes(pod)).count();
        let (leaving, staying) = ranked.split_at(surplus.max(deleted));
        let (surplus, replaced) = leaving.split_at(surplus);
        let mut scale = Self {
            missing: desired.saturating_sub(ranked.len()),
            returning: replaced.len(),
            ..Self::default()
        };
        let with_new = |pod: &&'a Pod| [Some(*pod), pairs.new_pod(pod)].into_iter().flatten();
        let surplus = surplus.iter().flat_map(with_new);
        // The new pod of a pair takes the place of an old one that is deleted by its name.
        let rest = staying.iter().flat_map(with_new);
        let rest = rest.chain(replaced.iter().filter_map(|pod| pairs.new_pod(pod)));
        let (new, rest): (Vec<_>, Vec<_>) = rest.partition(|pod| named.deletes(pod));
        for pod in surplus.chain(replaced.iter().copied()).chain(new) {
            scale.leaving.insert(pod.name_any());
            scale.take_out(pod, seen, edits);
        }
        for pod in rest {
            edits.take_back(SCALE_IN, pod);
        }
        let going = pods
            .active
            .iter()
            .filter(|pod| pod.labels().contains_key(keys::TO_DELETE));
        for pod in going {
            let standing = DELETION.standing(pod.labels(), seen.now.as_nanosecond());
            scale.waiting.extend(waits_for(pod, &standing));
        }
        scale
    }

    pub(super) fn take_out<'a>(&mut self, pod: &'a Pod, seen: &Seen, edits: &mut Edits<'a>) {
        let now = seen.now.as_nanosecond();
        // It need not be updated any more.
        if is_updating(pod) {
            return edits.take_back(UPDATE, pod);
        }
        match SCALE_IN.standing(pod.labels(), now) {
            Standing::Begin(begin) => {
                edits.labels(pod, begin);
                edits.label(pod, PREPARING_TO_DELETE, now.to_string());
            }
            Standing::Allowed(since) if !self.is_time(since, seen) => {}
            Standing::Allowed(_) => {
                self.deletions
                    .push(driver::delete_unchanged(pod, Propagation::Background));
                self.deleted.push(pod.name_any());
            }
            standing => self.waiting.extend(waits_for(pod, &standing)),
        }
    }

    /// Whether the delay is over since a pod has been out of service.
    fn is_time(&mut self, since: i128, seen: &Seen) -> bool {
        let strategy = seen.object.spec.scale_strategy.as_ref();
        let delay = strategy.and_then(|strategy| strategy.operation_delay_seconds);
        delay::is_over(delay, since, seen.now, &mut self.requeue_after)
    }
}

/// What a pod waits for that another controller must do before the operation of its set may act.
pub(super) fn waits_for(pod: &Pod, standing: &Standing) -> Option<(String, String)> {
    let protecting: Vec<_> = protecting(pod.finalizers()).collect();
    let what = match standing {
        Standing::Blocked(operations) => {
            format!("other operations on the pod: {}", operations.join(", "))
        }
        Standing::Waits(Stage::Preparing) if !protecting.is_empty() => {
            format!(
                "the removal of finalizers of the pod: {}",
                protecting.join(", ")
            )
        }
        Standing::Waits(Stage::PreCheck) => rule::waits_for(pod)?,
        _ => return None,
    };
    Some((pod.name_any(), what))
}

/// Whether a scale-in of the set has begun on a pod.
pub(super) fn is_scaling_in(pod: &Pod) -> bool {
    SCALE_IN.has_begun(pod.labels())
}

/// Pods of a lower rank go first: those that are on their way already, then those that serve least. Of
/// Ready pods the one that is Ready for the shortest time goes first.
pub(super) fn rank(pod: &Pod) -> impl Ord + use<> {
    let ready =
        condition(pod, "Ready").and_then(|condition| condition.last_transition_time.clone());
    let cost = pod
        .annotations()
        .get("controller.kubernetes.io/pod-deletion-cost");
    (
        !is_scaling_in(pod) && !pod.labels().contains_key(keys::TO_DELETE),
        is_scheduled(pod),
        is_ready(pod),
        cost.and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0),
        Reverse(ready),
        Reverse(pod.metadata.creation_timestamp.clone()),
        Reverse(pod.name_any()),
    )
}
