//! CPU and memory of containers: what of them may change in a pod that exists, by its subresource `resize`.

use std::{cmp::Ordering, collections::BTreeMap};

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodCondition},
    jiff::Timestamp,
};
use serde_json::{Map, Value, json};

use super::pods::{condition, container_statuses, is_observed};
use crate::quantity;

/// The resources that the subresource changes.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// The `resizePolicy` of a resource whose change restarts the container.
const RESTART_CONTAINER: &str = "RestartContainer";

/// The new resources of containers, by the name of the container.
pub(super) type Resources = BTreeMap<String, Value>;

/// The containers whose CPU or memory differs, of containers with the same names in the same order.
///
/// # Errors
/// The field that differs and that the API server does not change in a pod.
pub(super) fn change(before: &Value, after: &Value) -> Result<Resources, String> {
    let list = |spec: &Value| spec["containers"].as_array().cloned().unwrap_or_default();
    let mut changed = Resources::new();
    for (old, new) in list(before).iter().zip(&list(after)) {
        let name = new["name"].as_str().unwrap_or_default();
        if let Some(resources) = change_of_one(old, new)
            .map_err(|field| format!("spec.containers[{name}].resources{field}"))?
        {
            changed.insert(name.to_owned(), resources);
        }
    }
    match changed.keys().next() {
        // The API server refuses another class of a pod that exists.
        Some(name) if Class::of(before) != Class::of(after) => {
            Err(format!("spec.containers[{name}].resources"))
        }
        _ => Ok(changed),
    }
}

fn change_of_one(old: &Value, new: &Value) -> Result<Option<Value>, String> {
    let (old_part, new_part) = (object(&old["resources"]), object(&new["resources"]));
    let others = |part: &Map<String, Value>| {
        let mut others = part.clone();
        others.retain(|name, _| !["requests", "limits"].contains(&name.as_str()));
        others
    };
    if others(&old_part) != others(&new_part) {
        return Err(String::new());
    }
    let (before, after) = (amounts(old), amounts(new));
    for kind in ["requests", "limits"] {
        let (before, after) = (object(&before[kind]), object(&after[kind]));
        if let Some(name) = before.keys().find(|name| !after.contains_key(*name)) {
            return Err(format!(".{kind}.{name}"));
        }
        let mut differing = after
            .iter()
            .filter(|(name, value)| !is_same(before.get(*name), value));
        if let Some((name, _)) = differing.find(|(name, _)| !RESIZABLE.contains(&name.as_str())) {
            return Err(format!(".{kind}.{name}"));
        }
    }
    // A container that has more in memory than the new limit allows would be killed.
    let [old_limit, new_limit] = [&before, &after].map(|one| text(&one["limits"]["memory"]));
    let is_lower = quantity::compare(new_limit, old_limit) == Some(Ordering::Less);
    if is_lower && !restarts_for_memory(new) {
        return Err(".limits.memory".to_owned());
    }
    Ok((!is_met(&before, &after)).then_some(after))
}

fn restarts_for_memory(container: &Value) -> bool {
    let policies = container["resizePolicy"].as_array();
    policies.into_iter().flatten().any(|policy| {
        policy["resourceName"] == "memory" && policy["restartPolicy"] == RESTART_CONTAINER
    })
}

/// The requests and limits of a container. As in the API server, a limit without a request is also the request.
fn amounts(container: &Value) -> Value {
    let limits = object(&container["resources"]["limits"]);
    let mut requests = limits.clone();
    requests.extend(object(&container["resources"]["requests"]));
    json!({"requests": requests, "limits": limits})
}

/// Whether these resources are as wanted, as far as something is wanted.
fn is_met(found: &Value, wanted: &Value) -> bool {
    ["requests", "limits"].iter().all(|kind| {
        let mut wanted = wanted[kind].as_object().into_iter().flatten();
        wanted.all(|(name, value)| is_same(found[kind].get(name), value))
    })
}

fn is_same(one: Option<&Value>, other: &Value) -> bool {
    one.is_some_and(|one| {
        one == other || quantity::compare(text(one), text(other)) == Some(Ordering::Equal)
    })
}

