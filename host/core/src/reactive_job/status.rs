//! The status of a ReactiveJob: state, conditions, and their messages. Pure.

use k8s_openapi::{
    api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{
    ReactiveJob,
    conditions::{READY, RECONCILING, STALLED, condition, find},
    reactive_job::{ConcurrencyPolicy, Outcome, State},
};

use super::{Observed, config, job, plan::Waiting};
use crate::{
    action::Failure,
    jobs::{
        self,
        blocked::{Blocked, Wait},
        explain::Known,
        held::{Holder, holder},
        text,
        time::{PROGRESS_DEADLINE, seconds},
    },
};

/// The text between the Job and its reason: after the deadline, and before it.
pub(super) const CANNOT_PROGRESS: &str = " can't progress: ";
const NOT_YET: &str = " does not progress yet: ";

/// The state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    /// The message of `Ready`.
    pub(super) message: String,
    /// Whether only a change helps, and why; otherwise what is in progress, if anything is.
    pub(super) standing: Readiness,
}

/// What kstatus reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Settled,
    Reconciling(Failure),
    Stalled(Failure),
}

/// What the verdict is derived from.
pub(super) struct Case<'a> {
    pub(super) observed: &'a Observed<'a>,
    /// The newest Job.
    pub(super) newest: Option<&'a Job>,
    /// Whether it was created in this reconcile.
    pub(super) is_new: bool,
    /// Why a Job could not be created.
    pub(super) refusal: Option<&'a Failure>,
    /// Why a due Job is not created yet.
    pub(super) waiting: Option<&'a Waiting>,
    /// What the newest Job waits for.
    pub(super) blocked: Option<&'a Blocked>,
    /// The Jobs before it that have not finished, and why not, if that is known.
    pub(super) older: &'a [(&'a str, Option<&'a str>)],
}

/// How many older Jobs a message names.
const NAMED: usize = 3;

/// Decides the status of an object that is not being deleted.
pub(super) fn verdict(case: &Case<'_>) -> Verdict {
    if let Some(refusal) = case.refusal {
        return Verdict {
            state: State::Error,
            message: refusal.message.clone(),
            standing: Readiness::Stalled(refusal.clone()),
        };
    }
    if let Some(waiting) = case.waiting {
        let verdict = while_waiting(case, waiting);
        return match waiting {
            Waiting::Busy(job) => with_what_blocks(case, job, verdict),
            Waiting::Suspended
            | Waiting::Pods
            | Waiting::Listing
            | Waiting::Debounce
            | Waiting::Missing(_)
            | Waiting::Retry(_)
            | Waiting::Deleted { .. } => verdict,
        };
    }
    let Some(job) = case.newest else {
        return processing(State::New, "NoJob", "no Job has been created yet");
    };
    match jobs::finish(job) {
        Some(finish) => {
            let message = format!("{}: {}", finish.reason, finish.message);
            match finish.outcome {
                Outcome::Succeeded => succeeded(case, message),
                Outcome::Failed | Outcome::Lost => Verdict {
                    state: State::Error,
                    standing: Readiness::Stalled(Failure::new(
                        "JobFailed",
                        format!(
                            "Job {:?} failed: {message}; change spec.jobTemplate, or set the annotation operon.dev/rerun to another value, to run it again",
                            job.name_any()
                        ),
                    )),
                    message,
                },
            }
        }
        None if case.is_new => processing(State::Processing, "JobRunning", "job created"),
        None => while_running(case, job),
    }
}

/// The reason while a ConfigMap or Secret is missing that the next Job needs.
const CONFIG_MISSING: &str = "ConfigMissing";

/// The newest Job succeeded; what may be wrong nevertheless is that no new one can run, or that a change is
/// not noticed.
fn succeeded(case: &Case<'_>, message: String) -> Verdict {
    let observed = case.observed;
    let missing = config::missing(observed.object, &observed.config.known);
    let missing = (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        format!("{missing} does not exist any more, so no new Job can run")
    });
    let said = [message].into_iter().chain(older(case)).chain(missing);
    Verdict {
        state: State::Ready,
        message: text::joined(said.chain(unwatched(observed))),
        standing: Readiness::Settled,
    }
}

