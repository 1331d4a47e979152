//! Putting a released pod back, so that the new pod is removed and no other. The new pod is deleted first; the
//! `ReplicaSet` makes one in its place, and removes that as its surplus when the old pod is back, because it
//! removes pods that do not run yet before others. Nothing on a pod says which one to remove: such a note would
//! have to be removed again from a pod that stays after all.

use operon_sdk::{Cluster, Delete, Effect, Job, Operation, Pod, ReadError, Requirement, Target};

use super::{ReplicaSet, waiting_origins};
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
    let mut requirements = vec![replica_set.reference(true).required()];
    let mut siblings = replica_set.pods(cluster)?;
    siblings.retain(|sibling| sibling.uid != pod.uid);
    let mut claimed = claimed(&pod.uid, cluster)?.into_iter();
    let mut effects = Vec::new();
    if siblings.len() >= replica_set.replicas {
        let new_pod = match claimed.next() {
            Some(new_pod) => Some(new_pod),
            None => unclaimed(pod, &replica_set, &siblings, cluster)?,
        };
        if let Some(new_pod) = new_pod {
            // No new pod is deleted for an old one that is only in a stale cache.
            requirements.push(pod.unchanged());
            effects.push(Effect::Delete(Delete {
                resource_version: Some(new_pod.resource_version.clone()),
                ..new_pod.delete()
            }));
        }
    }
    effects.extend(claimed.map(|kept| patch(disclaim(&kept))));
    // Last: should an effect be refused, the old pod still says what is to do.
    effects.push(patch(mark.take_off(pod, &replica_set)));
    Ok(Undo {
        requirements,
        effects,
    })
}

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
    let candidates = super::unclaimed(siblings, &pod.uid).collect();
    Ok(assignment::candidate_for(&pod.uid, waiting, candidates, None).cloned())
}

fn disclaim(new_pod: &Pod) -> operon_sdk::MetadataEdit {
    new_pod
        .edit()
        .remove_label(keys::REPLACES)
        .remove_annotation(keys::REPLACES)
}
