//! Replacing a standalone pod: a copy of the pod is created under a name that follows from the origin's
//! uid, so that a second attempt finds the copy of the first; when the copy is ready the origin is removed.
//! Giving up deletes the copy, as long as the origin is intact. A pod that has succeeded is not run again,
//! nor is one that has failed and is not to be restarted.

use operon_sdk::{Cluster, Effect, Job, ObjectReference, OwnerReference, Pod, ReadError};

use crate::copy;
use crate::keys;
use crate::plan::{self, Plan};

/// What to do about a pod that exists.
pub fn plan(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    if let Some(origin) = crate::unfinished_origin(pod, cluster)? {
        return Ok(Plan::not_allowed(pod, &origin));
    }
    let name = copy::name(pod);
    match cluster.get_pod(&name)? {
        Some(new_pod) => decide(pod, &new_pod, job, cluster),
        None => plan_creation(pod, &name, job, cluster),
    }
}

fn plan_creation(
    pod: &Pod,
    name: &str,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    if pod.deleting {
        let message = format!(
            "pod {:?} is already being deleted, and no pod replaces it",
            pod.name
        );
        return Ok(Plan::wait("OriginTerminating", message));
    }
    let origin = cluster.get(&ObjectReference::new("v1", "Pod", &pod.name))?;
    let same = origin.filter(|object| object["metadata"]["uid"] == pod.uid.as_str());
    let Some(origin) = same else {
        let message = format!("pod {:?} has just been deleted", pod.name);
        return Ok(Plan::wait("OriginTerminating", message));
    };
    let runs_once = origin["spec"]["restartPolicy"] == "Never";
    if pod.phase == "Succeeded" || (pod.phase == "Failed" && runs_once) {
        let message = format!(
            "pod {:?} has ended ({}); a copy would run it again, so the pod is not replaced: delete the pod, \
             or create it again yourself",
            pod.name, pod.phase
        );
        return Ok(Plan::fail("OriginEnded", message));
    }
    let body = copy::of(&origin, name, &job.uid).to_string();
    let plan = Plan::wait(
        "WaitingForNewPod",
        format!("waiting for the copy {name:?} to be ready"),
    );
    // The garbage collector deletes a copy with an owner that does not exist any more.
    let owners = pod.owners.iter().map(OwnerReference::required);
    let plan = owners.fold(plan, Plan::requiring);
    let plan = plan.with_new_pod(name).claiming();
    Ok(plan.doing(Effect::Create(body)).event(
        "ReplaceOriginPod",
        format!("replaced by its copy {name:?} as soon as the copy is ready"),
    ))
}

/// The decision while there is a pod of the copy's name.
fn decide(pod: &Pod, new_pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    if new_pod.label(keys::REPLACES) != Some(&pod.uid) {
        let message = format!(
            "the copy of {:?} needs the name {:?}, which another pod has: delete that pod",
            pod.name, new_pod.name
        );
        return Ok(Plan::fail("NameTaken", message));
    }
    if new_pod.deleting {
        let message = format!(
            "the copy {:?} is being deleted; a new copy is created afterwards",
            new_pod.name
        );
        return Ok(Plan::wait("NewPodTerminating", message).with_new_pod(&new_pod.name));
    }
    if new_pod.ended() {
        let message = format!(
            "the copy {:?} has ended ({}) before it was ready: check its log",
            new_pod.name, new_pod.phase
        );
        return Ok(Plan::fail(keys::NEW_POD_FAILED, message));
    }
    if !new_pod.ready {
        return Ok(plan::wait_for_ready(new_pod));
    }
    if pod.deleting {
        return Ok(plan::wait_for_origin_to_go(pod, new_pod, job));
    }
    if is_ours(new_pod, job, cluster)? {
        return plan::remove(pod, new_pod, job, cluster);
    }
    let going_on = Job {
        ending: false,
        ..job.clone()
    };
    Ok(plan::wait_for_origin_to_go(pod, new_pod, &going_on))
}

/// Deletes the copy that is this job's own, of a pod that is still there.
pub fn release(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Vec<Effect>, ReadError> {
    let new_pod = cluster.get_pod(&copy::name(pod))?;
    let Some(copy) = new_pod.filter(|new_pod| new_pod.label(keys::REPLACES) == Some(&pod.uid))
    else {
        return Ok(Vec::new());
    };
    let is_removed = !copy.deleting && is_ours(&copy, job, cluster)?;
    Ok(is_removed
        .then(|| Effect::Delete(copy.delete()))
        .into_iter()
        .collect())
}

/// Whether a copy was created by this job, or by a job that does not exist any more.
fn is_ours(new_pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<bool, ReadError> {
    match new_pod.annotation(keys::JOB) {
        None => Ok(false),
        Some(maker) if maker == job.uid => Ok(true),
        Some(maker) => Ok(!cluster.job_exists(maker)?),
    }
}