/// Jobs before the newest that have not finished: they run beside it (`spec.concurrencyPolicy: Allow`), or
/// never will.
fn older(case: &Case<'_>) -> Option<String> {
    let first = case.older.iter().take(NAMED);
    let first = first.map(|(job, reason)| match reason {
        None => format!("{job:?}"),
        Some(reason) => format!("{job:?} ({reason})"),
    });
    let first = first.collect::<Vec<_>>().join(", ");
    let more = match case.older.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!first.is_empty()).then(|| {
        format!("older Jobs have not finished: {first}{more}; delete those that are not needed")
    })
}

/// The kinds that the triggers select and the host can't watch, a sentence each. After a restart, the
/// previous sentences stay until the kinds are known again.
pub(super) fn unwatched(observed: &Observed<'_>) -> Vec<String> {
    let status = observed.object.status.as_ref();
    if observed.config.is_listing {
        return status.map_or_else(Vec::new, |status| status.unwatched.clone());
    }
    observed.config.unwatched.clone()
}

fn processing(state: State, reason: &str, message: &str) -> Verdict {
    Verdict {
        state,
        message: message.to_owned(),
        standing: Readiness::Reconciling(Failure::new(reason, message)),
    }
}

fn while_waiting(case: &Case<'_>, waiting: &Waiting) -> Verdict {
    let state = match case.newest {
        None => State::New,
        Some(_) => State::Processing,
    };
    let policy = case
        .observed
        .object
        .spec
        .concurrency_policy
        .unwrap_or_default();
    match waiting {
        Waiting::Suspended => processing(
            state,
            "Suspended",
            "a new Job is due but is not created while spec.suspend is true",
        ),
        Waiting::Busy(job) => {
            let message = match policy {
                ConcurrencyPolicy::Replace => {
                    format!(
                        "waiting for Job {job:?} to be deleted (spec.concurrencyPolicy: Replace)"
                    )
                }
                ConcurrencyPolicy::Queue | ConcurrencyPolicy::Allow => {
                    let newest = case.newest.filter(|newest| newest.name_any() == *job);
                    match newest.and_then(|newest| held(case, newest)) {
                        Some(held) => format!(
                            "waiting for Job {job:?} to finish, which is {held}: resume or delete it (spec.concurrencyPolicy: Queue)"
                        ),
                        None => format!(
                            "waiting for Job {job:?} to finish (spec.concurrencyPolicy: Queue)"
                        ),
                    }
                }
            };
            processing(state, "Waiting", &message)
        }
        Waiting::Pods => processing(
            state,
            "Waiting",
            "waiting for the previous Job's pods to terminate",
        ),
        Waiting::Listing => processing(
            state,
            "Listing",
            "a new Job is due; the ConfigMaps and Secrets that spec.triggers names are being listed",
        ),
        Waiting::Debounce => processing(
            state,
            "Debouncing",
            "a ConfigMap or Secret changed; a new Job is created when no further change follows for a while",
        ),
        Waiting::Missing(names) => processing(
            state,
            CONFIG_MISSING,
            &format!(
                "a new Job is due, but its pods need {}, which does not exist: create it, or set optional: true in the pod template",
                names.join(", ")
            ),
        ),
        Waiting::Retry(at) => {
            let failed = case.newest.map(Job::name_any).unwrap_or_default();
            let attempt = case.newest.map_or(1, job::attempt);
            let retry = case.observed.object.spec.retry.as_ref();
            let limit = retry.map_or(0, |retry| retry.limit);
            let message = format!(
                "Job {failed:?} failed; retry {attempt} of {limit} at {}",
                whole(*at)
            );
            processing(state, "Retry", &message)
        }
        Waiting::Deleted { count, at } => {
            let message = format!(
                "the last {count} Jobs in a row were deleted before they finished; the next one is created at {}",
                whole(*at)
            );
            processing(state, "JobDeleted", &message)
        }
    }
}

/// The holder of a Job, if it is held.
fn held(case: &Case<'_>, job: &Job) -> Option<String> {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let pods = case.observed.pods.get(uid).map(Vec::as_slice);
    Some(match holder(job, pods.unwrap_or_default())? {
        Holder::Own => "suspended by spec.jobTemplate.spec.suspend".to_owned(),
        holder @ (Holder::Queue(_) | Holder::Manager(_) | Holder::Gates(_) | Holder::Other) => {
            holder.to_string()
        }
    })
}

