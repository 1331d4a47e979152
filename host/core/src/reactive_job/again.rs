//! Jobs that are created again for the same template: after a failure, as `spec.retry` allows, and after
//! the newest Job was deleted before it finished. Only failures use up `spec.retry.limit`; deletions have a
//! backoff of their own.

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    keys,
    reactive_job::{Deletions, Outcome, RunReason},
};

use super::{
    Observed, job,
    plan::{Due, Waiting},
};
use crate::jobs::{
    self,
    time::{after, backoff, deleted_backoff, left},
};

/// Whether a failed Job is run again, and when.
pub(super) fn after_failure(observed: &Observed<'_>, job: &Job) -> Due {
    let (Some(retry), Some(finish)) = (&observed.object.spec.retry, jobs::finish(job)) else {
        return Due::No;
    };
    let attempt = job::attempt(job);
    if finish.outcome != Outcome::Failed || attempt > i64::from(retry.limit) {
        return Due::No;
    }
    let wait = backoff(retry.backoff_seconds, attempt);
    let seen = seen_failed(observed, job);
    match left(seen, wait, observed.now) {
        None => Due::Now(RunReason::Retry),
        Some(left) => Due::Later(Waiting::Retry(after(seen, wait)), left),
    }
}

/// When it was first seen that a Job failed, by the clock of this host.
fn seen_failed(observed: &Observed<'_>, job: &Job) -> Timestamp {
    let mut runs = observed.object.status.iter().flat_map(|s| &s.runs);
    let run = runs.find(|run| run.job_name == job.name_any() && run.outcome.is_some());
    let seen = run.and_then(|run| run.observed_time.as_ref().or(run.completion_time.as_ref()));
    seen.map_or(observed.now, |time| time.0.min(observed.now))
}

/// Whether a deleted Job is made again now, or when.
pub(super) fn after_deletion(observed: &Observed<'_>, deletions: &Deletions) -> Due {
    let wait = deleted_backoff(deletions.count.into());
    match left(deletions.time.0, wait, observed.now) {
        Some(left) if !wait.is_zero() => {
            let at = after(deletions.time.0, wait);
            let count = deletions.count;
            Due::Later(Waiting::Deleted { count, at }, left)
        }
        Some(_) | None => Due::Now(RunReason::JobLost),
    }
}

/// How many Jobs in a row were deleted before they finished; `lost` is the uid of the newest one if it is
/// among them. None if the newest Job does not replace a deleted one.
pub(super) fn deletions(
    observed: &Observed<'_>,
    newest: Option<&Job>,
    lost: Option<&str>,
) -> Option<Deletions> {
    let status = observed.object.status.as_ref();
    let known = status.and_then(|status| status.deletions.as_ref());
    let replaced = || {
        let newest = newest.filter(|job| jobs::finish(job).is_none())?;
        let is_in_place = job::reason(newest) == RunReason::JobLost;
        let replaced = newest.annotations().get(keys::RUN_AFTER)?;
        is_in_place.then_some(replaced.as_str())
    };
    let uid = lost.or_else(replaced)?;
    Some(match known {
        Some(known) if known.job_uid == uid => known.clone(),
        known => Deletions {
            count: known.map_or(1, |known| known.count.max(0).saturating_add(1)),
            job_uid: uid.to_owned(),
            time: Time(observed.now),
        },
    })
}

/// Which attempt the next Job is, counted from 1: one more than the failures since the template changed.
pub(super) fn next_attempt(
    observed: &Observed<'_>,
    newest: Option<&Job>,
    is_newest_gone: bool,
    reason: RunReason,
) -> i64 {
    match (reason, newest) {
        (RunReason::Retry, Some(failed)) => job::attempt(failed).saturating_add(1),
        (RunReason::JobLost, Some(lost)) if !is_newest_gone => job::attempt(lost),
        (RunReason::JobLost, _) => {
            let runs = observed.object.status.iter().flat_map(|s| &s.runs);
            let last = runs.clone().next();
            let attempt = last.and_then(|run| run.attempt).map_or(1, i64::from);
            let has_failed = last.is_some_and(|run| run.outcome == Some(Outcome::Failed));
            attempt.saturating_add(i64::from(has_failed))
        }
        _ => 1,
    }
}
