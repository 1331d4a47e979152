//! One step that has, or had, a Job: its status, and whether another Job is due.

mod failed;
mod gone;
mod held;

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{
    job_flow::{Phase, Step, StepStatus},
    reactive_job::Outcome,
};

use self::{failed::failed, gone::without_job, held::held};
use super::{
    make,
    outputs::{self, Outputs},
    step_jobs::StepJobs,
};
use crate::{
    action::Failure,
    driver::{Asked, Question},
    jobs::{
        self, Finish,
        blocked::{Blocked, Wait, blocked},
        explain::Known,
        text,
        time::{PROGRESS_DEADLINE, left},
    },
};

/// How long after the end of a Job was seen its pods may still be shown as they were before: they are
/// watched apart from it.
const OUTPUTS_GRACE: Duration = Duration::from_mins(1);

/// How many bytes a message of one step may take: the status has room for a thousand of them.
const MAX_MESSAGE: usize = 400;

/// Why a step that runs has no Job that does.
pub(super) const RETRYING: &str = "Retrying";
pub(super) const JOB_DELETED: &str = "JobDeleted";
pub(super) const CANCELLING: &str = "Cancelling";
pub(super) const SUSPENDED: &str = "Suspended";
/// Why a step whose Job is held still runs.
pub(super) const JOB_SUSPENDED: &str = "JobSuspended";
/// Why a step whose Job waits for something runs: for a node, an image, a quota.
pub(super) const JOB_PENDING: &str = "JobPending";
/// Why a step whose Job succeeded still runs.
pub(super) const READING_OUTPUTS: &str = "ReadingOutputs";
/// Why a step is Cancelled.
pub(super) const CANCELLED: &str = "Cancelled";

/// What all steps of a reconcile have in common.
#[derive(Clone)]
pub(super) struct Circumstances<'a> {
    pub(super) pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    pub(super) now: Timestamp,
    pub(super) is_suspended: bool,
    /// What was asked about a Job that waits, and the answer.
    pub(super) asked: &'a Asked,
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
    /// What must be asked to explain what its Job waits for.
    pub(super) question: Option<Question>,
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
            question: None,
        }
    }

    fn look(status: StepStatus, wait: Duration) -> Self {
        Self {
            due: Due::Look(wait),
            ..Self::rest(status)
        }
    }
}

/// The status of a step, given its previous status. `step` is none if it is not in the spec any more.
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

    /// How many Jobs of the step failed, this one included.
    fn failures(&self) -> i32 {
        let finish = jobs::finish(self.job);
        let has_failed = finish.is_some_and(|finish| finish.outcome == Outcome::Failed);
        let before = jobs::failures_before(self.job, self.attempt.into());
        let failures = before.saturating_add(i64::from(has_failed));
        i32::try_from(failures).unwrap_or(i32::MAX)
    }

    fn asked(&self) -> outputs::Asked<'_> {
        outputs::Asked {
            job: self.job,
            declared: self.declared(),
            from: self.step.and_then(|step| step.outputs_from.as_ref()),
        }
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
            failures: Some(self.failures()).filter(|failures| *failures > 0),
            template_hash: make::template_hash(self.job),
            start_time: known.start_time.clone().or(created),
            completion_time: None,
            outputs: if self.is_same_job() {
                known.outputs.clone()
            } else {
                Outputs::new()
            },
            deletions: known.deletions.clone().filter(|_| !phase.is_over()),
            after_failure: known.after_failure,
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
    text::short(message, MAX_MESSAGE)
}

fn with_job(case: &Case<'_>) -> Advanced {
    if let Some(finish) = jobs::finish(case.job) {
        return match finish.outcome {
            Outcome::Succeeded => succeeded(case, finish),
            Outcome::Failed | Outcome::Lost => failed(case, finish),
        };
    }
    if jobs::is_deleted(case.job) {
        let name = case.job.name_any();
        let status = if let Some(why) = &case.around.cancelled_for {
            let message = format!("Job {name:?} is being deleted because {why}");
            case.running(CANCELLING, &message)
        } else {
            let message = format!("Job {name:?} was deleted before it finished");
            case.running(JOB_DELETED, &message)
        };
        return Advanced::rest(status);
    }
    unfinished(case)
}

fn succeeded(case: &Case<'_>, finish: Finish) -> Advanced {
    let name = case.job.name_any();
    let mut status = case.over(Phase::Succeeded, finish.time);
    if outputs::are_complete(case.declared(), &status.outputs) {
        return Advanced::rest(status);
    }
    let seen = first_seen(case);
    let wait = left(seen, OUTPUTS_GRACE, case.around.now);
    match (outputs_of(case, wait.is_none()), wait) {
        (Some(Ok(outputs)), _) => {
            status.outputs = outputs;
            Advanced::rest(status)
        }
        (Some(Err(failure)), _) => Advanced::rest(without_outputs(status, &failure)),
        (None, None) => Advanced::rest(without_outputs(status, &outputs_missing(&name))),
        (None, Some(wait)) => {
            let message =
                format!("Job {name:?} succeeded; waiting to observe all of its successful pods");
            let reading = StepStatus {
                completion_time: Some(Time(seen)),
                ..case.running(READING_OUTPUTS, &message)
            };
            Advanced::look(reading, wait)
        }
    }
}

