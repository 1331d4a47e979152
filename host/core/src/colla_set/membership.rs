//! Adopting and releasing pods: what makes a pod one of the set's, and what ends that.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{CollaSet, keys};
use serde_json::json;

use super::{
    edits::Edits,
    in_place,
    pair::is_stamp,
    pods::{Pods, was_excluded},
    scale::SCALE_IN,
    update::UPDATE,
};
use crate::{jobs::owned::owner, pod_lifecycle::pod::takes_part};

/// Makes pods belong to the set as its selector says.
pub(super) fn change<'a>(object: &CollaSet, pods: &Pods<'a>, edits: &mut Edits<'a>) {
    for pod in &pods.adopt {
        adopt(object, pod, edits);
    }
    for pod in &pods.active {
        take_part(pod, edits);
    }
    for pod in &pods.release {
        release(object, pod, edits);
    }
    for pod in &pods.exclude {
        release(object, pod, edits);
        edits.label(pod, keys::ORPHANED, "true");
    }
}

/// Without the label the lifecycle does nothing with a pod.
pub(super) fn take_part<'a>(pod: &'a Pod, edits: &mut Edits<'a>) {
    if !takes_part(pod) {
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
    if was_excluded(pod) {
        edits.unlabel(pod, keys::ORPHANED);
    }
}

/// Ends a pod's membership, and what the set has begun on it.
pub(super) fn release<'a>(object: &CollaSet, pod: &'a Pod, edits: &mut Edits<'a>) {
    disown(object, pod, edits);
    unbind(pod, edits);
}

/// Withdraws what the set has begun on a pod that stays: the pod returns to service. What users requested, and
/// what the next set needs, stays.
pub(super) fn unbind<'a>(pod: &'a Pod, edits: &mut Edits<'a>) {
    for operation in [SCALE_IN, UPDATE] {
        edits.take_back(operation, pod);
    }
    for note in in_place::notes(pod) {
        edits.unannotate(pod, note);
    }
    let labels = pod.labels();
    let pair = [
        keys::PAIR_NEW_ID,
        keys::PAIR_ORIGIN_NAME,
        keys::REPLACED_BY_UPDATE,
    ];
    let requests = [keys::TO_REPLACE, keys::TO_DELETE];
    let requests = requests.into_iter().filter(|key| {
        let value = labels.get(*key);
        value.is_some_and(|value| is_stamp(value))
    });
    let pair = pair.into_iter().filter(|key| labels.contains_key(*key));
    for key in pair.chain(requests) {
        edits.unlabel(pod, key);
    }
}

/// The set does not own the pod any more.
fn disown<'a>(object: &CollaSet, pod: &'a Pod, edits: &mut Edits<'a>) {
    let uid = object.metadata.uid.as_ref();
    let owners = pod.owner_references().iter();
    let others: Vec<_> = owners.filter(|owner| Some(&owner.uid) != uid).collect();
    edits.owners(pod, json!(others));
}
