//! The pods of a CollaSet, by what they are to it.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt as _},
};
use operon_api::{CollaSet, keys};

pub(super) use crate::pod_lifecycle::pod::{condition, is_available, is_finished, is_ready};

use super::{Seen, named::Named, selection::selector};
use crate::jobs::owned::controller;

/// The pods of a CollaSet, each in the order of their creation.
#[derive(Debug, Default)]
pub(super) struct Pods<'a> {
    /// They count: they neither have finished nor are being deleted.
    pub(super) active: Vec<&'a Pod>,
    /// They are being deleted.
    pub(super) terminating: Vec<&'a Pod>,
    /// They have finished, and no container of them will ever run again.
    pub(super) finished: Vec<&'a Pod>,
    /// The selector selects them, and no controller owns them.
    pub(super) adopt: Vec<&'a Pod>,
    /// The set owns them, and the selector does not select them any more.
    pub(super) release: Vec<&'a Pod>,
    /// The set owns them, and the scale strategy excludes them.
    pub(super) exclude: Vec<&'a Pod>,
}

impl<'a> Pods<'a> {
    /// What the pods are to the set, by its selector.
    pub(super) fn of(seen: &'a Seen, selector: &Selector) -> Self {
        let uid = seen.object.metadata.uid.as_deref();
        let named = Named::of(&seen.object);
        let mut pods = Self::default();
        let mut all: Vec<&Pod> = seen.pods.iter().map(AsRef::as_ref).collect();
        all.sort_by_key(|pod| {
            (
                creation(&seen.object, pod),
                pod.metadata.creation_timestamp.clone(),
                pod.name_any(),
            )
        });
        for pod in all {
            let is_selected = selector.matches(pod.labels()) || named.includes(pod);
            let is_deleted = pod.metadata.deletion_timestamp.is_some();
            match owner_uid(pod) {
                Some(owner) if Some(owner) != uid => {}
                Some(_) if is_deleted => pods.terminating.push(pod),
                Some(_) if named.excludes(pod) => pods.exclude.push(pod),
                Some(_) if !is_selected => pods.release.push(pod),
                Some(_) if is_finished(pod) => pods.finished.push(pod),
                Some(_) => pods.active.push(pod),
                None if is_deleted || is_finished(pod) => {}
                None if adopts(selector, &named, pod) => pods.adopt.push(pod),
                None => {}
            }
        }
        pods
    }

    /// The pods that the set owns, whatever its selector says.
    pub(super) fn owned(seen: &'a Seen) -> Self {
        let uid = seen.object.metadata.uid.as_deref();
        let mut pods = Self::default();
        let all = seen.pods.iter().map(AsRef::as_ref);
        for pod in all.filter(|pod: &&Pod| uid.is_some() && owner_uid(*pod) == uid) {
            if pod.metadata.deletion_timestamp.is_some() {
                pods.terminating.push(pod);
            } else if is_finished(pod) {
                pods.finished.push(pod);
            } else {
                pods.active.push(pod);
            }
        }
        pods
    }
}

/// Whether a set adopts a pod without a controller.
fn adopts(selector: &Selector, named: &Named<'_>, pod: &Pod) -> bool {
    let is_excluded = was_excluded(pod) || named.excludes(pod);
    named.includes(pod) || (!is_excluded && selector.matches(pod.labels()))
}

/// Whether a CollaSet may adopt a pod that has no controller.
pub fn may_adopt(object: &CollaSet, pod: &Pod) -> bool {
    let selector = selector(object);
    selector.is_ok_and(|selector| adopts(&selector, &Named::of(object), pod))
}

/// Whether a pod was excluded from its set: no set adopts it unless it names the pod.
pub(super) fn was_excluded(pod: &Pod) -> bool {
    pod.labels().contains_key(keys::ORPHANED)
}

/// The uid of an object's controller.
pub fn owner_uid<K: Resource>(object: &K) -> Option<&str> {
    controller(object).map(|owner| &*owner.uid)
}

/// How many pods had been created for the set with this one; 0 of one that the set did not create.
pub(super) fn creation(object: &CollaSet, pod: &Pod) -> i64 {
    let text = pod.annotations().get(keys::CREATION).map(String::as_str);
    let of_set = text.and_then(|text| text.split_once('/'));
    let of_set = of_set.filter(|(uid, _)| Some(*uid) == object.metadata.uid.as_deref());
    of_set
        .and_then(|(_, count)| count.parse().ok())
        .unwrap_or(0)
}

/// What a pod says of [its creation](creation).
pub(super) fn creation_text(object: &CollaSet, count: i64) -> String {
    format!(
        "{}/{count}",
        object.metadata.uid.as_deref().unwrap_or_default()
    )
}

/// The number of a pod in its set.
pub(super) fn instance_id(pod: &Pod) -> Option<u32> {
    pod.labels().get(keys::INSTANCE_ID)?.parse().ok()
}

/// The revision that a pod was created from.
pub(super) fn revision(pod: &Pod) -> Option<&str> {
    pod.labels()
        .get(keys::CONTROLLER_REVISION)
        .map(String::as_str)
}

/// What the kubelet reports of a pod's containers.
pub(super) fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let statuses = pod.status.iter();
    statuses
        .flat_map(|status| &status.container_statuses)
        .flatten()
}

/// The `metadata.generation` that the kubelet has seen, if it reports that.
pub(super) fn observed_generation(pod: &Pod) -> Option<i64> {
    pod.status.as_ref()?.observed_generation
}

/// Whether the kubelet has seen the spec of a pod as it is now; none if it reports no generation.
pub(super) fn is_observed(pod: &Pod) -> Option<bool> {
    let now = pod.metadata.generation?;
    observed_generation(pod).map(|seen| seen >= now)
}

/// Whether a pod has a node.
pub(super) fn is_scheduled(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some())
}
