//! The job's own part of the status: counts, progress, times, conditions; and the events that a
//! change of status is worth. Pure.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operon_api::{
    OperationJob,
    conditions::{STALLED, Standing, conditions, find, with_end},
    operation_job::{
        DRY_RUN_SAYS, OnFailure, OperationJobStatus, Progress, TargetDetail, TargetError,
    },
};

use super::{
    ActionState, CANCELED, Observed, RELEASE_ABANDONED,
    conclude::JobEvent,
    failures::canceled,
    limits::{self, TooManyFailures, is_canceled, too_many_failures},
    parameters, plan, size,
};
use crate::action::{Failure, Severity};

/// Details in the order of the status: targets that left Pending first, then the order of the spec.
pub(super) fn in_order(job: &OperationJob, mut details: Vec<TargetDetail>) -> Vec<TargetDetail> {
    let index: HashMap<&str, usize> = job
        .targets()
        .iter()
        .enumerate()
        .map(|(index, target)| (target.name.as_str(), index))
        .collect();
    details.sort_by_key(|detail| {
        let place = index
            .get(detail.name.as_str())
            .copied()
            .unwrap_or(usize::MAX);
        (detail.progress == Progress::Pending, place)
    });
    details
}

/// How many targets there are, and how far they are.
pub(super) struct Counts {
    total: usize,
    pending: usize,
    processing: usize,
    succeeded: usize,
    failed: usize,
    /// In progress, or failed and not released.
    under_way: usize,
}

impl Counts {
    /// Counts all targets.
    pub(super) fn of(details: &[TargetDetail]) -> Self {
        let count = |wanted: Progress| details.iter().filter(|d| d.progress == wanted).count();
        Self {
            total: details.len(),
            pending: count(Progress::Pending),
            processing: count(Progress::Processing),
            succeeded: count(Progress::Succeeded),
            failed: count(Progress::Failed),
            under_way: details.iter().filter(|d| size::is_under_way(d)).count(),
        }
    }

    fn progress(&self) -> Progress {
        match (self.pending, self.processing, self.failed) {
            // Its selector selected none.
            (0, 0, 0) if self.total == 0 => Progress::Failed,
            (0, 0, 0) => Progress::Succeeded,
            (0, 0, _) => Progress::Failed,
            (pending, _, _) if pending == self.total => Progress::Pending,
            _ => Progress::Processing,
        }
    }

    fn sentence(&self) -> String {
        let Self {
            total,
            succeeded,
            failed,
            ..
        } = self;
        match failed {
            0 => format!("{succeeded} of {total} targets succeeded"),
            failed => format!("{succeeded} of {total} targets succeeded, {failed} failed"),
        }
    }
}

/// What targets wait for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits<'w> {
    /// Something that keeps them from going on.
    pub(super) blocked: Option<&'w Failure>,
    /// More available pods.
    pub(super) held: Option<&'w str>,
}

/// This reconcile's report on the releases of a deleted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Releases {
    /// Nothing new.
    Unchanged,
    /// One failed.
    Failed,
    /// No release failed, and one takes more calls: earlier failures have been resolved.
    GoOn,
}

/// Since when releases fail.
fn release_failed(
    observed: &Observed<'_>,
    releases: Releases,
) -> Option<k8s_openapi::jiff::Timestamp> {
    let since = plan::release_failed(observed);
    match releases {
        Releases::Unchanged => since,
        Releases::Failed => since.or(Some(observed.now)),
        Releases::GoOn => None,
    }
}

/// The status with these details, which may have been shortened after they were counted.
pub(super) fn next(
    observed: &Observed<'_>,
    counts: &Counts,
    details: Vec<TargetDetail>,
    waits: Waits<'_>,
    releases: Releases,
) -> OperationJobStatus {
    let job = observed.job;
    let none = OperationJobStatus::default();
    let previous = job.status.as_ref().unwrap_or(&none);
    let now = Time(observed.now);
    let progress = counts.progress();
    let finished = progress.is_finished().then(|| now.clone());
    // The Go operator's oldest version wrote only `endTimestamp`.
    let ended = previous
        .end_time
        .as_ref()
        .or(previous.end_timestamp.as_ref());
    let end_time = ended.cloned().or(finished);
    let (standing, reason, message) = describe(observed, counts, &details, waits);
    let standing = conditions(
        &previous.conditions,
        standing,
        &reason,
        &size::bounded(message),
        job.metadata.generation,
        observed.now,
    );
    let conditions = with_end(
        &previous.conditions,
        standing,
        progress.end(),
        previous.progress.is_some_and(Progress::is_finished),
        observed.now,
    );
    OperationJobStatus {
        observed_generation: job.metadata.generation,
        progress: Some(progress),
        canceled_time: previous
            .canceled_time
            .clone()
            .or_else(|| is_canceled_now(job, counts).then(|| now.clone())),
        parameters_digest: match previous.start_time {
            Some(_) => previous.parameters_digest.clone(),
            None => parameters::digest(job),
        },
        start_time: previous.start_time.clone().or(Some(now)),
        end_timestamp: end_time.clone(),
        end_time,
        selector: previous.selector.clone(),
        targets: previous.targets.clone(),
        total_pod_count: some_count(counts.total),
        succeeded_pod_count: some_count(counts.succeeded),
        failed_pod_count: some_count(counts.failed),
        release_failed_time: release_failed(observed, releases)
            .filter(|_| job.metadata.deletion_timestamp.is_some())
            .map(Time),
        target_details: details,
        conditions,
    }
}

