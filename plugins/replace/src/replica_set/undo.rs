//! Putting a released pod back, so that the new pod is removed and no other. A `ReplicaSet` with a surplus
//! removes pods that are not ready first, then those of the lowest deletion cost. So the cost decides only
//! while all others are ready; otherwise the new pod is deleted first, and the surplus is the one that the
//! `ReplicaSet` makes in its place, which does not run yet.
//!
//! A new pod with the lowest cost is deleted once the old pod is back: if a sibling vanishes just then, the
//! `ReplicaSet` has no surplus, and the pod would keep the cost. It stays claimed until then, so that the
//! next release finds it if the host ends in between.

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
    let Some(uid) = pod.label(keys::RELEASED_FROM) else {
        let dismissed = dismissed(&pod.uid, cluster)?;
        let deleted = dismissed.iter().map(|pod| Effect::Delete(pod.delete()));
        return Ok(operation.effects(deleted));
    };
    let Some(mark) = Mark::of(pod) else {
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

/// What to undo where the pod is gone, or is being deleted: a new pod that was to make room for it stays.
pub fn keep(uid: &str, cluster: &dyn Cluster) -> Result<Vec<Effect>, ReadError> {
    let dismissed = dismissed(uid, cluster)?;
    let kept = dismissed.iter().map(Pod::edit);
    let kept = kept.map(|edit| patch(edit.remove_annotation(keys::DELETION_COST)));
    Ok(kept.collect())
}

/// The new pods of a pod that was put back, or was to be, which have the lowest deletion cost.
fn dismissed(uid: &str, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
    let mut claimed = claimed(uid, cluster)?;
    claimed.retain(|new_pod| new_pod.annotation(keys::DELETION_COST) == Some(LOWEST_COST));
    Ok(claimed)
}

/// What it takes to put a pod back.
pub(super) struct Undo {
    pub(super) requirements: Vec<Requirement>,
    pub(super) effects: Vec<Effect>,
}

impl Plan {
    /// Adds the requirements and effects that put a pod back.
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
    let Dismissal {
        mut effects,
        afterwards,
    } = dismiss(pod, &replica_set, cluster)?;
    effects.push(patch(mark.take_off(pod, &replica_set)));
    effects.extend(afterwards);
    Ok(Undo {
        requirements: vec![replica_set.reference(true).required()],
        effects,
    })
}

/// How the new pod is removed.
struct Dismissal {
    /// What is done before the old pod is put back.
    effects: Vec<Effect>,
    /// What is done once it is back.
    afterwards: Option<Effect>,
}

/// Removes the new pod, unless the `ReplicaSet` has room for both.
fn dismiss(
    pod: &Pod,
    replica_set: &ReplicaSet,
    cluster: &dyn Cluster,
) -> Result<Dismissal, ReadError> {
    let claimed = claimed(&pod.uid, cluster)?;
    let mut siblings = replica_set.pods(cluster)?;
    siblings.retain(|sibling| sibling.uid != pod.uid);
    let surplus = siblings.len() >= replica_set.replicas;
    let new_pod = match claimed.first() {
        Some(claimed) => Some(claimed.clone()),
        None => unclaimed(pod, replica_set, &siblings, cluster)?,
    };
    let Some(new_pod) = new_pod.filter(|_| surplus) else {
        let disclaimed = claimed.iter().map(|new_pod| patch(disclaim(new_pod)));
        return Ok(Dismissal {
            effects: disclaimed.collect(),
            afterwards: None,
        });
    };
    let released = released_from(&replica_set.uid, cluster)?;
    let mut others = siblings.iter().filter(|sibling| sibling.uid != new_pod.uid);
    let settled = |other: &Pod| {
        // The new pod of another replacement that has not ended: that replacement claims another pod if
        // this one is deleted.
        let replaces = other.label(keys::REPLACES);
        let spare = released
            .iter()
            .any(|origin| Some(origin.uid.as_str()) == replaces);
        (other.ready || spare) && other.annotation(keys::DELETION_COST) != Some(LOWEST_COST)
    };
    let decides = pod.ready && others.all(settled);
    let (leaves, afterwards) = if decides {
        let edit = new_pod.edit().set_label(keys::REPLACES, &pod.uid);
        let edit = edit.set_annotation(keys::DELETION_COST, LOWEST_COST);
        (patch(edit), Some(Effect::Delete(new_pod.delete())))
    } else {
        let unchanged = Delete {
            resource_version: Some(new_pod.resource_version.clone()),
            ..new_pod.delete()
        };
        (Effect::Delete(unchanged), None)
    };
    let further = claimed.iter().filter(|other| other.uid != new_pod.uid);
    let further = further.map(|other| patch(disclaim(other)));
    Ok(Dismissal {
        effects: [leaves].into_iter().chain(further).collect(),
        afterwards,
    })
}

/// The lowest value of `controller.kubernetes.io/pod-deletion-cost`.
const LOWEST_COST: &str = "-2147483648";

/// The live pods that replace the one with this uid.
fn claimed(uid: &str, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
    let mut claimed = cluster.find_pods(&format!("{}={uid}", keys::REPLACES))?;
    claimed.retain(|new_pod| new_pod.live() && new_pod.label(keys::RELEASED_FROM).is_none());
    Ok(claimed)
}

/// The pod that was created for this one and not claimed yet.
fn unclaimed(
    pod: &Pod,
    replica_set: &ReplicaSet,
    siblings: &[Pod],
    cluster: &dyn Cluster,
) -> Result<Option<Pod>, ReadError> {
    let waiting = waiting_origins(&replica_set.uid, siblings, cluster)?;
    // The new pod of another origin that was put back is already being deleted.
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
