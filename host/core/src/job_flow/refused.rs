//! Steps whose Job the API server refused: which they are, and when they are tried again.

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

/// When the others are looked at if one of those was refused again.
const RECHECK: Duration = Duration::from_mins(1);

/// What the API server said to the Job of a step that was tried last, if it refused it.
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

/// When those are looked at that were not tried in the pass in which these were made.
pub(super) fn recheck(made: &MadeJobs) -> Duration {
    let mut all = made.values();
    let are_granted = !made.is_empty() && all.all(|made| matches!(made, MadeJob::Job(_)));
    if are_granted { Duration::ZERO } else { RECHECK }
}
