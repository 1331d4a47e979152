//! Replacing a pod of a `ReplicaSet`: the pod is released by taking its hash label away, so that it
//! serves on while the `ReplicaSet` makes a substitute; the substitute is claimed by a label; once it
//! has been ready for long enough, the origin is deleted. Giving up puts the label back.

use operon_sdk::{
    Cluster, Effect, Job, ObjectReference, OwnerReference, Patch, Pod, ReadError, Value,
};

use crate::assignment::{self, Waiting};
use crate::keys;
use crate::mark::Mark;
use crate::plan::{self, Plan};

/// What a decision needs to know of a `ReplicaSet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// It has a deletion timestamp, and adopts nothing any more.
    pub deleting: bool,
    /// `spec.replicas`
    pub replicas: usize,
    /// `spec.minReadySeconds`
    pub min_ready_seconds: i64,
    /// `spec.selector.matchLabels`
    pub match_labels: Vec<(String, String)>,
}

impl ReplicaSet {
    /// The `ReplicaSet` of this name; none if it does not exist.
    pub fn get(name: &str, cluster: &dyn Cluster) -> Result<Option<Self>, ReadError> {
        let object = cluster.get(&ObjectReference::new("apps/v1", "ReplicaSet", name))?;
        Ok(object.as_ref().and_then(Self::from_object))
    }

    fn from_object(object: &Value) -> Option<Self> {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let replicas = spec["replicas"].as_u64().unwrap_or(1);
        let labels = spec["selector"]["matchLabels"]
            .as_object()
            .into_iter()
            .flatten();
        let labels =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Some(Self {
            uid: metadata["uid"].as_str()?.to_owned(),
            name: metadata["name"].as_str()?.to_owned(),
            deleting: metadata["deletionTimestamp"].is_string(),
            replicas: usize::try_from(replicas).unwrap_or(usize::MAX),
            min_ready_seconds: spec["minReadySeconds"].as_i64().unwrap_or(0),
            match_labels: labels.collect(),
        })
    }

    /// The pods it counts: its own, neither ended nor going.
    pub fn pods(&self, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
        let labels = self.match_labels.iter();
        let requirements: Vec<String> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut pods = cluster.find_pods(&requirements.join(","))?;
        pods.retain(|pod| pod.live() && pod.controller_uid() == Some(self.uid.as_str()));
        Ok(pods)
    }

    fn selects_by_hash(&self, pod: &Pod) -> bool {
        let mut labels = self.match_labels.iter();
        labels.any(|(key, value)| {
            key == keys::TEMPLATE_HASH && pod.label(key) == Some(value.as_str())
        })
    }
}

/// What to do about a pod that exists.
pub fn plan(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    match (pod.label(keys::RELEASED_FROM), Mark::of(pod)) {
        (None, _) => plan_release(pod, job, cluster),
        (Some(uid), Some(mark)) => plan_released(pod, uid, &mark, job, cluster),
        (Some(_), None) => {
            let message = format!(
                "pod {:?} was released from its ReplicaSet, but its annotation {} can't be read: \
                 delete the pod, or give it its label {} back",
                pod.name,
                keys::ORIGIN,
                keys::TEMPLATE_HASH
            );
            Ok(Plan::fail("OriginUnreadable", message))
        }
    }
}

/// The pod is as its `ReplicaSet` made it.
fn plan_release(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    if pod.deleting {
        let message = format!(
            "pod {:?} is already being deleted: its ReplicaSet replaces it by itself",
            pod.name
        );
        return Ok(Plan::wait("OriginTerminating", message));
    }
    if pod.ended() {
        let message = format!(
            "pod {:?} has ended ({}) and its ReplicaSet has replaced it: it is deleted",
            pod.name, pod.phase
        );
        return Ok(Plan::wait("OriginEnded", message).doing(Effect::Delete(pod.delete())));
    }
    if let Some(origin) = crate::unfinished_origin(pod, cluster)? {
        return Ok(Plan::not_allowed(pod, &origin));
    }
    let owner = pod.controller();
    let replica_set = match owner {
        Some(owner) => {
            ReplicaSet::get(&owner.name, cluster)?.filter(|found| found.uid == owner.uid)
        }
        None => None,
    };
    let Some(replica_set) = replica_set else {
        return Ok(without_replica_set(pod, owner));
    };
    if let Some(refusal) = refusal(pod, &replica_set) {
        return Ok(refusal);
    }
    let siblings = replica_set.pods(cluster)?;
    let hash = pod.label(keys::TEMPLATE_HASH).unwrap_or_default();
    let mark = Mark::new(&job.uid, hash, &replica_set, &siblings);
    let message = format!(
        "released from ReplicaSet {:?}: it serves on until a new pod is ready",
        replica_set.name
    );
    let plan = Plan::wait("WaitingForNewPod", waiting_for(&replica_set))
        .doing(patch(mark.put_on(pod, &replica_set.uid)))
        .event("ReplaceOriginPod", message);
    Ok(plan)
}

