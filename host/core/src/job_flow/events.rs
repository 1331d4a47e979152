//! The Events for the transition from one status of a flow to the next. Pure.

use std::collections::{BTreeMap, HashMap};

use kube::ResourceExt;
use operon_api::{
    JobFlow,
    conditions::{READY, STALLED, find},
    job_flow::{FlowState, JobFlowStatus, Phase, StepStatus},
};

use super::{
    advance::{
        CANCELLING, JOB_DELETED, JOB_PENDING, JOB_SUSPENDED, READING_OUTPUTS, RETRYING, SUSPENDED,
    },
    status::how_failed,
};
use crate::{action::Severity, driver::Event, jobs};

/// The most Events of one reason per reconcile.
const MAX_EVENTS: usize = 20;

/// The Events of a reconcile.
pub(super) fn events(flow: &JobFlow, previous: &JobFlowStatus, next: &JobFlowStatus) -> Vec<Event> {
    let before: HashMap<_, _> = previous
        .steps
        .iter()
        .map(|step| (&step.name, step))
        .collect();
    let nothing = StepStatus::default();
    let steps = next.steps.iter().flat_map(|step| {
        let before = before.get(&step.name).copied().unwrap_or(&nothing);
        of_step(before, step)
    });
    let mut events = bounded(steps);
    events.extend(of_graph(previous, next));
    events.extend(of_flow(flow, previous, next));
    events
}

fn event(severity: Severity, reason: &'static str, message: String) -> Event {
    Event {
        severity,
        reason,
        message,
        related: None,
    }
}

/// The most Events of one reason: more would not be read.
fn bounded(all: impl Iterator<Item = Event>) -> Vec<Event> {
    let mut counts: BTreeMap<&'static str, (Severity, usize)> = BTreeMap::new();
    let mut events = Vec::new();
    for event in all {
        let (_, count) = counts.entry(event.reason).or_insert((event.severity, 0));
        *count += 1;
        if *count <= MAX_EVENTS {
            events.push(event);
        }
    }
    let more = counts
        .into_iter()
        .filter(|(_, (_, count))| *count > MAX_EVENTS);
    events.extend(more.map(|(reason, (severity, count))| {
        let message = format!("… and {} more steps; see status.steps", count - MAX_EVENTS);
        event(severity, reason, message)
    }));
    events
}

fn of_step(before: &StepStatus, step: &StepStatus) -> Vec<Event> {
    let name = &step.name;
    let mut events = Vec::new();
    if let Some(job) = step
        .job_name
        .as_ref()
        .filter(|_| step.job_uid != before.job_uid)
    {
        let message = match step.attempts {
            Some(attempt) if attempt > 1 => {
                format!("created Job {job:?} for step {name:?}, attempt {attempt}")
            }
            Some(_) | None => format!("created Job {job:?} for step {name:?}"),
        };
        events.push(Event {
            related: Some(jobs::reference(job)),
            ..event(Severity::Normal, "Created", message)
        });
    }
    let is_new = step.phase != before.phase || step.reason != before.reason;
    match step.phase {
        Phase::Failed if step.phase != before.phase => {
            events.push(Event {
                related: step.job_name.clone().map(jobs::reference),
                ..event(Severity::Warning, "StepFailed", how_failed(step))
            });
        }
        Phase::Cancelled if step.phase != before.phase => {
            let why = step.message.as_deref().unwrap_or_default();
            let message = format!("step {name:?} was cancelled: {why}");
            events.push(event(Severity::Normal, "StepCancelled", message));
        }
        Phase::Running if step.failures > before.failures => events.push(Event {
            related: step.job_name.clone().map(jobs::reference),
            ..event(Severity::Warning, "JobFailed", hindered(step))
        }),
        Phase::Blocked | Phase::Running if is_new => events.extend(hindrance(step)),
        Phase::Waiting
        | Phase::Blocked
        | Phase::Running
        | Phase::Succeeded
        | Phase::Failed
        | Phase::Skipped
        | Phase::Cancelled => {}
    }
    events
}

/// What prevents a step from continuing.
fn hindrance(step: &StepStatus) -> Option<Event> {
    let reason = step.reason.as_deref()?;
    let told = match reason {
        RETRYING | CANCELLING | SUSPENDED | JOB_PENDING | JOB_SUSPENDED | READING_OUTPUTS => {
            return None;
        }
        JOB_DELETED => "JobDeleted",
        "TemplateNotFound" => "TemplateNotFound",
        _ => "StepBlocked",
    };
    Some(event(Severity::Warning, told, hindered(step)))
}

fn hindered(step: &StepStatus) -> String {
    let reason = step.reason.as_deref().unwrap_or_default();
    let message = step.message.as_deref().unwrap_or_default();
    format!("step {:?}: {reason}: {message}", step.name)
}

fn of_graph(previous: &JobFlowStatus, next: &JobFlowStatus) -> Option<Event> {
    let invalid = |status: &JobFlowStatus| {
        let stalled = find(&status.conditions, STALLED)?;
        (stalled.reason == "InvalidFlow").then(|| stalled.message.clone())
    };
    let message = invalid(next)?;
    (invalid(previous).as_ref() != Some(&message))
        .then(|| event(Severity::Warning, "InvalidFlow", message))
}

fn of_flow(flow: &JobFlow, previous: &JobFlowStatus, next: &JobFlowStatus) -> Option<Event> {
    let state = next.state.filter(|state| previous.state != Some(*state))?;
    let name = flow.name_any();
    let why = find(&next.conditions, READY).map_or("", |ready| ready.message.as_str());
    match state {
        FlowState::Succeed => {
            let message = format!("JobFlow {name:?} succeeded: {why}");
            Some(event(Severity::Normal, "Succeed", message))
        }
        FlowState::Failed => {
            let message = format!("JobFlow {name:?} failed: {why}");
            Some(event(Severity::Warning, "Failed", message))
        }
        FlowState::Pending | FlowState::Running | FlowState::Terminating => None,
    }
}
