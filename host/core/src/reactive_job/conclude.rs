//! The conclusion of a reconcile: the next status, and the Events for its transitions. Pure.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    conditions::{STALLED, find},
    keys,
    reactive_job::{Inputs, Outcome, ReactiveJobStatus, Run, RunFailure, RunReason, State},
};

use super::{
    Observed, changes, config,
    family::{Family, family},
    job,
    plan::{self, End},
    status::{self, Case, Readiness, Verdict},
};
use crate::{
    action::{Failure, Severity},
    driver::{self, Asked, Event, Question},
    jobs::{
        self,
        blocked::{self, Blocked, Wait},
        failure,
        time::left,
    },
};

/// The most runs that the status lists.
const RUNS: usize = 5;

/// How many Jobs the status names that are not the object's own.
const IGNORED: usize = 10;

/// What came of making a Job.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StartResult {
    /// No Job was to be created.
    Nothing,
    /// The Job was created, for this purpose.
    Job(Inputs),
    /// The API server refused it.
    Refused(Failure),
}

/// The conclusion of a reconcile.
pub(super) type Conclusion = driver::Conclusion<ReactiveJobStatus>;

/// What must be read from the API server before the reconcile can conclude. Nothing is read twice: known
/// answers are in the status.
pub(super) fn question(observed: &Observed<'_>) -> Option<Question> {
    let own = family(observed.object, observed.jobs).own;
    if let Some(failing) = fails_unrecorded(observed, &own) {
        return failure::log_source(pods(observed, failing)).map(Question::Log);
    }
    let newest = own.first()?;
    let pods = pods(observed, newest);
    let blocked = blocked::blocked(newest, pods)?;
    let deadline = status::progress_deadline(observed.object);
    let name = newest.name_any();
    let known = match blocked.wait(deadline, observed.now) {
        Wait::Short(_) => return None,
        Wait::Named(_) => status::known_wait(observed.object, &name),
        Wait::Over => status::known_stall(observed.object, &name),
    };
    blocked.question(known.as_ref())
}

/// The last Job that fails, if the status does not say how yet.
fn fails_unrecorded<'a>(observed: &Observed<'_>, own: &'a [Arc<Job>]) -> Option<&'a Arc<Job>> {
    let status = observed.object.status.as_ref();
    let known = status.and_then(|status| status.last_failure.as_ref());
    // A known failure of a deleted Job is not replaced by an earlier failure.
    let is_later = |job: &Job, known: &RunFailure| {
        known.job_name != job.name_any()
            && jobs::failed_at(job) >= known.time.as_ref().map(|time| time.0)
    };
    own.iter()
        .find(|job| jobs::is_failing(job))
        .filter(|job| known.is_none_or(|known| is_later(job, known)))
}

