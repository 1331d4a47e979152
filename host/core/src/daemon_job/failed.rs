//! How nodes failed, from their Jobs and pods, and from the previous status.

use std::collections::HashMap;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{daemon_job::FailedNode, reactive_job::RunFailure};

use super::{
    Observed, blocked, job,
    standing::NodeState,
    survey::{Place, Survey},
};
use crate::jobs::{
    self,
    failure::{cause, failure},
    text::short,
};
use crate::node::is_ready;

/// The most failed nodes that the status lists, and the most bytes of each message.
const MOST: usize = 20;
const MESSAGE: usize = 512;

/// The failed nodes that the status lists: the nodes that it already lists, and then others.
pub(super) fn failed_nodes(observed: &Observed<'_>, survey: &Survey<'_>) -> Vec<FailedNode> {
    let known = survey.memory.status.map(|s| s.failed_nodes.as_slice());
    let known: HashMap<&str, &FailedNode> = known
        .unwrap_or_default()
        .iter()
        .map(|failed| (failed.name.as_str(), failed))
        .collect();
    let is_told = |place: &&Place<'_>| known.contains_key(place.name());
    let failed = survey.places.iter();
    let failed = failed.filter(|place| place.standing == NodeState::Failed);
    let (old, new): (Vec<_>, Vec<_>) = failed.partition(is_told);
    let mut failed: Vec<_> = old
        .into_iter()
        .chain(new)
        .take(MOST)
        .map(|place| {
            let now = failed_node(observed, survey, place);
            match known.get(now.name.as_str()) {
                // The pods with the details may be deleted by now, and the Job too.
                Some(known) if is_same(known, &now) => (*known).clone(),
                _ => now,
            }
        })
        .collect();
    failed.sort_by(|a, b| a.name.cmp(&b.name));
    failed
}

/// Whether the known failure of a node is about the same Job, and has the same details or more.
fn is_same(known: &FailedNode, now: &FailedNode) -> bool {
    let is_of_job = now.job_name.is_none() || known.job_name == now.job_name;
    is_of_job
        && known.attempts == now.attempts
        && (known.exit_code.is_some() || now.exit_code.is_none())
}

/// How a node failed.
pub(super) fn failed_node(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    place: &Place<'_>,
) -> FailedNode {
    let name = place.name().to_owned();
    let attempts = i32::try_from(place.tries.attempts).ok();
    let Some(job) = place
        .job
        .filter(|job| job::attempt(job) >= place.tries.attempts)
    else {
        return FailedNode {
            name,
            reason: "JobDeleted".to_owned(),
            message: "its Job failed and was deleted".to_owned(),
            attempts,
            ..FailedNode::default()
        };
    };
    let failure = run_failure(observed, survey, place, job);
    let mut message = failure.message.clone();
    if let Some(cause) = cause(&failure) {
        message = format!("{message}; {cause}");
    }
    if let Some(log) = &failure.log {
        message = format!("{message}: {log}");
    }
    FailedNode {
        name,
        reason: failure.reason,
        message: short(&message, MESSAGE),
        job_name: Some(failure.job_name),
        attempts,
        exit_code: failure.exit_code,
    }
}

/// How a Job failed: its own condition, that none of its pods ever ran and why, and that its node is not
/// Ready.
pub(super) fn run_failure(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    place: &Place<'_>,
    job: &Job,
) -> RunFailure {
    let mut failure = failure(job, observed.pods_of(job), None);
    if failure.reason.is_empty() {
        let limit = job
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        let limit = limit.map_or_else(String::new, |limit| format!(" of {limit} s"));
        "DeadlineExceeded".clone_into(&mut failure.reason);
        failure.message = format!("the Job did not finish within its deadline{limit}");
    }
    let ran = failure.container.is_some() || failure.pod_reason.is_some();
    if failure.reason == "DeadlineExceeded"
        && !ran
        && let Some(why) = never_ran(observed, survey, job)
    {
        failure.message = format!(
            "{}; none of its pods ever ran: {why}",
            end(&failure.message)
        );
    }
    if !is_ready(place.node) {
        let (said, node) = (end(&failure.message), place.name());
        failure.message = format!("{said}; node {node:?} is not Ready");
    }
    failure
}

/// Why no pod of a Job ever ran, as far as is known: Kubernetes deletes the pods of a Job at its deadline.
fn never_ran(observed: &Observed<'_>, survey: &Survey<'_>, job: &Job) -> Option<String> {
    let name = job.name_any();
    let known = blocked::known(survey).iter();
    let mut known = known.filter(|known| known.job_name == name);
    if let Some(known) = known.next() {
        return Some(format!("{}: {}", known.reason, end(&known.message)));
    }
    let is_over = jobs::finish(job).is_some();
    let blocked = jobs::blocked::blocked(job, observed.pods_of(job)).filter(|_| !is_over)?;
    // Slowness alone is not a reason.
    let is_known = blocked.ask.is_none();
    is_known.then(|| format!("{}: {}", blocked.reason, end(&blocked.message)))
}

/// A sentence without its full stop.
pub(super) fn end(sentence: &str) -> &str {
    sentence.trim_end().trim_end_matches('.')
}
