//! The failures of targets that the host itself finds, in words. Pure.

use operon_api::OperationJob;

use super::{CANCELED, RELEASE_ABANDONED, RELEASE_LIMIT};
use crate::{action::Failure, amount::written};

/// No ActionPlugin serves the action.
pub(super) fn action_not_found(job: &OperationJob) -> Failure {
    Failure::new(
        "ActionNotFound",
        format!(
            "no ActionPlugin serves action {:?}; `kubectl get actionplugins` lists the available actions",
            job.spec.action
        ),
    )
}

/// The action of a deleted job was not loaded.
pub(super) fn not_loaded_in_time() -> Failure {
    Failure::new(
        RELEASE_ABANDONED,
        format!(
            "the action was not loaded within {} s of the job's deletion, so the target was not released; check its pod",
            RELEASE_LIMIT.as_secs()
        ),
    )
}

/// The action of a deleted job does not exist any more.
pub(super) fn no_action_to_release(job: &OperationJob) -> Failure {
    Failure::new(
        RELEASE_ABANDONED,
        format!(
            "no ActionPlugin serves action {:?} any more, so the target could not be released; check its pod",
            job.spec.action
        ),
    )
}

/// The failure of a target whose last release also failed.
pub(super) fn release_abandoned() -> Failure {
    Failure::new(
        RELEASE_ABANDONED,
        format!(
            "the action could not release the target within {} s of the first failed release; check its pod",
            RELEASE_LIMIT.as_secs()
        ),
    )
}

/// The pod of a target does not exist.
pub(super) fn pod_not_found(job: &OperationJob, name: &str) -> Failure {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    Failure::new(
        "PodNotFound",
        format!("pod {name:?} does not exist in namespace {namespace:?}"),
    )
}

/// The failure of a target that took too long.
pub(super) fn deadline_exceeded(job: &OperationJob) -> Failure {
    let deadline = job.spec.active_deadline_seconds.unwrap_or_default();
    Failure::new(
        "DeadlineExceeded",
        format!(
            "the target did not finish within {deadline} s of its start (spec.activeDeadlineSeconds)"
        ),
    )
}

/// The failure of a target of a canceled job.
pub(super) fn canceled(job: &OperationJob) -> Failure {
    Failure::new(
        CANCELED,
        format!("the job was canceled, because {}", allowed(job)),
    )
}

/// The failure of a target that had not finished when its job was deleted.
pub(super) fn deleted() -> Failure {
    Failure::new(
        CANCELED,
        "the OperationJob was deleted before the target finished",
    )
}

/// The limit that the failures of a canceled job exceeded, as its user wrote it.
fn allowed(job: &OperationJob) -> String {
    let allowed = job.spec.max_failures.as_ref();
    let allowed = allowed.map_or_else(|| "0".to_owned(), written);
    format!("more targets failed than spec.maxFailures allows ({allowed})")
}
