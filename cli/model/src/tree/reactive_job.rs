//! A ReactiveJob: its last runs with their reasons, and below each its pods.

use operon_api::{
    ReactiveJob, keys,
    reactive_job::{Outcome, Run},
};

use super::{Mark, Row};
use crate::{Related, Wanted, job};

/// The Jobs of the ReactiveJob, and the pods of the newest.
pub(crate) fn wanted(job: &ReactiveJob) -> Wanted {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let newest = job
        .status
        .as_ref()
        .and_then(|status| status.current_job_name.as_deref());
    Wanted {
        jobs: Some(format!("{}={uid}", keys::CONTROLLER_UID)),
        pods: newest.map(|name| format!("batch.kubernetes.io/job-name={name}")),
        pod_names: Vec::new(),
    }
}

pub(super) fn rows(job: &ReactiveJob, related: &Related) -> Vec<Row> {
    let runs = job.status.iter().flat_map(|status| &status.runs);
    runs.map(|run| row(job, run, related)).collect()
}

fn row(reactive_job: &ReactiveJob, run: &Run, related: &Related) -> Row {
    let (mark, state) = match run.outcome {
        None => (Mark::Running, "Running"),
        Some(Outcome::Succeeded) => (Mark::Done, "Succeeded"),
        Some(Outcome::Failed) => (Mark::Failed, "Failed"),
        Some(Outcome::Lost) => (Mark::Failed, "Lost"),
    };
    let found = related
        .jobs
        .iter()
        .find(|job| job::name(job) == run.job_name);
    let found = found.map(|job| job::row(job, related));
    let failure = reactive_job
        .status
        .as_ref()
        .and_then(|status| status.last_failure.as_ref());
    let failure = failure.filter(|failure| failure.job_name == run.job_name);
    let mut text = run.reason.as_str().to_owned();
    if !run.changes.is_empty() {
        text = format!("{text}: {}", run.changes.join("; "));
    }
    if let Some(failure) = failure {
        text = format!(
            "{}; {text}",
            crate::text::reasoned(&failure.reason, &failure.message)
        );
    }
    Row {
        since: run.start_time.as_ref().map(|time| time.0),
        until: run.completion_time.as_ref().map(|time| time.0),
        reason: failure.map_or(String::new(), |failure| failure.reason.clone()),
        text,
        children: found.map_or(Vec::new(), |row| row.children),
        ..Row::new(mark, format!("Job {}", run.job_name), state)
    }
}
