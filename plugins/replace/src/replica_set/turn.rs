//! The release of a pod, when it is its turn: no more of a `ReplicaSet`'s pods are released at the same time
//! than the settings allow, and those of a job that vanished do not take a turn for ever.

use operon_sdk::{Cluster, Job, Pod, ReadError};

use super::{ReplicaSet, room, substitute::seconds_left, undo};
use crate::keys;
use crate::mark::Mark;
use crate::plan::{self, Plan, patch};
use crate::settings::Settings;

/// Releases the pod, unless as many of its `ReplicaSet` are released as may be at the same time.
pub(super) fn plan_release(
    pod: &Pod,
    replica_set: &ReplicaSet,
    siblings: &[Pod],
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let most = Settings::of(job).max_released.of(replica_set.replicas);
    let selector = format!("{}={}", keys::RELEASED_FROM, replica_set.uid);
    let mut released = cluster.find_pods(&selector)?;
    released.retain(|pod| !pod.deleting);
    if u32::try_from(released.len()).is_ok_and(|released| released >= most) {
        return wait_for_turn(&released, replica_set, most, job, cluster);
    }
    if let Some(plan) = room::before_release(replica_set) {
        return Ok(plan);
    }
    // A released pod is no new pod either, should it be put back.
    let known = [siblings, released.as_slice()].concat();
    let mark = Mark::new(job, pod, replica_set, &known);
    let deployment = replica_set.deployment();
    let drain = match deployment {
        Some(_) => "",
        None => "; it has no controller meanwhile, so `kubectl drain` refuses its node",
    };
    let waiting = format!("{}{drain}", room::waiting_for(replica_set));
    let message = format!(
        "released from ReplicaSet {:?}: it serves until a new pod is ready{drain}",
        replica_set.name
    );
    let plan = Plan::wait(keys::WAITING_FOR_NEW_POD, waiting)
        .doing(patch(mark.put_on(pod, replica_set)))
        .limited_to(most, &selector)
        .event("ReplaceOriginPod", message);
    Ok(deployment.iter().fold(plan, |plan, deployment| {
        plan.requiring(deployment.required())
    }))
}

/// As many pods are released as may be. One whose job does not exist any more would stay so for ever: its
/// replacement is finished, or undone.
fn wait_for_turn(
    released: &[Pod],
    replica_set: &ReplicaSet,
    most: u32,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let message = format!(
        "{} pods of ReplicaSet {:?} are being replaced, of at most {most} at the same time",
        released.len(),
        replica_set.name
    );
    let plan = Plan::wait("WaitingForTurn", message);
    for pod in released {
        let Some(mark) = Mark::of(pod) else { continue };
        if cluster.job_exists(&mark.job)? {
            continue;
        }
        let new_pod = crate::new_pod_of(&pod.uid, cluster)?;
        let serves = |new_pod: &Pod| new_pod.ready && !mark.is_put_back_by_hand(pod);
        let Some(new_pod) = new_pod.filter(serves) else {
            return Ok(plan.undoing(undo::put_back(pod, &replica_set.uid, &mark, cluster)?));
        };
        if seconds_left(&new_pod, replica_set.min_ready_seconds, job) > 0 {
            continue;
        }
        return Ok(Plan {
            new_pod: None,
            ..plan::remove(pod, &new_pod, job, cluster)?
        });
    }
    let selector = format!("{}={}", keys::RELEASED_FROM, replica_set.uid);
    Ok(plan.limited_to(most, &selector))
}
