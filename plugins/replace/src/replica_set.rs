//! Replacing a pod of a `ReplicaSet`: one patch removes the pod's hash label and makes its Deployment its
//! controller, so that it serves on while the `ReplicaSet` makes a substitute. The substitute is claimed by
//! a label; once it has been ready for long enough, the old pod is removed. Giving up puts it back.

mod lost;
mod owner;
mod room;
mod undo;

use operon_sdk::{Cluster, Job, OwnerReference, Pod, ReadError, Target, Value, json};

pub use self::lost::{Lost, claim, plan as plan_lost};
pub use self::owner::{ReplicaSet, is_deployment};
pub use self::undo::{keep, release};

use crate::assignment::{self, Waiting};
use crate::gone::Owner;
use crate::keys;
use crate::mark::{self, Mark};
use crate::plan::{self, Plan, patch};
use crate::settings::Settings;

/// What to do about a pod that exists.
pub fn plan(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let plan = match (pod.label(keys::RELEASED_FROM), Mark::of(pod)) {
        (None, _) => return plan_owned(target, pod, job, cluster),
        (Some(uid), None) => return plan_unreadable(pod, uid, cluster),
        (Some(uid), Some(mark)) => {
            let owner = Owner::text(&mark.replica_set, mark.newest);
            plan_marked(pod, uid, &mark, job, cluster)?.with_owner(target, owner)
        }
    };
    Ok(plan)
}

/// The mark can't be read: the message has the command that undoes the release by hand.
fn plan_unreadable(pod: &Pod, uid: &str, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
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
    Plan::wait("OwnerNotFound", message).recheck_after(5_000)
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

/// Releases the pod, unless as many of its `ReplicaSet` are released as may be at the same time.
fn plan_release(
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
    let plan = Plan::wait("WaitingForTurn", message).recheck_after(5_000);
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
    Ok(plan)
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
    let plan = Plan::wait(keys::TAKEN_OVER, message).recheck_after(1_000);
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

/// Claims a substitute if there is one for this origin, and gives up if there will be none; none if the
/// `ReplicaSet` has yet to make it.
fn decide_claim(
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
fn unclaimed<'a>(siblings: &'a [Pod], uid: &'a str) -> impl Iterator<Item = &'a Pod> {
    siblings.iter().filter(move |sibling| {
        let involved = [keys::REPLACES, keys::RELEASED_FROM];
        sibling.uid != uid && involved.iter().all(|key| sibling.label(key).is_none())
    })
}

/// The origin has a live substitute.
fn plan_claimed(
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
        let milliseconds = u32::try_from(left.saturating_mul(1_000)).unwrap_or(u32::MAX);
        let message = format!(
            "pod {:?} is ready; it has to stay so for {needed} s",
            new_pod.name
        );
        return Ok(Plan::wait("NewPodNotAvailable", message)
            .with_new_pod(&new_pod.name)
            .recheck_after(milliseconds));
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
fn seconds_left(new_pod: &Pod, needed: i64, job: &Job) -> i64 {
    let since = new_pod.ready_since;
    since.map_or(needed, |since| since + needed - job.now)
}

/// All released origins of the `ReplicaSet` that have no live substitute.
fn waiting_origins(
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
