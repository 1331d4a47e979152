//! The substitute of a released pod: which of the `ReplicaSet`'s new pods it is, and what happens once one is
//! claimed.

use std::time::Duration;

use operon_sdk::{Cluster, Job, Pod, ReadError};

use super::{ReplicaSet, lost::claim};
use crate::assignment::{self, Waiting};
use crate::keys;
use crate::mark::Mark;
use crate::plan::{self, Plan};

/// Claims a substitute if there is one for this origin, and gives up if there will be none; none if the
/// `ReplicaSet` has yet to make it.
pub(super) fn decide_claim(
    pod: &Pod,
    replica_set: &ReplicaSet,
    siblings: &[Pod],
    waiting: Vec<Waiting>,
) -> Option<Plan> {
    let candidates = unclaimed(siblings, &pod.uid).collect();
    let full = siblings.len() >= replica_set.replicas;
    let full_at = full.then_some(replica_set.replicas);
    match assignment::candidate_for(&pod.uid, waiting, candidates, full_at) {
        Some(new_pod) => Some(claim(new_pod, &pod.uid, &pod.name)),
        None if full => {
            let message = format!(
                "ReplicaSet {:?} was scaled to {} and has them: it makes no new pod for {:?}",
                replica_set.name, replica_set.replicas, pod.name
            );
            Some(Plan::fail(keys::OWNER_SCALED_DOWN, message))
        }
        None => None,
    }
}

/// The pods of a `ReplicaSet` that can replace this one: those that replace none yet, are not replaced
/// themselves, and are another pod.
pub(super) fn unclaimed<'a>(siblings: &'a [Pod], uid: &'a str) -> impl Iterator<Item = &'a Pod> {
    siblings.iter().filter(move |sibling| {
        let involved = [keys::REPLACES, keys::RELEASED_FROM];
        sibling.uid != uid && involved.iter().all(|key| sibling.label(key).is_none())
    })
}

/// The origin has a live substitute.
pub(super) fn plan_claimed(
    pod: &Pod,
    new_pod: &Pod,
    mark: &Mark,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    if !new_pod.ready {
        return Ok(plan::wait_for_ready(new_pod));
    }
    if pod.deleting {
        return Ok(plan::wait_for_origin_to_go(pod, new_pod, job));
    }
    let replica_set = ReplicaSet::get(&mark.replica_set, cluster)?;
    let needed = replica_set.map_or(0, |replica_set| replica_set.min_ready_seconds);
    let left = seconds_left(new_pod, needed, job);
    if left > 0 {
        let message = format!(
            "pod {:?} is ready; it has to stay so for {needed} s",
            new_pod.name
        );
        return Ok(Plan::wait("NewPodNotAvailable", message)
            .with_new_pod(&new_pod.name)
            .recheck_after(Duration::from_secs(left.unsigned_abs())));
    }
    if mark.job != job.uid {
        let message = format!(
            "another job (uid {}) replaces pod {:?} by {:?}",
            mark.job, pod.name, new_pod.name
        );
        return Ok(Plan::wait("ReplacedByOtherJob", message).with_new_pod(&new_pod.name));
    }
    plan::remove(pod, new_pod, job, cluster)
}

/// How long a pod that is ready has to stay so until it counts as available.
pub(super) fn seconds_left(new_pod: &Pod, needed: i64, job: &Job) -> i64 {
    let since = new_pod.ready_since;
    since.map_or(needed, |since| since + needed - job.now)
}

/// All released origins of the `ReplicaSet` that have no live substitute.
pub(super) fn waiting_origins(
    replica_set_uid: &str,
    siblings: &[Pod],
    cluster: &dyn Cluster,
) -> Result<Vec<Waiting>, ReadError> {
    let origins = released_from(replica_set_uid, cluster)?;
    let claimed = |uid: &str| {
        siblings
            .iter()
            .any(|sibling| sibling.label(keys::REPLACES) == Some(uid))
    };
    let waiting = origins.into_iter().filter(|origin| !claimed(&origin.uid));
    let waiting = waiting.filter_map(|origin| {
        Some(Waiting {
            mark: Mark::of(&origin)?,
            uid: origin.uid,
            name: origin.name,
        })
    });
    Ok(waiting.collect())
}

/// The pods that are released from this `ReplicaSet`.
fn released_from(replica_set_uid: &str, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
    cluster.find_pods(&format!("{}={replica_set_uid}", keys::RELEASED_FROM))
}
