//! What a Job waits for: quota, a node, an image, a ConfigMap. Read from its pods. A held Job is never
//! late.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ContainerStatus, Pod, PodStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{
    self as job,
    held::holder,
    time::{NAMED_AFTER, left},
};

/// Why a container that waits does not start by itself.
const TROUBLES: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// The reasons whose message is the same at each attempt: another message means another cause.
const STEADY: [&str; 3] = [
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
];

/// What is said of a Job without any pod.
pub(super) const NO_PODS: &str = "no pod of the Job has been created";

/// A Job that can't progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// One CamelCase word.
    pub reason: String,
    /// What it waits for.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// The uid of the object whose Events explain more, if the pods alone do not suffice.
    pub ask: Option<String>,
}

/// How long a Job has waited, by the deadline of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The wait may have just begun: nothing is reported during this time.
    Short(Duration),
    /// The message names what the Job waits for; during this time it is not a failure.
    Named(Duration),
    /// Longer than its object allows.
    Over,
}

impl Wait {
    /// When the next report is due, if nothing else happens.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Self::Short(left) | Self::Named(left) => Some(left),
            Self::Over => None,
        }
    }
}

impl Blocked {
    /// How long it has waited, of the time that it may.
    pub(crate) fn wait(&self, deadline: Duration, now: Timestamp) -> Wait {
        match (
            left(self.since, deadline, now),
            left(self.since, NAMED_AFTER, now),
        ) {
            (None, _) => Wait::Over,
            (Some(left), None) => Wait::Named(left),
            (Some(left), Some(short)) => Wait::Short(left.min(short)),
        }
    }

    /// Whether this is the same as the previous report with this reason, even if the message differs: each
    /// new attempt may word it differently, and the first message stays.
    pub(crate) fn is_still(&self, reason: &str) -> bool {
        self.reason == reason && !STEADY.contains(&reason)
    }
}

/// How far the first pod of a blocked Job has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The container has not been created.
    Making,
    /// It has no node.
    Placing,
    /// Its containers do not start.
    Starting,
}

/// How far a Job has got that is blocked for this reason.
pub(crate) fn stage(reason: &str) -> Stage {
    match reason {
        "NoPods" | "FailedCreate" => Stage::Making,
        "ContainerCreating" => Stage::Starting,
        _ if TROUBLES.contains(&reason) => Stage::Starting,
        _ => Stage::Placing,
    }
}

/// What a Job waits for, if none of its pods progresses.
pub(crate) fn blocked(job: &Job, pods: &[Arc<Pod>]) -> Option<Blocked> {
    if job::finish(job).is_some() || job::is_deleted(job) || holder(job, pods).is_some() {
        return None;
    }
    let mut live: Vec<_> = pods.iter().filter(|pod| is_live(pod)).collect();
    if live.is_empty() {
        return without_pods(job, pods);
    }
    // Of several pods always the same one is reported, however its message changes.
    live.sort_by_key(|pod| pod.name_any());
    let waits: Option<Vec<_>> = live.iter().map(|pod| waits_for(pod)).collect();
    waits?.into_iter().min_by_key(|blocked| blocked.since)
}

/// Whether a pod may still get somewhere.
pub(crate) fn is_live(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// A Job without any pod may not be allowed to create one.
fn without_pods(job: &Job, pods: &[Arc<Pod>]) -> Option<Blocked> {
    let status = job.status.as_ref();
    let active = status.and_then(|status| status.active).unwrap_or(0);
    if active > 0 || !pods.is_empty() || is_resuming(job) {
        return None;
    }
    let started = status.and_then(|status| status.start_time.as_ref());
    let since = started
        .or(resumed(job))
        .or(job.metadata.creation_timestamp.as_ref())?
        .0;
    Some(Blocked {
        reason: "NoPods".to_owned(),
        message: NO_PODS.to_owned(),
        since,
        ask: job.metadata.uid.clone(),
    })
}

/// Whether the Job controller has not noticed yet that a Job was resumed.
fn is_resuming(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.flatten();
    conditions.any(|condition| condition.type_ == "Suspended" && condition.status == "True")
}

/// When a Job was resumed, if it was suspended: from then on pods are expected of it.
fn resumed(job: &Job) -> Option<&Time> {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    let mut suspended = conditions
        .flatten()
        .filter(|condition| condition.type_ == "Suspended" && condition.status == "False");
    suspended.next()?.last_transition_time.as_ref()
}

/// What one pod waits for; nothing, if it runs.
pub(crate) fn waits_for(pod: &Pod) -> Option<Blocked> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled");
    let since = scheduled
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map_or(created, |time| time.0);
    if let Some(condition) = scheduled.filter(|condition| condition.status == "False") {
        let message = condition.message.clone().unwrap_or_default();
        let reason = condition.reason.as_deref().filter(|r| !r.is_empty());
        return Some(Blocked {
            reason: reason.unwrap_or("Unschedulable").to_owned(),
            message: format!("pod {name:?} is not scheduled: {message}"),
            since,
            ask: None,
        });
    }
    let trouble = containers(status).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        TROUBLES.contains(&reason).then(|| {
            let said = waiting.message.as_deref().unwrap_or(reason);
            let message = format!("container {:?} of pod {name:?}: {said}", container.name);
            // An image that is tried again and again alternates between the two.
            let reason = reason.replace("ErrImagePull", "ImagePullBackOff");
            (reason, message)
        })
    });
    if let Some((reason, message)) = trouble {
        return Some(Blocked {
            reason,
            message,
            since,
            ask: None,
        });
    }
    let is_running = containers(status).any(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    (!is_running && status.phase.as_deref() == Some("Pending")).then(|| Blocked {
        reason: "ContainerCreating".to_owned(),
        message: format!("pod {name:?} does not start"),
        since,
        ask: pod.metadata.uid.clone(),
    })
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}
