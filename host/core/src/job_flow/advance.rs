//! One step that has, or had, a Job: where it stands, and whether another Job is due.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;
use operon_api::{
    job_flow::{Phase, Step, StepStatus},
    reactive_job::Outcome,
};

use super::{
    outputs::{self, Outputs},
    step_jobs::StepJobs,
};
use crate::{
    action::Failure,
    jobs::{
        self, Finish,
        blocked::{Blocked, blocked, is_live},
        failure::failure,
    },
};

/// How long a Job may be blocked before that is said.
pub(super) const PROGRESS_DEADLINE: Duration = Duration::from_mins(5);

/// The wait before the first retry, unless `backoffSeconds` is set, and the longest.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(1));

/// How often is looked whether the pods of a Job that is gone are gone too: nothing else tells.
const PODS_RECHECK: Duration = Duration::from_secs(2);

/// How long a message of one step may be: the status has room for a thousand of them.
const MAX_MESSAGE: usize = 400;

/// Why a step that runs has no Job that does.
pub(super) const RETRYING: &str = "Retrying";
pub(super) const JOB_DELETED: &str = "JobDeleted";
pub(super) const CANCELLING: &str = "Cancelling";
pub(super) const SUSPENDED: &str = "Suspended";
/// Why a step is Cancelled.
pub(super) const CANCELLED: &str = "Cancelled";

/// What is true for all steps of a pass.
#[derive(Clone)]
pub(super) struct Circumstances<'a> {
    pub(super) pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    pub(super) now: Timestamp,
    pub(super) is_suspended: bool,
    /// Why everything that runs is being deleted, if it is.
    pub(super) cancelled_for: Option<String>,
}

/// A step, and what is due.
#[derive(Debug)]
pub(super) struct Advanced {
    pub(super) status: StepStatus,
    pub(super) due: Due,
    /// Why it makes no progress, if that lasts too long.
    pub(super) stall: Option<Failure>,
}

/// What is due for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing, or nothing that the step itself decides.
    Nothing,
    /// A Job of this attempt.
    Attempt(i32),
    /// Another look after this time.
    Look(Duration),
}

impl Advanced {
    fn rest(status: StepStatus) -> Self {
        Self {
            status,
            due: Due::Nothing,
            stall: None,
        }
    }
}

/// Where a step stands, given what was written down of it. `step` is none if it is not in the spec any
/// more.
pub(super) fn advance(
    around: &Circumstances<'_>,
    jobs: &StepJobs<'_>,
    step: Option<&Step>,
    known: StepStatus,
) -> Advanced {
    if known.phase.is_over() {
        return Advanced::rest(known);
    }
    let ran = known.attempts.unwrap_or(0).max(0);
    let is_running = known.phase == Phase::Running;
    let first = if is_running {
        ran.max(1)
    } else {
        ran.saturating_add(1)
    };
    match jobs.last(&known.name, first) {
        Some((attempt, job)) => with_job(&Case {
            around,
            step,
            known: &known,
            job,
            attempt,
        }),
        None if is_running => without_job(around, step, known),
        None => Advanced::rest(known),
    }
}

/// A step that has a Job.
struct Case<'a> {
    around: &'a Circumstances<'a>,
    step: Option<&'a Step>,
    known: &'a StepStatus,
    job: &'a Job,
    attempt: i32,
}

impl Case<'_> {
    fn pods(&self) -> &[Arc<Pod>] {
        let uid = self.job.metadata.uid.as_deref().unwrap_or_default();
        self.around.pods.get(uid).map_or(&[], Vec::as_slice)
    }

    fn is_same_job(&self) -> bool {
        self.known.job_uid.is_some() && self.known.job_uid == self.job.metadata.uid
    }

    fn declared(&self) -> &[String] {
        self.step.map_or(&[], |step| step.outputs.as_slice())
    }

    /// The status of a step that has this Job.
    fn status(&self, phase: Phase) -> StepStatus {
        let known = self.known;
        let created = self.job.metadata.creation_timestamp.clone();
        StepStatus {
            name: known.name.clone(),
            phase,
            reason: None,
            message: None,
            job_name: Some(self.job.name_any()),
            job_uid: self.job.uid(),
            attempts: Some(self.attempt),
            start_time: known.start_time.clone().or(created),
            completion_time: None,
            outputs: if self.is_same_job() {
                known.outputs.clone()
            } else {
                Outputs::new()
            },
            orphaned: known.orphaned,
        }
    }

    fn running(&self, reason: &str, message: &str) -> StepStatus {
        said(self.status(Phase::Running), reason, message)
    }

    fn over(&self, phase: Phase, time: Option<Time>) -> StepStatus {
        StepStatus {
            completion_time: time.or(Some(Time(self.around.now))),
            ..self.status(phase)
        }
    }
}

