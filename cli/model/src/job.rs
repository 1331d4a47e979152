//! A Job as a row, with its pods below it.

use k8s_openapi::api::batch::v1::Job;
use operon_api::keys;

use crate::{
    pod,
    related::Related,
    tree::{Mark, Row},
};

/// The reason of a Job that Kueue holds.
pub(crate) const QUEUED: &str = "Queued";

/// A Job's row. Pods of a Job that succeeded are left out.
pub(crate) fn row(job: &Job, related: &Related) -> Row {
    let row = standing(job);
    let end = job
        .status
        .as_ref()
        .and_then(|status| status.completion_time.as_ref());
    let pods = related.pods_of_job(name(job)).map(pod::row);
    let text = match attempt(job) {
        attempt if attempt > 1 && row.text.is_empty() => format!("attempt {attempt}"),
        attempt if attempt > 1 => format!("attempt {attempt}; {}", row.text),
        _ => row.text,
    };
    Row {
        since: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        until: row.until.or(end.map(|time| time.0)),
        text,
        children: if row.mark == Mark::Done {
            Vec::new()
        } else {
            pods.collect()
        },
        ..row
    }
}

/// The Job's name.
pub(crate) fn name(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

/// Which attempt of its step, node or run it is.
pub(crate) fn attempt(job: &Job) -> u32 {
    let attempt = annotation(job, keys::RUN_ATTEMPT).and_then(|text| text.parse().ok());
    attempt.unwrap_or(1)
}

/// An annotation of the Job.
pub(crate) fn annotation<'a>(job: &'a Job, key: &str) -> Option<&'a str> {
    let annotations = job.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// A label of the Job.
pub(crate) fn label<'a>(job: &'a Job, key: &str) -> Option<&'a str> {
    job.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// The row, but for its attempt, its pods and when it began.
fn standing(job: &Job) -> Row {
    let row = |mark: Mark, state: &str| Row::new(mark, format!("Job {}", name(job)), state);
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let is_true = |type_: &str| {
        let mut found = conditions.clone();
        found.find(|one| one.type_ == type_ && one.status == "True")
    };
    if is_true("Complete").is_some() {
        return row(Mark::Done, "Succeeded");
    }
    if let Some(failed) = is_true("Failed").or(is_true("FailureTarget")) {
        let reason = failed.reason.as_deref().unwrap_or_default();
        let message = failed.message.as_deref().unwrap_or_default();
        let end = failed.last_transition_time.as_ref();
        return Row {
            until: end.map(|time| time.0),
            ..row(Mark::Failed, "Failed").because(reason, message)
        };
    }
    if job.metadata.deletion_timestamp.is_some() {
        return row(Mark::Blocked, "Terminating");
    }
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        let row = row(Mark::Blocked, "Suspended");
        return match label(job, keys::QUEUE_NAME) {
            Some(queue) => row.saying(QUEUED, format!("waits for Kueue's queue {queue}")),
            None => row.saying("JobSuspended", ""),
        };
    }
    row(Mark::Running, "Running")
}
