//! What `KusionStack`'s OperationJob controller left on the pods of a job that it had begun: a finalizer, which
//! nothing else removes, and the request to replace the pod, on any pod. They are taken over with the job.

use std::time::Duration;

use operon_sdk::{Effect, Job, MetadataEdit, Pod, Target};

use crate::keys;
use crate::plan::{Plan, patch};

/// Whether the finalizer is on a pod.
pub fn holds(pod: &Pod) -> bool {
    pod.finalizers.iter().any(|name| name == keys::PROTECTED)
}

/// Whether `KusionStack`'s controller requested the pod's replacement, and no job of ours took it over.
pub fn requested(pod: &Pod) -> bool {
    let value = pod.label(keys::TO_REPLACE);
    holds(pod) && value == Some("true") && pod.label(keys::JOB).is_none()
}

/// The first step on a pod that carries the finalizer; none if there is nothing to take over yet. The pod
/// of a `CollaSet` keeps the request, as this job's. If it is being deleted, the finalizer stays until the
/// new pod is recorded: the `CollaSet` creates one for a pod that still exists.
pub fn take_over(target: &Target, pod: &Pod, job: &Job, of_collaset: bool) -> Option<Plan> {
    let waits = of_collaset && pod.deleting && !pod.ended() && requested(pod);
    if !holds(pod) || (waits && target.extra(keys::NEW_POD).is_none()) {
        return None;
    }
    let edit = if of_collaset && requested(pod) {
        edit(pod).set_label(keys::JOB, &job.uid)
    } else {
        edit_all(pod)
    };
    let message = format!(
        "pod {:?} has the finalizer of a KusionStack controller: this job takes it over",
        pod.name
    );
    let plan = Plan::wait(keys::TAKEN_OVER, message).recheck_after(Duration::from_secs(1));
    Some(plan.doing(patch(edit)))
}

/// Removes the remaining marks of a pod, if the finalizer is on it.
pub fn let_go(pod: &Pod) -> Option<Effect> {
    holds(pod).then(|| patch(edit_all(pod)))
}

/// An edit of a pod that removes the finalizer, if it is there.
pub fn edit(pod: &Pod) -> MetadataEdit {
    if holds(pod) {
        pod.edit().remove_finalizer(keys::PROTECTED)
    } else {
        pod.edit()
    }
}

/// The same, and removes the request too.
fn edit_all(pod: &Pod) -> MetadataEdit {
    if requested(pod) {
        edit(pod).remove_label(keys::TO_REPLACE)
    } else {
        edit(pod)
    }
}
