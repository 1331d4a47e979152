//! Whether another pod has taken the place of one that is gone.
//!
//! A StatefulSet gives the new pod the same name, and a DaemonSet the same node. Pods of other controllers have no
//! places: their controller must have as many pods as it wants, all that are new must be ready, and as many must be
//! ready as were before.

use std::time::Duration;

use operon_sdk::{Cluster, Failure, ObjectReference, Pod, ReadError, Target, Value};

use crate::{
    Plan,
    before::{Before, Controller},
};

/// How soon a controller of a kind that is not read is looked at again: its pods wake the target,
/// and nothing else of it does.
const AGAIN: Duration = Duration::from_secs(2);

/// Decides about a target whose pod is gone.
pub(crate) fn plan(
    target: &Target,
    before: &Before,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let controller = &before.controller;
    let owner = owner(controller, cluster)?;
    if let Owner::Gone = owner {
        let Controller { kind, name, .. } = controller;
        let message = format!(
            "{kind} {name:?} was deleted, so no pod takes the place of {:?}",
            target.name
        );
        return Ok(Plan::Fail(Failure::new("OwnerGone", message)));
    }
    let pods = pods_of(controller, cluster)?;
    let live: Vec<&Pod> = pods.iter().filter(|pod| pod.live()).collect();
    let place = match controller.kind.as_str() {
        "StatefulSet" => Some(live.iter().find(|pod| pod.name == target.name)),
        "DaemonSet" => Some(
            live.iter()
                .find(|pod| pod.node.as_deref() == Some(&*before.node)),
        ),
        _ => None,
    };
    let wanted = owner.replicas();
    Ok(match place {
        _ if wanted == Some(0) || owner.wants_no_more(&target.name) => Plan::Done,
        Some(Some(pod)) if pod.ready => Plan::Done,
        Some(Some(pod)) => wait_for(pod, &owner),
        Some(None) => missing(controller, target, &owner),
        None => {
            let new = live.iter().filter(|pod| pod.created_at > before.newest);
            let ready = live.iter().filter(|pod| pod.ready).count();
            let enough = wanted.map_or(before.others + 1, |wanted| wanted.min(before.others + 1));
            let mut unready = new.filter(|pod| !pod.ready);
            match unready.next() {
                Some(pod) => wait_for(pod, &owner),
                None if wanted.is_some_and(|wanted| live.len() < wanted) || ready < enough => {
                    missing(controller, target, &owner)
                }
                None => Plan::Done,
            }
        }
    })
}

/// All pods of a controller.
pub(crate) fn pods_of(
    controller: &Controller,
    cluster: &dyn Cluster,
) -> Result<Vec<Pod>, ReadError> {
    let selector = match owner(controller, cluster)? {
        Owner::Known(object) => selector(&object),
        Owner::Gone | Owner::Unknown => String::new(),
    };
    let mut pods = cluster.find_pods(&selector)?;
    pods.retain(|pod| pod.controller_uid() == Some(&controller.uid));
    Ok(pods)
}

/// What is known of a controller.
enum Owner {
    /// The object.
    Known(Value),
    /// It was deleted.
    Gone,
    /// Its kind is not read.
    Unknown,
}

impl Owner {
    /// How many pods it wants, where it has a number.
    fn replicas(&self) -> Option<usize> {
        let Self::Known(object) = self else {
            return None;
        };
        let default = (object["kind"] != "DaemonSet").then_some(1);
        let replicas = object["spec"]["replicas"].as_u64().or(default)?;
        usize::try_from(replicas).ok()
    }

    /// When to look again, where changes of the controller do not wake the target.
    fn again(&self) -> Option<Duration> {
        match self {
            Self::Unknown => Some(AGAIN),
            Self::Known(_) | Self::Gone => None,
        }
    }

    /// Whether a StatefulSet was scaled in so far that it has no pod of this name any more.
    fn wants_no_more(&self, pod: &str) -> bool {
        let Self::Known(object) = self else {
            return false;
        };
        let ordinal = pod.rsplit('-').next().and_then(|text| text.parse().ok());
        let start = object["spec"]["ordinals"]["start"].as_u64().unwrap_or(0);
        let replicas = object["spec"]["replicas"].as_u64().unwrap_or(1);
        object["kind"] == "StatefulSet"
            && ordinal.is_some_and(|ordinal: u64| ordinal >= start + replicas)
    }
}

fn owner(controller: &Controller, cluster: &dyn Cluster) -> Result<Owner, ReadError> {
    let Controller {
        api_version,
        kind,
        name,
        uid,
    } = controller;
    match cluster.get(&ObjectReference::new(api_version, kind, name)) {
        Ok(Some(object)) if object["metadata"]["uid"] == uid.as_str() => Ok(Owner::Known(object)),
        Ok(_) => Ok(Owner::Gone),
        Err(ReadError::NotDeclared(_) | ReadError::NotServed(_)) => Ok(Owner::Unknown),
        Err(error) => Err(error),
    }
}

/// The labels by which a controller selects, as a selector: it may select more, never less.
fn selector(object: &Value) -> String {
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let labels = labels.into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    labels.collect::<Vec<_>>().join(",")
}

fn wait_for(pod: &Pod, owner: &Owner) -> Plan {
    let why = pod.unready_because();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let message = format!("waiting for the new pod {:?} to be ready{why}", pod.name);
    Plan::Wait(Failure::new("NewPodNotReady", message), owner.again())
}

fn missing(controller: &Controller, target: &Target, owner: &Owner) -> Plan {
    let Controller { kind, name, .. } = controller;
    let wants = owner.replicas();
    let wants = wants.map_or_else(String::new, |wants| format!(" (it wants {wants} pods)"));
    let message = format!(
        "waiting for {kind} {name:?}{wants} to create a pod in the place of {:?}",
        target.name
    );
    Plan::Wait(Failure::new("WaitingForNewPod", message), owner.again())
}
