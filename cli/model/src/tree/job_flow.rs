//! A JobFlow: its steps, below each its Jobs, one for each attempt, and below each Job its pods.

use operon_api::{
    JobFlow,
    job_flow::{Phase, StepStatus},
    keys,
};

use super::{Mark, Row};
use crate::{Related, Wanted, job};

/// The Jobs of the flow, and the pods of the Jobs of steps that run or failed.
pub(crate) fn wanted(flow: &JobFlow) -> Wanted {
    let uid = flow.metadata.uid.as_deref().unwrap_or_default();
    let steps = flow.status.iter().flat_map(|status| &status.steps);
    let shown = steps.filter(|step| matches!(step.phase, Phase::Running | Phase::Failed));
    let jobs = shown
        .filter_map(|step| step.job_name.as_deref())
        .take(super::MOST);
    let jobs: Vec<_> = jobs.collect();
    let names = jobs.join(",");
    Wanted {
        jobs: Some(format!("{}={uid}", keys::OWNER_UID)),
        pods: (!jobs.is_empty()).then(|| format!("batch.kubernetes.io/job-name in ({names})")),
        pod_names: Vec::new(),
    }
}

pub(super) fn rows(flow: &JobFlow, related: &Related) -> Vec<Row> {
    let steps = flow.status.as_ref().map_or(&[][..], |status| &status.steps);
    if steps.is_empty() {
        let waiting = |name: &str| Row::new(Mark::Waiting, name, "Waiting");
        return flow
            .spec
            .flows
            .iter()
            .map(|step| waiting(&step.name))
            .collect();
    }
    steps.iter().map(|step| row(step, related)).collect()
}

fn row(step: &StepStatus, related: &Related) -> Row {
    let reason = step.reason.as_deref().unwrap_or_default();
    let mark = match step.phase {
        Phase::Failed => Mark::Failed,
        Phase::Running if reason.is_empty() => Mark::Running,
        Phase::Blocked | Phase::Running => Mark::Blocked,
        Phase::Waiting => Mark::Waiting,
        Phase::Skipped | Phase::Cancelled => Mark::Skipped,
        Phase::Succeeded => Mark::Done,
    };
    let is_shown = matches!(step.phase, Phase::Failed | Phase::Running);
    let is_of_step = |job: &&k8s_openapi::api::batch::v1::Job| {
        is_shown && job::label(job, keys::STEP) == Some(&step.name)
    };
    let mut jobs: Vec<_> = related.jobs.iter().filter(is_of_step).collect();
    jobs.sort_by_key(|job| job::attempt(job));
    Row {
        since: step.start_time.as_ref().map(|time| time.0),
        until: step.completion_time.as_ref().map(|time| time.0),
        children: jobs.into_iter().map(|job| job::row(job, related)).collect(),
        ..Row::new(mark, step.name.clone(), step.phase.as_str())
    }
    .because(reason, step.message.as_deref().unwrap_or_default())
}
