//! The mark on a pod that was released from its `ReplicaSet`: one label and one annotation, written by
//! the same patch that takes the hash label away. It holds what it takes to put the pod back, and
//! what tells a substitute from the pods that were there before, without a clock of ours.

use operon_sdk::patch::merge;
use operon_sdk::{MetadataEdit, Patch, Pod, json};
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::replica_set::ReplicaSet;

/// The annotation [`keys::ORIGIN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The uid of the job that released the pod; only that job puts it back or deletes it.
    pub job: String,
    /// The value of the label that was taken away.
    pub hash: String,
    /// The name of the `ReplicaSet`; its uid is the label [`keys::RELEASED_FROM`].
    pub replica_set: String,
    /// How many pods the `ReplicaSet` wanted at the release.
    #[serde(default)]
    pub replicas: usize,
    /// When the youngest pod of the `ReplicaSet` was created that was known at the release.
    pub newest: i64,
    /// How the names of those end that were created in that same second.
    pub peers: Vec<String>,
}

impl Mark {
    /// The mark for releasing a pod now, while its `ReplicaSet` has these pods.
    pub fn new(job: &str, hash: &str, replica_set: &ReplicaSet, pods: &[Pod]) -> Self {
        let newest = pods.iter().map(|pod| pod.created_at).max().unwrap_or(0);
        let peers = pods.iter().filter(|pod| pod.created_at == newest);
        let mut peers: Vec<String> = peers.map(|pod| ending(&pod.name).to_owned()).collect();
        peers.sort();
        Self {
            job: job.to_owned(),
            hash: hash.to_owned(),
            replica_set: replica_set.name.clone(),
            replicas: replica_set.replicas,
            newest,
            peers,
        }
    }

    /// The mark on a pod; none if it has none that can be read.
    pub fn of(pod: &Pod) -> Option<Self> {
        serde_json::from_str(pod.annotation(keys::ORIGIN)?).ok()
    }

    /// The patch that releases the pod.
    pub fn put_on(&self, pod: &Pod, replica_set_uid: &str) -> MetadataEdit {
        // A struct of strings and numbers always has a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        pod.edit()
            .remove_label(keys::TEMPLATE_HASH)
            .set_label(keys::RELEASED_FROM, replica_set_uid)
            .set_annotation(keys::ORIGIN, &text)
    }

    /// The patch that puts the pod back. It names the `ReplicaSet` as the pod's controller, instead of
    /// waiting for it to adopt the pod: so the pod is at no moment nobody's, and should the
    /// `ReplicaSet` be gone by then, the garbage collector takes the pod as it took the others.
    pub fn take_off(&self, pod: &Pod, replica_set_uid: &str) -> Patch {
        let mut metadata = json!({
            "labels": {keys::TEMPLATE_HASH: self.hash, keys::RELEASED_FROM: null},
            "annotations": {keys::ORIGIN: null}
        });
        if pod.controller().is_none() {
            let others = pod.owners.iter().map(|owner| {
                json!({"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name,
                    "uid": owner.uid})
            });
            let controller = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": self.replica_set, "uid": replica_set_uid, "controller": true});
            metadata["ownerReferences"] = others.chain([controller]).collect();
        }
        Patch {
            uid: Some(pod.uid.clone()),
            resource_version: Some(pod.resource_version.clone()),
            ..merge(pod.reference(), &json!({ "metadata": metadata }))
        }
    }

    /// Whether a pod of the same `ReplicaSet` was created after the release.
    pub fn precedes(&self, pod: &Pod) -> bool {
        let known = || self.peers.iter().any(|peer| peer == ending(&pod.name));
        pod.created_at > self.newest || (pod.created_at == self.newest && !known())
    }
}

/// The part of a pod's name that its controller made up.
fn ending(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(_, ending)| ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::testing::FakeCluster;

    #[test]
    fn only_pods_created_after_the_release_count_even_within_one_second() {
        let mut world = FakeCluster::new();
        let old = world.add_pod("foo-aaaaa", &json!({}));
        world.advance(5);
        let peer = world.add_pod("foo-bbbbb", &json!({}));
        let replica_set = ReplicaSet {
            uid: "r".into(),
            name: "foo".into(),
            deleting: false,
            replicas: 2,
            min_ready_seconds: 0,
            match_labels: Vec::new(),
        };
        let mark = Mark::new("j", "h", &replica_set, &[old.clone(), peer.clone()]);
        let same_second = world.add_pod("foo-ccccc", &json!({}));
        world.advance(1);
        let later = world.add_pod("foo-ddddd", &json!({}));
        let table = [
            (&old, false),
            (&peer, false),
            (&same_second, true),
            (&later, true),
        ];
        for (pod, expected) in table {
            assert_eq!(mark.precedes(pod), expected, "{}", pod.name);
        }
    }

    #[test]
    fn a_mark_that_somebody_mangled_reads_as_none() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({"annotations": {keys::ORIGIN: "{}"}}));
        assert_eq!(Mark::of(&pod), None);
    }
}
