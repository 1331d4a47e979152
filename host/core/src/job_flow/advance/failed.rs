//! A step whose Job failed: whether and when another one is due, or how the step failed for good.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use operon_api::{
    job_flow::{Phase, StepStatus},
    reactive_job::RunFailure,
};

use super::{Advanced, Case, Due, MAX_MESSAGE, RETRYING, SUSPENDED, first_seen, said};
use crate::{
    job_flow::outputs::Outputs,
    jobs::{
        Finish,
        failure::{failure, sentence},
        text,
        time::{after, backoff, left},
    },
};

/// How many bytes of a message say how a Job failed that is retried.
const MAX_HOW: usize = MAX_MESSAGE - 80;

pub(super) fn failed(case: &Case<'_>, finish: Finish) -> Advanced {
    let retry = case.step.and_then(|step| step.retry.as_ref());
    let limit = retry.map_or(0, |retry| retry.limit.max(0));
    let failures = case.failures();
    let has_attempt = failures <= limit && case.around.cancelled_for.is_none();
    let Some(retry) = retry.filter(|_| has_attempt) else {
        return Advanced::rest(finally_failed(case, finish));
    };
    let (failed, seen) = (how(case), first_seen(case));
    let running = |reason: &str, message: &str| StepStatus {
        completion_time: Some(Time(seen)),
        ..case.running(reason, message)
    };
    if case.around.is_suspended {
        let message = format!("{failed}; the step is not retried while the flow is suspended");
        return Advanced::rest(running(SUSPENDED, &message));
    }
    let wait = backoff(retry.backoff_seconds, failures.into());
    let at = after(seen, wait);
    let message = format!(
        "{failed}; retry {failures} of {limit} starts at {}",
        Timestamp::from_second(at.as_second()).unwrap_or(at),
    );
    let next = case.attempt.saturating_add(1);
    Advanced {
        due: left(seen, wait, case.around.now).map_or(Due::Attempt(next), Due::Look),
        ..Advanced::rest(running(RETRYING, &message))
    }
}

/// How the Job failed, in a sentence. The room of a message is kept for what follows.
fn how(case: &Case<'_>) -> String {
    text::short(&sentence(&failure(case.job, case.pods(), None)), MAX_HOW)
}

fn finally_failed(case: &Case<'_>, finish: Finish) -> StepStatus {
    let failure = failure(case.job, case.pods(), None);
    // The reason of the step is the reason of the Job.
    let mut message = sentence(&RunFailure {
        reason: String::new(),
        ..failure.clone()
    });
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
