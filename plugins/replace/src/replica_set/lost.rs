//! A pod of a `ReplicaSet` that another client removes: it is being deleted, has ended, or does not exist
//! any more. Whether it was replaced or scaled in follows from the pods that the `ReplicaSet` has created
//! since. One of them is claimed, so that a target succeeds by a pod of its own and not by the state of the
//! others.

use std::time::Duration;

use operon_sdk::{Cluster, Effect, Job, ObjectReference, Pod, ReadError};

use super::room::waiting_for;
use super::{ReplicaSet, unclaimed, waiting_origins};
use crate::assignment;
use crate::keys;
use crate::plan::{self, Plan, patch};

/// A pod that something else removes.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Only a pod created in this second or later can replace it.
    pub since: i64,
}

/// What to do about a pod that is being deleted, though Replace has not released it.
pub(super) fn plan_deleted(
    pod: &Pod,
    replica_set: &ReplicaSet,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    match crate::new_pod_of(&pod.uid, cluster)? {
        Some(new_pod) if new_pod.ready => Ok(plan::wait_for_origin_to_go(pod, &new_pod, job)),
        Some(new_pod) => Ok(plan::wait_for_ready(&new_pod)),
        None => {
            let lost = Lost {
                uid: &pod.uid,
                name: &pod.name,
                since: deleted_at(pod, cluster)?,
            };
            plan(lost, replica_set, cluster)
        }
    }
}

/// What to do about a pod that has ended: it is deleted once a pod is known that replaces it.
pub(super) fn plan_ended(
    pod: &Pod,
    replica_set: &ReplicaSet,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let Some(new_pod) = crate::new_pod_of(&pod.uid, cluster)? else {
        let lost = Lost {
            uid: &pod.uid,
            name: &pod.name,
            since: pod.created_at,
        };
        return plan(lost, replica_set, cluster);
    };
    let message = format!(
        "pod {:?} has ended ({}) and pod {:?} replaces it: it is deleted",
        pod.name, pod.phase, new_pod.name
    );
    Ok(Plan::wait("OriginEnded", message)
        .with_new_pod(&new_pod.name)
        .doing(Effect::Delete(pod.delete())))
}

/// Claims a pod that replaces the lost one, or reports why there is none.
pub fn plan(
    lost: Lost<'_>,
    replica_set: &ReplicaSet,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    if let Some(message) = replica_set.unwanted() {
        return Ok(Plan::fail(keys::OWNER_SCALED_DOWN, message));
    }
    let siblings = replica_set.pods(cluster)?;
    let waiting = waiting_origins(&replica_set.uid, &siblings, cluster)?;
    let made_since = |pod: &&Pod| pod.created_at >= lost.since;
    let candidates = unclaimed(&siblings, lost.uid).filter(made_since).collect();
    if let Some(new_pod) = assignment::spare(waiting, candidates).first() {
        return Ok(claim(new_pod, lost.uid, lost.name));
    }
    if siblings.len() < replica_set.replicas {
        return Ok(
            Plan::wait(keys::WAITING_FOR_NEW_POD, waiting_for(replica_set))
                .recheck_after(Duration::from_secs(2)),
        );
    }
    let message = format!(
        "ReplicaSet {:?} already has its {} desired pods and created none for {:?}: the pod was scaled in",
        replica_set.name, replica_set.replicas, lost.name
    );
    Ok(Plan::fail(keys::OWNER_SCALED_DOWN, message))
}

/// Claims a pod for the one with this uid and name.
pub fn claim(new_pod: &Pod, uid: &str, name: &str) -> Plan {
    let edit = new_pod
        .edit()
        .set_label(keys::REPLACES, uid)
        .set_annotation(keys::REPLACES, name);
    let message = format!("pod {:?} replaces it as soon as it is ready", new_pod.name);
    plan::wait_for_ready(new_pod)
        .claiming()
        .doing(patch(edit))
        .event("ReplaceNewPod", message)
}

/// When the deletion of a pod was requested: its deletion timestamp is when the grace period ends.
fn deleted_at(pod: &Pod, cluster: &dyn Cluster) -> Result<i64, ReadError> {
    let object = cluster.get(&ObjectReference::new("v1", "Pod", &pod.name))?;
    let metadata = object.map(|object| object["metadata"].clone());
    let metadata = metadata.filter(|metadata| metadata["uid"] == pod.uid.as_str());
    let requested = metadata.and_then(|metadata| {
        let end = operon_sdk::time::parse(metadata["deletionTimestamp"].as_str()?)?;
        Some(end - metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0))
    });
    Ok(requested.unwrap_or(pod.created_at))
}
