//! Putting a released pod back, so that the `ReplicaSet` removes the new pod and no other. It removes pods
//! that are not ready first, then those of the lowest deletion cost. So the cost decides only while all
//! others are ready; otherwise the new pod is deleted first, and the surplus is the one that the
//! `ReplicaSet` makes in its place, which does not run yet.

use operon_sdk::{Cluster, Delete, Effect, Job, Operation, Pod, ReadError, Requirement, Target};

use super::{ReplicaSet, released_from, waiting_origins};
use crate::assignment;
use crate::keys;
use crate::mark::Mark;
use crate::plan::{Plan, patch};

/// Undoes what a job did to a pod that is still there.
pub fn release(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Operation, ReadError> {
    let operation = Operation::of(target).forget(keys::OWNER);
    let (Some(uid), Some(mark)) = (pod.label(keys::RELEASED_FROM), Mark::of(pod)) else {
        return Ok(operation);
    };
    if mark.job != job.uid {
        return Ok(operation);
    }
    let Undo {
        requirements,
        effects,
    } = put_back(pod, uid, &mark, cluster)?;
    Ok(Operation {
        requirements,
        effects,
        ..operation
    })
}

/// What it takes to put a pod back.
pub(super) struct Undo {
    pub(super) requirements: Vec<Requirement>,
    pub(super) effects: Vec<Effect>,
}

impl Plan {
    /// Adds what it takes to put a pod back.
    pub(super) fn undoing(self, undo: Undo) -> Self {
        let plan = undo.effects.into_iter().fold(self, Self::doing);
        undo.requirements.into_iter().fold(plan, Self::requiring)
    }
}

/// The pod is its `ReplicaSet`'s again. Where that adopts nothing any more, or the pod has ended, the pod
/// is deleted instead.
pub(super) fn put_back(
    pod: &Pod,
    replica_set_uid: &str,
    mark: &Mark,
    cluster: &dyn Cluster,
) -> Result<Undo, ReadError> {
    let found = ReplicaSet::get_same(&mark.replica_set, replica_set_uid, cluster)?;
    let adopts = found.filter(|found| !found.deleting && !pod.ended());
    let Some(replica_set) = adopts else {
        return Ok(Undo {
            requirements: Vec::new(),
            effects: vec![Effect::Delete(pod.delete())],
        });
    };
    // The new pod first: should a later effect be refused, the old pod still says what is to do.
    let mut effects = dismiss(pod, &replica_set, cluster)?;
    effects.push(patch(mark.take_off(pod, &replica_set)));
    Ok(Undo {
        requirements: vec![replica_set.reference(true).required()],
        effects,
    })
}

/// Makes the new pod the one that the `ReplicaSet` removes, unless it has room for both.
fn dismiss(
    pod: &Pod,
    replica_set: &ReplicaSet,
    cluster: &dyn Cluster,
) -> Result<Vec<Effect>, ReadError> {
    let claimed = claimed(pod, cluster)?;
    let mut siblings = replica_set.pods(cluster)?;
    siblings.retain(|sibling| sibling.uid != pod.uid);
    let surplus = siblings.len() >= replica_set.replicas;
    let new_pod = match claimed.first() {
        Some(claimed) => Some(claimed.clone()),
        None => unclaimed(pod, replica_set, &siblings, cluster)?,
    };
    let Some(new_pod) = new_pod.filter(|_| surplus) else {
        return Ok(claimed
            .iter()
            .map(|new_pod| patch(disclaim(new_pod)))
            .collect());
    };
    let released = released_from(&replica_set.uid, cluster)?;
    let mut others = siblings.iter().filter(|sibling| sibling.uid != new_pod.uid);
    let settled = |other: &Pod| {
        // The new pod of another replacement that has not ended: that one claims another if it goes.
        let replaces = other.label(keys::REPLACES);
        let spare = released
            .iter()
            .any(|origin| Some(origin.uid.as_str()) == replaces);
        (other.ready || spare) && other.annotation(keys::DELETION_COST) != Some(LOWEST_COST)
    };
    let decides = pod.ready && others.all(settled);
    let leaves = if decides {
        patch(disclaim(&new_pod).set_annotation(keys::DELETION_COST, LOWEST_COST))
    } else {
        Effect::Delete(Delete {
            resource_version: Some(new_pod.resource_version.clone()),
            ..new_pod.delete()
        })
    };
    let further = claimed.iter().filter(|other| other.uid != new_pod.uid);
    let further = further.map(|other| patch(disclaim(other)));
    Ok([leaves].into_iter().chain(further).collect())
}

/// The lowest value of `controller.kubernetes.io/pod-deletion-cost`.
const LOWEST_COST: &str = "-2147483648";

/// The live pods that replace this one.
fn claimed(pod: &Pod, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
    let mut claimed = cluster.find_pods(&format!("{}={}", keys::REPLACES, pod.uid))?;
    claimed.retain(|new_pod| new_pod.live() && new_pod.label(keys::RELEASED_FROM).is_none());
    Ok(claimed)
}

/// The pod that was made for this one and not claimed yet.
fn unclaimed(
    pod: &Pod,
    replica_set: &ReplicaSet,
    siblings: &[Pod],
    cluster: &dyn Cluster,
) -> Result<Option<Pod>, ReadError> {
    let waiting = waiting_origins(&replica_set.uid, siblings, cluster)?;
    // The new pod of another one that was put back goes already.
    let stays = |sibling: &&Pod| sibling.annotation(keys::DELETION_COST) != Some(LOWEST_COST);
    let candidates = super::unclaimed(siblings, &pod.uid);
    let candidates = candidates.filter(stays).collect();
    Ok(assignment::candidate_for(&pod.uid, waiting, candidates, None).cloned())
}

fn disclaim(new_pod: &Pod) -> operon_sdk::MetadataEdit {
    new_pod
        .edit()
        .remove_label(keys::REPLACES)
        .remove_annotation(keys::REPLACES)
}
