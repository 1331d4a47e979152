//! The mark on a pod that was released from its `ReplicaSet`: two labels and one annotation, written by the
//! same patch that removes the hash label and names another owner. It holds what is needed to put the pod
//! back, and to distinguish a substitute from older pods, without a clock of ours.

use operon_sdk::{Job, MetadataEdit, OwnerReference, Pod};
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::replica_set::{ReplicaSet, is_deployment};

/// The annotation [`keys::ORIGIN`], and the label [`keys::JOB`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// The uid of the job that released the pod; only that job puts it back or deletes it, or one that
    /// took over after that job ceased to exist.
    #[serde(skip)]
    pub job: String,
    /// The value of the label that was removed.
    pub hash: String,
    /// The name of the `ReplicaSet`; its uid is the label [`keys::RELEASED_FROM`].
    pub replica_set: String,
    /// Whether the pod's reference to the `ReplicaSet` had `blockOwnerDeletion`.
    #[serde(default)]
    pub block_owner_deletion: bool,
    /// How many pods the `ReplicaSet` wanted at the release.
    #[serde(default)]
    pub replicas: usize,
    /// When the youngest pod of the `ReplicaSet` was created that was known at the release.
    pub newest: i64,
    /// How the names of those end that were created in that same second.
    pub peers: Vec<String>,
    /// When the pod was released, by the clock of the host.
    #[serde(default)]
    pub released: i64,
}

impl Mark {
    /// The mark for releasing a pod now, while its `ReplicaSet` has these pods.
    pub fn new(job: &Job, pod: &Pod, replica_set: &ReplicaSet, pods: &[Pod]) -> Self {
        let newest = newest(pods);
        let peers = pods.iter().filter(|pod| pod.created_at == newest);
        let mut peers: Vec<String> = peers.map(|pod| ending(&pod.name).to_owned()).collect();
        peers.sort();
        let owner = pod.owners.iter().find(|owner| owner.uid == replica_set.uid);
        Self {
            job: job.uid.clone(),
            hash: pod
                .label(keys::TEMPLATE_HASH)
                .unwrap_or_default()
                .to_owned(),
            replica_set: replica_set.name.clone(),
            block_owner_deletion: owner.is_some_and(|owner| owner.block_owner_deletion),
            replicas: replica_set.replicas,
            newest,
            peers,
            released: job.now,
        }
    }

    /// The mark on a pod; none if it has none that can be read.
    pub fn of(pod: &Pod) -> Option<Self> {
        let mark: Self = serde_json::from_str(pod.annotation(keys::ORIGIN)?).ok()?;
        let job = pod.label(keys::JOB)?.to_owned();
        Some(Self { job, ..mark })
    }

    /// The patch that releases the pod. The pod's controller is the Deployment meanwhile: a drain evicts
    /// it, a budget counts it, and it is deleted with its Deployment. Without a Deployment, the
    /// `ReplicaSet` stays an owner that does not control the pod.
    pub fn put_on(&self, pod: &Pod, replica_set: &ReplicaSet) -> MetadataEdit {
        let deployment = replica_set.deployment();
        let same = |owner: &OwnerReference| {
            deployment
                .as_ref()
                .is_some_and(|deployment| deployment.uid == owner.uid)
        };
        let mut owners = Vec::new();
        for owner in pod.owners.iter().filter(|owner| !same(owner)) {
            if owner.uid != replica_set.uid {
                owners.push(owner.clone());
            } else if deployment.is_none() {
                owners.push(OwnerReference {
                    controller: false,
                    ..owner.clone()
                });
            }
        }
        owners.extend(deployment.clone());
        // A struct of strings and numbers always has a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        pod.edit()
            .set_annotation(keys::ORIGIN, &text)
            .set_label(keys::JOB, &self.job)
            .remove_label(keys::TEMPLATE_HASH)
            .set_label(keys::RELEASED_FROM, &replica_set.uid)
            .set_owners(&owners)
    }

    /// Whether the released pod got its hash label back from another client.
    pub fn is_put_back_by_hand(&self, pod: &Pod) -> bool {
        pod.label(keys::TEMPLATE_HASH) == Some(&self.hash)
    }

    /// The patch that hands the pod over to another job, which puts it back or deletes it from now on.
    pub fn taken_over(pod: &Pod, job: &str) -> MetadataEdit {
        pod.edit().set_label(keys::JOB, job)
    }

    /// The patch that puts the pod back. It names the `ReplicaSet` as the pod's controller, instead of
    /// waiting for it to adopt the pod, so the pod always has an owner. A controller that is
    /// neither the `ReplicaSet` nor a Deployment is left alone.
    pub fn take_off(&self, pod: &Pod, replica_set: &ReplicaSet) -> MetadataEdit {
        let edit = pod
            .edit()
            .set_label(keys::TEMPLATE_HASH, &self.hash)
            .remove_label(keys::RELEASED_FROM)
            .remove_label(keys::JOB)
            .remove_annotation(keys::ORIGIN);
        let back = |owner: &OwnerReference| owner.uid == replica_set.uid || is_deployment(owner);
        if pod.controller().is_some_and(|owner| !back(owner)) {
            return edit;
        }
        let stays = |owner: &&OwnerReference| !owner.controller && owner.uid != replica_set.uid;
        let mut owners: Vec<_> = pod.owners.iter().filter(stays).cloned().collect();
        owners.push(replica_set.reference(self.block_owner_deletion));
        edit.set_owners(&owners)
    }

    /// Whether a pod of the same `ReplicaSet` was created after the release.
    pub fn precedes(&self, pod: &Pod) -> bool {
        let known = || self.peers.iter().any(|peer| peer == ending(&pod.name));
        pod.created_at > self.newest || (pod.created_at == self.newest && !known())
    }
}

/// When the youngest of these pods was created.
pub fn newest(pods: &[Pod]) -> i64 {
    pods.iter().map(|pod| pod.created_at).max().unwrap_or(0)
}

/// The part of a pod's name that its controller generated.
fn ending(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(_, ending)| ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::json;
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
            controller: None,
            deleting: false,
            replicas: 2,
            min_ready_seconds: 0,
            match_labels: Vec::new(),
            failure: None,
        };
        let mark = Mark::new(
            &operon_sdk::testing::job("j", world.now(), "{}"),
            &old,
            &replica_set,
            &[old.clone(), peer.clone()],
        );
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
        let pod = json!({"labels": {keys::JOB: "j"}, "annotations": {keys::ORIGIN: "{}"}});
        let pod = world.add_pod("foo", &pod);
        assert_eq!(Mark::of(&pod), None);
    }
}