fn pods<'a>(observed: &'a Observed<'_>, job: &Job) -> &'a [Arc<k8s_openapi::api::core::v1::Pod>] {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    observed
        .pods
        .get(uid)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Concludes a reconcile of an object that is not being deleted. `observed` is the state after the plan was
/// carried out.
pub(super) fn conclude(
    observed: &Observed<'_>,
    run: &plan::JobPlan,
    made: &StartResult,
    asked: &Asked,
) -> Conclusion {
    let Family {
        own,
        adopt: _,
        strangers,
    } = family(observed.object, observed.jobs);
    let newest = own.first().map(|job| &**job);
    let blocked = newest.and_then(|job| explained(observed, job, asked));
    let older = older(observed, &own);
    let named = older.iter();
    let named: Vec<_> = named
        .map(|older| (older.name.as_str(), older.stall.as_deref().ok()))
        .collect();
    let verdict = status::verdict(&Case {
        observed,
        newest,
        is_new: matches!(made, StartResult::Job(_)),
        refusal: match made {
            StartResult::Refused(failure) => Some(failure),
            StartResult::Nothing | StartResult::Job(_) => None,
        },
        waiting: run.waiting.as_ref(),
        blocked: blocked.as_ref(),
        older: &named,
    });
    let previous = observed.object.status.clone().unwrap_or_default();
    let next = ReactiveJobStatus {
        observed_generation: observed.object.metadata.generation,
        observed_rerun: plan::rerun(observed.object).cloned(),
        state: Some(verdict.state),
        current_job_name: newest.map(ResourceExt::name_any),
        current_inputs: match made {
            StartResult::Job(inputs) => Some(inputs.clone()),
            // The purpose of a deleted Job is remembered: the next Job reports what changed.
            StartResult::Nothing => run.inputs.clone().or(previous.current_inputs.clone()),
            StartResult::Refused(_) => previous.current_inputs.clone(),
        },
        pending: match made {
            StartResult::Job(_) => None,
            StartResult::Nothing | StartResult::Refused(_) => run.pending.clone(),
        },
        deletions: run.deletions.clone(),
        runs: runs(observed, &own),
        last_failure: last_failure(observed, &own, asked),
        conditions: status::conditions(observed.object, &verdict, observed.now),
        unwatched: status::unwatched(observed),
        ignored_jobs: ignored(&strangers),
    };
    let deadline = status::progress_deadline(observed.object);
    let stall = blocked.as_ref();
    let stall = stall.and_then(|blocked| blocked.wait(deadline, observed.now).left());
    Conclusion {
        events: events(&previous, &next),
        requeue_after: run
            .requeue_after
            .into_iter()
            .chain(stall)
            .chain(
                older
                    .iter()
                    .filter_map(|older| older.stall.as_ref().err().copied()?),
            )
            .min(),
        status: next,
    }
}

/// A Job before the newest that has not finished.
struct Older {
    name: String,
    /// What it has waited for too long, or otherwise when the wait becomes too long.
    stall: Result<String, Option<Duration>>,
}

fn older(observed: &Observed<'_>, own: &[Arc<Job>]) -> Vec<Older> {
    let deadline = status::progress_deadline(observed.object);
    let goes_on = |job: &&Arc<Job>| jobs::finish(job).is_none() && !jobs::is_deleted(job);
    let older = own.get(1..).unwrap_or_default().iter().filter(goes_on);
    let stall = |job: &Job| {
        let blocked = blocked::blocked(job, pods(observed, job)).ok_or(None)?;
        match left(blocked.since, deadline, observed.now) {
            Some(left) => Err(Some(left)),
            None => Ok(blocked.reason),
        }
    };
    let older = older.map(|job| Older {
        name: job.name_any(),
        stall: stall(job),
    });
    older.collect()
}

/// The names of Jobs that only look as if they were the object's own.
fn ignored(strangers: &[Arc<Job>]) -> Vec<String> {
    let mut names: Vec<_> = strangers.iter().map(|job| job.name_any()).collect();
    names.sort_unstable();
    names.truncate(IGNORED);
    names
}

/// What a Job waits for, with the message of its Events if its pods do not have the reason.
fn explained(observed: &Observed<'_>, job: &Job, asked: &Asked) -> Option<Blocked> {
    let blocked = blocked::blocked(job, pods(observed, job))?;
    let (object, name) = (observed.object, job.name_any());
    let known = status::known_stall(object, &name).or_else(|| status::known_wait(object, &name));
    Some(blocked.explained(asked, known.as_ref()))
}

/// How the last Job that failed did so.
fn last_failure(observed: &Observed<'_>, own: &[Arc<Job>], asked: &Asked) -> Option<RunFailure> {
    if let Some(job) = fails_unrecorded(observed, own) {
        let log = asked.log.as_deref();
        return Some(failure::failure(job, pods(observed, job), log));
    }
    let status = observed.object.status.as_ref();
    status.and_then(|status| status.last_failure.clone())
}

/// The last runs: new runs, and the runs in the status, updated with what is known now.
fn runs(observed: &Observed<'_>, own: &[Arc<Job>]) -> Vec<Run> {
    let status = observed.object.status.as_ref();
    let told = status.map(|s| s.runs.as_slice()).unwrap_or_default();
    let is_told = |job: &Job| told.iter().any(|run| run.job_name == job.name_any());
    // A run after one of those was reported once, and is dropped.
    let new = own.iter().take_while(|job| !is_told(job)).take(RUNS);
    let new = new.enumerate().map(|(place, job)| {
        let before = own.get(place + 1).map(|before| &**before);
        with_outcome(new_run(observed, job, before), job, observed.now)
    });
    let told = told.iter().cloned().map(|mut run| {
        if let Some(job) = own.iter().find(|job| job.name_any() == run.job_name) {
            return with_outcome(run, job, observed.now);
        }
        run.outcome.get_or_insert(Outcome::Lost);
        run
    });
    let mut runs: Vec<_> = new.chain(told).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.start_time.as_ref().map(|time| time.0)));
    runs.truncate(RUNS);
    runs
}