/// When it was first seen that the Job finished, by the clock of this host: the time in the Job is that of
/// another machine.
fn first_seen(case: &Case<'_>) -> Timestamp {
    let (known, now) = (case.known, case.around.now);
    let is_known = case.is_same_job() && known.phase == Phase::Running;
    let seen = known.completion_time.as_ref().filter(|_| is_known);
    seen.map_or(now, |time| time.0.min(now))
}

fn outputs_missing(job: &str) -> Failure {
    Failure::new(
        "OutputMissing",
        format!(
            "Job {job:?} succeeded, but its pods were deleted before its outputs could be read"
        ),
    )
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
fn outputs_of(case: &Case<'_>, is_late: bool) -> Option<Result<Outputs, Failure>> {
    let taken = outputs::take(case.asked(), case.pods(), is_late);
    taken.or_else(|| {
        let known = case.known;
        let is_known = case.is_same_job() && known.reason.as_deref() == Some(outputs::INVALID);
        is_known.then(|| {
            let message = known.message.clone().unwrap_or_default();
            Err(Failure::new(outputs::INVALID, message))
        })
    })
}

/// An unfinished Job: its outputs are read early, because its pods may be deleted with it.
fn unfinished(case: &Case<'_>) -> Advanced {
    let declared = case.declared();
    let mut status = case.status(Phase::Running);
    if !declared.is_empty() && !outputs::are_complete(declared, &status.outputs) {
        match outputs_of(case, false) {
            Some(Ok(outputs)) => status.outputs = outputs,
            Some(Err(failure)) => {
                return Advanced::rest(said(status, &failure.reason, &failure.message));
            }
            None => {}
        }
    }
    if let Some(held) = held(case) {
        return Advanced::rest(said(status, JOB_SUSPENDED, &held));
    }
    let Some(blocked) = blocked(case.job, case.pods()) else {
        return Advanced::rest(status);
    };
    let wait = blocked.wait(PROGRESS_DEADLINE, case.around.now);
    let (wait_known, stall_known) = (known_wait(case), known_stall(case));
    let question = match wait {
        Wait::Short(_) => None,
        Wait::Named(_) => blocked.question(wait_known.as_ref()),
        Wait::Over => blocked.question(stall_known.as_ref()),
    };
    let known = stall_known.or(wait_known);
    let blocked = blocked.explained(case.around.asked, known.as_ref());
    let advanced = match wait {
        Wait::Short(wait) => Advanced::look(status, wait),
        Wait::Named(wait) => Advanced::look(pending(case, status, &blocked), wait),
        Wait::Over => stalled(case, status, &blocked),
    };
    Advanced {
        question,
        ..advanced
    }
}

/// Between the name of a Job and what it waits for.
const NOT_YET: &str = "does not progress yet: ";
const CANNOT_PROGRESS: &str = "can't progress: ";

/// The step of a Job that waits for something, which need not be a fault.
fn pending(case: &Case<'_>, status: StepStatus, blocked: &Blocked) -> StepStatus {
    let Blocked {
        reason, message, ..
    } = blocked;
    let name = case.job.name_any();
    said(
        status,
        JOB_PENDING,
        &format!("Job {name:?} {NOT_YET}{reason}: {message}"),
    )
}

fn stalled(case: &Case<'_>, status: StepStatus, blocked: &Blocked) -> Advanced {
    let name = case.job.name_any();
    let message = format!("Job {name:?} {CANNOT_PROGRESS}{}", blocked.message);
    let reason = blocked.reason.as_str();
    Advanced {
        stall: Some(Failure::new(reason, message.clone())),
        ..Advanced::rest(said(status, reason, &message))
    }
}

/// What the status says of this Job, if it had not waited too long then.
fn known_wait(case: &Case<'_>) -> Option<Known> {
    let (reason, words) = known_words(case, NOT_YET)?.split_once(": ")?;
    Some(Known {
        reason: reason.to_owned(),
        words: words.to_owned(),
    })
}

/// What the status says of this Job, if it had waited too long.
fn known_stall(case: &Case<'_>) -> Option<Known> {
    Some(Known {
        reason: case.known.reason.clone()?,
        words: known_words(case, CANNOT_PROGRESS)?.to_owned(),
    })
}

fn known_words<'a>(case: &'a Case<'_>, kind: &str) -> Option<&'a str> {
    let message = case.known.message.as_ref().filter(|_| case.is_same_job())?;
    let start = format!("Job {:?} {kind}", case.job.name_any());
    message.strip_prefix(&start)
}
