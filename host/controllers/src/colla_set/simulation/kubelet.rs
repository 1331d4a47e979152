//! What nodes do to pods: they start containers, probe them, follow the readiness gates, and remove pods that
//! are deleted.

use k8s_openapi::jiff::Timestamp;
use operon_api::keys;
use operon_core::pod_lifecycle::labels::GATE;
use serde_json::{Value, json};

use super::claims::is_bound;
use crate::{
    simulation::{Objects, plurals::PODS},
    status::whole_seconds,
};

/// What happens to the container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The next thing to do: the pod gets a node, its container starts, or starts anew with another image.
    Start,
    /// The probe succeeds.
    Probe,
    /// The probe fails.
    Unready,
    /// The container restarts by itself.
    Restart,
    /// The pod fails for good.
    Fail,
    /// The node has no room now for the CPU that the container shall have.
    Defer,
    /// The node never has room for it.
    Refuse,
}

/// The kubelet does this to a pod, if it is the time for it, and looks at the readiness gate.
pub(super) fn work(objects: &mut Objects, mut pod: Value, work: Work, now: Timestamp) {
    if !is_active(&pod) {
        return;
    }
    let is_running = pod["status"]["phase"] == "Running";
    let runs_another =
        pod["status"]["containerStatuses"][0]["image"] != pod["spec"]["containers"][0]["image"];
    let generation = pod["metadata"]["generation"].clone();
    if pod["status"]["observedGeneration"] != generation {
        // The kubelet decides anew.
        remove_condition(&mut pod, PENDING);
    }
    match work {
        Work::Start if pod["spec"]["nodeName"].is_null() => {
            if is_bound(objects, &pod) {
                pod["spec"]["nodeName"] = json!("node");
            }
        }
        Work::Start if !is_running || runs_another => start(&mut pod),
        Work::Start if is_resizable(&pod) && why_pending(&pod) != Some("Infeasible") => {
            resize(&mut pod);
        }
        Work::Defer if is_resizable(&pod) => set_pending(&mut pod, "Deferred", now),
        Work::Refuse if is_resizable(&pod) => set_pending(&mut pod, "Infeasible", now),
        Work::Restart if is_running => start(&mut pod),
        Work::Probe if is_running => pod["status"]["containerStatuses"][0]["ready"] = json!(true),
        Work::Unready if is_running => {
            pod["status"]["containerStatuses"][0]["ready"] = json!(false);
        }
        Work::Fail => {
            pod["status"]["phase"] = json!("Failed");
            if is_running {
                pod["status"]["containerStatuses"][0]["ready"] = json!(false);
            }
        }
        Work::Start | Work::Restart | Work::Probe | Work::Unready | Work::Defer | Work::Refuse => {}
    }
    if !pod["spec"]["nodeName"].is_null() {
        if is_resizable(&pod) && why_pending(&pod).is_none() {
            set_condition(&mut pod, IN_PROGRESS, true, now);
        }
        pod["status"]["observedGeneration"] = generation;
        follow(&mut pod, now);
    }
    objects.set(PODS, pod);
}

/// The container of a pod starts.
fn start(pod: &mut Value) {
    let runs = pod["metadata"]["annotations"]["test/runs"].as_str();
    let runs = runs.and_then(|runs| runs.parse::<u32>().ok()).unwrap_or(0) + 1;
    pod["metadata"]["annotations"]["test/runs"] = json!(runs.to_string());
    pod["status"]["phase"] = json!("Running");
    pod["status"]["containerStatuses"] = json!([{
        "name": "main",
        "image": pod["spec"]["containers"][0]["image"],
        "imageID": "",
        "restartCount": runs - 1,
        "containerID": format!("container-{runs}"),
        "state": {"running": {}},
        "resources": pod["spec"]["containers"][0]["resources"],
        "ready": false,
    }]);
    for type_ in [PENDING, IN_PROGRESS] {
        remove_condition(pod, type_);
    }
}

/// The condition of a pod whose node has no room for what it shall have.
const PENDING: &str = "PodResizePending";

/// The condition of a pod whose container gets other resources.
const IN_PROGRESS: &str = "PodResizeInProgress";

/// Whether a container that runs has other resources than the spec says.
fn is_resizable(pod: &Value) -> bool {
    let (container, status) = (
        &pod["spec"]["containers"][0],
        &pod["status"]["containerStatuses"][0],
    );
    pod["status"]["phase"] == "Running" && container["resources"] != status["resources"]
}

/// The container gets the resources of the spec, and restarts if its policy says so.
fn resize(pod: &mut Value) {
    let container = pod["spec"]["containers"][0].clone();
    if container["resizePolicy"][0]["restartPolicy"] == "RestartContainer" {
        let is_set_to = !pod["metadata"]["annotations"][keys::IN_PLACE_UPDATE].is_null()
            && pod["metadata"]["labels"][keys::TO_DELETE].is_null();
        assert!(
            !is_set_to || !has_condition(pod, GATE),
            "no container restarts for a resize while its pod serves: {pod:#}"
        );
        start(pod);
    }
    pod["status"]["containerStatuses"][0]["resources"] = container["resources"].clone();
    for type_ in [PENDING, IN_PROGRESS] {
        remove_condition(pod, type_);
    }
}

/// Why a node has no room.
fn why_pending(pod: &Value) -> Option<&str> {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.find(|condition| condition["type"] == PENDING)?["reason"].as_str()
}

fn set_pending(pod: &mut Value, reason: &str, now: Timestamp) {
    remove_condition(pod, IN_PROGRESS);
    if why_pending(pod) != Some(reason) {
        remove_condition(pod, PENDING);
    }
    set_condition(pod, PENDING, true, now);
    let conditions = pod["status"]["conditions"].as_array_mut();
    let mut conditions = conditions.into_iter().flatten();
    if let Some(condition) = conditions.find(|condition| condition["type"] == PENDING) {
        condition["reason"] = json!(reason);
    }
}

fn remove_condition(pod: &mut Value, type_: &str) {
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != type_);
    }
}

/// The conditions follow the container and the readiness gate.
fn follow(pod: &mut Value, now: Timestamp) {
    let is_ready = pod["status"]["containerStatuses"][0]["ready"] == true;
    set_condition(pod, "ContainersReady", is_ready, now);
    let is_open = has_condition(pod, GATE);
    set_condition(pod, "Ready", is_ready && is_open, now);
}

fn set_condition(pod: &mut Value, type_: &str, is_true: bool, now: Timestamp) {
    let status = if is_true { "True" } else { "False" };
    let conditions = pod["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default();
    let is_same = |condition: &Value| condition["type"] == type_ && condition["status"] == status;
    if !conditions.iter().any(is_same) {
        conditions.retain(|condition| condition["type"] != type_);
        let since = whole_seconds(now).to_string();
        conditions.push(json!({"type": type_, "status": status, "lastTransitionTime": since}));
    }
    pod["status"]["conditions"] = json!(conditions);
}

/// Whether a condition of a pod is True.
pub(super) fn has_condition(pod: &Value, type_: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

/// Whether a pod neither has finished nor is being deleted.
pub(super) fn is_active(pod: &Value) -> bool {
    let phase = &pod["status"]["phase"];
    let is_finished = phase == "Failed" || phase == "Succeeded";
    pod["metadata"]["deletionTimestamp"].is_null() && !is_finished
}