fn new_run(observed: &Observed<'_>, job: &Job, before: Option<&Job>) -> Run {
    let reason = job::reason(job);
    let changes = match (reason, before) {
        (RunReason::TemplateChanged, before) => changes::of_template(before, job),
        (RunReason::ConfigChanged, _) => config_changes(observed, job),
        _ => Vec::new(),
    };
    let retries = observed.object.spec.retry.is_some();
    Run {
        job_name: job.name_any(),
        reason,
        changes,
        attempt: retries.then(|| i32::try_from(job::attempt(job)).unwrap_or(i32::MAX)),
        start_time: job.metadata.creation_timestamp.clone(),
        completion_time: None,
        observed_time: None,
        outcome: None,
    }
}

/// Which ConfigMaps and Secrets changed before this Job was made.
fn config_changes(observed: &Observed<'_>, job: &Job) -> Vec<String> {
    let status = observed.object.status.as_ref();
    let before = status
        .and_then(|status| status.current_inputs.as_ref())
        .and_then(|inputs| inputs.config.clone())
        .map(|digests| config::renewed(digests, observed.config));
    let now = job.annotations().get(keys::CONFIG);
    let now = now.and_then(|text| serde_json::from_str(text).ok());
    match (before, now) {
        (Some(before), Some(now)) => config::changed(&before, &now)
            .map(|name| format!("{name} changed"))
            .collect(),
        _ => Vec::new(),
    }
}

fn with_outcome(mut run: Run, job: &Job, now: Timestamp) -> Run {
    if let Some(finish) = jobs::finish(job) {
        // By a clock that was ahead, it counts from now.
        let seen = run.observed_time.map_or(now, |seen| seen.0.min(now));
        run.observed_time = Some(Time(seen)).filter(|_| run.attempt.is_some());
        run.outcome = Some(finish.outcome);
        run.completion_time = finish.time;
    } else if jobs::is_deleted(job) {
        run.outcome = Some(Outcome::Lost);
    }
    run
}

/// Concludes a reconcile of an object that is being deleted and still exists.
pub(super) fn conclude_end(observed: &Observed<'_>, end: &End) -> Conclusion {
    let previous = observed.object.status.clone().unwrap_or_default();
    let (state, reason, message) = match end {
        End::Blocked(foreign) => (
            State::DeletionBlocked,
            "ForeignFinalizers",
            format!(
                "Deletion blocked due to foreign finalizers: {}",
                foreign.join(", ")
            ),
        ),
        End::Delete { left, .. } => (State::Deleting, "DeletingJobs", deleting(left)),
    };
    let verdict = Verdict {
        state,
        standing: Readiness::Reconciling(Failure::new(reason, message.clone())),
        message,
    };
    let status = ReactiveJobStatus {
        observed_generation: observed.object.metadata.generation,
        observed_rerun: plan::rerun(observed.object).cloned(),
        state: Some(state),
        conditions: status::conditions(observed.object, &verdict, observed.now),
        ..previous
    };
    Conclusion {
        status,
        events: Vec::new(),
        requeue_after: None,
    }
}