fn said(status: StepStatus, reason: &str, message: &str) -> StepStatus {
    StepStatus {
        reason: Some(reason.to_owned()),
        message: Some(short(message)),
        ..status
    }
}

/// A message that the status has room for.
pub(super) fn short(message: &str) -> String {
    let mut short: String = message.chars().take(MAX_MESSAGE).collect();
    if short.len() < message.len() {
        short.push('…');
    }
    short
}

fn with_job(case: &Case<'_>) -> Advanced {
    if let Some(finish) = jobs::finish(case.job) {
        return match finish.outcome {
            Outcome::Succeeded => Advanced::rest(succeeded(case, finish)),
            Outcome::Failed | Outcome::Lost => failed(case, finish),
        };
    }
    if jobs::is_deleted(case.job) {
        let name = case.job.name_any();
        let status = if let Some(why) = &case.around.cancelled_for {
            let message = format!("Job {name:?} is being deleted because {why}");
            case.running(CANCELLING, &message)
        } else {
            let message = format!("Job {name:?} was deleted before it was finished");
            case.running(JOB_DELETED, &message)
        };
        return Advanced::rest(status);
    }
    unfinished(case)
}

fn succeeded(case: &Case<'_>, finish: Finish) -> StepStatus {
    let mut status = case.over(Phase::Succeeded, finish.time);
    let declared = case.declared();
    if outputs::are_complete(declared, &status.outputs) {
        return status;
    }
    match outputs_of(case) {
        Some(Ok(outputs)) => {
            status.outputs = outputs;
            status
        }
        Some(Err(failure)) => without_outputs(status, &failure),
        None => without_outputs(
            status,
            &Failure::new(
                "OutputMissing",
                format!(
                    "Job {:?} succeeded, and its pods were gone before its outputs could be read",
                    case.job.name_any()
                ),
            ),
        ),
    }
}

fn without_outputs(status: StepStatus, failure: &Failure) -> StepStatus {
    let failed = StepStatus {
        phase: Phase::Failed,
        outputs: Outputs::new(),
        ..status
    };
    said(failed, &failure.reason, &failure.message)
}

/// What a pod that succeeded left, now or when it was last there.
fn outputs_of(case: &Case<'_>) -> Option<Result<Outputs, Failure>> {
    let taken = outputs::take(case.declared(), case.pods());
    taken.or_else(|| {
        let known = case.known;
        let is_known = case.is_same_job() && known.reason.as_deref() == Some("OutputInvalid");
        is_known.then(|| {
            let message = known.message.clone().unwrap_or_default();
            Err(Failure::new("OutputInvalid", message))
        })
    })
}

fn failed(case: &Case<'_>, finish: Finish) -> Advanced {
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
    let first = retry.backoff_seconds.map_or(RETRY_BACKOFF.0, seconds);
    let doublings = u32::try_from(case.attempt - 1).unwrap_or(0).min(16);
    let wait = first
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(RETRY_BACKOFF.1);
    let created = case.job.metadata.creation_timestamp.clone();
    let ended = finish.time.or(created).map_or(case.around.now, |t| t.0);
    let at = SignedDuration::try_from(wait)
        .map_or(ended, |wait| ended.saturating_add(wait).unwrap_or(ended));
    let message = format!(
        "Job {name:?} failed: {}; attempt {} of {} starts at {}",
        finish.reason,
        case.attempt.saturating_add(1),
        limit.saturating_add(1),
        Timestamp::from_second(at.as_second()).unwrap_or(at),
    );
    Advanced {
        status: case.running(RETRYING, &message),
        due: left(ended, wait, case.around.now)
            .map_or(Due::Attempt(case.attempt.saturating_add(1)), Due::Look),
        stall: None,
    }
}

