//! Deployments and ReplicaSets in a world: their pods, what their controllers do, and what the kubelet and
//! users do to pods. The ReplicaSet controller is the one of the SDK's fake cluster.

use operon_sdk::{Cluster as _, testing::FakeCluster};

use super::*;
use crate::simulation::{
    Chance, Objects, name_of,
    plurals::{DEPLOYMENTS, PODS, REPLICA_SETS},
};

/// The kinds of a workload: as the API server and as manifests name them.
const KINDS: [(&str, &str, &str); 3] = [
    (DEPLOYMENTS, "apps/v1", "Deployment"),
    (REPLICA_SETS, "apps/v1", "ReplicaSet"),
    (PODS, "v1", "Pod"),
];

/// The name of the Deployment and of its ReplicaSet, and the hash that labels their pods.
pub(super) const NAME: &str = "web";
pub(super) const HASH: &str = "h";

/// The workload, as its controllers know it.
pub(super) struct Workload {
    fake: FakeCluster,
}

impl Workload {
    /// A Deployment with this many ready pods.
    pub(super) fn new(replicas: u32, objects: &mut Objects, now: Timestamp) -> Self {
        let mut workload = Self {
            fake: FakeCluster::new(),
        };
        workload.passes_until(now);
        workload.fake.add_deployment(NAME, HASH, replicas);
        workload.publish(&[], objects);
        workload
    }

    fn passes_until(&mut self, now: Timestamp) {
        self.fake.advance(now.as_second() - self.fake.now());
    }

    fn all(&self) -> Vec<(&'static str, Value)> {
        let of_kind = |(plural, api_version, kind): (&'static str, &str, &str)| {
            let found = self.fake.find(api_version, kind, "").unwrap_or_default();
            found.into_iter().map(move |object| (plural, object))
        };
        KINDS.into_iter().flat_map(of_kind).collect()
    }

    /// The ReplicaSet controller looks at what there is, and acts.
    pub(super) fn reconcile(&mut self, objects: &mut Objects, now: Timestamp) {
        self.passes_until(now);
        for (plural, api_version, kind) in KINDS {
            for known in self.fake.find(api_version, kind, "").unwrap_or_default() {
                if objects.get(plural, name_of(&known)).is_none() {
                    self.fake.remove(api_version, kind, name_of(&known));
                }
            }
            for object in objects.all(plural) {
                self.fake.put(object);
            }
        }
        let before = self.all();
        self.fake.run_replica_sets();
        self.publish(&before, objects);
    }

    /// Writes what differs.
    fn publish(&self, before: &[(&'static str, Value)], objects: &mut Objects) {
        for (plural, mut object) in self.all() {
            if !before.contains(&(plural, object.clone())) {
                object["metadata"]["namespace"] = json!("ns");
                objects.set(plural, object);
            }
        }
    }
}

/// The kubelet, or a user, changes a pod.
pub(super) fn set_pod_state(
    objects: &mut Objects,
    mut pod: Value,
    phase: &str,
    is_ready: bool,
    now: Timestamp,
) {
    pod["spec"]["nodeName"] = json!("node");
    pod["status"] = json!({"phase": phase, "conditions": [{
        "type": "Ready",
        "status": if is_ready { "True" } else { "False" },
        "lastTransitionTime": whole_seconds(now).to_string(),
    }]});
    objects.set(PODS, pod);
}

pub(super) fn scale(objects: &mut Objects, replicas: usize) {
    let found = objects.get(REPLICA_SETS, NAME).cloned();
    let mut replica_set = found.expect("a ReplicaSet");
    replica_set["spec"]["replicas"] = json!(replicas);
    objects.set(REPLICA_SETS, replica_set);
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Neither being deleted nor ended.
pub(super) fn is_live(pod: &Value) -> bool {
    let has_ended = ["Failed", "Succeeded"]
        .iter()
        .any(|phase| pod["status"]["phase"] == *phase);
    pod["metadata"]["deletionTimestamp"].is_null() && !has_ended
}

pub(super) fn is_serving(pod: &Value) -> bool {
    is_live(pod) && is_ready(pod)
}

/// One of the live pods that are, or are not, ready.
pub(super) fn any_pod(objects: &Objects, chance: &mut Chance, ready: bool) -> Option<Value> {
    let mut pods = objects.all(PODS);
    pods.retain(|pod| is_live(pod) && is_ready(pod) == ready);
    (!pods.is_empty()).then(|| chance.pick(&pods))
}
