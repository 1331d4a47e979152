//! Withdrawing the request to replace a pod of a `CollaSet`, while the controller of the `CollaSet`
//! continues to act. The controller deletes the origin of an available new pod, and may do so even after
//! the request was withdrawn. So a serving new pod is marked for deletion first, and the request is
//! withdrawn only while no new pod can be available. A new pod that the controller created just then is
//! marked afterwards. Each call does the next step.

use std::time::Duration;

use operon_sdk::{Cluster, Effect, Job, MetadataEdit, Operation, Pod, ReadError, Target};

use super::{available, going, pair};
use crate::plan::patch;
use crate::{keys, kusionstack};

/// The next step towards a pod that has neither a requested replacement nor a new pod.
pub fn release(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Operation, ReadError> {
    let operation = Operation::of(target).forget(keys::OWNER);
    let is_ours = is_ours(pod, job, cluster)?;
    let mut new_pods = pair::paired(&pod.name, cluster)?;
    new_pods.retain(Pod::live);
    if pod.ended() {
        // The CollaSet ignores it, and has put another pod in its place.
        return Ok(operation.effects(taken_back(pod, is_ours)));
    }
    if going(pod) {
        let kept = kept(&new_pods, job).map(|new_pod| patch(unmark(new_pod)));
        let left = kusionstack::holds(pod).then(|| patch(kusionstack::edit(pod)));
        return Ok(operation.effects(kept).effects(left));
    }
    let is_requested = pod.label(keys::TO_REPLACE).is_some();
    if pod.label(keys::REPLACED_BY_UPDATE).is_some() || (is_requested && !is_ours) {
        // The replacement continues: an update of the CollaSet, another job or a user requested it.
        let left = is_ours.then(|| kusionstack::edit(pod).remove_label(keys::JOB));
        let left = left.or_else(|| kusionstack::holds(pod).then(|| kusionstack::edit(pod)));
        return Ok(operation.effects(left.map(patch)));
    }
    // While the request exists, the CollaSet creates another pod for each marked pod; so a new pod that
    // does not serve is left to the CollaSet, which deletes it after the request was withdrawn.
    let is_to_mark = |new_pod: &&Pod| !is_marked(new_pod) && (available(new_pod) || !is_requested);
    let to_mark: Vec<&Pod> = new_pods.iter().filter(is_to_mark).collect();
    if let Some(first) = to_mark.first() {
        let message = format!("the new pod {:?} is marked for deletion", first.name);
        let marks = to_mark.iter().map(|new_pod| patch(mark(new_pod, job)));
        let marked = marks.fold(operation, Operation::effect);
        let marked = marked.requiring(pod.unchanged());
        return Ok(marked.unfinished(NEW_POD_LEAVES, message, RECHECK));
    }
    if let Some(first) = new_pods.iter().find(|pod| is_marked(pod) && !leaves(pod)) {
        let message = format!(
            "the new pod {:?} is marked for deletion; its deletion has not started, or the pod is still available",
            first.name
        );
        return Ok(operation.unfinished(NEW_POD_LEAVES, message, RECHECK));
    }
    if !is_requested {
        return Ok(operation.effects(taken_back(pod, is_ours)));
    }
    let required = new_pods.iter().map(Pod::unchanged);
    let operation = required.fold(operation, Operation::requiring);
    let message = format!("the request to replace pod {:?} is withdrawn", pod.name);
    let operation = operation.effects(taken_back(pod, is_ours));
    Ok(operation.unfinished("RequestTakenBack", message, RECHECK))
}

/// A new pod is being deleted so that the old one stays.
const NEW_POD_LEAVES: &str = "NewPodTerminating";

/// Milliseconds until the next call, if nothing changes.
const RECHECK: Duration = Duration::from_secs(2);

/// Whether a job may withdraw the request to replace a pod: the request was made by this job, by a job that
/// does not exist any more, or by `KusionStack`'s controller.
fn is_ours(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<bool, ReadError> {
    match pod.label(keys::JOB) {
        None => Ok(kusionstack::requested(pod)),
        Some(mark) if mark == job.uid => Ok(true),
        Some(mark) => Ok(!cluster.job_exists(mark)?),
    }
}

/// Removes from an origin the marks of a job, or of `KusionStack`'s controller.
fn taken_back(pod: &Pod, is_ours: bool) -> Option<Effect> {
    let edit = kusionstack::edit(pod);
    if is_ours {
        let edit = edit.remove_label(keys::TO_REPLACE);
        return Some(patch(edit.remove_label(keys::JOB)));
    }
    kusionstack::holds(pod).then(|| patch(edit))
}

/// The new pod that stays because its origin is being deleted: a pod that this job marked and whose
/// deletion has not started. None if another one stays anyway.
fn kept<'a>(new_pods: &'a [Pod], job: &Job) -> Option<&'a Pod> {
    if new_pods.iter().any(|new_pod| !is_marked(new_pod)) {
        return None;
    }
    new_pods.iter().find(|new_pod| {
        let by_us = new_pod.label(keys::JOB) == Some(&job.uid);
        by_us && new_pod.label(keys::DELETION_BEGUN).is_none()
    })
}

fn is_marked(pod: &Pod) -> bool {
    pod.label(keys::TO_DELETE).is_some()
}

/// Whether a new pod can't become available any more.
fn leaves(pod: &Pod) -> bool {
    is_marked(pod) && pod.label(keys::DELETION_BEGUN).is_some() && !available(pod)
}

fn mark(new_pod: &Pod, job: &Job) -> MetadataEdit {
    let moment = format!("{}000000000", job.now);
    new_pod
        .edit()
        .set_label(keys::TO_DELETE, &moment)
        .set_label(keys::JOB, &job.uid)
}

fn unmark(new_pod: &Pod) -> MetadataEdit {
    new_pod
        .edit()
        .remove_label(keys::TO_DELETE)
        .remove_label(keys::JOB)
}