/// The standing of the job, its reason and its message.
fn describe(
    observed: &Observed<'_>,
    counts: &Counts,
    details: &[TargetDetail],
    waits: Waits<'_>,
) -> (Standing, String, String) {
    let mut summary = counts.sentence();
    if observed.job.spec.dry_run {
        summary = format!("{summary} {DRY_RUN_SAYS}");
    }
    let progress = counts.progress();
    match progress {
        Progress::Succeeded => (Standing::Ready, "Succeeded".to_owned(), summary),
        Progress::Failed if counts.total == 0 => unselected(observed.job),
        Progress::Failed => {
            // That targets were canceled is the consequence of the other failures.
            let errors = || {
                details
                    .iter()
                    .filter_map(|d| Some((&d.name, d.error.as_ref()?)))
            };
            let first = errors()
                .find(|(_, error)| error.reason != CANCELED)
                .or_else(|| errors().next());
            let (reason, why) = first.map_or_else(
                || ("Failed".to_owned(), String::new()),
                |(name, error)| {
                    (
                        error.reason.clone(),
                        format!("; {}", explained(name, error)),
                    )
                },
            );
            (Standing::Stalled, reason, format!("{summary}{why}"))
        }
        Progress::Pending | Progress::Processing => {
            if let Some(failure) = waits.blocked {
                // A job that has not started waits only a moment for an ActionPlugin to appear.
                let passes = progress == Progress::Pending
                    && matches!(observed.action, ActionState::NotFound { .. });
                let standing = if passes {
                    Standing::Reconciling
                } else {
                    Standing::Stalled
                };
                let message = format!("{summary}; {}", failure.message);
                return (standing, failure.reason.clone(), message);
            }
            match held_back(observed.job, counts).or_else(|| few_available(counts, waits.held)) {
                Some((standing, reason, why)) => {
                    (standing, reason.to_owned(), format!("{summary}; {why}"))
                }
                None => (
                    Standing::Reconciling,
                    progress_word(progress).to_owned(),
                    summary,
                ),
            }
        }
    }
}

/// Why a job has no targets stays as it was found out.
fn unselected(job: &OperationJob) -> (Standing, String, String) {
    let status = job.status.as_ref();
    let known = status.and_then(|status| find(&status.conditions, STALLED));
    let (reason, message) = known.map_or_else(
        || ("NoTargets".to_owned(), "the job has no targets".to_owned()),
        |known| (known.reason.clone(), known.message.clone()),
    );
    (Standing::Stalled, reason, message)
}

/// Why a target failed, in a sentence that names its pod once.
fn explained(name: &str, error: &TargetError) -> String {
    let TargetError { reason, message } = error;
    let rest = if message.is_empty() {
        reason.clone()
    } else {
        format!("{reason}: {message}")
    };
    let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let mut words = message.split(|c| !is_part_of_name(c));
    if words.any(|word| word.trim_end_matches('.') == name) {
        rest
    } else {
        format!("{name}: {rest}")
    }
}

/// What keeps targets from starting: its standing, its reason, and a sentence.
fn held_back(job: &OperationJob, counts: &Counts) -> Option<(Standing, &'static str, String)> {
    if is_canceled(job) || is_canceled_now(job, counts) {
        return Some((Standing::Reconciling, CANCELED, canceled(job).message));
    }
    if counts.pending == 0 {
        return None;
    }
    if job.spec.paused == Some(true) {
        let why = "spec.paused is true: no further target starts".to_owned();
        return Some((Standing::Reconciling, "Paused", why));
    }
    if let Ok(Some(TooManyFailures { then: _, allowed })) = too_many_failures(job, counts.failed) {
        let why = format!(
            "spec.maxFailures allows {allowed}, so no further target starts; raise spec.maxFailures, or set \
             spec.onFailure to Continue, to go on"
        );
        return Some((Standing::Stalled, "TooManyFailures", why));
    }
    let started = counts.total - counts.pending;
    let admitted = |partition: i32| usize::try_from(partition).unwrap_or(0);
    let partition = job.spec.partition;
    if let Some(partition) = partition.filter(|partition| started >= admitted(*partition)) {
        let why = format!("partition {partition} holds back the remaining targets");
        let waits = (Standing::Reconciling, "WaitingForPartition", why);
        return (counts.processing == 0).then_some(waits);
    }
    let under_way = counts.under_way;
    let is_full = limits::concurrent(job).is_ok_and(|most| under_way >= most);
    if !is_full {
        return None;
    }
    let unreleased = match under_way - counts.processing {
        0 => String::new(),
        unreleased => format!(", {unreleased} of them failed and not released yet"),
    };
    let why =
        format!("targets in progress: {under_way}{unreleased}; spec.maxConcurrent allows no more");
    let word = progress_word(counts.progress());
    Some((Standing::Reconciling, word, why))
}

