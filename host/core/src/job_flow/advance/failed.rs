//! A step whose Job failed: whether and when another one is due, or how the step failed for good.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operon_api::job_flow::{Phase, StepStatus};

use super::{Advanced, Case, Due, RETRYING, SUSPENDED, said};
use crate::{
    job_flow::outputs::Outputs,
    jobs::{
        Finish,
        failure::{cause, failure},
        time::{after, backoff, left},
    },
};

pub(super) fn failed(case: &Case<'_>, finish: Finish) -> Advanced {
    let retry = case.step.and_then(|step| step.retry.as_ref());
    let limit = retry.map_or(0, |retry| retry.limit.max(0));
    let has_attempt = case.attempt <= limit && case.around.cancelled_for.is_none();
    let Some(retry) = retry.filter(|_| has_attempt) else {
        return Advanced::rest(finally_failed(case, finish));
    };
    let name = case.job.name_any();
    if case.around.is_suspended {
        let message =
            format!("Job {name:?} failed; it is not tried again while the flow is suspended");
        return Advanced::rest(case.running(SUSPENDED, &message));
    }
    let wait = backoff(retry.backoff_seconds, case.attempt.into());
    let created = case.job.metadata.creation_timestamp.clone();
    let ended = finish.time.or(created).map_or(case.around.now, |t| t.0);
    let at = after(ended, wait);
    let message = format!(
        "Job {name:?} failed: {}; attempt {} of {} starts at {}",
        finish.reason,
        case.attempt.saturating_add(1),
        limit.saturating_add(1),
        Timestamp::from_second(at.as_second()).unwrap_or(at),
    );
    let next = case.attempt.saturating_add(1);
    Advanced {
        due: left(ended, wait, case.around.now).map_or(Due::Attempt(next), Due::Look),
        ..Advanced::rest(case.running(RETRYING, &message))
    }
}

fn finally_failed(case: &Case<'_>, finish: Finish) -> StepStatus {
    let failure = failure(case.job, case.pods(), None);
    let mut message = format!("Job {:?} failed: {}", case.job.name_any(), failure.message);
    if let Some(cause) = cause(&failure) {
        message = format!("{message}; {cause}");
    }
    if let Some(last) = failure.log.as_deref().and_then(|log| log.lines().last()) {
        message = format!("{message}: {last}");
    }
    let reason = if finish.reason.is_empty() {
        "JobFailed".to_owned()
    } else {
        finish.reason
    };
    let status = StepStatus {
        outputs: Outputs::new(),
        ..case.over(Phase::Failed, finish.time)
    };
    said(status, &reason, &message)
}
