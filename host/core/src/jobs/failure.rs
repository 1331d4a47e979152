//! How a run failed: the pod that failed last, its own reason if it has one, and the container that made
//! it fail.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::reactive_job::RunFailure;

use super::{self as job, text};
use crate::driver::LogSource;

/// How much of a log is kept, in bytes.
pub const LOG_BYTES: usize = 2048;

/// The pod's own reason for its end, whatever the exit codes of its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnReason {
    reason: String,
    message: String,
}

/// A container that failed.
struct Culprit<'a> {
    container: &'a ContainerStatus,
    end: &'a ContainerStateTerminated,
    previous: bool,
}

/// A pod that failed, or was taken away.
struct Failed<'a> {
    pod: &'a Pod,
    own: Option<OwnReason>,
    culprit: Option<Culprit<'a>>,
}

/// Why a container has neither a log nor a termination message of its own: the node has no record of it any
/// more.
const UNKNOWN: &str = "ContainerStatusUnknown";

/// How kubelets begin what they answer instead of a log that they do not have.
const NO_LOG: &str = "unable to retrieve container logs for ";

/// Where the log is of the container that failed last.
pub(crate) fn log_source(pods: &[Arc<Pod>]) -> Option<LogSource> {
    let Failed {
        pod,
        own: _,
        culprit,
    } = last(pods)?;
    let culprit = culprit.filter(|culprit| culprit.end.reason.as_deref() != Some(UNKNOWN))?;
    Some(LogSource {
        pod: pod.name_any(),
        container: culprit.container.name.clone(),
        previous: culprit.previous,
    })
}

/// How a Job failed, from the Job and its pods. Without a log, the container's termination message is used
/// instead.
pub(crate) fn failure(job: &Job, pods: &[Arc<Pod>], log: Option<&str>) -> RunFailure {
    let finish = job::finish(job).or_else(|| job::failure_target(job));
    let mut failure = RunFailure {
        job_name: job.name_any(),
        ..RunFailure::default()
    };
    if let Some(finish) = finish {
        failure.reason = finish.reason;
        failure.message = finish.message;
        failure.time = finish.time;
    }
    let status = job.status.as_ref();
    let indexes = status.and_then(|status| status.failed_indexes.as_deref());
    if let Some(indexes) = indexes.filter(|indexes| !indexes.is_empty()) {
        failure.message = format!("{}; failed indexes: {indexes}", failure.message);
    }
    let Some(Failed { pod, own, culprit }) = last(pods) else {
        return failure;
    };
    failure.pod_name = Some(pod.name_any());
    if let Some(OwnReason { reason, message }) = own {
        failure.pod_reason = Some(reason);
        failure.pod_message = Some(message).filter(|message| !message.is_empty());
    }
    if let Some(Culprit {
        container,
        end,
        previous: _,
    }) = culprit
    {
        failure.container = Some(container.name.clone());
        failure.exit_code = Some(end.exit_code);
        failure.container_reason.clone_from(&end.reason);
        let log = log.filter(|log| !log.starts_with(NO_LOG));
        let is_known = end.reason.as_deref() != Some(UNKNOWN);
        let left = end.message.as_deref().filter(|_| is_known);
        let said = [log, left].into_iter().flatten();
        let mut said = said.filter(|text| !text.trim().is_empty());
        failure.log = said.next().map(last_lines);
    }
    failure
}

/// How a Job failed, in a sentence: the Job's condition, and its cause.
pub(crate) fn sentence(failure: &RunFailure) -> String {
    let job = &failure.job_name;
    let said = [failure.reason.as_str(), failure.message.as_str()];
    let said = said.into_iter().filter(|said| !said.is_empty());
    let said = said.collect::<Vec<_>>().join(": ");
    let cause = cause(failure);
    let why = text::joined([Some(said), cause].into_iter().flatten());
    if why.is_empty() {
        return format!("Job {job:?} failed");
    }
    format!("Job {job:?} failed: {why}")
}

