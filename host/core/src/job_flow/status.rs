//! The status of a flow: state, conditions, and their messages. Pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use operon_api::{
    conditions::{self, End, Standing},
    job_flow::{FlowState, JobFlowStatus, Phase, StepStatus},
};
use serde_json::{Map, Value, json};

use super::{
    Observed,
    advance::{JOB_PENDING, JOB_SUSPENDED},
    assess::Assessment,
    step_jobs::StepJobs,
    turn::is_skipped_on_purpose,
};
use crate::{
    action::Failure,
    jobs::{
        text,
        time::{first_seen, left},
    },
};

/// How long a JobTemplate may be missing after its flow was created: both may be applied together.
const TEMPLATE_GRACE: Duration = Duration::from_secs(30);

/// The most steps of a flow that reports the status of each Job.
const MAX_LISTED: usize = 100;

/// The most names in a message.
const NAMED: usize = 3;

/// The reason of the conditions of a flow with a step that failed.
pub(super) const STEP_FAILED: &str = "StepFailed";

/// The state of a flow that is not being deleted.
pub(super) fn state(assessment: &Assessment, previous: &JobFlowStatus) -> FlowState {
    if let Some(state) = previous.state.filter(|_| assessment.was_finished) {
        return state;
    }
    let any = |phase: Phase| assessment.steps.iter().any(|step| step.phase == phase);
    if any(Phase::Failed) || any(Phase::Cancelled) {
        FlowState::Failed
    } else if assessment.is_finished {
        FlowState::Succeed
    } else if any(Phase::Running) || any(Phase::Succeeded) {
        FlowState::Running
    } else {
        FlowState::Pending
    }
}

/// How many steps are over as they were to be, of how many.
pub(super) fn progress(steps: &[StepStatus]) -> Option<String> {
    let done = steps
        .iter()
        .filter(|step| step.phase == Phase::Succeeded || is_skipped_on_purpose(step))
        .count();
    (!steps.is_empty()).then(|| format!("{done}/{}", steps.len()))
}

/// The status of the last Job of each step, without what has no bound.
pub(super) fn job_status_list(
    observed: &Observed<'_>,
    jobs: &StepJobs<'_>,
    steps: &[StepStatus],
) -> BTreeMap<String, Map<String, Value>> {
    if observed.flow.spec.flows.len() > MAX_LISTED {
        return BTreeMap::new();
    }
    let namespace = observed.flow.namespace().unwrap_or_default();
    let named: std::collections::HashSet<_> =
        steps.iter().filter_map(|s| s.job_uid.as_ref()).collect();
    jobs.all()
        .filter(|(_, _, job)| {
            job.metadata
                .uid
                .as_ref()
                .is_some_and(|uid| named.contains(uid))
        })
        .map(|(_, _, job)| {
            let key = format!("{}/{namespace}", job.name_any());
            (key, bounded(&json!(job.status)))
        })
        .collect()
}

/// The part of a Job's status that is reported.
fn bounded(status: &Value) -> Map<String, Value> {
    const LONG: usize = 256;
    let mut fields = status.as_object().cloned().unwrap_or_default();
    fields.remove("uncountedTerminatedPods");
    let is_short = |value: &Value| value.as_str().is_none_or(|text| text.len() <= LONG);
    fields.retain(|_, value| is_short(value));
    let conditions = fields.get_mut("conditions").and_then(Value::as_array_mut);
    let conditions = conditions.into_iter().flatten();
    for condition in conditions.filter_map(Value::as_object_mut) {
        condition.retain(|_, value| is_short(value));
    }
    fields
}

/// What kstatus and people read.
#[derive(Debug)]
pub(super) struct Verdict {
    standing: Standing,
    pub(super) reason: String,
    pub(super) message: String,
    /// When to reconcile again, if the status may be worse then.
    pub(super) look_after: Option<Duration>,
}

impl Verdict {
    fn new(standing: Standing, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            standing,
            reason: reason.into(),
            message: message.into(),
            look_after: None,
        }
    }

    /// The conditions of a flow that has finished so, if it has.
    pub(super) fn conditions(&self, observed: &Observed<'_>, end: Option<End>) -> Vec<Condition> {
        let flow = observed.flow;
        let status = flow.status.as_ref();
        let previous = status.map_or(&[][..], |status| &status.conditions);
        let had_finished = status.is_some_and(|status| status.completion_time.is_some());
        let standing = conditions::conditions(
            previous,
            self.standing,
            &self.reason,
            &self.message,
            flow.metadata.generation,
            observed.now,
        );
        conditions::with_end(previous, standing, end, had_finished, observed.now)
    }
}

/// Decides the status of a flow.
pub(super) fn verdict(
    observed: &Observed<'_>,
    assessment: &Assessment,
    state: FlowState,
) -> Verdict {
    match state {
        FlowState::Terminating => {
            Verdict::new(Standing::Reconciling, "Terminating", "it is being deleted")
        }
        FlowState::Succeed => {
            Verdict::new(Standing::Ready, "Succeed", succeeded(observed, assessment))
        }
        FlowState::Failed if assessment.is_finished => {
            let what = failed(assessment).unwrap_or_else(|| "it failed".to_owned());
            let late = late(observed, assessment);
            Verdict::new(
                Standing::Stalled,
                STEP_FAILED,
                text::joined([
                    what,
                    format!(
                        "set the annotation operon.dev/retry to another value to run the failed steps again{late}"
                    ),
                ]),
            )
        }
        FlowState::Failed | FlowState::Running | FlowState::Pending => {
            while_running(observed, assessment, state)
        }
    }
}

