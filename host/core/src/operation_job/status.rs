//! The job's own part of the status: counts, progress, times, conditions; and the events that a
//! change of status is worth. Pure.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operon_api::{
    OperationJob,
    conditions::{Standing, conditions},
    operation_job::{OperationJobStatus, Progress, TargetDetail},
};

use super::{Observed, conclude::JobEvent};
use crate::action::{Failure, Severity};

/// Details in the order of the status: those that left Pending first, then the order of the spec.
pub(super) fn in_order(job: &OperationJob, mut details: Vec<TargetDetail>) -> Vec<TargetDetail> {
    let index: HashMap<&str, usize> = job
        .spec
        .targets
        .iter()
        .enumerate()
        .map(|(index, target)| (target.name.as_str(), index))
        .collect();
    details.sort_by_key(|detail| {
        let place = index.get(detail.name.as_str()).copied().unwrap_or(usize::MAX);
        (detail.progress == Progress::Pending, place)
    });
    details
}

/// The status that these details make.
pub(super) fn next(
    observed: &Observed<'_>,
    mut details: Vec<TargetDetail>,
    blocked: Option<&Failure>,
) -> OperationJobStatus {
    let job = observed.job;
    let previous = job.status.clone().unwrap_or_default();
    let now = Time(observed.now);
    let count = |wanted: Progress| details.iter().filter(|d| d.progress == wanted).count();
    let (total, succeeded, failed) =
        (details.len(), count(Progress::Succeeded), count(Progress::Failed));
    let progress = match (count(Progress::Pending), succeeded + failed) {
        (_, finished) if finished == total && failed > 0 => Progress::Failed,
        (_, finished) if finished == total => Progress::Succeeded,
        (pending, _) if pending == total => Progress::Pending,
        _ => Progress::Processing,
    };
    let finished = progress.is_finished().then(|| now.clone());
    let end_time = previous.end_time.or(finished);
    let (standing, reason, message) =
        describe(job, progress, (total, succeeded, failed), &details, blocked);
    let conditions = conditions(
        &previous.conditions,
        standing,
        &reason,
        &message,
        job.metadata.generation,
        observed.now,
    );
    shorten(&mut details);
    OperationJobStatus {
        observed_generation: job.metadata.generation,
        progress: Some(progress),
        start_time: previous.start_time.or(Some(now)),
        end_timestamp: end_time.clone(),
        end_time,
        total_pod_count: some_count(total),
        succeeded_pod_count: some_count(succeeded),
        failed_pod_count: some_count(failed),
        target_details: details,
        conditions,
    }
}

/// Where the job stands, why, and in words.
fn describe(
    job: &OperationJob,
    progress: Progress,
    (total, succeeded, failed): (usize, usize, usize),
    details: &[TargetDetail],
    blocked: Option<&Failure>,
) -> (Standing, String, String) {
    let counts = match failed {
        0 => format!("{succeeded} of {total} targets succeeded"),
        failed => format!("{succeeded} of {total} targets succeeded, {failed} failed"),
    };
    let running = details.iter().any(|d| d.progress == Progress::Processing);
    match progress {
        Progress::Succeeded => (Standing::Ready, "Succeeded".to_owned(), counts),
        Progress::Failed => {
            let first = details.iter().find_map(|d| Some((&d.name, d.error.as_ref()?)));
            let (reason, why) = first.map_or_else(
                || ("Failed".to_owned(), String::new()),
                |(name, error)| (error.reason.clone(), format!("; {name}: {}", error.message)),
            );
            (Standing::Stalled, reason, format!("{counts}{why}"))
        }
        Progress::Pending | Progress::Processing => match (blocked, job.spec.partition) {
            (Some(failure), _) => {
                (Standing::Stalled, failure.reason.clone(), format!("{counts}; {}", failure.message))
            }
            (None, Some(partition)) if !running && progress == Progress::Processing => (
                Standing::Reconciling,
                "WaitingForPartition".to_owned(),
                format!("{counts}; partition {partition} holds back the rest"),
            ),
            (None, Some(0)) => (
                Standing::Reconciling,
                "WaitingForPartition".to_owned(),
                format!("{counts}; partition 0 holds back all"),
            ),
            (None, _) => (Standing::Reconciling, progress_word(progress).to_owned(), counts),
        },
    }
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

/// Above this many targets, details keep only what the controller itself needs: an object may not be
/// larger than 1.5 MiB, its spec included.
const DETAILED: usize = 2_000;

/// The longest error message of a target in a job of ordinary size, and in a large one.
const MESSAGE: (usize, usize) = (1024, 0);

/// Keeps a large job's status within what one object may hold.
fn shorten(details: &mut Vec<TargetDetail>) {
    let large = details.len() > DETAILED;
    if large {
        // An absent entry reads as Pending.
        details.retain(|detail| detail.progress != Progress::Pending);
    }
    for detail in details {
        let limit = if large { MESSAGE.1 } else { MESSAGE.0 };
        if let Some(error) = detail.error.as_mut() {
            truncate(&mut error.message, limit);
        }
        if large && detail.progress == Progress::Succeeded {
            detail.pod_uid = None;
            detail.start_time = None;
            detail.end_time = None;
            detail.extra_info.clear();
        }
        if large && detail.progress == Progress::Failed {
            detail.end_time = None;
        }
    }
}

fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

/// The events that going from the job's present status to `next` is worth: one per target that
/// failed, and one when the job finished.
pub(super) fn events(job: &OperationJob, next: &OperationJobStatus) -> Vec<JobEvent> {
    let previous = job.status.clone().unwrap_or_default();
    let known: HashMap<&str, Progress> =
        previous.target_details.iter().map(|d| (d.name.as_str(), d.progress)).collect();
    let failures = next
        .target_details
        .iter()
        .filter(|d| d.progress == Progress::Failed)
        .filter(|d| known.get(d.name.as_str()) != Some(&Progress::Failed))
        .take(20)
        .map(|detail| {
            let error = detail.error.clone().unwrap_or_default();
            let reason = if error.reason == "DeadlineExceeded" { "Timeout" } else { "TargetFailed" };
            JobEvent {
                severity: Severity::Warning,
                reason,
                message: format!("{}: {}: {}", detail.name, error.reason, error.message),
            }
        });
    let mut events: Vec<_> = failures.collect();
    let condition = next.conditions.first();
    let message = condition.map(|c| c.message.clone()).unwrap_or_default();
    match (previous.progress, next.progress) {
        (before, Some(Progress::Succeeded)) if before != Some(Progress::Succeeded) => {
            events.push(JobEvent { severity: Severity::Normal, reason: "Succeeded", message });
        }
        (before, Some(Progress::Failed)) if before != Some(Progress::Failed) => {
            events.push(JobEvent { severity: Severity::Warning, reason: "Failed", message });
        }
        _ => {
            let stalled = |s: &OperationJobStatus| {
                s.conditions.iter().find(|c| c.type_ == "Stalled").map(|c| c.reason.clone())
            };
            if stalled(next).is_some() && stalled(next) != stalled(&previous) {
                events.push(JobEvent { severity: Severity::Warning, reason: "Blocked", message });
            }
        }
    }
    events
}
