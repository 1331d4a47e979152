//! A released pod whose mark somebody changed so that it can't be read: Replace can't put it back, and says
//! by which command a person does.

use operon_sdk::{Cluster, OwnerReference, Pod, ReadError, Value, json};

use super::ReplicaSet;
use crate::keys;
use crate::plan::Plan;

/// The mark can't be read: the message has the command that undoes the release by hand.
pub(super) fn plan(pod: &Pod, uid: &str, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let found = cluster.find("apps/v1", "ReplicaSet", keys::TEMPLATE_HASH)?;
    let mut found = found.iter().filter_map(ReplicaSet::from_object);
    let way_out = match found.find(|replica_set| replica_set.uid == uid) {
        Some(replica_set) => format!(
            "put it back by `kubectl patch pod {} --type=merge -p '{}'`",
            pod.name,
            put_back_by_hand(pod, &replica_set)
        ),
        None => "its ReplicaSet is gone: delete the pod".to_owned(),
    };
    let message = format!(
        "pod {:?} was released from its ReplicaSet, but its label {} or its annotation {} can't be read: {way_out}",
        pod.name,
        keys::JOB,
        keys::ORIGIN
    );
    Ok(Plan::fail("OriginUnreadable", message))
}

fn put_back_by_hand(pod: &Pod, replica_set: &ReplicaSet) -> Value {
    let mut labels = replica_set.match_labels.iter();
    let hash = labels.find(|(key, _)| key == keys::TEMPLATE_HASH);
    let hash = hash.map(|(_, value)| value.as_str());
    let others = pod.owners.iter().filter(|owner| !owner.controller);
    let others = others.filter(|owner| owner.uid != replica_set.uid);
    let owners: Value = others
        .chain([&replica_set.reference(true)])
        .map(OwnerReference::to_object)
        .collect();
    json!({"metadata": {
        "labels": {keys::TEMPLATE_HASH: hash, keys::RELEASED_FROM: null, keys::JOB: null},
        "annotations": {keys::ORIGIN: null},
        "ownerReferences": owners
    }})
}
