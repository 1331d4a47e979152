//! How many of the selected pods are out of service.
//!
//! A pod that does not exist counts too: a CollaSet that deleted a pod has not created the next one yet. A new pod
//! that replaces another does not count before it serves: until then the old one does.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::SelectorExt as _};
use operon_api::{CollaSet, keys, pod_transition_rule::TransitionDetail};

use super::{
    Seen, Set,
    read::{Limit, selector},
};
use crate::{
    colla_set::{owner_uid, texts},
    pod_lifecycle::{
        labels::CREATING,
        pod::{is_available, is_finished, is_ready},
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
        let allowed: BTreeSet<_> = allowed.iter().map(|detail| &*detail.uid).collect();
        let sets: Vec<_> = seen.sets.iter().map(Places::of).collect();
        for pod in &seen.pods {
            let uid = pod.uid().unwrap_or_default();
            let is_allowed = allowed.contains(&*uid);
            if counts(&sets, pod, is_allowed) {
                census.total += 1;
                let is_out = is_allowed || !serves(pod);
                census.out.extend(is_out.then_some(uid));
            }
        }
        census.missing = sets.iter().map(|set| set.missing(seen)).sum();
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

/// Whether a pod counts. Of the pods of a CollaSet those do that have a place in it. Other controllers create another
/// pod in place of one that has finished.
fn counts(sets: &[Places<'_>], pod: &Pod, is_allowed: bool) -> bool {
    let owner = owner_uid(pod);
    let of = |set: &&Places<'_>| owner.is_some() && set.object.metadata.uid.as_deref() == owner;
    let Some(set) = sets.iter().find(of) else {
        return owner.is_none() || !is_finished(pod);
    };
    let is_beside = || {
        let has_served = !pod.labels().contains_key(CREATING);
        !has_served && set.origin(pod).is_some_and(serves)
    };
    is_active(pod) && (is_allowed || !is_beside())
}

/// The places of a CollaSet: each is for one pod, or for a pod and the new pod that replaces it.
struct Places<'a> {
    object: &'a CollaSet,
    /// The active pods, by name.
    pods: BTreeMap<&'a str, &'a Pod>,
}

impl<'a> Places<'a> {
    fn of(set: &'a Set) -> Self {
        let pods = set.pods.iter().map(AsRef::as_ref);
        let named = |pod: &'a Pod| Some((pod.metadata.name.as_deref()?, pod));
        Self {
            object: &set.object,
            pods: pods
                .filter(|pod| is_active(pod))
                .filter_map(named)
                .collect(),
        }
    }

    /// The active pod that this one replaces.
    fn origin(&self, pod: &Pod) -> Option<&'a Pod> {
        let name = pod.labels().get(keys::PAIR_ORIGIN_NAME)?;
        self.pods.get(name.as_str()).copied()
    }

    /// How many pods the CollaSet still has to create that will be selected.
    fn missing(&self, seen: &Seen) -> usize {
        let labels = texts(&self.object.spec.template, "labels");
        let is_selected = selector(&seen.object).is_ok_and(|selector| selector.matches(&labels));
        if !is_selected || self.object.metadata.deletion_timestamp.is_some() {
            return 0;
        }
        let old = self.pods.values().filter(|pod| self.origin(pod).is_none());
        let desired = usize::try_from(self.object.spec.replicas).unwrap_or(0);
        desired.saturating_sub(old.count())
    }
}

fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !is_finished(pod)
}

fn serves(pod: &Pod) -> bool {
    is_active(pod) && is_available(pod) && is_ready(pod)
}
