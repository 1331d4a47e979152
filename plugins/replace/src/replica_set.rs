//! Replacing a pod of a `ReplicaSet`: one patch removes the pod's hash label and makes its Deployment its
//! controller, so that it serves on while the `ReplicaSet` makes a substitute. The substitute is claimed by
//! a label; once it has been ready for long enough, the old pod is removed. Giving up puts it back.
//!
//! This file decides where a pod stands; what follows is in the files of this folder.

mod lost;
mod owner;
mod room;
mod substitute;
mod turn;
mod undo;
mod unreadable;

use std::time::Duration;

use operon_sdk::{Cluster, Job, OwnerReference, Pod, ReadError, Target};

pub use self::lost::{Lost, claim, plan as plan_lost};
pub use self::owner::{ReplicaSet, is_deployment};
pub use self::undo::release;

use self::substitute::{decide_claim, plan_claimed, unclaimed, waiting_origins};
use self::turn::plan_release;
use crate::gone::Owner;
use crate::keys;
use crate::mark::{self, Mark};
use crate::plan::{Plan, patch};

/// What to do about a pod that exists.
pub fn plan(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let plan = match (pod.label(keys::RELEASED_FROM), Mark::of(pod)) {
        (None, _) => return plan_owned(target, pod, job, cluster),
        (Some(uid), None) => return unreadable::plan(pod, uid, cluster),
        (Some(uid), Some(mark)) => {
            let owner = Owner::text(&mark.replica_set, mark.newest);
            plan_marked(pod, uid, &mark, job, cluster)?.with_owner(target, owner)
        }
    };
    Ok(plan)
}

/// The pod is as its `ReplicaSet` made it.
fn plan_owned(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let owner = pod.controller();
    let replica_set = match owner {
        Some(owner) => ReplicaSet::get_same(&owner.name, &owner.uid, cluster)?,
        None => None,
    };
    let Some(replica_set) = replica_set else {
        return Ok(without_replica_set(pod, owner));
    };
    let siblings = replica_set.pods(cluster)?;
    let owner = Owner::text(&replica_set.name, mark::newest(&siblings));
    let plan = if pod.deleting {
        lost::plan_deleted(pod, &replica_set, job, cluster)?
    } else if pod.ended() {
        lost::plan_ended(pod, &replica_set, cluster)?
    } else if let Some(origin) = crate::unfinished_origin(pod, cluster)? {
        Plan::not_allowed(pod, &origin)
    } else if let Some(refusal) = refusal(pod, &replica_set) {
        refusal
    } else {
        plan_release(pod, &replica_set, &siblings, job, cluster)?
    };
    Ok(plan.with_owner(target, owner))
}

fn without_replica_set(pod: &Pod, owner: Option<&OwnerReference>) -> Plan {
    let name = owner.map_or("", |owner| owner.name.as_str());
    let message = format!(
        "the ReplicaSet {name:?} of pod {:?} does not exist (yet)",
        pod.name
    );
    Plan::wait("OwnerNotFound", message).recheck_after(Duration::from_secs(5))
}

/// Why a pod of this `ReplicaSet` can't be replaced; none if it can.
fn refusal(pod: &Pod, replica_set: &ReplicaSet) -> Option<Plan> {
    if !replica_set.selects_by_hash(pod) {
        let message = format!(
            "ReplicaSet {:?} does not select pod {:?} by the label {}, so the pod can't be released \
             without losing its traffic: run it by a Deployment, or delete the pod",
            replica_set.name,
            pod.name,
            keys::TEMPLATE_HASH
        );
        return Some(Plan::fail(keys::UNSUPPORTED_OWNER, message));
    }
    let message = replica_set.unwanted()?;
    Some(Plan::fail(keys::OWNER_SCALED_DOWN, message))
}

/// The pod was released, by this job or by another.
fn plan_marked(
    pod: &Pod,
    replica_set_uid: &str,
    mark: &Mark,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let by_hand = mark.is_put_back_by_hand(pod);
    if mark.job != job.uid && !cluster.job_exists(&mark.job)? {
        return take_over(pod, replica_set_uid, mark, job, by_hand, cluster);
    }
    if by_hand && mark.job == job.uid {
        let message = format!(
            "somebody gave pod {:?} its label {} back: it is put back and not replaced; to replace \
             it, create another job",
            pod.name,
            keys::TEMPLATE_HASH
        );
        return Ok(Plan::fail(keys::ORIGIN_PUT_BACK, message));
    }
    plan_released(pod, replica_set_uid, mark, job, cluster)
}

/// The job that released the pod does not exist any more. A pod that has its label back is put back
/// and starts over.
fn take_over(
    pod: &Pod,
    replica_set_uid: &str,
    mark: &Mark,
    job: &Job,
    by_hand: bool,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let message = format!(
        "pod {:?} was released by a job (uid {}) that does not exist any more: this job takes it over",
        pod.name, mark.job
    );
    let plan = Plan::wait(keys::TAKEN_OVER, message).recheck_after(Duration::from_secs(1));
    if !by_hand {
        return Ok(plan.doing(patch(Mark::taken_over(pod, &job.uid))));
    }
    Ok(plan.undoing(undo::put_back(pod, replica_set_uid, mark, cluster)?))
}

fn plan_released(
    pod: &Pod,
    replica_set_uid: &str,
    mark: &Mark,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    if let Some(new_pod) = crate::new_pod_of(&pod.uid, cluster)? {
        return plan_claimed(pod, &new_pod, mark, job, cluster);
    }
    if mark.job != job.uid {
        let message = format!("another job (uid {}) replaces pod {:?}", mark.job, pod.name);
        return Ok(Plan::wait("ReplacedByOtherJob", message));
    }
    let found = ReplicaSet::get_same(&mark.replica_set, replica_set_uid, cluster)?;
    let Some(replica_set) = found else {
        let message = format!(
            "ReplicaSet {:?} is gone and makes no new pod for {:?}",
            mark.replica_set, pod.name
        );
        return Ok(Plan::fail(keys::OWNER_SCALED_DOWN, message));
    };
    if let Some(message) = replica_set.unwanted() {
        return Ok(Plan::fail(keys::OWNER_SCALED_DOWN, message));
    }
    let siblings = replica_set.pods(cluster)?;
    let waiting = waiting_origins(replica_set_uid, &siblings, cluster)?;
    match decide_claim(pod, &replica_set, &siblings, waiting) {
        Some(plan) => Ok(plan),
        None => room::while_released(pod, &replica_set, mark, job, cluster),
    }
}
