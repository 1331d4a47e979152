//! Which pods a `CollaSet` created to replace a pod. The `CollaSet`'s controller removes the label of the
//! pair when the origin is deleted. Operon's leaves another one; with `KusionStack`'s, a pod that it created
//! since the target started is the last resort.

use operon_sdk::{Cluster, Pod, ReadError, Target};

use super::{available, stays};
use crate::gone::Owner;
use crate::keys;
use crate::plan::Plan;
use crate::{mark, replica_set};

/// The pods that name this one as their origin, serving pods first, then by name.
pub(super) fn paired(origin: &str, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
    let mut paired = cluster.find_pods(&format!("{}={origin}", keys::PAIR_ORIGIN_NAME))?;
    paired.sort_by(|a, b| (!available(a), &a.name).cmp(&(!available(b), &b.name)));
    Ok(paired)
}

/// The live pod that replaces this one. The one that the origin names by its instance id comes first. A pod
/// that ended after pairing is unpaired by the `CollaSet`: then it is the pod recorded before.
pub(super) fn new_pod(
    target: &Target,
    pod: &Pod,
    cluster: &dyn Cluster,
) -> Result<Option<Pod>, ReadError> {
    let mut found = paired(&pod.name, cluster)?;
    found.retain(stays);
    let id = pod.label(keys::PAIR_NEW_ID);
    let named = |new_pod: &Pod| id.is_some() && new_pod.label(keys::INSTANCE_ID) == id;
    let place = found.iter().position(named).unwrap_or(0);
    if let Some(new_pod) = found.into_iter().nth(place) {
        return Ok(Some(new_pod));
    }
    let recorded = target.extra(keys::NEW_POD).filter(|_| pod.ended());
    let recorded = recorded.map(|name| cluster.get_pod(name)).transpose()?;
    Ok(recorded.flatten().filter(stays))
}

/// The live pod that names the deleted pod of a target as its origin. While another pod has the target's
/// name, such a pod replaces that one.
pub fn left_behind(target: &Target, cluster: &dyn Cluster) -> Result<Option<Pod>, ReadError> {
    if cluster.get_pod(&target.name)?.is_some() {
        return Ok(None);
    }
    let found = paired(&target.name, cluster)?;
    Ok(found.into_iter().find(stays))
}

/// The live pod that Operon's `CollaSet` controller created to replace the pod with this uid.
pub fn created_for(uid: &str, cluster: &dyn Cluster) -> Result<Option<Pod>, ReadError> {
    let mut found = cluster.find_pods(&format!("{}={uid}", keys::CREATED_FOR))?;
    found.retain(stays);
    found.sort_by(|a, b| (!available(a), &a.name).cmp(&(!available(b), &b.name)));
    Ok(found.into_iter().next())
}

/// What to remember of a pod's `CollaSet`: which it is, and when the youngest of its pods was created that
/// does not replace this one.
pub(super) fn owner(pod: &Pod, cluster: &dyn Cluster) -> Result<Option<String>, ReadError> {
    let Some(name) = pod.controller().map(|owner| &owner.name) else {
        return Ok(None);
    };
    // Every pod costs, and this is asked for every target: Operon's controller creates the pods that matter
    // at the same revision.
    let is_ours = pod.annotation(keys::CREATION).is_some();
    let revision = pod.label(keys::REVISION).filter(|_| is_ours);
    let mut siblings = siblings(name, revision, cluster)?;
    siblings.retain(|sibling| sibling.label(keys::PAIR_ORIGIN_NAME) != Some(&pod.name));
    let newest = mark::newest(&siblings);
    let name = match revision {
        Some(revision) => format!("{COLLASET}{name}/{revision}"),
        None => format!("{COLLASET}{name}"),
    };
    Ok(Some(Owner::text(&name, newest)))
}

/// Claims a pod that the target's `CollaSet` created since the target started; none if there is none.
pub fn claim(target: &Target, uid: &str, cluster: &dyn Cluster) -> Result<Option<Plan>, ReadError> {
    let owner = target.extra(keys::OWNER).and_then(Owner::parse);
    let Some(Owner { name, newest }) = owner else {
        return Ok(None);
    };
    let (Some(name), Some(newest)) = (name.strip_prefix(COLLASET), newest) else {
        return Ok(None);
    };
    let (name, revision) = match name.split_once('/') {
        Some((name, revision)) => (name, Some(revision)),
        None => (name, None),
    };
    let mut made = siblings(name, revision, cluster)?;
    let involved = [keys::PAIR_ORIGIN_NAME, keys::REPLACES, keys::CREATED_FOR];
    made.retain(|pod| {
        let free = involved.iter().all(|key| pod.label(key).is_none());
        stays(pod) && free && pod.created_at > newest
    });
    made.sort_by(|a, b| (!available(a), &a.name).cmp(&(!available(b), &b.name)));
    let new_pod = made.first();
    Ok(new_pod.map(|new_pod| replica_set::claim(new_pod, uid, &target.name)))
}

/// Distinguishes the name of a `CollaSet` from that of a `ReplicaSet`.
const COLLASET: &str = "collaset/";

/// The pods of a `CollaSet`, or those of this revision.
fn siblings(
    collaset: &str,
    revision: Option<&str>,
    cluster: &dyn Cluster,
) -> Result<Vec<Pod>, ReadError> {
    let mut pods = match revision {
        Some(revision) => cluster.find_pods(&format!("{}={revision}", keys::REVISION))?,
        None => cluster.find_pods(keys::INSTANCE_ID)?,
    };
    pods.retain(|pod| {
        let owner = pod.controller();
        owner.is_some_and(|owner| owner.kind == "CollaSet" && owner.name == collaset)
    });
    Ok(pods)
}
