//! A `ReplicaSet` that can't create a new pod, because a quota or a policy refuses it. It tries again after
//! a wait that doubles up to a quarter of an hour, and nothing wakes it when there is room. So no pod is
//! released during that time, and a released pod is put back after a while: then the `ReplicaSet` misses no
//! pod and resets its wait, and the pod is released again.

use std::time::Duration;

use operon_sdk::{Cluster, Job, Pod, ReadError};

use super::{ReplicaSet, undo};
use crate::keys;
use crate::mark::Mark;
use crate::plan::Plan;

/// For how many seconds a pod stays released if its `ReplicaSet` can't create a new one.
const PATIENCE: i64 = 30;

/// What to wait for before a pod is released, if its `ReplicaSet` can't create a new one now. Its changes
/// do not wake a target that is not released.
pub(super) fn before_release(replica_set: &ReplicaSet) -> Option<Plan> {
    let waits = || {
        Plan::wait(keys::WAITING_FOR_NEW_POD, waiting_for(replica_set))
            .recheck_after(Duration::from_secs(5))
    };
    replica_set.failure.is_some().then(waits)
}

/// What to do about a released pod for which there is no new one yet.
pub(super) fn while_released(
    pod: &Pod,
    replica_set: &ReplicaSet,
    mark: &Mark,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let plan = Plan::wait(keys::WAITING_FOR_NEW_POD, waiting_for(replica_set));
    if replica_set.failure.is_none() || !pod.live() {
        return Ok(plan);
    }
    let left = mark.released.saturating_add(PATIENCE) - job.now;
    if left <= 0 {
        let undo = undo::put_back(pod, &replica_set.uid, mark, cluster)?;
        return Ok(plan.undoing(undo));
    }
    let left = left.min(PATIENCE).unsigned_abs();
    Ok(plan.recheck_after(Duration::from_secs(left)))
}

/// What a target without a new pod waits for.
pub(super) fn waiting_for(replica_set: &ReplicaSet) -> String {
    let name = &replica_set.name;
    match &replica_set.failure {
        Some(failure) => format!("ReplicaSet {name:?} can't create a new pod: {failure}"),
        None => format!("waiting for ReplicaSet {name:?} to create a new pod"),
    }
}