/// What pod and container say of a failure, in a sentence: the pod's own reason first, because then the
/// containers were only ended with it.
pub(crate) fn cause(failure: &RunFailure) -> Option<String> {
    let pod = failure.pod_name.as_ref()?;
    let code = failure.exit_code.unwrap_or_default();
    if let Some(reason) = &failure.pod_reason {
        let message = failure.pod_message.as_ref();
        let message = message.map_or_else(String::new, |message| format!(": {message}"));
        return Some(format!("pod {pod:?}: {reason}{message}"));
    }
    let container = failure.container.as_ref()?;
    let known = failure.container_reason.as_ref();
    let known = known.filter(|reason| *reason != "Error");
    let known = known.map_or_else(String::new, |reason| format!(" ({reason})"));
    Some(format!(
        "container {container:?} of pod {pod:?} exited with {code}{known}"
    ))
}

/// The pod that failed last.
fn last(pods: &[Arc<Pod>]) -> Option<Failed<'_>> {
    let failed = pods.iter().filter_map(|pod| {
        let (own, culprit) = (own_reason(pod), culprit(pod));
        let has_failed = own.is_some() || culprit.is_some();
        has_failed.then_some(Failed { pod, own, culprit })
    });
    failed.max_by_key(|failed| {
        let end = failed
            .culprit
            .as_ref()
            .and_then(|c| c.end.finished_at.as_ref());
        let end = end.map(|time| time.0);
        end.max(failed.own.as_ref().and_then(|_| changed(failed.pod)))
    })
}

/// When a condition of a pod changed last.
fn changed(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let times = conditions
        .flatten()
        .filter_map(|c| c.last_transition_time.as_ref());
    times.map(|time| time.0).max()
}

/// The pod's reason for its end: it was evicted, its own deadline passed, or it was disrupted.
fn own_reason(pod: &Pod) -> Option<OwnReason> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Succeeded") {
        return None;
    }
    if let Some(reason) = status.reason.as_ref().filter(|reason| !reason.is_empty()) {
        return Some(OwnReason {
            reason: reason.clone(),
            message: status.message.clone().unwrap_or_default(),
        });
    }
    let conditions = status.conditions.iter().flatten();
    let mut disrupted = conditions.filter(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    disrupted.next().map(|condition| OwnReason {
        reason: condition
            .reason
            .clone()
            .unwrap_or_else(|| "DisruptionTarget".to_owned()),
        message: condition.message.clone().unwrap_or_default(),
    })
}

/// The container of a pod that failed last. A native sidecar does not count: it is killed when the others
/// have ended, so its exit code means nothing.
fn culprit(pod: &Pod) -> Option<Culprit<'_>> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    let is_sidecar = |name: &str| {
        let mut init = init.into_iter().flatten();
        init.any(|container| {
            container.name == name && container.restart_policy.as_deref() == Some("Always")
        })
    };
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let init = init.filter(|container| !is_sidecar(&container.name));
    let containers = init.chain(status.container_statuses.iter().flatten());
    let culprits = containers.filter_map(|container| {
        let now = container.state.as_ref().and_then(|s| s.terminated.as_ref());
        let before = container.last_state.as_ref();
        let before = before.and_then(|s| s.terminated.as_ref());
        let failed = |end: &&ContainerStateTerminated| end.exit_code != 0;
        let (end, previous) = match (now.filter(failed), before.filter(failed)) {
            (Some(end), _) => (end, false),
            (None, Some(end)) => (end, true),
            (None, None) => return None,
        };
        Some(Culprit {
            container,
            end,
            previous,
        })
    });
    culprits.max_by_key(|culprit| culprit.end.finished_at.as_ref().map(|time| time.0))
}

/// The end of a log, whole lines of at most [`LOG_BYTES`]; of a longer line its end.
fn last_lines(log: &str) -> String {
    let log = log.trim_end();
    let start = log.len().saturating_sub(LOG_BYTES);
    let start = (start..log.len())
        .find(|place| log.is_char_boundary(*place))
        .unwrap_or(log.len());
    let (before, end) = log.split_at(start);
    if before.is_empty() || before.ends_with('\n') {
        return end.to_owned();
    }
    end.split_once('\n')
        .map_or(end, |(_, lines)| lines)
        .to_owned()
}

#[cfg(test)]
mod tests;
