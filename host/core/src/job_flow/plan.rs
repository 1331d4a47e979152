//! The plan of a reconcile: the Jobs that are created, deleted and changed. Pure: it reads [`Observed`] and
//! nothing else.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    JobFlow,
    job_flow::{FailurePolicy, JobFlowStatus, StepStatus},
};
use serde_json::Value;

use super::{
    Observed,
    assess::{assess, is_finished},
    make, memory,
    step_jobs::StepJobs,
};
use crate::{
    driver::{Asked, Start},
    jobs::{
        self, held,
        time::{left, seconds},
        ttl_patch,
    },
};

/// The steps of the plan, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The flow is deleted, with its Jobs: it finished `ttlSecondsAfterFinished` ago. Nothing else is done
    /// then.
    pub expire: bool,
    /// These Jobs are deleted, pods first (`propagationPolicy: Foreground`).
    pub delete: Vec<Arc<Job>>,
    /// These Jobs get these merge patches.
    pub adjust: Vec<(Arc<Job>, Value)>,
    /// The Jobs to create.
    pub start: Vec<Start>,
    /// When time alone changes the plan.
    pub requeue_after: Option<Duration>,
}

/// The Jobs that are due while `next` is being written: those that are due by the previous status and by
/// `next`, which may have decided the result of a step, or may never be stored.
pub(super) fn meanwhile(observed: &Observed<'_>, next: &JobFlowStatus) -> Vec<Start> {
    let before = plan(observed);
    let is_same_spec = next.observed_generation == observed.flow.metadata.generation;
    if !is_same_spec || !before.delete.is_empty() || before.start.is_empty() {
        return Vec::new();
    }
    let flow = JobFlow {
        status: Some(next.clone()),
        ..observed.flow.clone()
    };
    let after = plan(&Observed {
        flow: &flow,
        ..*observed
    });
    let is_due = |start: &Start| after.start.contains(start);
    before.start.into_iter().filter(is_due).collect()
}

/// Decides what this reconcile does.
pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let flow = observed.flow;
    if flow.metadata.deletion_timestamp.is_some() || is_foreign(flow) {
        return Plan::default();
    }
    let none = JobFlowStatus::default();
    let status = flow.status.as_ref().unwrap_or(&none);
    let assessment = assess(observed, None, &Asked::default());
    let expiry = expiry(flow, status, observed);
    if assessment.was_finished && expiry == Some(Duration::ZERO) {
        return Plan {
            expire: true,
            ..Plan::default()
        };
    }
    let expiry = expiry.filter(|_| assessment.was_finished);
    Plan {
        expire: false,
        delete: cancelled(observed, status),
        adjust: adjust(observed, status),
        start: assessment.start,
        requeue_after: assessment.look_after.into_iter().chain(expiry).min(),
    }
}

/// Whether another controller runs a flow: then nothing of it is written.
pub(super) fn is_foreign(flow: &JobFlow) -> bool {
    held::is_foreign(flow.spec.managed_by.as_deref())
}

/// The merge patches of Jobs, one for each at most.
fn adjust(observed: &Observed<'_>, status: &JobFlowStatus) -> Vec<(Arc<Job>, Value)> {
    let mut adjust = adjustments(observed, status);
    adjust.extend(suspensions(observed));
    adjust
}

/// The unfinished Jobs that are suspended, or resumed, because the flow or the step's template now requires
/// it.
fn suspensions(observed: &Observed<'_>) -> Vec<(Arc<Job>, Value)> {
    let flow = observed.flow;
    let steps = flow.spec.flows.iter();
    let steps: HashMap<_, _> = steps.map(|step| (step.name.as_str(), step)).collect();
    let is_suspended = |step: &str| {
        let step = steps.get(step);
        let template = step.and_then(|step| make::template(observed, step).ok());
        let suspend = template.and_then(|template| template.at(&["suspend"]));
        flow.spec.suspend == Some(true) || suspend == Some(&Value::Bool(true))
    };
    let jobs = StepJobs::of(observed, None);
    let mut patches: Vec<_> = jobs
        .all()
        .filter_map(|(step, _, job)| {
            let patch = held::suspend_patch(job, is_suspended(step))?;
            Some((Arc::clone(job), patch))
        })
        .collect();
    patches.sort_by_key(|(job, _)| job.name_any());
    patches
}

/// The time until a finished flow is deleted; zero when the deletion is due.
pub(super) fn expiry(
    flow: &JobFlow,
    status: &JobFlowStatus,
    observed: &Observed<'_>,
) -> Option<Duration> {
    let ttl = flow.spec.ttl_seconds_after_finished?;
    let ended = status.completion_time.as_ref()?;
    let is_over = is_finished(status);
    is_over.then(|| left(ended.0, seconds(ttl), observed.now).unwrap_or_default())
}

/// Whether a reconcile of this status would immediately write something that does not start a step.
pub(super) fn has_follow_up(observed: &Observed<'_>, status: &JobFlowStatus) -> bool {
    !cancelled(observed, status).is_empty() || !adjustments(observed, status).is_empty()
}

/// The Jobs that are deleted because a step failed; `onExit` runs nevertheless, and so does what reacts
/// to the failure.
fn cancelled(observed: &Observed<'_>, status: &JobFlowStatus) -> Vec<Arc<Job>> {
    let flow = observed.flow;
    if flow.spec.failure_policy != Some(FailurePolicy::Cancel) {
        return Vec::new();
    }
    let memory = memory::recall(flow, status, observed.graph.as_ref().ok());
    if memory.cancelled_for(flow).is_none() {
        return Vec::new();
    }
    let with_when = flow.spec.flows.iter().filter(|step| step.when.is_some());
    let with_when: HashSet<_> = with_when.map(|step| step.name.as_str()).collect();
    let jobs = StepJobs::of(observed, None);
    let mut running: Vec<_> = jobs
        .all()
        .filter(|(step, _, _)| !memory.is_spared(flow, step, with_when.contains(step)))
        .map(|(_, _, job)| Arc::clone(job))
        .filter(|job| jobs::finish(job).is_none() && !jobs::is_deleted(job))
        .collect();
    running.sort_by_key(|job| job.name_any());
    running
}

/// The `ttlSecondsAfterFinished` of Jobs with a recorded result: until then the Jobs must not be deleted.
fn adjustments(observed: &Observed<'_>, status: &JobFlowStatus) -> Vec<(Arc<Job>, Value)> {
    let recorded: HashSet<_> = status.steps.iter().filter_map(recorded).collect();
    let later = |step: &str, attempt: i32| {
        let known = status.steps.iter().find(|known| known.name == step);
        known.is_some_and(|known| known.attempts.unwrap_or(0) > attempt)
    };
    let jobs = StepJobs::of(observed, None);
    let mut adjust: Vec<_> = jobs
        .all()
        .filter_map(|(step, attempt, job)| {
            let patch = ttl_patch(job)?;
            let uid = job.metadata.uid.as_deref()?;
            let is_known = recorded.contains(uid) || later(step, attempt);
            is_known.then(|| (Arc::clone(job), patch))
        })
        .collect();
    adjust.sort_by_key(|(job, _)| job.name_any());
    adjust
}

/// The uid of the Job whose result a step's status holds.
fn recorded(step: &StepStatus) -> Option<&str> {
    step.job_uid.as_deref().filter(|_| step.phase.is_over())
}
