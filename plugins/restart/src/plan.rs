//! The decision about one target.

use std::time::Duration;

use operon_sdk::{
    Cluster, Container, ContainerKind, ContainerPhase, Failure, Job, JobState, Patch, PatchKind,
    Pod, ReadError, Target, Value, json, patch,
};

use crate::{
    image,
    mark::{RESTARTS, Restarts, Stage},
};

/// The annotations of a pod that its controller updates in place.
const UPDATES: [&str; 2] = [
    "operon.dev/in-place-update",
    "collaset.kusionstack.io/last-pod-status",
];

/// The generation of a pod with the spec that it was created with.
const AS_CREATED: i64 = 1;

/// How soon another job is looked at again: its changes do not wake the target.
const AGAIN: Duration = Duration::from_secs(5);

/// What to do, and how far the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Restart a container.
    Restart(Box<RestartOne>),
    /// Wait for this, and look again after this time, where no change of the pod ends it.
    Wait(Failure, Option<Duration>),
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
            let failure = Failure::new("RestartedByAnotherJob", message);
            return Ok(Plan::Wait(failure, Some(AGAIN)));
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
                Stage::Stopping => Plan::Wait(stopping(name), None),
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
    if pod.is_static() {
        let why = "its pod is a static pod, which its node runs from a file";
        return cannot(name, why);
    }
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
    let spec = named(&object["spec"]["containers"], name);
    if has_ended_for_good(container, spec, object) {
        return cannot(
            name,
            "it has ended, and the restart policy does not start it again",
        );
    }
    if UPDATES.iter().any(|key| pod.annotation(key).is_some()) {
        let message = format!(
            "waiting until the update in place of pod {:?} has finished",
            pod.name
        );
        return wait("UpdateUnderWay", message);
    }
    let (Some(running), Some(_)) = (&container.image_id, &container.container_id) else {
        let message = format!(
            "container {name:?} has not started yet: {}",
            unready(container)
        );
        return wait("ContainerNotStarted", message);
    };
    let status = named(&object["status"]["containerStatuses"], name);
    let reported = status.and_then(|status| status["image"].as_str());
    // The kubelet reports any tag of an image that has several. The spec of a new pod has not changed, so its image is
    // the one that runs.
    if pod.generation != AS_CREATED
        && let Err(other) = image::check_running(&container.image, running, reported)
    {
        let message = format!(
            "the kubelet does not run the image of the spec yet: container {name:?} has {:?} in the spec and runs {other}",
            container.image
        );
        return wait("ImageNotRunning", message);
    }
    let is_always_pulled = spec.is_none_or(|spec| spec["imagePullPolicy"] == "Always");
    let original = restarts.original(container);
    let image = match image::another(&container.image, original, running, is_always_pulled) {
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

/// The entry of a list that has this name.
fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let mut list = list.as_array().into_iter().flatten();
    list.find(|entry| entry["name"] == name)
}

/// Whether a container has ended, and the kubelet does not start it again, whatever its image is.
fn has_ended_for_good(container: &Container, spec: Option<&Value>, pod: &Value) -> bool {
    let own = spec.and_then(|spec| spec["restartPolicy"].as_str());
    let policy = own.or(pod["spec"]["restartPolicy"].as_str());
    container.phase == ContainerPhase::Terminated
        && match policy {
            Some("Never") => true,
            Some("OnFailure") => container.exit_code == Some(0),
            Some(_) | None => false,
        }
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
    Plan::Wait(Failure::new(reason, message), None)
}

fn fail(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Fail(Failure::new(reason, message))
}
