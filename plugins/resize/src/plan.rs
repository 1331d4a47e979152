//! The decision about one target.

use std::time::Duration;

use operon_sdk::{ActionError, Cluster, Failure, Job, Patch, PatchKind, Pod, Target, json, patch};

use crate::{
    amounts::ByContainer,
    parameters::Parameters,
    record::{self, Record},
    seen::{Condition, Seen},
};

/// The annotations of a pod that its controller updates in place.
const UPDATES: [&str; 2] = [
    "operon.dev/in-place-update",
    "collaset.kusionstack.io/last-pod-status",
];

/// What the API server says of a subresource that it does not have.
const NOT_SERVED: &str = "could not find the requested resource";

/// For how long the kubelet may report other resources than it has given. A container runtime that does not report
/// them (containerd before 1.7) leaves the previous ones in the status for ever.
const REPORTED_WITHIN: Duration = Duration::from_secs(10);

/// What to do, and how far the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Remember this before the first write.
    Remember(Record),
    /// Write the resources into the pod.
    Write(Box<Write>),
    /// Wait for this.
    Wait(Failure),
    /// The kubelet has finished, and reports other resources: remember since when, and wait that long.
    Compare(Failure, Duration),
    /// The containers have what is asked for.
    Done,
    /// It cannot be done.
    Fail(Failure),
}

/// The write of resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Changes the resources.
    pub patch: Patch,
    /// The message of the Event.
    pub event: String,
    /// The generation of the pod before it.
    pub generation: i64,
}

/// Decides about a target.
pub fn plan(target: &Target, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ActionError> {
    let parameters: Parameters = job.parameters()?;
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
        let message = format!("pod {:?} {what}, so nothing of it can be resized", pod.name);
        return Ok(fail("PodTerminating", message));
    }
    if pod.is_static() {
        let message = format!(
            "pod {:?} is a static pod, which its node runs from a file: change its manifest on the node",
            pod.name
        );
        return Ok(fail("StaticPod", message));
    }
    let asked = match parameters.asked(target, pod) {
        Ok(asked) => asked,
        Err(failure) => return Ok(Plan::Fail(failure)),
    };
    let object = cluster.get(&pod.reference())?.unwrap_or_default();
    let seen = Seen::new(pod, &object);
    Ok(match seen.unwritten(&asked) {
        Some(container) => write(target, &seen, &asked, container),
        None => progress(target, job, &seen, &asked),
    })
}

/// What comes before the resources are in the spec. `container` is one that does not have in its spec what is asked for.
fn write(target: &Target, seen: &Seen<'_>, asked: &ByContainer, container: &str) -> Plan {
    let pod = seen.pod;
    // The snapshot may be older than the write.
    if record::number(target, record::WRITTEN).is_some_and(|before| pod.generation > before) {
        let message = format!(
            "another client has changed the resources of container {container:?} since this job wrote them"
        );
        return fail("ResourcesChanged", message);
    }
    if !seen.is_supported() {
        return unsupported(pod);
    }
    let refusal = target.last_failure.as_ref();
    if refusal
        .is_some_and(|refusal| refusal.reason == "NotFound" && refusal.message.contains(NOT_SERVED))
    {
        let message = "the API server does not serve the subresource `resize` of pods: it is older than Kubernetes 1.33, or its feature gate InPlacePodVerticalScaling is off";
        return fail("ResizeNotServed", message);
    }
    if UPDATES.iter().any(|key| pod.annotation(key).is_some()) {
        let message = format!(
            "waiting until the update in place of pod {:?} has finished",
            pod.name
        );
        return wait("UpdateUnderWay", message);
    }
    let previous = asked
        .iter()
        .map(|(name, asked)| (name.clone(), seen.written(name).limited_to(asked)));
    let record = Record {
        asked: asked.clone(),
        previous: previous.collect(),
    };
    // Another client may have changed the resources since the status remembered them.
    if Record::of(target).as_ref() != Some(&record) {
        return match record.check_size() {
            Ok(()) => Plan::Remember(record),
            Err(failure) => Plan::Fail(failure),
        };
    }
    let names: Vec<_> = asked.keys().map(|name| format!("{name:?}")).collect();
    Plan::Write(Box::new(Write {
        patch: patch(seen, asked),
        event: format!("resizing the containers {}", names.join(", ")),
        generation: pod.generation,
    }))
}

