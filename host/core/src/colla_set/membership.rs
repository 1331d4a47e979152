//! Adopting, numbering and releasing pods: what makes a pod one of the set's, and what ends that.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{CollaSet, keys};
use serde_json::json;

use super::{
    pods::{Pods, instance_id},
    scale::SCALE_IN,
};
use crate::{action::Effect, driver, jobs::owned::owner};

/// The changes that make pods belong to the set as its selector says, each with a number of its own.
pub(super) fn changes(object: &CollaSet, pods: &Pods<'_>) -> Vec<Effect> {
    let mut taken = BTreeSet::new();
    let members = pods.active.iter().map(|pod| (*pod, false));
    let members = members.chain(pods.adopt.iter().map(|pod| (*pod, true)));
    let (numbered, unnumbered): (Vec<_>, Vec<_>) =
        members.partition(|(pod, _)| instance_id(pod).is_some_and(|id| taken.insert(id)));
    let adopted = numbered.into_iter().filter(|(_, is_adopted)| *is_adopted);
    let adopted: Vec<_> = adopted.map(|(pod, _)| member(object, pod, None)).collect();
    let free = (0..).filter(|id| !taken.contains(id));
    let renumbered = unnumbered.into_iter().zip(free);
    let renumbered = renumbered.map(|((pod, _), id)| member(object, pod, Some(id)));
    let released = pods.release.iter().map(|pod| released(object, pod));
    adopted
        .into_iter()
        .chain(renumbered)
        .chain(released)
        .collect()
}

/// The change that makes a pod one of the set's, with this number if it has none of its own.
fn member(object: &CollaSet, pod: &Pod, id: Option<u32>) -> Effect {
    let uid = object.metadata.uid.as_ref();
    let mut owners = pod.owner_references().to_vec();
    if owners.iter().all(|known| Some(&known.uid) != uid) {
        owners.extend(owner(object));
    }
    let mut labels = json!({keys::CONTROL: "true"});
    if let Some(id) = id {
        labels[keys::INSTANCE_ID] = json!(id.to_string());
    }
    let metadata = json!({"ownerReferences": owners, "labels": labels});
    driver::unchanged(pod, json!({"metadata": metadata}))
}

/// The change that ends a pod's membership, and an operation of the set on it.
fn released(object: &CollaSet, pod: &Pod) -> Effect {
    let uid = object.metadata.uid.as_ref();
    let owners = pod.owner_references().iter();
    let others: Vec<_> = owners.filter(|owner| Some(&owner.uid) != uid).collect();
    let undo = SCALE_IN.undo(pod.labels()).unwrap_or_default();
    let metadata = json!({"ownerReferences": others, "labels": undo});
    driver::unchanged(pod, json!({"metadata": metadata}))
}
