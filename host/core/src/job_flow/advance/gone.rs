//! A step that the status records as running and that has no Job any more: its Job is created again, unless
//! the flow does not need it. A Job that is deleted repeatedly is created again with a growing backoff.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use operon_api::job_flow::{Deletions, Phase, Step, StepStatus};

use super::{
    Advanced, CANCELLED, Circumstances, Due, JOB_DELETED, READING_OUTPUTS, RETRYING, SUSPENDED,
    outputs_missing, said,
};
use crate::{
    job_flow::outputs::Outputs,
    jobs::{
        blocked::is_live,
        time::{PODS_RECHECK, after, deleted_backoff, left},
    },
};

/// A step that the status records as running and that has no Job: the Job was deleted.
pub(super) fn without_job(
    around: &Circumstances<'_>,
    step: Option<&Step>,
    known: StepStatus,
) -> Advanced {
    let job = known.job_name.clone().unwrap_or_default();
    if let Some(over) = not_again(around, step, &known, &job) {
        return Advanced::rest(over);
    }
    let lost = lost(&job);
    let uid = known.job_uid.as_deref().unwrap_or_default();
    let pods = around.pods.get(uid);
    if pods.is_some_and(|pods| pods.iter().any(|pod| is_live(pod))) {
        let lost = format!("{lost}; waiting for its pods to terminate");
        return Advanced::look(said(known, JOB_DELETED, &lost), PODS_RECHECK);
    }
    if known.reason.as_deref() == Some(RETRYING) && !around.is_suspended {
        // It had failed before it was deleted.
        return another(known);
    }
    again(around, known, &lost)
}

fn lost(job: &str) -> String {
    format!("Job {job:?} was deleted before it finished")
}

/// The status of the step if no other Job is created for it.
fn not_again(
    around: &Circumstances<'_>,
    step: Option<&Step>,
    known: &StepStatus,
    job: &str,
) -> Option<StepStatus> {
    let over = |phase, reason: &str, message: &str| {
        let status = StepStatus {
            phase,
            completion_time: Some(Time(around.now)),
            outputs: Outputs::new(),
            deletions: None,
            ..known.clone()
        };
        Some(said(status, reason, message))
    };
    let reason = known.reason.as_deref();
    if reason == Some(READING_OUTPUTS) {
        let failure = outputs_missing(job);
        return over(Phase::Failed, &failure.reason, &failure.message);
    }
    match &around.cancelled_for {
        Some(_) if reason == Some(RETRYING) => {
            over(Phase::Failed, "JobFailed", &format!("Job {job:?} failed"))
        }
        Some(why) => {
            let message = format!("Job {job:?} was deleted because {why}");
            over(Phase::Cancelled, CANCELLED, &message)
        }
        None if step.is_none() => over(Phase::Cancelled, JOB_DELETED, &lost(job)),
        None => None,
    }
}

/// The step gets another Job. The status first records that the last one was deleted, so that it counts the
/// deletions in a row.
fn again(around: &Circumstances<'_>, known: StepStatus, lost: &str) -> Advanced {
    let attempt = known.attempts.unwrap_or(1).max(1);
    let deletions = counted(known.deletions.as_ref(), attempt, around.now);
    let is_new = known.deletions.as_ref() != Some(&deletions);
    let known = StepStatus {
        deletions: Some(deletions.clone()),
        ..known
    };
    if around.is_suspended {
        let message = format!("{lost}; no new Job is created while the flow is suspended");
        return Advanced::rest(said(known, SUSPENDED, &message));
    }
    if deletions.count <= 1 {
        if is_new {
            return Advanced::look(said(known, JOB_DELETED, lost), Duration::ZERO);
        }
        return another(known);
    }
    let wait = deleted_backoff(deletions.count.into());
    let Some(wait_left) = left(deletions.time.0, wait, around.now) else {
        return another(known);
    };
    let at = after(deletions.time.0, wait);
    let message = format!(
        "{lost}; the last {} Jobs in a row were deleted; the next one is created at {}",
        deletions.count,
        Timestamp::from_second(at.as_second()).unwrap_or(at),
    );
    Advanced::look(said(known, JOB_DELETED, &message), wait_left)
}

/// The next attempt is due.
fn another(known: StepStatus) -> Advanced {
    let attempt = known.attempts.unwrap_or(1).max(1);
    Advanced {
        due: Due::Attempt(attempt.saturating_add(1)),
        ..Advanced::rest(known)
    }
}

/// The record of deleted Jobs, the Job of this attempt included.
fn counted(known: Option<&Deletions>, attempt: i32, now: Timestamp) -> Deletions {
    let known = known.filter(|known| known.attempt.saturating_add(1) >= attempt);
    match known {
        Some(known) if known.attempt == attempt => known.clone(),
        known => Deletions {
            count: known.map_or(1, |known| known.count.max(0).saturating_add(1)),
            attempt,
            time: Time(now),
        },
    }
}