/// A quantity: both a pod and the stored form of a template have texts.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The quality of service class of a pod.
#[derive(PartialEq, Eq)]
enum Class {
    BestEffort,
    Burstable,
    Guaranteed,
}

impl Class {
    fn of(spec: &Value) -> Self {
        let containers = ["containers", "initContainers"];
        let lists = containers.iter().filter_map(|name| spec[*name].as_array());
        let all: Vec<_> = lists.flatten().map(amounts).collect();
        let is_set =
            |amounts: &Value, kind: &str| RESIZABLE.map(|name| amounts[kind].get(name).is_some());
        if all.iter().all(|one| is_set(one, "requests") == [false; 2]) {
            return Self::BestEffort;
        }
        let is_guaranteed = |one: &Value| {
            is_set(one, "limits") == [true; 2]
                && RESIZABLE
                    .iter()
                    .all(|name| is_same(one["requests"].get(name), &one["limits"][name]))
        };
        if all.iter().all(is_guaranteed) {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }
}

/// Whether the node of a pod changes CPU and memory of containers: where it does, the kubelet reports what they
/// have. The API server refuses the change elsewhere.
pub(super) fn is_supported(pod: &Pod) -> bool {
    let mut running = container_statuses(pod).filter(|status| is_running(status));
    running.all(|status| status.resources.is_some())
}

fn is_running(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    state.is_some_and(|state| state.running.is_some())
}

/// The patch of the subresource `resize` that brings a pod to these resources, if its spec has others.
pub(super) fn patch(pod: &Pod, wanted: &Resources) -> Option<Value> {
    let containers: Vec<_> = containers(pod)
        .filter_map(|container| {
            let wanted = wanted.get(&container.name)?;
            (!is_met(&json!(container.resources), wanted))
                .then(|| json!({"name": container.name, "resources": wanted}))
        })
        .collect();
    (!containers.is_empty()).then(|| json!({"spec": {"containers": containers}}))
}

/// Whether the containers of a pod have the resources that its spec has.
pub(super) fn is_actuated(pod: &Pod) -> bool {
    // A kubelet that is too old reports no generation, but what the containers have.
    let has_reported = || {
        containers(pod).all(|container| {
            let found = container_statuses(pod).find(|status| status.name == container.name);
            found.is_some_and(|found| is_met(&json!(found.resources), &json!(container.resources)))
        })
    };
    let is_seen = is_observed(pod).unwrap_or_else(has_reported);
    is_seen && pending(pod).is_none() && is_true(pod, "PodResizeInProgress").is_none()
}

/// Why the kubelet does not resize a pod: its node has no room, now or ever.
pub(super) fn pending(pod: &Pod) -> Option<&PodCondition> {
    is_true(pod, "PodResizePending")
}

/// Whether the node of a pod can never give it its resources.
pub(super) fn is_infeasible(pod: &Pod) -> bool {
    pending(pod).is_some_and(|pending| pending.reason.as_deref() == Some("Infeasible"))
}

/// When the kubelet said so for the first time.
pub(super) fn pending_since(pending: &PodCondition) -> Option<Timestamp> {
    pending.last_transition_time.as_ref().map(|since| since.0)
}

/// Whether a container of a pod restarts when the kubelet gives it the CPU and memory of the spec.
pub(super) fn restart(pod: &Pod) -> bool {
    containers(pod).any(|container| {
        let found = container_statuses(pod).find(|status| status.name == container.name);
        let found = found.map(|found| json!(found.resources));
        let wanted = json!(container.resources);
        let changes = |resource: &str| {
            ["requests", "limits"].iter().any(|kind| {
                let found = found.as_ref().and_then(|found| found[kind].get(resource));
                let wanted = wanted[kind].get(resource);
                wanted.is_some_and(|wanted| !is_same(found, wanted))
            })
        };
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|one| one.restart_policy == RESTART_CONTAINER && changes(&one.resource_name))
    })
}

fn is_true<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    condition(pod, type_).filter(|condition| condition.status == "True")
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}
