//! The decision about one target.

use std::{fmt, time::Duration};

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

/// How long a container may run another image than the spec has, beside the pod's grace period. The kubelet may pull the
/// image of the spec before it reports that the previous container has ended, so the limit leaves time for a large image.
pub const ANOTHER_IMAGE_FOR: Duration = Duration::from_mins(30);

/// `extra_info`: since when a container was seen to run another image than the spec has, as [`Since`] writes it.
pub const ANOTHER_IMAGE: &str = "AnotherImage";

/// The grace period of a pod that has none in its spec.
const GRACE_SECONDS: u64 = 30;

/// How soon another job is looked at again: its changes do not wake the target.
const AGAIN: Duration = Duration::from_secs(5);

/// What to do, and how far the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Restart a container.
    Restart(Box<RestartOne>),
    /// Wait for this, and look again after this time, where no change of the pod ends it.
    Wait(Failure, Option<Duration>),
    /// Wait for the image of the spec to run: since then, and this long at most.
    WaitForImage(Failure, Since, Duration),
    /// All containers have restarted.
    Done,
    /// It cannot be done.
    Fail(Failure),
}

/// Since when a container has run another image than the spec has, without a change of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    container: String,
    generation: i64,
    /// In seconds since the Unix epoch.
    time: i64,
}

impl Since {
    /// What the status remembers of this container and this spec, or now.
    fn of(target: &Target, pod: &Pod, container: &str, now: i64) -> Self {
        let since = |time| Self {
            container: container.to_owned(),
            generation: pod.generation,
            time,
        };
        let remembered = target.extra(ANOTHER_IMAGE).and_then(|text| {
            let time = text.split(' ').next()?.parse().ok()?;
            (since(time).to_string() == text).then(|| since(time))
        });
        remembered.unwrap_or_else(|| since(now))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            container,
            generation,
            time,
        } = self;
        write!(formatter, "{time} {generation} {container}")
    }
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
            None => restart(target, pod, container, &object, &restarts, job),
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
    target: &Target,
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
    if let Some(other) = another_image(pod, container, object, running) {
        let since = Since::of(target, pod, name, job.now);
        return wait_for_image(container, &other, object, since, job.now);
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

/// What a container runs instead of the image of the spec.
fn another_image(
    pod: &Pod,
    container: &Container,
    object: &Value,
    running: &str,
) -> Option<String> {
    // The kubelet reports any tag of an image that has several. The spec of a new pod has not changed, so its image is
    // the one that runs.
    if pod.generation == AS_CREATED {
        return None;
    }
    let status = named(&object["status"]["containerStatuses"], &container.name);
    let reported = status.and_then(|status| status["image"].as_str());
    image::check_running(&container.image, running, reported).err()
}

/// The image of the spec runs soon, or the kubelet reports another tag of it, which no change ends.
fn wait_for_image(
    container: &Container,
    other: &str,
    object: &Value,
    since: Since,
    now: i64,
) -> Plan {
    let grace = object["spec"]["terminationGracePeriodSeconds"].as_u64();
    let limit = ANOTHER_IMAGE_FOR + Duration::from_secs(grace.unwrap_or(GRACE_SECONDS));
    let passed = u64::try_from(now.saturating_sub(since.time)).unwrap_or_default();
    let (name, written) = (&container.name, &container.image);
    match limit.checked_sub(Duration::from_secs(passed)) {
        Some(left) if !left.is_zero() => {
            let message = format!(
                "the kubelet does not run the image of the spec yet: container {name:?} has {written:?} in the spec and runs {other}"
            );
            Plan::WaitForImage(Failure::new("ImageNotRunning", message), since, left)
        }
        Some(_) | None => cannot(
            name,
            &format!(
                "for {passed} seconds it has had {written:?} in the spec and run {other}, so a restart may undo a change of the image"
            ),
        ),
    }
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