/// What holds the Jobs that are left, if it is not their pods.
fn deleting(left: &[Arc<Job>]) -> String {
    let ours = [keys::REACTIVE_JOB_FINALIZER, "foregroundDeletion"];
    let held = left.iter().find_map(|job| {
        let foreign: Vec<_> = job
            .finalizers()
            .iter()
            .filter(|finalizer| !ours.contains(&finalizer.as_str()))
            .cloned()
            .collect();
        (!foreign.is_empty()).then(|| (job.name_any(), foreign.join(", ")))
    });
    let waiting = "waiting for deletion of dependent jobs";
    match held {
        Some((job, finalizers)) => {
            format!(
                "{waiting}: Job {job:?} is held by the finalizers of other controllers: {finalizers}"
            )
        }
        None => waiting.to_owned(),
    }
}

/// The Events for the transition from one status to the next.
fn events(previous: &ReactiveJobStatus, next: &ReactiveJobStatus) -> Vec<Event> {
    let mut events = Vec::new();
    for run in next.runs.iter().rev() {
        let before = previous.runs.iter().find(|b| b.job_name == run.job_name);
        if before.is_none() {
            events.push(started(run));
        }
        if before.and_then(|before| before.outcome) != run.outcome {
            events.extend(ended(run, next.last_failure.as_ref()));
        }
    }
    let is_new = |name: &&String| !previous.ignored_jobs.contains(name);
    events.extend(next.ignored_jobs.iter().filter(is_new).map(|name| Event {
        severity: Severity::Warning,
        reason: "JobIgnored",
        message: format!(
            "Job {name:?} has the labels of this ReactiveJob, but its controller did not create it, so the Job is ignored"
        ),
        related: Some(jobs::reference(name)),
    }));
    let is_new = |sentence: &&String| !previous.unwatched.contains(sentence);
    events.extend(next.unwatched.iter().filter(is_new).map(|sentence| Event {
        severity: Severity::Warning,
        reason: "TriggersUnknown",
        message: sentence.clone(),
        related: None,
    }));
    let said = |status: &ReactiveJobStatus| {
        find(&status.conditions, STALLED).map(|c| (c.reason.clone(), c.message.clone()))
    };
    if let Some((reason, message)) = said(next)
        && reason != "JobFailed"
        && said(previous).is_none_or(|(before, _)| before != reason)
    {
        events.push(Event {
            severity: Severity::Warning,
            reason: "Stalled",
            message: format!("{reason}: {message}"),
            related: next.current_job_name.clone().map(jobs::reference),
        });
    }
    events
}

fn started(run: &Run) -> Event {
    let job = &run.job_name;
    let reason = run.reason.as_str();
    let (what, message) = match run.reason {
        RunReason::Adopted => ("Adopted", format!("took over Job {job:?}")),
        _ if run.changes.is_empty() => ("RunStarted", format!("created Job {job:?}: {reason}")),
        _ => (
            "RunStarted",
            format!("created Job {job:?}: {reason}: {}", run.changes.join("; ")),
        ),
    };
    Event {
        severity: Severity::Normal,
        reason: what,
        message,
        related: Some(jobs::reference(job)),
    }
}

fn ended(run: &Run, failure: Option<&RunFailure>) -> Option<Event> {
    let job = &run.job_name;
    let (severity, reason, message) = match run.outcome? {
        Outcome::Succeeded => (
            Severity::Normal,
            "RunSucceeded",
            format!("Job {job:?} succeeded"),
        ),
        Outcome::Failed => {
            let failure = failure.filter(|failure| failure.job_name == *job);
            let failed = failure.map_or_else(|| format!("Job {job:?} failed"), failure::sentence);
            (Severity::Warning, "RunFailed", failed)
        }
        Outcome::Lost => (
            Severity::Warning,
            "RunLost",
            format!("Job {job:?} was deleted before it finished"),
        ),
    };
    Some(Event {
        severity,
        reason,
        message,
        related: Some(jobs::reference(job)),
    })
}