fn without_replica_set(pod: &Pod, owner: Option<&OwnerReference>) -> Plan {
    let name = owner.map_or("", |owner| owner.name.as_str());
    let message = format!(
        "the ReplicaSet {name:?} of pod {:?} is not there (yet)",
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
    scaled_down(replica_set)
}

fn scaled_down(replica_set: &ReplicaSet) -> Option<Plan> {
    let state = match (replica_set.deleting, replica_set.replicas) {
        (true, _) => "is being deleted",
        (false, 0) => "is scaled to 0",
        (false, _) => return None,
    };
    let message = format!(
        "ReplicaSet {:?} {state} and makes no new pod: name a pod of the current one",
        replica_set.name
    );
    Some(Plan::fail(keys::OWNER_SCALED_DOWN, message))
}

/// The pod was released, by this job or by another.
fn plan_released(
    pod: &Pod,
    replica_set_uid: &str,
    mark: &Mark,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let ours = mark.job == job.uid;
    if let Some(new_pod) = crate::new_pod_of(&pod.uid, cluster)? {
        return plan_claimed(pod, &new_pod, mark, job, cluster);
    }
    if !ours {
        let message = format!("another job (uid {}) replaces pod {:?}", mark.job, pod.name);
        return Ok(Plan::wait("ReplacedByOtherJob", message));
    }
    let found = ReplicaSet::get(&mark.replica_set, cluster)?;
    let Some(replica_set) = found.filter(|found| found.uid == replica_set_uid) else {
        let message = format!(
            "ReplicaSet {:?} is gone and makes no new pod for {:?}",
            mark.replica_set, pod.name
        );
        return Ok(Plan::fail(keys::OWNER_SCALED_DOWN, message));
    };
    if let Some(failure) = scaled_down(&replica_set) {
        return Ok(failure);
    }
    let siblings = replica_set.pods(cluster)?;
    let waiting = waiting_origins(replica_set_uid, &siblings, cluster)?;
    Ok(decide_claim(pod, &replica_set, &siblings, waiting))
}

/// Claims a substitute if there is one for this origin, and says what it waits for otherwise.
fn decide_claim(
    pod: &Pod,
    replica_set: &ReplicaSet,
    siblings: &[Pod],
    waiting: Vec<Waiting>,
) -> Plan {
    let unclaimed = siblings
        .iter()
        .filter(|sibling| sibling.label(keys::REPLACES).is_none());
    let full = siblings.len() >= replica_set.replicas;
    let full_at = full.then_some(replica_set.replicas);
    let candidate = assignment::candidate_for(&pod.uid, waiting, unclaimed.collect(), full_at);
    if let Some(new_pod) = candidate {
        let edit = new_pod
            .edit()
            .set_label(keys::REPLACES, &pod.uid)
            .set_annotation(keys::REPLACES, &pod.name);
        let message = format!(
            "pod {:?} stands for it as soon as it is ready",
            new_pod.name
        );
        return plan::wait_for_ready(new_pod)
            .doing(patch(edit))
            .event("ReplaceNewPod", message);
    }
    if full && !pod.deleting {
        let message = format!(
            "ReplicaSet {:?} was scaled to {} and has them: it makes no new pod for {:?}",
            replica_set.name, replica_set.replicas, pod.name
        );
        return Plan::fail(keys::OWNER_SCALED_DOWN, message);
    }
    Plan::wait("WaitingForNewPod", waiting_for(replica_set))
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
    let left = new_pod
        .ready_since
        .map_or(needed, |since| since + needed - job.now);
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
    let plan = plan::wait_for_origin_to_go(
        pod,
        new_pod,
        &Job {
            ending: false,
            ..job.clone()
        },
    );
    let ours = mark.job == job.uid;
    Ok(if ours {
        plan.doing(Effect::Delete(pod.delete()))
    } else {
        plan
    })
}

/// All released origins of the `ReplicaSet` that have no live substitute.
fn waiting_origins(
    replica_set_uid: &str,
    siblings: &[Pod],
    cluster: &dyn Cluster,
) -> Result<Vec<Waiting>, ReadError> {
    let origins = cluster.find_pods(&format!("{}={replica_set_uid}", keys::RELEASED_FROM))?;
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

/// Puts a pod back that this job released and that is still there: it is its `ReplicaSet`'s again, which
/// removes the surplus. Where it could not be adopted, it is deleted instead.
pub fn release(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Vec<Effect>, ReadError> {
    let (Some(uid), Some(mark)) = (pod.label(keys::RELEASED_FROM), Mark::of(pod)) else {
        return Ok(Vec::new());
    };
    if mark.job != job.uid {
        return Ok(Vec::new());
    }
    let replica_set = ReplicaSet::get(&mark.replica_set, cluster)?;
    let adopts = replica_set.is_some_and(|found| found.uid == uid && !found.deleting);
    if !adopts || pod.ended() {
        return Ok(vec![Effect::Delete(pod.delete())]);
    }
    // The new pod first: should the second patch be refused, the origin still says what is to do.
    let claimed = cluster.find_pods(&format!("{}={}", keys::REPLACES, pod.uid))?;
    let disclaim = |new_pod: &Pod| {
        patch(
            new_pod
                .edit()
                .remove_label(keys::REPLACES)
                .remove_annotation(keys::REPLACES),
        )
    };
    let mut effects: Vec<Effect> = claimed
        .iter()
        .filter(|new_pod| !new_pod.deleting)
        .map(disclaim)
        .collect();
    effects.push(Effect::Patch(mark.take_off(pod, uid)));
    Ok(effects)
}

fn patch(edit: operon_sdk::MetadataEdit) -> Effect {
    Effect::Patch(Patch::from(edit))
}

fn waiting_for(replica_set: &ReplicaSet) -> String {
    format!(
        "waiting for ReplicaSet {:?} to make a new pod",
        replica_set.name
    )
}
