//! The end of every way: the target's pod is gone. Whether it was replaced is read off the pod that
//! stands for it, or, where the `ReplicaSet` replaced it by itself, off the `ReplicaSet`.

use operon_sdk::{Cluster, Pod, ReadError, Target};

use crate::collaset;
use crate::keys;
use crate::plan::{self, Plan};
use crate::replica_set::ReplicaSet;

/// The letters of the endings that the API server makes up for names.
const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";

/// What to say about a target whose pod is gone.
pub fn plan(target: &Target, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let Some(uid) = &target.uid else {
        let message = format!("there is no pod {:?}: nothing to replace", target.name);
        return Ok(Plan::fail(keys::POD_NOT_FOUND, message));
    };
    if let Some(new_pod) = crate::new_pod_of(uid, cluster)? {
        return Ok(plan_with(&new_pod));
    }
    let Some(recorded) = target.extra(keys::NEW_POD) else {
        let message = format!(
            "pod {:?} went before a new pod could stand for it",
            target.name
        );
        let otherwise = Plan::fail(keys::POD_NOT_FOUND, message);
        return Ok(by_replica_set(&target.name, false, cluster)?.unwrap_or(otherwise));
    };
    let otherwise = match cluster.get_pod(recorded)? {
        Some(new_pod) if new_pod.live() => return Ok(plan_with(&new_pod)),
        Some(new_pod) if new_pod.deleting => {
            let message = format!("the new pod {recorded:?} is being deleted");
            return Ok(Plan::wait("NewPodTerminating", message));
        }
        Some(new_pod) => {
            let message = format!("the new pod {recorded:?} has ended ({})", new_pod.phase);
            Plan::fail(keys::NEW_POD_FAILED, message)
        }
        None => {
            let message = format!(
                "pod {recorded:?}, which replaced {:?}, is gone, and nothing makes another",
                target.name
            );
            Plan::fail(keys::NEW_POD_NOT_FOUND, message)
        }
    };
    Ok(by_replica_set(recorded, true, cluster)?.unwrap_or(otherwise))
}

/// The pod that stands for the target's is there.
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

/// Nothing stands for the target's pod in particular: the `ReplicaSet` that made this pod does, as a
/// whole. None if no `ReplicaSet` made it.
fn by_replica_set(
    pod: &str,
    had_new_pod: bool,
    cluster: &dyn Cluster,
) -> Result<Option<Plan>, ReadError> {
    let Some(name) = replica_set_name(pod) else {
        return Ok(None);
    };
    let Some(replica_set) = ReplicaSet::get(name, cluster)? else {
        return Ok(None);
    };
    let pods = replica_set.pods(cluster)?;
    let ready = pods.iter().filter(|pod| pod.ready);
    if ready.clone().count() < replica_set.replicas {
        let message = format!("waiting for ReplicaSet {name:?} to have all its pods ready");
        return Ok(Some(
            Plan::wait("WaitingForNewPod", message).recheck_after(2_000),
        ));
    }
    let youngest = ready.max_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    Ok(Some(match youngest.filter(|_| had_new_pod) {
        Some(successor) => Plan::succeed().with_new_pod(&successor.name),
        None => Plan::succeed(),
    }))
}

/// The name of the `ReplicaSet` that a pod's name was made from: `foo-7d4b9` of `foo-7d4b9-x2vcb`.
/// A gone pod leaves nothing else, and recording it for each target would make the job's status grow.
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
}