/// Writes the resources of containers.
pub fn patch(seen: &Seen<'_>, resources: &ByContainer) -> Patch {
    let mut spec = json!({});
    for (name, amounts) in resources {
        let container = json!({"name": name, "resources": amounts.to_value()});
        let list = &mut spec[seen.list(name)];
        match list.as_array_mut() {
            Some(list) => list.push(container),
            None => *list = json!([container]),
        }
    }
    let pod = seen.pod;
    Patch {
        subresource: Some("resize".to_owned()),
        kind: PatchKind::Strategic,
        uid: Some(pod.uid.clone()),
        // The decision holds for this version of the pod.
        resource_version: Some(pod.resource_version.clone()),
        ..patch::merge(pod.reference(), &json!({ "spec": spec }))
    }
}

/// How far a pod is that has the resources in its spec.
fn progress(target: &Target, job: &Job, seen: &Seen<'_>, asked: &ByContainer) -> Plan {
    let pod = seen.pod;
    let written = record::number(target, record::WRITTEN);
    if !seen.is_supported() {
        // What the spec has since the creation of the pod is what the containers have.
        let is_as_created = written.is_none() && pod.generation <= 1;
        return if is_as_created {
            Plan::Done
        } else {
            unsupported(pod)
        };
    }
    let is_new = |generation: i64| match written {
        Some(before) => generation > before,
        None => generation >= pod.generation,
    };
    let is_seen = pod.observed_generation.map(is_new);
    let pending = seen.condition("PodResizePending");
    // What the kubelet said of the resources of before says nothing of these.
    let said = pending.as_ref().and_then(|pending| pending.generation);
    let is_outdated = said.zip(written).is_some_and(|(said, _)| !is_new(said));
    if is_seen == Some(false) || is_outdated {
        let message = format!(
            "waiting for the kubelet to see the new resources of pod {:?}",
            pod.name
        );
        return wait("ResizeNotSeen", message);
    }
    if let Some(pending) = pending {
        return not_given(pod, &pending, is_seen.is_some());
    }
    if let Some(running) = seen.condition("PodResizeInProgress") {
        let words = words(&running);
        let message = format!("the kubelet is resizing pod {:?}{words}", pod.name);
        return wait("ResizeInProgress", message);
    }
    let Some(difference) = seen.ungiven(asked) else {
        return Plan::Done;
    };
    if pod.node.is_none() {
        let message = format!("pod {:?} has no node yet", pod.name);
        return wait("ResizeInProgress", message);
    }
    let message = format!("the kubelet reports that {difference}");
    if is_seen.is_none() {
        return wait("ResizeInProgress", message);
    }
    let since = record::number(target, record::UNREPORTED).unwrap_or(job.now);
    let passed = u64::try_from(job.now.saturating_sub(since)).unwrap_or_default();
    match REPORTED_WITHIN.checked_sub(Duration::from_secs(passed)) {
        Some(left) if !left.is_zero() => {
            Plan::Compare(Failure::new("ResizeNotReported", message), left)
        }
        _ => Plan::Done,
    }
}

/// The node has no room, now or ever. A kubelet that reports no generation may mean the resources of before.
fn not_given(pod: &Pod, pending: &Condition, is_current: bool) -> Plan {
    let words = words(pending);
    if pending.reason == "Infeasible" {
        let message = format!(
            "the node of pod {:?} can never give it these resources{words}",
            pod.name
        );
        let failure = Failure::new("ResizeInfeasible", message);
        return if is_current {
            Plan::Fail(failure)
        } else {
            Plan::Wait(failure)
        };
    }
    let message = format!(
        "the node of pod {:?} has no room for these resources now{words}",
        pod.name
    );
    wait("ResizeDeferred", message)
}

fn words(condition: &Condition) -> String {
    let Condition {
        reason,
        message,
        generation: _,
    } = condition;
    match (reason.as_str(), message.as_str()) {
        ("", "") => String::new(),
        (reason, "") => format!(": {reason}"),
        ("", message) => format!(": {message}"),
        (reason, message) => format!(": {reason}: {message}"),
    }
}

fn unsupported(pod: &Pod) -> Plan {
    let node = pod.node.as_deref().unwrap_or_default();
    let message = format!(
        "node {node:?} does not resize pods in place: its kubelet reports no resources of containers, so it is older than Kubernetes 1.33, or its feature gate InPlacePodVerticalScaling is off. To change the resources, change the template of the pod's controller"
    );
    fail("ResizeNotSupported", message)
}

fn wait(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Wait(Failure::new(reason, message))
}

fn fail(reason: &str, message: impl Into<String>) -> Plan {
    Plan::Fail(Failure::new(reason, message))
}
