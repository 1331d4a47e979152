//! The deletion of a pod through its lifecycle, write by write.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::keys;
use serde_json::{Value, json};

use crate::{
    action::Effect,
    pod_lifecycle::{
        labels::{GATE, PREPARING_TO_DELETE, PROTECTION, SERVICE_AVAILABLE},
        pod::step,
        rule::Answers,
        transition::Verdict,
    },
};

/// A pod, and what was done to it.
struct Scene {
    pod: Pod,
    /// What rules say.
    before: Verdict,
    writes: Vec<&'static str>,
    events: Vec<&'static str>,
}

impl Scene {
    /// A pod that serves, and shall be deleted.
    fn new() -> Self {
        let pod = json!({
            "metadata": {"name": "a", "uid": "uid-a", "resourceVersion": "1", "labels": {
                keys::CONTROL: "true", SERVICE_AVAILABLE: "1", keys::TO_DELETE: "true",
            }},
            "spec": {"containers": [], "readinessGates": [{"conditionType": GATE}]},
            "status": {"conditions": [
                {"type": GATE, "status": "True"}, {"type": "Ready", "status": "True"},
            ]},
        });
        Self {
            pod: serde_json::from_value(pod).expect("a pod"),
            before: Verdict::Allowed,
            writes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The controller's next write; whether there is one.
    fn control(&mut self) -> bool {
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        let answers = Answers {
            before: self.before,
            ..Answers::ALLOWED
        };
        let (step, _) = step(&self.pod, |_| answers, now);
        let Some(write) = step.write(&self.pod, now) else {
            return false;
        };
        self.events
            .extend(step.event().into_iter().map(|(reason, _)| reason));
        match write {
            Effect::Delete {
                resource_version, ..
            } => {
                assert_eq!(resource_version.as_deref(), Some("1"));
                self.writes.push("deletion");
                self.pod.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            }
            Effect::Patch {
                body, subresource, ..
            } => {
                let is_status = subresource.is_some();
                self.writes.push(if is_status { "gate" } else { "labels" });
                let labels = body["metadata"]["labels"].as_object();
                for (key, value) in labels.into_iter().flatten() {
                    match value.as_str() {
                        Some(value) => {
                            self.pod.labels_mut().insert(key.clone(), value.to_owned());
                        }
                        None => drop(self.pod.labels_mut().remove(key)),
                    }
                }
                let gate = &body["status"]["conditions"][0]["status"];
                if is_status {
                    self.condition(GATE, gate);
                }
            }
            other => unreachable!("{other:?}"),
        }
        true
    }

    fn condition(&mut self, type_: &str, status: &Value) {
        let status = status.as_str().expect("a status").to_owned();
        let all = self.pod.status.get_or_insert_default();
        for condition in all.conditions.iter_mut().flatten() {
            if condition.type_ == type_ {
                condition.status.clone_from(&status);
            }
        }
    }

    /// The kubelet sees the closed gate.
    fn unready(&mut self) {
        self.condition("Ready", &json!("False"));
    }

    fn has(&self, label: &str) -> bool {
        self.pod.labels().contains_key(label)
    }
}

#[test]
fn a_pod_leaves_service_in_one_write_and_is_deleted_by_the_next() {
    let mut scene = Scene::new();
    assert!(scene.control());
    for label in ["operating", "operation-type", "pre-checked", "preparing"] {
        let label = format!("{label}.podopslifecycle.kusionstack.io/pod-delete");
        assert!(scene.has(&label), "{label}");
    }
    assert!(scene.has(PREPARING_TO_DELETE) && !scene.has(SERVICE_AVAILABLE));
    assert!(!scene.control(), "requests reach it until it is not Ready");
    scene.unready();
    assert!(scene.control());
    assert!(!scene.control());
    assert_eq!(scene.writes, ["gate", "deletion"]);
    assert_eq!(scene.events, ["PodDeletion"]);
}

#[test]
fn a_pod_that_others_send_requests_to_is_deleted_when_they_have_left_it() {
    let mut scene = Scene::new();
    scene.pod.finalizers_mut().push(format!("{PROTECTION}/lb"));
    assert!(scene.control());
    scene.unready();
    assert!(!scene.control());
    assert_eq!(scene.events, ["ServiceNotReady"], "this may take long");
    scene.pod.finalizers_mut().clear();
    assert!(scene.control());
    assert_eq!(scene.writes, ["gate", "deletion"]);
    assert_eq!(scene.events, ["ServiceNotReady", "PodDeletion"]);
}

#[test]
fn rules_hold_a_deletion_that_has_begun() {
    let mut scene = Scene::new();
    scene.before = Verdict::Waits;
    assert!(scene.control());
    assert!(scene.has("pre-check.podopslifecycle.kusionstack.io/pod-delete"));
    assert!(scene.has(SERVICE_AVAILABLE));
    assert!(!scene.control());
    scene.before = Verdict::Allowed;
    assert!(scene.control());
    scene.unready();
    assert!(scene.control());
    assert_eq!(scene.writes, ["labels", "gate", "deletion"]);
}

#[test]
fn a_deletion_that_is_withdrawn_returns_the_pod_to_service_in_one_write() {
    let mut scene = Scene::new();
    assert!(scene.control());
    scene.unready();
    scene.pod.labels_mut().remove(keys::TO_DELETE);
    assert!(scene.control());
    let left: Vec<_> = scene.pod.labels().keys().collect();
    assert_eq!(left, [keys::CONTROL]);
    assert!(!scene.control(), "the kubelet comes first");
    assert_eq!(scene.writes, ["gate", "gate"]);
    assert_eq!(scene.events, ["ServiceReady"]);
}

#[test]
fn a_pod_without_the_gate_says_why_it_is_deleted_before_it_is() {
    let mut scene = Scene::new();
    scene.pod.spec.get_or_insert_default().readiness_gates = None;
    assert!(scene.control());
    assert!(scene.control());
    assert_eq!(scene.writes, ["labels", "deletion"]);
}

#[test]
fn another_operation_on_the_pod_is_waited_for() {
    let mut scene = Scene::new();
    for label in ["operating", "operation-type", "pre-checked", "operate"] {
        let label = format!("{label}.podopslifecycle.kusionstack.io/j");
        scene.pod.labels_mut().insert(label, "1".to_owned());
    }
    scene.control();
    scene.unready();
    while scene.control() {}
    assert!(!scene.writes.contains(&"deletion"));
    assert!(!scene.has(PREPARING_TO_DELETE));
    assert_eq!(scene.events, ["ServiceNotReady"]);
}