/// A time without fractions of a second.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn while_running(case: &Case<'_>, job: &Job) -> Verdict {
    if let Some(held) = held(case, job) {
        let message = format!("Job {:?} is {held}", job.name_any());
        return processing(State::Processing, "JobSuspended", &message);
    }
    let running = processing(
        State::Processing,
        "JobRunning",
        "waiting for job to complete",
    );
    with_what_blocks(case, &job.name_any(), running)
}

/// Reports the trouble of the newest Job, if the object waits for that Job, `job`.
fn with_what_blocks(case: &Case<'_>, job: &str, verdict: Verdict) -> Verdict {
    let is_newest = case.newest.is_some_and(|newest| newest.name_any() == job);
    let deadline = progress_deadline(case.observed.object);
    let Some(blocked) = case.blocked.filter(|_| is_newest) else {
        return verdict;
    };
    let (reason, said) = (&blocked.reason, &blocked.message);
    let wait = blocked.wait(deadline, case.observed.now);
    let trouble = match wait {
        // Trouble that lasts only seconds is not written.
        Wait::Short(_) => return verdict,
        Wait::Named(_) => format!("Job {job:?}{NOT_YET}{reason}: {said}"),
        Wait::Over => format!("Job {job:?}{CANNOT_PROGRESS}{said}"),
    };
    let way_out = format!("delete Job {job:?} to let the next one start");
    let way_out = matches!(case.waiting, Some(Waiting::Busy(_))).then_some(way_out);
    // The next reconcile reads the trouble from the end of the message.
    let said = [verdict.message].into_iter().chain(way_out);
    let message = text::joined(said.chain([trouble]));
    let standing = match (wait, verdict.standing) {
        (Wait::Over, _) => Readiness::Stalled(Failure::new(reason, &message)),
        (Wait::Short(_) | Wait::Named(_), Readiness::Reconciling(why)) => {
            Readiness::Reconciling(Failure::new(why.reason, &message))
        }
        (Wait::Short(_) | Wait::Named(_), standing) => standing,
    };
    Verdict {
        state: verdict.state,
        standing,
        message,
    }
}

/// How long a Job may be blocked before that is reported.
pub(super) fn progress_deadline(object: &ReactiveJob) -> std::time::Duration {
    object
        .spec
        .progress_deadline_seconds
        .map_or(PROGRESS_DEADLINE, seconds)
}

/// The conditions of a verdict.
pub(super) fn conditions(
    object: &ReactiveJob,
    verdict: &Verdict,
    now: Timestamp,
) -> Vec<Condition> {
    let previous = object
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let one = |type_: &str, status: &str, reason: &str, message: &str| {
        let generation = object.metadata.generation;
        let message: String = message.chars().take(4096).collect();
        condition(previous, type_, status, reason, &message, generation, now)
    };
    let Verdict {
        state,
        message,
        standing,
    } = verdict;
    let ready = match state {
        State::Ready => "True",
        State::Error => "False",
        State::New | State::Processing | State::Deleting | State::DeletionBlocked => "Unknown",
    };
    let mut conditions = vec![one(READY, ready, state.as_str(), message)];
    match standing {
        Readiness::Settled => {}
        Readiness::Reconciling(why) => {
            conditions.push(one(RECONCILING, "True", &why.reason, &why.message));
        }
        Readiness::Stalled(why) => conditions.push(one(STALLED, "True", &why.reason, &why.message)),
    }
    conditions
}

/// What was said to stall the object, if it was this Job that could not progress.
pub(super) fn known_stall(object: &ReactiveJob, job: &str) -> Option<Known> {
    let stalled = said_of(object, job, STALLED)?;
    let (_, words) = stalled.message.split_once(CANNOT_PROGRESS)?;
    Some(Known {
        reason: stalled.reason.clone(),
        words: words.to_owned(),
    })
}

/// The previous report of this Job before it had waited too long.
pub(super) fn known_wait(object: &ReactiveJob, job: &str) -> Option<Known> {
    let waits = said_of(object, job, RECONCILING)?;
    let (_, said) = waits.message.split_once(NOT_YET)?;
    let (reason, words) = said.split_once(": ")?;
    Some(Known {
        reason: reason.to_owned(),
        words: words.to_owned(),
    })
}

fn said_of<'a>(object: &'a ReactiveJob, job: &str, type_: &str) -> Option<&'a Condition> {
    let status = object.status.as_ref()?;
    let is_of = status.current_job_name.as_deref() == Some(job);
    find(&status.conditions, type_).filter(|_| is_of)
}
