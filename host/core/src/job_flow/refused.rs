//! Steps with a Job that the API server refused, and when they are tried again.

use std::time::Duration;

use operon_api::job_flow::{Phase, StepStatus};

use super::{
    advance::{
        CANCELLING, JOB_DELETED, JOB_PENDING, JOB_SUSPENDED, READING_OUTPUTS, RETRYING, SUSPENDED,
    },
    make::HINDRANCES,
    outputs,
    turn::UNKNOWN_DEPENDENCY,
};
use crate::{
    action::Failure,
    jobs::{MadeJob, MadeJobs},
};

/// When the other steps are tried if one of those was refused again.
const RECHECK: Duration = Duration::from_mins(1);

/// The API server's refusal of the last tried Job of a step, if it refused the Job.
pub(super) fn refusal(step: &StepStatus) -> Option<Failure> {
    let reason = step.reason.as_deref()?;
    let ours = [
        RETRYING,
        JOB_DELETED,
        CANCELLING,
        SUSPENDED,
        JOB_PENDING,
        JOB_SUSPENDED,
        READING_OUTPUTS,
        outputs::INVALID,
        UNKNOWN_DEPENDENCY,
    ];
    let is_open = matches!(step.phase, Phase::Blocked | Phase::Running);
    let is_ours = ours.contains(&reason) || HINDRANCES.contains(&reason);
    let message = step.message.clone().unwrap_or_default();
    (is_open && !is_ours).then(|| Failure::new(reason, message))
}

/// When the steps are tried that were not tried in the reconcile that created these.
pub(super) fn recheck(made: &MadeJobs) -> Duration {
    let mut all = made.values();
    let are_granted = !made.is_empty() && all.all(|made| matches!(made, MadeJob::Job(_)));
    if are_granted { Duration::ZERO } else { RECHECK }
}