fn while_running(observed: &Observed<'_>, assessment: &Assessment, state: FlowState) -> Verdict {
    if let Some(error) = &assessment.error {
        return Verdict::new(Standing::Stalled, "InvalidFlow", error.to_string());
    }
    if let Some((step, why)) = assessment.stalls.first() {
        return stalled(observed, step, why);
    }
    let running = running(assessment);
    if let Some(what) = failed(assessment) {
        let message = if running.is_empty() {
            what
        } else {
            text::joined([what, format!("still running: {running}")])
        };
        return Verdict::new(Standing::Reconciling, STEP_FAILED, message);
    }
    let progress = progress(&assessment.steps).unwrap_or_default();
    let mut message = if running.is_empty() {
        format!("{progress} steps are done")
    } else {
        format!("{progress} steps are done, running: {running}")
    };
    if observed.flow.spec.suspend == Some(true) {
        message = format!(
            "{message}; spec.suspend is true: no further step starts, and running Jobs are suspended"
        );
        return Verdict::new(Standing::Reconciling, "Suspended", message);
    }
    let waits = |step: &&StepStatus| {
        let reason = step.reason.as_deref();
        matches!(reason, Some(JOB_SUSPENDED | JOB_PENDING))
    };
    let mut reason = state.as_str();
    if let Some(step) = assessment.steps.iter().find(waits) {
        let why = step.message.as_deref().unwrap_or_default();
        message = format!("{message}; step {:?}: {why}", step.name);
        if step.reason.as_deref() == Some(JOB_SUSPENDED) {
            reason = JOB_SUSPENDED;
        }
    }
    Verdict::new(Standing::Reconciling, reason, message)
}

fn stalled(observed: &Observed<'_>, step: &str, why: &Failure) -> Verdict {
    let message = super::advance::short(&format!("step {step:?}: {}", why.message));
    let status = observed.flow.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let seen = first_seen(conditions, observed.now);
    let grace = (why.reason == "TemplateNotFound")
        .then(|| left(seen, TEMPLATE_GRACE, observed.now))
        .flatten();
    let standing = if grace.is_some() {
        Standing::Reconciling
    } else {
        Standing::Stalled
    };
    Verdict {
        look_after: grace,
        ..Verdict::new(standing, why.reason.clone(), message)
    }
}

fn succeeded(observed: &Observed<'_>, assessment: &Assessment) -> String {
    let of = |phase: Phase| assessment.steps.iter().filter(|s| s.phase == phase).count();
    let late = late(observed, assessment);
    match (of(Phase::Succeeded), of(Phase::Skipped)) {
        (0, 0) => format!("it succeeded{late}"),
        (1, 0) => format!("1 step succeeded{late}"),
        (done, 0) => format!("{done} steps succeeded{late}"),
        (done, skipped) => format!(
            "{done} of {} steps succeeded, {skipped} skipped{late}",
            assessment.steps.len()
        ),
    }
}

/// The first step that failed, and how; or that was cancelled, if what failed was taken out.
fn failed(assessment: &Assessment) -> Option<String> {
    let first = |phase: Phase| assessment.steps.iter().find(|step| step.phase == phase);
    let cancelled =
        || first(Phase::Cancelled).map(|step| format!("step {:?} was cancelled", step.name));
    first(Phase::Failed).map(how_failed).or_else(cancelled)
}

/// How a step failed, in a sentence.
pub(super) fn how_failed(step: &StepStatus) -> String {
    let reason = step.reason.as_deref().unwrap_or_default();
    let message = step.message.as_deref().unwrap_or_default();
    format!("step {:?} failed: {reason}: {message}", step.name)
}

fn running(assessment: &Assessment) -> String {
    let running = assessment.steps.iter();
    let running: Vec<_> = running
        .filter(|step| step.phase == Phase::Running)
        .map(|step| step.name.as_str())
        .collect();
    listed(&running)
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .take(NAMED)
        .map(|name| format!("{name:?}"))
        .collect();
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        format!("{} and {more} more", quoted.join(", "))
    } else {
        quoted.join(", ")
    }
}

/// Reports that steps that were added to a finished flow do not run.
fn late(observed: &Observed<'_>, assessment: &Assessment) -> String {
    if !assessment.was_finished || assessment.steps.is_empty() {
        return String::new();
    }
    let known: std::collections::HashSet<_> = assessment
        .steps
        .iter()
        .chain(&assessment.orphans)
        .map(|step| step.name.as_str())
        .collect();
    let flows = observed.flow.spec.flows.iter();
    let late: Vec<_> = flows
        .map(|step| step.name.as_str())
        .filter(|name| !known.contains(name))
        .collect();
    if late.is_empty() {
        return String::new();
    }
    format!(
        "; the flow has finished, so edits have no effect: {} will not run",
        listed(&late)
    )
}

/// When the first step started.
pub(super) fn start_time(previous: &JobFlowStatus, steps: &[StepStatus]) -> Option<Time> {
    let first = steps
        .iter()
        .filter_map(|step| step.start_time.clone())
        .min_by_key(|time| time.0);
    previous.start_time.clone().or(first)
}
