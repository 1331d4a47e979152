//! The end of every way: the target's pod does not exist any more. Whether it was replaced follows from the
//! pod that replaces it, or, if another client removed the pod, from the pods that its owner has created
//! since.

use operon_sdk::{Cluster, Effect, Pod, ReadError, Target};

use crate::collaset;
use crate::keys;
use crate::kusionstack;
use crate::plan::{self, Plan};
use crate::replica_set::{Lost, ReplicaSet, plan_lost};

/// The letters of the suffixes that the API server generates for names.
const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The report on a target with a deleted pod. The recorded new pod counts before the uid: a target that the
/// Go operator started has none.
pub fn plan(target: &Target, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let uid = target.uid.as_deref();
    if let Some(uid) = uid
        && let Some(new_pod) = crate::new_pod_of(uid, cluster)?
    {
        return Ok(plan_with(&new_pod));
    }
    if let Some(uid) = uid
        && let Some(new_pod) = collaset::created_for(uid, cluster)?
    {
        return Ok(plan_with(&new_pod));
    }
    let recorded = target.extra(keys::NEW_POD);
    let new_pod = match recorded {
        Some(name) => cluster.get_pod(name)?,
        None => None,
    };
    if let Some(new_pod) = new_pod.as_ref().filter(|new_pod| new_pod.live()) {
        return Ok(plan_with(new_pod));
    }
    if let Some(new_pod) = collaset::left_behind(target, cluster)? {
        return Ok(plan_with(&new_pod));
    }
    let otherwise = match (recorded, new_pod) {
        (Some(recorded), Some(new_pod)) if new_pod.deleting => {
            let message = format!("the new pod {recorded:?} is being deleted");
            return Ok(Plan::wait("NewPodTerminating", message));
        }
        (Some(recorded), Some(new_pod)) => {
            let message = format!("the new pod {recorded:?} has ended ({})", new_pod.phase);
            Plan::fail(keys::NEW_POD_FAILED, message)
        }
        (Some(recorded), None) => {
            let message = format!(
                "pod {recorded:?}, which replaced {:?}, does not exist any more, and no controller creates another",
                target.name
            );
            Plan::fail(keys::NEW_POD_NOT_FOUND, message)
        }
        (None, _) if uid.is_none() => {
            let message = format!("there is no pod {:?}: nothing to replace", target.name);
            Plan::fail(keys::POD_NOT_FOUND, message)
        }
        (None, _) => {
            let message = format!(
                "pod {:?} was deleted before a new pod could replace it",
                target.name
            );
            Plan::fail(keys::POD_NOT_FOUND, message)
        }
    };
    let Some(uid) = uid else {
        return Ok(otherwise);
    };
    if recorded.is_none()
        && let Some(claim) = collaset::claim(target, uid, cluster)?
    {
        return Ok(claim);
    }
    let made = recorded.unwrap_or(&target.name);
    Ok(by_replica_set(target, uid, made, cluster)?.unwrap_or(otherwise))
}

/// What to undo where the target's pod is gone: nothing, but the new pod may carry a finalizer that nothing
/// else removes.
pub fn release(target: &Target, cluster: &dyn Cluster) -> Result<Vec<Effect>, ReadError> {
    let recorded = target.extra(keys::NEW_POD);
    let new_pod = recorded.map(|name| cluster.get_pod(name)).transpose()?;
    let new_pod = new_pod.flatten();
    let new_pod = new_pod.filter(|new_pod| !kusionstack::requested(new_pod));
    let effect = new_pod.as_ref().and_then(kusionstack::let_go);
    Ok(effect.into_iter().collect())
}

/// The pod that replaces the target's is there.
fn plan_with(new_pod: &Pod) -> Plan {
    let serves = if collaset::owns(new_pod) {
        collaset::available(new_pod)
    } else {
        new_pod.ready
    };
    if serves {
        Plan::succeed().with_new_pod(&new_pod.name)
    } else {
        plan::wait_for_ready(new_pod)
    }
}

/// No pod replaces the target's yet: a pod that its `ReplicaSet` has created since does. None if no
/// `ReplicaSet` is known.
fn by_replica_set(
    target: &Target,
    uid: &str,
    made: &str,
    cluster: &dyn Cluster,
) -> Result<Option<Plan>, ReadError> {
    let recorded = target.extra(keys::OWNER).and_then(Owner::parse);
    let owner = recorded.or_else(|| {
        let name = replica_set_name(made)?.to_owned();
        Some(Owner { name, newest: None })
    });
    let Some(owner) = owner else {
        return Ok(None);
    };
    let Some(replica_set) = ReplicaSet::get(&owner.name, cluster)? else {
        return Ok(None);
    };
    let lost = Lost {
        uid,
        name: &target.name,
        since: owner.newest.map_or(0, |newest| newest + 1),
    };
    plan_lost(lost, &replica_set, cluster).map(Some)
}

/// The content of `extraInfo.Owner`: the `ReplicaSet` or `CollaSet` of a target, and the creation time of
/// its youngest pod that was known when the target started.
#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner's name; a `CollaSet`'s begins with `collaset/`.
    pub name: String,
    /// Seconds since the Unix epoch; none if it is not known.
    pub newest: Option<i64>,
}

impl Owner {
    /// The value of `extraInfo.Owner`: short, because each target in progress has one.
    pub fn text(name: &str, newest: i64) -> String {
        format!("{name}@{newest}")
    }

    /// Reads the value of `extraInfo.Owner`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, newest) = text.rsplit_once('@')?;
        Some(Self {
            name: name.to_owned(),
            newest: newest.parse().ok(),
        })
    }
}

/// The name of the `ReplicaSet` that a pod's name was generated from: `foo-7d4b9` of `foo-7d4b9-x2vcb`. Of
/// a long name the API server keeps a part only, so the recorded owner comes first.
fn replica_set_name(pod: &str) -> Option<&str> {
    let (name, ending) = pod.rsplit_once('-')?;
    let made_up = ending.len() == 5 && ending.chars().all(|letter| LETTERS.contains(letter));
    made_up.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_set_is_read_off_a_generated_name_only() {
        let table = [
            ("foo-7d4b9-x2vcb", Some("foo-7d4b9")),
            ("foo-x2vcb", Some("foo")),
            ("foo-0", None),
            ("foo-hello", None),
            ("foo", None),
        ];
        for (pod, expected) in table {
            assert_eq!(replica_set_name(pod), expected, "{pod}");
        }
    }

    #[test]
    fn an_owner_reads_as_it_was_recorded() {
        let owner = Owner::parse(&Owner::text("foo-7d4b9", 12));
        let expected = Owner {
            name: "foo-7d4b9".to_owned(),
            newest: Some(12),
        };
        assert_eq!(owner, Some(expected));
    }
}