fn finally_failed(case: &Case<'_>, finish: Finish) -> StepStatus {
    let failure = failure(case.job, case.pods(), None);
    let mut message = format!("Job {:?} failed: {}", case.job.name_any(), finish.message);
    if let (Some(container), Some(pod)) = (&failure.container, &failure.pod_name) {
        let code = failure.exit_code.unwrap_or_default();
        message = format!("{message}; container {container:?} of pod {pod:?} exited with {code}");
        let known = failure.container_reason.filter(|reason| reason != "Error");
        if let Some(reason) = known {
            message = format!("{message} ({reason})");
        }
        if let Some(last) = failure.log.as_deref().and_then(|log| log.lines().last()) {
            message = format!("{message}: {last}");
        }
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

/// A Job that goes on: its outputs are taken early, because its pods may go with it.
fn unfinished(case: &Case<'_>) -> Advanced {
    let declared = case.declared();
    let mut status = case.status(Phase::Running);
    if !declared.is_empty() && !outputs::are_complete(declared, &status.outputs) {
        match outputs_of(case) {
            Some(Ok(outputs)) => status.outputs = outputs,
            Some(Err(failure)) => {
                return Advanced::rest(said(status, &failure.reason, &failure.message));
            }
            None => {}
        }
    }
    let Some(blocked) = blocked(case.job, case.pods()) else {
        return Advanced::rest(status);
    };
    if let Some(wait) = left(blocked.since, PROGRESS_DEADLINE, case.around.now) {
        return Advanced {
            due: Due::Look(wait),
            ..Advanced::rest(status)
        };
    }
    stalled(case, status, &blocked)
}

fn stalled(case: &Case<'_>, status: StepStatus, blocked: &Blocked) -> Advanced {
    let mut message = format!(
        "Job {:?} can't progress: {}",
        case.job.name_any(),
        blocked.message
    );
    let reason = match blocked.reason.as_str() {
        "" => "Blocked",
        reason => reason,
    };
    // The words of the first time stay: each new try words it a little differently.
    let known = case.known;
    if case.is_same_job() && known.reason.as_deref() == Some(reason) {
        message = known.message.clone().unwrap_or(message);
    }
    Advanced {
        status: said(status, reason, &message),
        due: Due::Nothing,
        stall: Some(Failure::new(reason, message)),
    }
}

/// A step that was written down as running and has no Job: somebody deleted it.
fn without_job(around: &Circumstances<'_>, step: Option<&Step>, known: StepStatus) -> Advanced {
    let job = known.job_name.clone().unwrap_or_default();
    let had_failed = known.reason.as_deref() == Some(RETRYING);
    let over = |phase, reason: &str, message: &str| {
        let status = StepStatus {
            phase,
            completion_time: Some(Time(around.now)),
            outputs: Outputs::new(),
            ..known.clone()
        };
        Advanced::rest(said(status, reason, message))
    };
    if let Some(why) = &around.cancelled_for {
        return if had_failed {
            over(Phase::Failed, "JobFailed", &format!("Job {job:?} failed"))
        } else {
            let message = format!("Job {job:?} was deleted because {why}");
            over(Phase::Cancelled, CANCELLED, &message)
        };
    }
    let lost = format!("Job {job:?} was deleted before it was finished");
    if step.is_none() {
        return over(Phase::Cancelled, JOB_DELETED, &lost);
    }
    let uid = known.job_uid.as_deref().unwrap_or_default();
    let pods = around.pods.get(uid);
    if pods.is_some_and(|pods| pods.iter().any(|pod| is_live(pod))) {
        let lost = format!("{lost}; its pods are not gone yet");
        return Advanced {
            due: Due::Look(PODS_RECHECK),
            ..Advanced::rest(said(known, JOB_DELETED, &lost))
        };
    }
    if around.is_suspended {
        let message = format!("{lost}; it is not made again while the flow is suspended");
        return Advanced::rest(said(known, SUSPENDED, &message));
    }
    let next = known.attempts.unwrap_or(1).max(1).saturating_add(1);
    Advanced {
        due: Due::Attempt(next),
        ..Advanced::rest(known)
    }
}

/// `seconds` of a spec as a duration.
pub(super) fn seconds(value: i32) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

/// What is left of `limit` since `start`; none when it is over.
pub(super) fn left(start: Timestamp, limit: Duration, now: Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(now.duration_since(start)).unwrap_or_default();
    limit.checked_sub(passed).filter(|left| !left.is_zero())
}
