//! The Events for the transition from one status to the next. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    conditions::{READY, STALLED, find},
    daemon_job::{DaemonJobStatus, FailedNode, FlowState},
    reactive_job::RunFailure,
};

use super::{
    job,
    standing::NodeState,
    status::nodes,
    survey::{Place, Survey},
};
use crate::{
    action::Severity,
    driver::Event,
    jobs::{self, failure::sentence},
};

/// The most Jobs or nodes that get an Event each.
const EACH: usize = 20;

/// The Events of a reconcile; `describe` returns how a node failed, and `describe_run` how a Job failed.
pub(super) fn events(
    previous: &DaemonJobStatus,
    next: &DaemonJobStatus,
    survey: &Survey<'_>,
    describe: impl Fn(&Place<'_>) -> FailedNode,
    describe_run: impl Fn(&Place<'_>, &Job) -> RunFailure,
) -> Vec<Event> {
    wave(next, survey)
        .into_iter()
        .chain(made(survey))
        .chain(failed(survey, describe))
        .chain(retried(survey, describe_run))
        .chain(transition(previous, next))
        .collect()
}

/// A wave starts.
fn wave(next: &DaemonJobStatus, survey: &Survey<'_>) -> Option<Event> {
    let before = survey.memory.status.and_then(|status| status.wave.as_ref());
    let wave = next.wave.as_ref()?;
    if before.is_some_and(|before| before.name == wave.name) {
        return None;
    }
    let of_wave = |place: &&Place<'_>| place.wave.as_str() == wave.name;
    let places: Vec<_> = survey.places.iter().filter(of_wave).collect();
    let message = format!("wave {:?} starts: {}", wave.name, nodes(places.len()));
    let job = places.iter().find_map(|place| place.job);
    let job = job.map(|job| job.name_any());
    Some(about(normal("WaveStarted", message), job))
}

/// Reports created Jobs that the status does not list.
fn made(survey: &Survey<'_>) -> Vec<Event> {
    let ledger = &survey.memory.ledger;
    let new: Vec<_> = survey
        .places
        .iter()
        .filter_map(|place| Some((place, place.job?)))
        .filter(|(place, job)| {
            job::attempt(job) > ledger.attempts(&place.digest)
                && !ledger.completed.contains(&place.digest)
        })
        .collect();
    if new.len() > EACH {
        let message = format!("created Jobs on {}", nodes(new.len()));
        return vec![normal("Created", message)];
    }
    let one = |(place, job): (&Place<'_>, &Arc<Job>)| {
        let (job, node) = (job.name_any(), place.node.name_any());
        let event = normal("Created", format!("created Job {job:?} on node {node:?}"));
        about(event, Some(job))
    };
    new.into_iter().map(one).collect()
}

/// Nodes failed that the status does not know of.
fn failed(survey: &Survey<'_>, describe: impl Fn(&Place<'_>) -> FailedNode) -> Vec<Event> {
    let is_new = |place: &&Place<'_>| {
        place.standing == NodeState::Failed
            && !survey.memory.ledger.failed.contains_key(&place.digest)
    };
    let new: Vec<_> = survey.places.iter().filter(is_new).collect();
    if new.len() > EACH {
        return vec![warning(
            "NodeFailed",
            format!("{} failed", nodes(new.len())),
        )];
    }
    let one = |place: &Place<'_>| {
        let FailedNode {
            name,
            reason,
            message,
            job_name,
            attempts: _,
            exit_code: _,
        } = describe(place);
        let job = job_name.as_ref();
        let job = job.map(|job| format!("Job {job:?} ")).unwrap_or_default();
        let message = format!("{job}failed on node {name:?}: {reason}: {message}");
        about(warning("NodeFailed", message), job_name)
    };
    new.into_iter().map(one).collect()
}

/// Jobs failed that are run again, and the status does not know of it.
fn retried(survey: &Survey<'_>, describe: impl Fn(&Place<'_>, &Job) -> RunFailure) -> Vec<Event> {
    let ledger = &survey.memory.ledger;
    let retried = survey.places.iter().filter_map(|place| {
        let known = ledger.tries(&place.digest);
        let is_known = known.attempts == place.tries.attempts && known.failed_at().is_some();
        // A Job that a user runs again was reported when it failed.
        let is_new = !is_known && place.tries.failures > 0;
        let job = place.job.filter(|_| is_new)?;
        matches!(place.standing, NodeState::Again(_)).then_some((place, job))
    });
    let retried: Vec<_> = retried.collect();
    if retried.len() > EACH {
        let message = format!(
            "the Jobs on {} failed and are retried",
            nodes(retried.len())
        );
        return vec![warning("JobFailed", message)];
    }
    let one = |(place, job): (&Place<'_>, &Arc<Job>)| {
        let sentence = sentence(&describe(place, job));
        let message = format!("{sentence}; node {:?} is retried", place.name());
        about(warning("JobFailed", message), Some(job.name_any()))
    };
    retried.into_iter().map(one).collect()
}

/// Reports that the DaemonJob has finished, or is stalled.
pub(super) fn transition(previous: &DaemonJobStatus, next: &DaemonJobStatus) -> Vec<Event> {
    let message = || {
        find(&next.conditions, READY)
            .map(|c| c.message.clone())
            .unwrap_or_default()
    };
    let mut events = Vec::new();
    if previous.state != next.state {
        match next.state {
            Some(FlowState::Succeed) => events.push(normal("Succeed", message())),
            Some(FlowState::Failed) => events.push(warning("Failed", message())),
            Some(FlowState::Pending | FlowState::Running | FlowState::Terminating) | None => {}
        }
    }
    let before = find(&previous.conditions, STALLED).map(|stalled| stalled.reason.as_str());
    let stalled = find(&next.conditions, STALLED);
    let is_end = next.state == Some(FlowState::Failed);
    let stalled = stalled.filter(|now| !is_end && Some(&*now.reason) != before);
    events
        .extend(stalled.map(|now| warning("Stalled", format!("{}: {}", now.reason, now.message))));
    events
}

fn normal(reason: &'static str, message: String) -> Event {
    Event {
        severity: Severity::Normal,
        reason,
        message,
        related: None,
    }
}

fn warning(reason: &'static str, message: String) -> Event {
    Event {
        severity: Severity::Warning,
        reason,
        message,
        related: None,
    }
}

fn about(event: Event, job: Option<String>) -> Event {
    Event {
        related: job.map(jobs::reference),
        ..event
    }
}
