//! `ReplicaSets`, as kube-controller-manager runs them: pods are adopted and released by label, missing
//! ones are created where a quota has room, surplus ones deleted in the controller's own order.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::FakeCluster;
use super::cluster::merge;
use crate::{OwnerReference, Pod};

/// The letters of generated names.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How long a `ReplicaSet` sleeps after its pod was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    seconds: i64,
    until: i64,
}

impl FakeCluster {
    /// Adds the `ReplicaSet` `name` of a Deployment, and its ready pods with the label `pod-template-hash:
    /// <hash>`.
    pub fn add_replica_set(&mut self, name: &str, hash: &str, replicas: u32) {
        let labels = json!({"app": name, "pod-template-hash": hash});
        self.put(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [
                    {"name": "app", "image": "app:1"}
                ]}}
            }
        }));
        self.run_replica_sets();
        self.make_all_ready();
    }

    /// Adds the Deployment `name`, its `ReplicaSet` of the same name, and its ready pods.
    pub fn add_deployment(&mut self, name: &str, hash: &str, replicas: u32) {
        self.put(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": replicas}
        }));
        self.add_replica_set(name, hash, replicas);
        let deployment = self.object("apps/v1", "Deployment", name);
        let owners = json!([reference_to(deployment.unwrap_or(&Value::Null))]);
        let patch = json!({"metadata": {"ownerReferences": owners}});
        self.change("apps/v1", "ReplicaSet", name, &patch);
    }

    /// Sets a `ReplicaSet`'s `spec.replicas`.
    pub fn scale(&mut self, name: &str, replicas: u32) {
        let patch = json!({"spec": {"replicas": replicas}});
        self.change("apps/v1", "ReplicaSet", name, &patch);
    }

    /// Every pod that neither ended nor is being deleted becomes ready.
    pub fn make_all_ready(&mut self) {
        for pod in self.pods() {
            if pod.live() && !pod.ready {
                self.make_ready(&pod.name);
            }
        }
    }

    /// One reconcile of all `ReplicaSets` by the `ReplicaSet` controller.
    pub fn run_replica_sets(&mut self) {
        for replica_set in self.objects_of("apps/v1", "ReplicaSet") {
            self.run_replica_set(&replica_set);
        }
    }

    fn run_replica_set(&mut self, replica_set: &Value) {
        let selector = &replica_set["spec"]["selector"]["matchLabels"];
        let deleting = replica_set["metadata"]["deletionTimestamp"].is_string();
        for pod in self.pods().into_iter().filter(Pod::live) {
            let owned = pod.controller_uid() == replica_set["metadata"]["uid"].as_str();
            let selected = selects(selector, &pod);
            let others = pod
                .owners
                .iter()
                .filter(|owner| !owned || !owner.controller);
            let mut owners: Vec<Value> = others.map(OwnerReference::to_object).collect();
            if owned && !selected {
                self.set_owners(&pod, owners);
            } else if selected && pod.controller().is_none() && !deleting {
                owners.push(reference_to(replica_set));
                self.set_owners(&pod, owners);
            }
        }
        if deleting {
            return;
        }
        let uid = replica_set["metadata"]["uid"].as_str();
        let mut owned = self.pods();
        owned.retain(|pod| pod.live() && pod.controller_uid() == uid);
        let nodes: Vec<_> = owned.iter().map(|pod| pod.node.clone()).collect();
        owned.sort_by_key(|pod| deletion_rank(pod, &nodes));
        let wanted = replica_set["spec"]["replicas"].as_u64().unwrap_or(1);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        for surplus in owned.iter().take(owned.len().saturating_sub(wanted)) {
            self.start_deleting(&surplus.name);
        }
        let missing = wanted.saturating_sub(owned.len());
        self.create_missing(replica_set, missing);
    }

    /// Creates this number of pods, as far as quotas have room. After a refusal the controller sleeps, each
    /// time twice as long, and is not woken when there is room; its wait is reset once no pod is missing.
    fn create_missing(&mut self, replica_set: &Value, missing: usize) {
        let name = replica_set["metadata"]["name"].as_str().unwrap_or_default();
        let sleeps = self.backoff.get(name).copied();
        if missing > 0 && sleeps.is_some_and(|backoff| self.now() < backoff.until) {
            return;
        }
        for _ in 0..missing {
            if let Some(refusal) = self.quota_refusal() {
                let seconds = sleeps.map_or(1, |backoff| backoff.seconds * 2);
                let until = self.now() + seconds;
                let backoff = Backoff { seconds, until };
                self.backoff.insert(name.to_owned(), backoff);
                let failure = json!([{"type": "ReplicaFailure", "status": "True",
                    "reason": "FailedCreate", "message": refusal}]);
                self.set_conditions(name, &failure);
                return;
            }
            self.create_substitute(replica_set);
        }
        if self.backoff.remove(name).is_some() {
            self.set_conditions(name, &Value::Null);
        }
    }

    fn set_conditions(&mut self, replica_set: &str, conditions: &Value) {
        let patch = json!({"status": {"conditions": conditions}});
        self.change("apps/v1", "ReplicaSet", replica_set, &patch);
    }

    /// How the API server refuses one more pod, if a `ResourceQuota` has no room (`spec.hard.pods`).
    fn quota_refusal(&self) -> Option<String> {
        let used = self.pods().iter().filter(|pod| !pod.ended()).count();
        let quotas = self.objects_of("v1", "ResourceQuota");
        quotas.iter().find_map(|quota| {
            let hard = quota["spec"]["hard"]["pods"].as_str()?;
            let room = hard.parse().is_ok_and(|hard: usize| used < hard);
            let name = &quota["metadata"]["name"];
            (!room).then(|| {
                format!("exceeded quota: {name}, requested: pods=1, used: pods={used}, limited: pods={hard}")
            })
        })
    }

    fn set_owners(&mut self, pod: &Pod, owners: Vec<Value>) {
        let owners: Value = if owners.is_empty() {
            Value::Null
        } else {
            owners.into()
        };
        let patch = json!({"metadata": {"ownerReferences": owners}});
        self.change_pod(&pod.name, &patch);
    }

    fn create_substitute(&mut self, replica_set: &Value) {
        let base = replica_set["metadata"]["name"].as_str().unwrap_or_default();
        let suffixes = (0_usize..).map(suffix);
        let mut names = suffixes.map(|suffix| format!("{base}-{suffix}"));
        // A name is never given twice, as a generated one would not be.
        let name = names.find(|name| !self.names.contains(name));
        let name = name.unwrap_or_default();
        let template = &replica_set["spec"]["template"];
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default",
                "ownerReferences": [reference_to(replica_set)]},
            "status": {"phase": "Pending"}
        });
        merge(&mut pod, template);
        self.put(pod);
    }
}

