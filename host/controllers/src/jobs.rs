//! The pods of Jobs: by their Job, and by the object that the Job was created for.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::keys;

use crate::{index::Index, store::Store};

/// Pods by the uid of their Job, and by namespace and uid of the object that it was created for, if they
/// are labelled with it.
pub struct PodsOfJobs(Index<Pod>);

impl Default for PodsOfJobs {
    fn default() -> Self {
        Self(Index::new(|pod| {
            let owner = pod.labels().get(keys::OWNER_UID);
            let owner = owner.map(|uid| owner_key(pod.namespace(), uid));
            let job = job_of(pod).map(|(uid, _)| uid);
            job.into_iter().chain(owner).collect()
        }))
    }
}

impl PodsOfJobs {
    /// A pod changed.
    pub fn changed(&self, pod: &Pod, pods: &Store<Pod>) {
        self.0.changed(pod, pods);
    }

    /// The pods of the Jobs of these uids, by those.
    pub fn of(
        &self,
        uids: impl IntoIterator<Item = String>,
        pods: &Store<Pod>,
    ) -> HashMap<String, Vec<Arc<Pod>>> {
        let found = uids.into_iter().map(|uid| {
            let pods = self.0.get(&uid, pods);
            (uid, pods)
        });
        found.collect()
    }

    /// The pods of an object's namespace that are labelled as created for it, whether or not their Job
    /// still exists.
    pub fn of_owner<K: Resource>(&self, object: &K, pods: &Store<Pod>) -> Vec<Arc<Pod>> {
        let uid = object.uid().unwrap_or_default();
        self.0.get(&owner_key(object.namespace(), &uid), pods)
    }
}

fn owner_key(namespace: Option<String>, uid: &str) -> String {
    format!("{}/{uid}", namespace.unwrap_or_default())
}

/// The Job that a pod belongs to, if it is in this store.
pub fn job_of_pod(pod: &Pod, jobs: &Store<Job>) -> Option<Arc<Job>> {
    let (uid, name) = job_of(pod)?;
    let job = jobs.get(&ObjectRef::new(&name).within(&pod.namespace().unwrap_or_default()))?;
    (job.metadata.uid.as_ref() == Some(&uid)).then_some(job)
}

/// Uid and name of the Job that a pod belongs to.
fn job_of(pod: &Pod) -> Option<(String, String)> {
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Job")?;
    Some((owner.uid.clone(), owner.name.clone()))
}
