//! A job on one pod that serves, and those who move the pod: the PodOpsLifecycle controller and the kubelet.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    action::Effect,
    operation_job::{
        conclude::{Answer, Conclusion},
        lifecycle::{Lifecycle, Turn},
        plan::TargetStep,
        tests::world::World,
    },
    pod_lifecycle::{labels::GATE, pod::step, rule::Answers},
};

/// The job and its pod `a`.
pub(super) struct Scene {
    pub(super) world: World,
    /// Whether the containers of the pod are not Ready.
    pub(super) is_broken: bool,
}

impl Scene {
    /// A new job whose action takes part, and a pod that serves.
    pub(super) fn new() -> Self {
        let mut world = World::new(&["a"]);
        world.lifecycle = Lifecycle {
            is_wanted: true,
            is_enabled: true,
            removes: false,
        };
        let pod = json!({
            "metadata": {
                "name": "a", "uid": "uid-a", "resourceVersion": "1",
                "labels": {"kusionstack.io/control": "true"}
            },
            "spec": {"nodeName": "n1", "containers": [], "readinessGates": [{"conditionType": GATE}]}
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        world.pods.insert("a".to_owned(), Arc::new(pod));
        let mut scene = Self {
            world,
            is_broken: false,
        };
        scene.control();
        assert!(scene.is_ready());
        scene
    }

    /// The same with an action that removes pods.
    pub(super) fn removing() -> Self {
        let mut scene = Self::new();
        scene.world.lifecycle.removes = true;
        scene
    }

    /// The pod is out of service, and the action may act.
    pub(super) fn allowed() -> Self {
        let mut scene = Self::new();
        scene.pass(&[]);
        scene.pass(&[]);
        scene.control();
        assert_eq!(scene.world.step(), TargetStep::Operate);
        scene
    }

    /// One pass: its writes, then its status.
    pub(super) fn pass(&mut self, answers: &[(&str, Answer)]) -> Conclusion {
        let run = self.world.run();
        let conclusion = self.world.pass(answers);
        for write in run.targets.iter().filter_map(|target| target.write.clone()) {
            self.write(&write);
        }
        conclusion
    }

    /// What the target waits for now.
    pub(super) fn waits(&self) -> (String, String) {
        match self.world.step() {
            TargetStep::Wait(failure) => (failure.reason, failure.message),
            step => unreachable!("the target does not wait: {step:?}"),
        }
    }

    /// The action removes the pod. What that waits for.
    pub(super) fn removal(&mut self) -> Result<(), (String, String)> {
        let service = self.service();
        let now = self.now();
        match service.turn(&self.pod(), now) {
            Turn::Act => Ok(()),
            Turn::Begin(begin, waits) => {
                self.write(&begin);
                Err((waits.reason, waits.message))
            }
            Turn::Wait(waits, _) => Err((waits.reason, waits.message)),
        }
    }

    /// The pod is given back.
    pub(super) fn give_back(&mut self, has_acted: bool) {
        let effect = self.service().give_back(&self.pod(), has_acted);
        self.write(&effect.expect("something to give back"));
    }

    /// The PodOpsLifecycle controller and the kubelet, until nothing changes.
    pub(super) fn control(&mut self) {
        for _ in 0..20 {
            let pod = self.pod();
            let next = step(&pod, |_| Answers::ALLOWED, self.now()).0;
            let before = Arc::clone(&self.world.pods["a"]);
            if let Some(effect) = next.write(&pod, self.now()) {
                self.write(&effect);
            }
            self.be_kubelet();
            if *before == *self.world.pods["a"] {
                return;
            }
        }
        unreachable!("the pod does not come to rest: {:?}", self.pod());
    }

    /// The containers are ready, so the pod is Ready if its gate is open.
    fn be_kubelet(&mut self) {
        let pod = self.pod();
        let gates = pod.spec.iter().flat_map(|spec| &spec.readiness_gates);
        let has_gate = gates.flatten().next().is_some();
        let is_ready = !self.is_broken && (!has_gate || is_true(&pod, GATE));
        let status = if is_ready { "True" } else { "False" };
        self.condition(&json!({"type": "Ready", "status": status}));
    }

    fn write(&mut self, effect: &Effect) {
        let Effect::Patch { body, .. } = effect else {
            unreachable!("no patch: {effect:?}");
        };
        let labels = body.pointer("/metadata/labels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            self.label(key, value.as_str());
        }
        let conditions = body.pointer("/status/conditions").and_then(Value::as_array);
        for condition in conditions.into_iter().flatten() {
            let mut condition = condition.clone();
            condition["lastTransitionTime"] = Value::Null;
            self.condition(&condition);
        }
    }

    pub(super) fn condition(&mut self, condition: &Value) {
        let condition: k8s_openapi::api::core::v1::PodCondition =
            serde_json::from_value(condition.clone()).expect("a condition");
        self.edit(|pod| {
            let status = pod.status.get_or_insert_default();
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|known| known.type_ != condition.type_);
            conditions.push(condition);
            conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        });
    }

    pub(super) fn label(&mut self, key: &str, value: Option<&str>) {
        self.edit(|pod| {
            match value {
                Some(value) => pod.labels_mut().insert(key.to_owned(), value.to_owned()),
                None => pod.labels_mut().remove(key),
            };
        });
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Pod)) {
        let mut pod = self.pod();
        change(&mut pod);
        self.world.pods.insert("a".to_owned(), Arc::new(pod));
    }

    pub(super) fn remove_gate(pod: &mut Pod) {
        if let Some(spec) = &mut pod.spec {
            spec.readiness_gates = None;
        }
    }

    pub(super) fn pod(&self) -> Pod {
        Pod::clone(&self.world.pods["a"])
    }

    pub(super) fn is_ready(&self) -> bool {
        is_true(&self.pod(), "Ready")
    }

    pub(super) fn has(&self, label: &str) -> bool {
        self.pod().labels().contains_key(label)
    }

    /// The labels of the lifecycle that the pod has.
    pub(super) fn lifecycle_labels(&self) -> Vec<String> {
        let pod = self.pod();
        let labels = pod.labels().keys();
        let labels = labels.filter(|key| key.contains("podopslifecycle"));
        labels.cloned().collect()
    }

    /// The id of the operation on the pod.
    pub(super) fn operation_id(&self) -> String {
        let prefix = "operating.podopslifecycle.kusionstack.io/";
        let labels = self.lifecycle_labels();
        let mut ids = labels.iter().filter_map(|label| label.strip_prefix(prefix));
        ids.next().expect("an operation").to_owned()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.world.observed().now
    }
}

fn is_true(pod: &Pod, type_: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.flatten();
    conditions.any(|one| one.type_ == type_ && one.status == "True")
}
