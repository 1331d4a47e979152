//! The decision about one target.

use operon_sdk::{
    ActionError, Cluster, Container, ContainerKind, ContainerPhase, Failure, Job, Patch, PatchKind,
    Pod, ReadError, Target, Value, json, patch,
};

use crate::{
    CONTAINER,
    parameters::{JOB, Parameters},
};

/// What the kubelet says of an image that it cannot pull now.
const NOT_PULLED: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// What the kubelet says of an image that it can never pull.
const NO_IMAGE: &str = "InvalidImageName";

/// What to do, and how far the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Add the container.
    Add(Box<Add>),
    /// Wait for this.
    Wait(Failure),
    /// The container has ended.
    Ended(Ended),
    /// It cannot be done.
    Fail(Failure),
}

/// The addition of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// The container's name.
    pub name: String,
    /// Adds it.
    pub patch: Patch,
    /// The message of the Event.
    pub event: String,
    /// What the target waits for afterwards.
    pub waits: Failure,
}

/// How the container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The container's name.
    pub container: String,
    /// Its exit code.
    pub exit_code: i32,
    /// What the kubelet says of its end: `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// Its termination message, or the end of its log if it failed without one; empty if there is neither.
    pub message: String,
}

/// Decides about a target.
pub fn plan(target: &Target, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ActionError> {
    let parameters: Parameters = job.parameters()?;
    let Some(pod) = &target.pod else {
        let message = format!("pod {:?} does not exist (any more)", target.name);
        return Ok(fail("PodNotFound", message));
    };
    let name = parameters.name(&job.uid);
    let is_added = target.extra(CONTAINER) == Some(&name);
    let found = pod.container(&name);
    if let Some(container) = found {
        if !is_added && !is_of(job, pod, container, cluster)? {
            let message = format!(
                "pod {:?} has a container {name:?} that this job has not added: give another `name`",
                pod.name
            );
            return Ok(fail("ContainerExists", message));
        }
        if container.phase == ContainerPhase::Terminated {
            return Ok(Plan::Ended(ended(container)));
        }
    }
    if pod.deleting || pod.ended() {
        let what = if pod.deleting {
            "is being deleted"
        } else {
            "has ended"
        };
        let message = format!("pod {:?} {what}, so no container of it can run", pod.name);
        return Ok(fail("PodTerminating", message));
    }
    Ok(match found {
        Some(container) => progress(pod, container),
        None => add(pod, name, &parameters, job),
    })
}

/// Whether a container is the one that this job adds.
fn is_of(
    job: &Job,
    pod: &Pod,
    container: &Container,
    cluster: &dyn Cluster,
) -> Result<bool, ReadError> {
    if container.kind != ContainerKind::Ephemeral {
        return Ok(false);
    }
    let object = cluster.get(&pod.reference())?.unwrap_or_default();
    let containers = object["spec"]["ephemeralContainers"].as_array();
    let mut containers = containers.into_iter().flatten();
    let found = containers.find(|found| found["name"] == *container.name);
    let variables = found.and_then(|found| found["env"].as_array());
    let is_mark =
        |variable: &Value| variable["name"] == JOB && variable["value"] == job.uid.as_str();
    Ok(variables.into_iter().flatten().any(is_mark))
}

fn add(pod: &Pod, name: String, parameters: &Parameters, job: &Job) -> Plan {
    if pod.is_static() {
        let message = format!(
            "pod {:?} is a static pod, to which Kubernetes adds no ephemeral containers: debug its node instead",
            pod.name
        );
        return fail("StaticPod", message);
    }
    let target = parameters.target_container.as_deref();
    if let Some(wanted) = target
        && pod
            .container(wanted)
            .is_none_or(|found| found.kind == ContainerKind::Ephemeral)
    {
        let message = format!(
            "pod {:?} has no container {wanted:?} that `targetContainer` could mean",
            pod.name
        );
        return fail("ContainerNotFound", message);
    }
    let body = json!({"spec": {"ephemeralContainers": [parameters.container(&job.uid)]}});
    let image = parameters.image();
    let waits =
        format!("waiting for the kubelet to start container {name:?} with the image {image:?}");
    Plan::Add(Box::new(Add {
        patch: Patch {
            subresource: Some("ephemeralcontainers".to_owned()),
            kind: PatchKind::Strategic,
            uid: Some(pod.uid.clone()),
            // The decision holds for this version of the pod.
            resource_version: Some(pod.resource_version.clone()),
            ..patch::merge(pod.reference(), &body)
        },
        event: format!("adding the ephemeral container {name:?} with the image {image:?}"),
        waits: Failure::new("ContainerNotStarted", waits),
        name,
    }))
}

/// What a container that has not ended waits for.
fn progress(pod: &Pod, container: &Container) -> Plan {
    let Container {
        name,
        image,
        phase,
        reason,
        message,
        ..
    } = container;
    if *phase == ContainerPhase::Running {
        let message = format!("waiting for container {name:?} to end");
        return wait("ContainerRunning", message);
    }
    let reason = reason.as_deref().unwrap_or_default();
    let details = [reason, message.as_deref().unwrap_or_default()];
    let details: Vec<_> = details
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    let details = details.join(": ");
    if reason == NO_IMAGE {
        let message = format!("container {name:?} has the image {image:?}: {details}");
        return fail(NO_IMAGE, message);
    }
    if NOT_PULLED.contains(&reason) {
        let message = format!("the image {image:?} of container {name:?} is not pulled: {details}");
        return wait("ImageNotPulled", message);
    }
    let why = match (&pod.node, details.as_str()) {
        (None, _) => ": the pod has no node yet".to_owned(),
        (Some(_), "") => String::new(),
        (Some(_), details) => format!(": {details}"),
    };
    let message = format!("waiting for the kubelet to start container {name:?}{why}");
    wait("ContainerNotStarted", message)
}

fn ended(container: &Container) -> Ended {
    Ended {
        container: container.name.clone(),
        exit_code: container.exit_code.unwrap_or(-1),
        reason: container.reason.clone().unwrap_or_default(),
        message: container.message.clone().unwrap_or_default(),
    }
}

fn wait(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Wait(Failure::new(reason, message))
}

fn fail(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Fail(Failure::new(reason, message))
}