/// The controller's order: without a node first, then not running, not ready, of the lowest deletion
/// cost, on the node with the most of its pods, ready for the shortest time, restarted most often, the
/// youngest.
type Rank = (
    (bool, bool, bool, i64),
    Reverse<usize>,
    Reverse<Option<i64>>,
    Reverse<u32>,
    Reverse<i64>,
    String,
);

fn deletion_rank(pod: &Pod, nodes: &[Option<String>]) -> Rank {
    let cost = pod.annotation("controller.kubernetes.io/pod-deletion-cost");
    let cost = cost.and_then(|cost| cost.parse().ok()).unwrap_or(0);
    let crowd = nodes.iter().filter(|node| **node == pod.node).count();
    let restarts = pod
        .containers
        .iter()
        .map(|container| container.restart_count);
    (
        (pod.node.is_some(), pod.phase == "Running", pod.ready, cost),
        Reverse(crowd),
        Reverse(pod.ready_since),
        Reverse(restarts.max().unwrap_or(0)),
        Reverse(pod.created_at),
        pod.name.clone(),
    )
}

pub(super) fn selects(match_labels: &Value, pod: &Pod) -> bool {
    let required = match_labels.as_object().into_iter().flatten();
    let mut required = required.map(|(key, value)| pod.label(key) == value.as_str());
    required.all(|fits| fits)
}

fn reference_to(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true
    })
}

/// Five letters that count upwards.
fn suffix(mut number: usize) -> String {
    let mut letters = [LETTERS[0]; 5];
    for letter in letters.iter_mut().rev() {
        *letter = LETTERS[number % LETTERS.len()];
        number /= LETTERS.len();
    }
    letters.iter().map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_loses_its_label_is_released_and_substituted_and_adopted_again_with_it() {
        let mut world = FakeCluster::new();
        world.add_replica_set("foo", "h", 2);
        let unlabelled = json!({"metadata": {"labels": {"pod-template-hash": null}}});
        world.change_pod("foo-bbbbb", &unlabelled);
        world.run_replica_sets();
        assert_eq!(world.expect_pod("foo-bbbbb").controller(), None);
        assert_eq!(world.staying_pods().len(), 3);

        let labelled = json!({"metadata": {"labels": {"pod-template-hash": "h"}}});
        world.change_pod("foo-bbbbb", &labelled);
        world.run_replica_sets();
        assert!(world.expect_pod("foo-bbbbb").controller().is_some());
        assert_eq!(
            world.staying_pods(),
            ["foo-bbbbb", "foo-bbbbc"],
            "the pod that is not ready goes"
        );
    }

    #[test]
    fn a_surplus_pod_goes_by_readiness_then_cost_then_node() {
        let mut world = FakeCluster::new();
        world.add_replica_set("foo", "h", 3);
        let cost = "controller.kubernetes.io/pod-deletion-cost";
        let cheap = json!({"metadata": {"annotations": {cost: "-5"}}});
        world.change_pod("foo-bbbbb", &cheap);
        world.change_pod("foo-bbbbc", &json!({"spec": {"nodeName": "node-2"}}));
        world.make_unready("foo-bbbbd");
        for (replicas, left) in [(2, vec!["foo-bbbbb", "foo-bbbbc"]), (1, vec!["foo-bbbbc"])] {
            world.scale("foo", replicas);
            world.run_replica_sets();
            assert_eq!(world.staying_pods(), left);
        }
    }

    #[test]
    fn a_replica_set_that_a_quota_refused_sleeps_until_no_pod_is_missing() {
        let mut world = FakeCluster::new();
        world.add_replica_set("foo", "h", 1);
        let quota = |pods: &str| {
            json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "pods"}, "spec": {"hard": {"pods": pods}}})
        };
        world.put(quota("1"));
        world.scale("foo", 2);
        for _ in 0..20 {
            world.run_replica_sets();
            world.advance(1);
        }
        world.put(quota("3"));
        world.run_replica_sets();
        assert_eq!(world.staying_pods(), ["foo-bbbbb"]);

        world.scale("foo", 1);
        world.run_replica_sets();
        world.scale("foo", 2);
        world.run_replica_sets();
        assert_eq!(world.staying_pods(), ["foo-bbbbb", "foo-bbbbc"]);
    }

    #[test]
    fn scaling_to_zero_deletes_every_pod() {
        let mut world = FakeCluster::new();
        world.add_replica_set("foo", "h", 2);
        world.scale("foo", 0);
        world.run_replica_sets();
        assert!(world.staying_pods().is_empty());
    }
}
