//! The decision about one target.

use operon_sdk::{
    Cluster, Container, ContainerKind, ContainerPhase, Failure, Job, JobState, Patch, PatchKind,
    Pod, ReadError, Target, Value, json, patch,
};

use crate::{
    image,
    mark::{RESTARTS, Restarts, Stage},
};

/// What to do, and how far the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Restart a container.
    Restart(Box<RestartOne>),
    /// Wait for this.
    Wait(Failure),
    /// All containers have restarted.
    Done,
    /// It cannot be done.
    Fail(Failure),
}

/// The restart of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartOne {
    /// Changes the image, and marks the pod.
    pub patch: Patch,
    /// The message of the Event.
    pub event: String,
    /// What the target waits for afterwards.
    pub waits: Failure,
}

/// Decides about a target.
pub fn plan(target: &Target, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let Some(pod) = &target.pod else {
        let message = format!("pod {:?} does not exist (any more)", target.name);
        return Ok(fail("PodNotFound", message));
    };
    if pod.deleting || pod.ended() {
        let what = if pod.deleting {
            "is being deleted"
        } else {
            "has ended"
        };
        let message = format!(
            "pod {:?} {what}, so nothing of it can be restarted",
            pod.name
        );
        return Ok(fail("PodTerminating", message));
    }
    let restarts = Restarts::of(pod);
    for (container, other) in restarts.unfinished_by_others(&job.uid, pod) {
        if cluster.find_job(other)? == JobState::Active {
            let message = format!("another OperationJob is restarting container {container:?}");
            return Ok(wait("RestartedByAnotherJob", message));
        }
    }
    let object = cluster.get(&pod.reference())?.unwrap_or_default();
    let mut next = None;
    for name in &target.containers {
        let Some(container) = pod.container(name) else {
            let message = format!("pod {:?} has no container {name:?}", pod.name);
            return Ok(fail("ContainerNotFound", message));
        };
        let step = match restarts.by(&job.uid, name) {
            Some(mark) => match mark.stage(container) {
                Stage::Done => continue,
                Stage::Stopping => Plan::Wait(stopping(name)),
                Stage::Starting => wait("ContainerNotReady", unready(container)),
            },
            None => restart(pod, container, &object, &restarts, job),
        };
        // Every container is looked at before the first is restarted.
        if matches!(step, Plan::Fail(_)) {
            return Ok(step);
        }
        next = next.or(Some(step));
    }
    Ok(next.unwrap_or(Plan::Done))
}

/// The restart of a container, or why it cannot be restarted in place.
fn restart(
    pod: &Pod,
    container: &Container,
    object: &Value,
    restarts: &Restarts,
    job: &Job,
) -> Plan {
    let name = &container.name;
    let kind = match container.kind {
        ContainerKind::Ordinary => None,
        ContainerKind::Sidecar => Some("a sidecar"),
        ContainerKind::Init => Some("an init container"),
        ContainerKind::Ephemeral => Some("an ephemeral container"),
    };
    if let Some(kind) = kind {
        return cannot(
            name,
            &format!("it is {kind}, which the kubelet does not restart when its image changes"),
        );
    }
    let (Some(running), Some(_)) = (&container.image_id, &container.container_id) else {
        let message = format!(
            "container {name:?} has not started yet: {}",
            unready(container)
        );
        return wait("ContainerNotStarted", message);
    };
    let specs = object["spec"]["containers"].as_array();
    let spec = specs.and_then(|specs| specs.iter().find(|spec| spec["name"] == name.as_str()));
    let is_always_pulled = spec.is_none_or(|spec| spec["imagePullPolicy"] == "Always");
    let image = match image::another(&container.image, running, is_always_pulled) {
        Ok(image) => image,
        Err(why) => return cannot(name, &why),
    };
    let marks = restarts.clone().with(&job.uid, container, &image);
    let body = json!({
        "metadata": {"annotations": {RESTARTS: marks}},
        "spec": {"containers": [{"name": name, "image": image}]},
    });
    Plan::Restart(Box::new(RestartOne {
        patch: Patch {
            kind: PatchKind::Strategic,
            uid: Some(pod.uid.clone()),
            resource_version: Some(pod.resource_version.clone()),
            ..patch::merge(pod.reference(), &body)
        },
        event: format!("restarting container {name:?} in place: its image is written as {image}"),
        waits: stopping(name),
    }))
}

fn stopping(container: &str) -> Failure {
    let message =
        format!("waiting for the kubelet to stop container {container:?} and to start it again");
    Failure::new("ContainerStopping", message)
}

fn unready(container: &Container) -> String {
    let state = match container.phase {
        ContainerPhase::Waiting => "waits",
        ContainerPhase::Running => "runs and is not ready",
        ContainerPhase::Terminated => "has ended",
    };
    let details = [&container.reason, &container.message];
    let details: Vec<_> = details.into_iter().flatten().map(String::as_str).collect();
    let more = if details.is_empty() {
        String::new()
    } else {
        format!(": {}", details.join(": "))
    };
    format!("container {:?} {state}{more}", container.name)
}

fn cannot(container: &str, why: &str) -> Plan {
    let message = format!(
        "container {container:?} cannot be restarted in place: {why}. To get a new pod instead, use the action Recreate or Replace"
    );
    fail("CannotRestartInPlace", message)
}

fn wait(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Wait(Failure::new(reason, message))
}

fn fail(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Fail(Failure::new(reason, message))
}
