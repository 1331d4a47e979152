//! Adopting, numbering and releasing pods: what makes a pod one of the set's, and what ends that.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{CollaSet, keys};
use serde_json::json;

use super::{
    edits::Edits,
    pods::{Pods, instance_id},
    scale::SCALE_IN,
};
use crate::{jobs::owned::owner, pod_lifecycle::labels::PREPARING_TO_DELETE};

/// Makes pods belong to the set as its selector says, each with a number of its own.
pub(super) fn change<'a>(object: &CollaSet, pods: &Pods<'a>, edits: &mut Edits<'a>) {
    for pod in &pods.adopt {
        adopt(object, pod, edits);
    }
    for pod in &pods.active {
        take_part(pod, edits);
    }
    let mut taken = BTreeSet::new();
    let members = pods.active.iter().chain(&pods.adopt).copied();
    let is_unnumbered = |pod: &&Pod| instance_id(pod).is_none_or(|id| !taken.insert(id));
    let unnumbered: Vec<_> = members.filter(is_unnumbered).collect();
    let free = (0..).filter(|id| !taken.contains(id));
    for (pod, id) in unnumbered.into_iter().zip(free) {
        let id: u32 = id;
        edits.label(pod, keys::INSTANCE_ID, id.to_string());
    }
    for pod in &pods.release {
        release(object, pod, edits);
    }
}

/// Without the label the lifecycle does nothing with a pod.
pub(super) fn take_part<'a>(pod: &'a Pod, edits: &mut Edits<'a>) {
    let control = pod.labels().get(keys::CONTROL);
    if control.is_none_or(|value| value != "true") {
        edits.label(pod, keys::CONTROL, "true");
    }
}

fn adopt<'a>(object: &CollaSet, pod: &'a Pod, edits: &mut Edits<'a>) {
    let uid = object.metadata.uid.as_ref();
    let others = pod.owner_references().iter();
    let others = others.filter(|known| Some(&known.uid) != uid).cloned();
    let owners: Vec<_> = others.chain(owner(object)).collect();
    edits.owners(pod, json!(owners));
    edits.label(pod, keys::CONTROL, "true");
}

/// Ends a pod's membership, and an operation of the set on it.
fn release<'a>(object: &CollaSet, pod: &'a Pod, edits: &mut Edits<'a>) {
    disown(object, pod, edits);
    if let Some(undo) = SCALE_IN.undo(pod.labels()) {
        edits.labels(pod, undo);
        edits.unlabel(pod, PREPARING_TO_DELETE);
    }
    for key in [keys::PAIR_NEW_ID, keys::PAIR_ORIGIN_NAME] {
        if pod.labels().contains_key(key) {
            edits.unlabel(pod, key);
        }
    }
}

/// The set does not own the pod any more.
pub(super) fn disown<'a>(object: &CollaSet, pod: &'a Pod, edits: &mut Edits<'a>) {
    let uid = object.metadata.uid.as_ref();
    let owners = pod.owner_references().iter();
    let others: Vec<_> = owners.filter(|owner| Some(&owner.uid) != uid).collect();
    edits.owners(pod, json!(others));
}
