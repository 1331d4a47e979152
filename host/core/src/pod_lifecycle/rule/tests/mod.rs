//! The decisions, and what they mean for the pods.

mod after;
mod answers;
mod decisions;
mod limits;

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use operon_api::{
    CollaSet, PodTransitionRule,
    pod_transition_rule::{PodTransitionRuleStatus, TransitionDetail},
};
use serde_json::{Value, json};

use super::{Answers, Seen, Set, answers, conclude};
use crate::pod_lifecycle::transition::Verdict;

/// Something that happens, and its name.
type Change = (&'static str, fn(&mut Scene));

/// A namespace with one PodTransitionRule, which selects the pods of `app: web`.
struct Scene {
    object: Value,
    pods: Vec<Value>,
    sets: Vec<Value>,
}

impl Scene {
    /// Pods `a`, `b`, … that serve.
    fn new(pods: usize, rules: &Value) -> Self {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        Self {
            object: json!({
                "metadata": {"name": "web", "namespace": "ns", "uid": "rule", "generation": 1},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "rules": rules},
            }),
            pods: names.iter().take(pods).map(|name| pod(name)).collect(),
            sets: Vec::new(),
        }
    }

    fn pod(&mut self, name: &str) -> &mut Value {
        let is_it = |pod: &&mut Value| pod["metadata"]["name"] == name;
        self.pods.iter_mut().find(is_it).expect("a pod")
    }

    fn label(&mut self, name: &str, key: &str, value: Option<&str>) {
        let labels = &mut self.pod(name)["metadata"]["labels"];
        match value {
            Some(value) => labels[key] = json!(value),
            None => drop(labels.as_object_mut().expect("labels").remove(key)),
        }
    }

    /// The label of an operation.
    fn mark(&mut self, name: &str, mark: &str, id: &str, value: Option<&str>) {
        let key = format!("{mark}.podopslifecycle.kusionstack.io/{id}");
        self.label(name, &key, value);
    }

    fn begin(&mut self, name: &str, time: &str) {
        self.mark(name, "operating", "collaset", Some(time));
        self.mark(name, "operation-type", "collaset", Some("update"));
    }

    /// The lifecycle takes a pod out of service.
    fn leaves(&mut self, name: &str) {
        self.mark(name, "pre-checked", "collaset", Some("2"));
        self.mark(name, "preparing", "collaset", Some("2"));
        self.serves_not(name);
    }

    fn serves_not(&mut self, name: &str) {
        let key = "podopslifecycle.kusionstack.io/service-available";
        self.label(name, key, None);
    }

    fn is_ready(&mut self, name: &str, is_ready: bool) {
        let status = if is_ready { "True" } else { "False" };
        self.pod(name)["status"]["conditions"] = json!([{"type": "Ready", "status": status}]);
    }

    /// All labels of operations are removed, and the pod serves.
    fn returns(&mut self, name: &str) {
        *self.pod(name) = pod(name);
    }

    /// The set of these pods, of so many replicas.
    fn owned_by_set(&mut self, replicas: usize) {
        let owner = json!({"apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet",
            "name": "web", "uid": "set", "controller": true});
        for pod in &mut self.pods {
            pod["metadata"]["ownerReferences"] = json!([owner]);
        }
        self.sets = vec![json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "set"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}},
            },
        })];
    }

    fn object(&self) -> Arc<PodTransitionRule> {
        read(&self.object)
    }

    fn status(&self) -> PodTransitionRuleStatus {
        let pods: Vec<Arc<Pod>> = self.pods.iter().map(read).collect();
        let set = |object: &Value| Set {
            object: read::<CollaSet>(object),
            pods: pods.clone(),
        };
        let seen = Seen {
            object: self.object(),
            sets: self.sets.iter().map(set).collect(),
            pods: pods.clone(),
            now: Timestamp::from_second(1_700_000_000).expect("a time"),
        };
        conclude(&seen).status
    }

    /// The controller decides, and the API server stores it.
    fn decide(&mut self) -> PodTransitionRuleStatus {
        let status = self.status();
        self.object["status"] = serde_json::to_value(&status).expect("JSON");
        status
    }

    /// The names of the pods whose operations are allowed.
    fn allowed(&mut self) -> Vec<String> {
        let details = self.decide().details.into_iter();
        details
            .filter(|detail| detail.passed)
            .map(|one| one.name)
            .collect()
    }

    /// Why a pod waits.
    fn reason(&mut self, name: &str) -> String {
        let details = self.decide().details;
        let mut rejected = details.iter().filter(|detail| detail.name == name);
        let detail: &TransitionDetail = rejected.next().expect("a decision");
        assert!(!detail.passed, "{detail:?}");
        let info = &detail.reject_info[0];
        format!("{}: {}", info.rule_name, info.reason)
    }

    fn answers(&self, name: &str) -> Answers {
        let mut pods = self.pods.iter();
        let pod = pods.find(|pod| pod["metadata"]["name"] == name);
        let pod: Arc<Pod> = read(pod.expect("a pod"));
        answers(&pod, &[self.object()])
    }

    fn before(&self, name: &str) -> Verdict {
        self.answers(name).before
    }
}

fn read<K: serde::de::DeserializeOwned>(value: &Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value.clone()).expect("an object"))
}

/// A pod that serves.
fn pod(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "annotations": {},
            "labels": {
                "app": "web",
                "kusionstack.io/control": "true",
                "podopslifecycle.kusionstack.io/service-available": "1",
            },
        },
        "spec": {"readinessGates": [{"conditionType": "pod.kusionstack.io/service-ready"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// The rule that so many pods may be out of service.
fn at_most(most: impl Into<Value>) -> Value {
    json!([{"name": "most", "availablePolicy": {"maxUnavailableValue": most.into()}}])
}
