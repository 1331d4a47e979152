//! How many of the selected pods are out of service.
//!
//! A pod that does not exist counts too: a CollaSet that deleted a pod has not created the next one yet. And
//! a new pod that replaces another is not missing before the old one leaves.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::SelectorExt as _};
use operon_api::{keys, pod_transition_rule::TransitionDetail};

use super::{
    Seen, Set,
    read::{Limit, selector},
};
use crate::{
    colla_set::{owner_uid, texts},
    pod_lifecycle::{
        labels::SERVICE_AVAILABLE,
        pod::{is_finished, is_ready},
    },
};

/// The selected pods, as they count.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    /// The uids of those that are out of service, or may be from now on.
    out: BTreeSet<String>,
    /// How many count, whether they exist or not.
    total: usize,
    /// How many do not exist.
    missing: usize,
}

impl Census {
    /// Counts the pods. Those with an operation that was allowed count as out of service, even if they still serve.
    pub(super) fn of(seen: &Seen, allowed: &[TransitionDetail]) -> Self {
        let mut census = Self::default();
        let uids: BTreeSet<_> = allowed.iter().map(|detail| detail.uid.clone()).collect();
        for pod in seen.pods.iter().filter(|pod| counts(seen, pod)) {
            let uid = pod.uid().unwrap_or_default();
            census.total += 1;
            if uids.contains(&uid) || !serves(pod) {
                census.out.insert(uid);
            }
        }
        let missing = seen.sets.iter().map(|set| missing(seen, set));
        census.missing = missing.sum();
        census.total += census.missing;
        census
    }

    /// Whether an operation on a pod leaves enough pods in service; if not, the reason.
    ///
    /// A pod that lost the label `service-available` does not get it back while an operation is on it, so it may
    /// always go. A pod that is merely not Ready may be Ready in a moment.
    pub(super) fn has_room(&self, pod: &Pod, limit: Limit) -> Result<(), String> {
        let most = limit.most_out(self.total);
        let out = self.out.len() + self.missing;
        let is_out = self
            .out
            .contains(pod.metadata.uid.as_deref().unwrap_or_default());
        let has_room = out < most || (is_out && out == most);
        if has_room || !is_available(pod) {
            return Ok(());
        }
        Err(limit.reason(out, self.total, self.missing))
    }

    /// An operation on a pod is allowed.
    pub(super) fn allow(&mut self, pod: &Pod) {
        self.out.insert(pod.uid().unwrap_or_default());
    }
}

/// Whether a pod counts. Of the pods of a CollaSet those do that have a place in it.
fn counts(seen: &Seen, pod: &Pod) -> bool {
    let owner = owner_uid(pod);
    let uid = |set: &&Set| owner.is_some() && set.object.metadata.uid.as_deref() == owner;
    let Some(set) = seen.sets.iter().find(uid) else {
        return true;
    };
    is_active(pod) && (serves(pod) || origin(set, pod).is_none_or(|origin| !serves(origin)))
}

/// How many pods a CollaSet still has to create.
fn missing(seen: &Seen, set: &Set) -> usize {
    let object = &set.object;
    let labels = texts(&object.spec.template, "labels");
    let is_selected = selector(&seen.object).is_ok_and(|selector| selector.matches(&labels));
    if !is_selected || object.metadata.deletion_timestamp.is_some() {
        return 0;
    }
    let places = set
        .pods
        .iter()
        .filter(|pod| is_active(pod) && origin(set, pod).is_none());
    let desired = usize::try_from(object.spec.replicas).unwrap_or(0);
    desired.saturating_sub(places.count())
}

/// The active pod that this one replaces.
fn origin<'a>(set: &'a Set, pod: &Pod) -> Option<&'a Pod> {
    let name = pod.labels().get(keys::PAIR_ORIGIN_NAME)?;
    let mut pods = set.pods.iter().map(AsRef::as_ref);
    pods.find(|origin| is_active(origin) && origin.name_any() == *name)
}

fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !is_finished(pod)
}

fn is_available(pod: &Pod) -> bool {
    pod.labels().contains_key(SERVICE_AVAILABLE)
}

fn serves(pod: &Pod) -> bool {
    is_active(pod) && is_available(pod) && is_ready(pod)
}