/// That targets wait for more available pods.
fn few_available(counts: &Counts, held: Option<&str>) -> Option<(Standing, &'static str, String)> {
    let reason = match counts.processing {
        0 => "WaitingForAvailability",
        _ => progress_word(counts.progress()),
    };
    Some((Standing::Reconciling, reason, held?.to_owned()))
}

/// Whether the failures of these targets cancel the job.
fn is_canceled_now(job: &OperationJob, counts: &Counts) -> bool {
    let too_many = too_many_failures(job, counts.failed);
    matches!(
        too_many,
        Ok(Some(TooManyFailures {
            then: OnFailure::Cancel,
            ..
        }))
    ) && !counts.progress().is_finished()
        && job.metadata.deletion_timestamp.is_none()
}

fn progress_word(progress: Progress) -> &'static str {
    match progress {
        Progress::Pending => "Pending",
        Progress::Processing => "Processing",
        Progress::Failed => "Failed",
        Progress::Succeeded => "Succeeded",
    }
}

fn some_count(count: usize) -> Option<i32> {
    (count > 0).then(|| i32::try_from(count).unwrap_or(i32::MAX))
}

/// One Event per target that failed since the job's present status, or that was not released in time.
/// `details` are all there are, not shortened.
pub(super) fn failures(job: &OperationJob, details: &[TargetDetail]) -> Vec<JobEvent> {
    let previous = job
        .status
        .as_ref()
        .map(|s| s.target_details.as_slice())
        .unwrap_or_default();
    let known: HashMap<&str, &TargetDetail> = previous
        .iter()
        .map(|detail| (detail.name.as_str(), detail))
        .collect();
    let is_new = |detail: &TargetDetail| {
        let before = known.get(detail.name.as_str());
        let failed_before = before.is_some_and(|d| d.progress == Progress::Failed);
        !failed_before || (is_abandoned(detail) && !before.is_some_and(|d| is_abandoned(d)))
    };
    details
        .iter()
        .filter(|detail| detail.progress == Progress::Failed && is_new(detail))
        .map(|detail| {
            let error = detail.error.clone().unwrap_or_default();
            let (severity, reason) = match error.reason.as_str() {
                "DeadlineExceeded" => (Severity::Warning, "Timeout"),
                RELEASE_ABANDONED => (Severity::Warning, RELEASE_ABANDONED),
                CANCELED => (Severity::Normal, CANCELED),
                _ => (Severity::Warning, "TargetFailed"),
            };
            JobEvent {
                severity,
                reason,
                target: Some(detail.name.clone()),
                message: explained(&detail.name, &error),
            }
        })
        .collect()
}

fn is_abandoned(detail: &TargetDetail) -> bool {
    detail
        .error
        .as_ref()
        .is_some_and(|error| error.reason == RELEASE_ABANDONED)
}

/// The Event for the transition from the job's present status to `next`: it finished, or can't continue.
pub(super) fn change(job: &OperationJob, next: &OperationJobStatus) -> Option<JobEvent> {
    let previous = job.status.as_ref();
    let stalled = |status: &OperationJobStatus| {
        find(&status.conditions, STALLED).map(|condition| condition.reason.clone())
    };
    let same_progress = previous.and_then(|s| s.progress) == next.progress;
    let (severity, reason) = match next.progress {
        Some(Progress::Succeeded) if !same_progress => (Severity::Normal, "Succeeded"),
        // The user who deletes a job knows that its targets do not succeed.
        Some(Progress::Failed) if !same_progress && job.metadata.deletion_timestamp.is_some() => {
            (Severity::Normal, CANCELED)
        }
        Some(Progress::Failed) if !same_progress => (Severity::Warning, "Failed"),
        Some(Progress::Succeeded | Progress::Failed) => return None,
        Some(Progress::Pending | Progress::Processing) | None
            if next.canceled_time.is_some() && !is_canceled(job) =>
        {
            (Severity::Warning, CANCELED)
        }
        Some(Progress::Pending | Progress::Processing) | None => {
            let now = stalled(next)?;
            if previous.and_then(stalled) == Some(now) {
                return None;
            }
            (Severity::Warning, "Blocked")
        }
    };
    let message = next
        .conditions
        .first()
        .map(|c| c.message.clone())
        .unwrap_or_default();
    Some(JobEvent {
        severity,
        reason,
        target: None,
        message,
    })
}
