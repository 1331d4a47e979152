//! Replacing a pod: a new pod is created beside it, and when the new pod serves, the old one is deleted
//! through its lifecycle. The two are a pair, and count as one.
//!
//! Whoever wants a pod to be replaced sets the label `to-replace` on it, and takes it off to cancel. The
//! new pod names the old one in a label, and the old one has the number of the new one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::keys;

use super::{
    edits::Edits,
    pods::{Pods, instance_id, is_available, revision},
    scale::is_scaling_in,
};
use crate::pod_lifecycle::{adapter::Standing, deletion::DELETION};

/// How long the value of a label may be.
pub(super) const LABEL: usize = 63;

/// The pairs of a set.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    /// The new pods, by the name of the old one, which is active or being deleted.
    new_pods: BTreeMap<&'a str, &'a Pod>,
    /// The names of the pods that are active, or will be when they are adopted.
    active: BTreeSet<String>,
    /// The old pods that have no new one and shall get one, those that are being deleted last.
    pub(super) alone: Vec<&'a Pod>,
    /// Those of them that cannot get one: the name is too long for the label of the new pod.
    pub(super) too_long: Vec<&'a Pod>,
}

impl<'a> Pairs<'a> {
    pub(super) fn of(pods: &Pods<'a>) -> Self {
        // A pod that is being adopted was half of a pair before, and still is.
        let members = pods.active.iter().chain(&pods.adopt);
        let active: BTreeSet<_> = members.clone().map(|pod| pod.name_any()).collect();
        let terminating = pods.terminating.iter().map(|pod| pod.name_any());
        let names: BTreeSet<_> = active.iter().cloned().chain(terminating).collect();
        let mut new_pods: BTreeMap<&str, &Pod> = BTreeMap::new();
        for pod in members {
            let origin = origin_name(pod).filter(|name| names.contains(*name));
            if let Some(origin) = origin {
                new_pods.entry(origin).or_insert(pod);
            }
        }
        let is_alone = |pod: &&&Pod| {
            pod.labels().contains_key(keys::TO_REPLACE)
                && !is_scaling_in(pod)
                && !new_pods.contains_key(&*pod.name_any())
                && !origin_name(pod).is_some_and(|name| active.contains(name))
        };
        let origins = pods.active.iter().chain(&pods.terminating);
        // The name is the value of a label of the new pod.
        let fits = |pod: &&Pod| pod.name_any().len() <= LABEL;
        let (alone, too_long) = origins.filter(is_alone).copied().partition(fits);
        Self {
            new_pods,
            active,
            alone,
            too_long,
        }
    }

    /// Whether a pod is the new one of a pair: the old one counts.
    pub(super) fn is_new(&self, pod: &Pod) -> bool {
        let Some(origin) = origin_name(pod).filter(|name| self.active.contains(*name)) else {
            return false;
        };
        let new_pod = self.new_pods.get(origin);
        new_pod.is_some_and(|new_pod| new_pod.name_any() == pod.name_any())
    }

    /// The new pod of an old one.
    pub(super) fn new_pod(&self, origin: &Pod) -> Option<&'a Pod> {
        self.new_pods.get(&*origin.name_any()).copied()
    }

    /// Keeps the labels of pairs true, and decides which pod of a pair goes.
    pub(super) fn change(
        &self,
        pods: &Pods<'a>,
        updated: &str,
        now: Timestamp,
        edits: &mut Edits<'a>,
    ) {
        for pod in &pods.active {
            if origin_name(pod).is_some() && !self.is_of_pair(pod) {
                edits.unlabel(pod, keys::PAIR_ORIGIN_NAME);
            }
            let new_id = self.new_pod(pod).and_then(instance_id);
            let known = pod.labels().get(keys::PAIR_NEW_ID);
            match (new_id, known) {
                (Some(id), known) if known != Some(&id.to_string()) => {
                    edits.label(pod, keys::PAIR_NEW_ID, id.to_string());
                }
                (None, Some(_)) => edits.unlabel(pod, keys::PAIR_NEW_ID),
                (Some(_), _) | (None, None) => {}
            }
            if self.is_hasty(pod, now) {
                edits.unlabel(pod, keys::TO_DELETE);
            } else if let Some(new_pod) = self.new_pod(pod)
                && let Some(leaving) = leaving(pod, new_pod, updated)
            {
                edits.label(leaving, keys::TO_DELETE, now.as_nanosecond().to_string());
            }
        }
    }

    /// Whether an old pod is to be deleted for a new one that does not serve any more, and has not left service.
    fn is_hasty(&self, origin: &Pod, now: Timestamp) -> bool {
        let labels = origin.labels();
        let has = |key: &str| labels.contains_key(key);
        let is_deleted = labels
            .get(keys::TO_DELETE)
            .is_some_and(|value| is_stamp(value));
        let is_replaced = match self.new_pod(origin) {
            Some(new_pod) => is_available(new_pod),
            // It was deleted; without a request none is created instead.
            None => !has(keys::TO_REPLACE) && !has(keys::REPLACED_BY_UPDATE),
        };
        let standing = DELETION.standing(labels, now.as_nanosecond());
        let has_left = matches!(standing, Standing::Allowed(_));
        is_deleted && !is_replaced && !has_left && !self.is_new(origin)
    }

    fn is_of_pair(&self, new_pod: &Pod) -> bool {
        let known = origin_name(new_pod).and_then(|name| self.new_pods.get(name));
        known.is_some_and(|known| known.name_any() == new_pod.name_any())
    }
}

/// The pod of a pair that must go now: the old one when the new one serves, the new one when the
/// replacement was cancelled. What goes already goes.
fn leaving<'a>(origin: &'a Pod, new_pod: &'a Pod, updated: &str) -> Option<&'a Pod> {
    let goes = |pod: &Pod| pod.labels().contains_key(keys::TO_DELETE) || is_scaling_in(pod);
    let is_updated = |pod: &Pod| revision(pod) == Some(updated);
    let is_for_update = origin.labels().contains_key(keys::REPLACED_BY_UPDATE);
    let is_requested = is_for_update || origin.labels().contains_key(keys::TO_REPLACE);
    if goes(origin) || goes(new_pod) {
        return None;
    }
    if !is_requested {
        return Some(new_pod);
    }
    // The update itself removes a new pod of another revision.
    let is_right = !is_for_update || (is_updated(new_pod) && !is_updated(origin));
    (is_right && is_available(new_pod)).then_some(origin)
}

/// Whether a pod is a new one for another.
pub(super) fn replaces(new_pod: &Pod, origin: &Pod) -> bool {
    origin_name(new_pod).is_some_and(|name| name == origin.name_any())
}

/// The name of the pod that a new pod replaces.
fn origin_name(pod: &Pod) -> Option<&str> {
    pod.labels().get(keys::PAIR_ORIGIN_NAME).map(String::as_str)
}

/// Whether the value of a request is one that a set itself writes: a time. Users and actions write `true`.
pub(super) fn is_stamp(value: &str) -> bool {
    value.parse::<i128>().is_ok()
}
