//! What the controllers share that make Jobs for their objects: Jobs are made under names that say what
//! they are for, patched and deleted, and found again with their pods.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, stream};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Resource, ResourceExt,
    api::DeleteParams,
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::keys;
use operon_core::{
    action::Failure,
    jobs::{AllMade, Claim, Made, Start},
};
use serde_json::{Value, json};

use crate::{
    apply::{self, Created},
    error::{Class, Error},
    index::Index,
    store::Cache,
};

/// How many requests of one pass are under way at the same time.
const SIDE_BY_SIDE: usize = 16;

/// Who makes Jobs, and where.
pub struct Maker<'a> {
    /// The Jobs of the namespace.
    pub api: Api<Job>,
    /// The cache that is told of every write.
    pub jobs: &'a Cache<Job>,
    /// The field manager.
    pub manager: &'static str,
}

/// Says whose a Job is that already has a name of one that is to be made.
pub type Claimant<'a> = &'a (dyn Fn(&Start, &Job) -> Claim + Sync);

impl Maker<'_> {
    /// Makes Jobs, side by side, and says what came of each. A Job that the API server refuses is no
    /// error; of those that may go better in the next pass it is the first.
    pub async fn make_all(
        &self,
        starts: &[Start],
        claimant: Claimant<'_>,
    ) -> (AllMade, Result<(), Error>) {
        let making: Vec<_> = starts
            .iter()
            .map(|start| self.make(start, claimant))
            .collect();
        let made: Vec<_> = stream::iter(making).buffered(SIDE_BY_SIDE).collect().await;
        let mut all = AllMade::new();
        let mut result = Ok(());
        for (start, made) in starts.iter().zip(made) {
            match made {
                Ok(made) => {
                    all.insert(start.subject.clone(), made);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        (all, result)
    }

    /// Makes a Job under the first of its names that nobody else has, or finds that it is made already.
    ///
    /// # Errors
    /// One that may go better in the next pass. A Job that the API server refuses is no error.
    pub async fn make(&self, start: &Start, claimant: Claimant<'_>) -> Result<Made, Error> {
        for name in &start.names {
            if self.knows_leaving(start, name, claimant) {
                return Ok(Made::Leaving);
            }
            let mut body = start.body.clone();
            body["metadata"]["name"] = json!(name);
            let job = match apply::create::<Job>(&self.api, self.manager, &body).await {
                Ok(Created::New(job)) => job,
                Ok(Created::Exists(job)) => match claimant(start, &job) {
                    Claim::Mine => job,
                    Claim::Adopt(patch) => apply::patch(&self.api, &job, patch, true).await?,
                    Claim::Others => continue,
                    Claim::Leaving => return Ok(Made::Leaving),
                },
                Err(error) if matches!(error.class(), Class::Invalid | Class::Denied) => {
                    return Ok(Made::Refused(Failure::new(error.reason(), error.chain())));
                }
                Err(error) => return Err(error),
            };
            self.jobs.wrote(job.clone());
            return Ok(Made::Job(Arc::new(job)));
        }
        let names = start.names.join(", ");
        Ok(Made::Refused(Failure::new(
            "NamesTaken",
            format!(
                "failed to create a Job: somebody else's Jobs have the names that it may have: {names}"
            ),
        )))
    }

    /// Whether the cache has a leaving Job of this name. While many of them go, none is asked for again
    /// and again.
    fn knows_leaving(&self, start: &Start, name: &str, claimant: Claimant<'_>) -> bool {
        let namespace = start.body["metadata"]["namespace"].as_str();
        let reference = ObjectRef::new(name).within(namespace.unwrap_or_default());
        let known = self.jobs.store.get(&reference);
        known.is_some_and(|job| claimant(start, &job) == Claim::Leaving)
    }

    /// Patches Jobs, each if it is still this one. One that is gone meanwhile is left at that.
    ///
    /// # Errors
    /// The first of those that happened; all were tried.
    pub async fn adjust_all(&self, adjust: &[(Arc<Job>, Value)]) -> Result<(), Error> {
        let patches: Vec<_> = adjust
            .iter()
            .map(|(job, patch)| self.adjust(job, patch))
            .collect();
        all(patches).await
    }

    async fn adjust(&self, job: &Job, patch: &Value) -> Result<(), Error> {
        match apply::patch(&self.api, job, patch.clone(), false).await {
            Ok(adjusted) => {
                self.jobs.wrote(adjusted);
                Ok(())
            }
            Err(error) if error.class() == Class::Gone => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes Jobs, pods first.
    ///
    /// # Errors
    /// The first of those that happened; all were tried.
    pub async fn delete_all(&self, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let deletions: Vec<_> = jobs.iter().map(|job| self.delete(job)).collect();
        all(deletions).await
    }

    async fn delete(&self, job: &Job) -> Result<(), Error> {
        match apply::delete(&self.api, job, false, DeleteParams::foreground()).await {
            Err(error) if error.class() != Class::Gone => Err(error),
            _ => Ok(()),
        }
    }
}

/// Does all of these, side by side, and returns the first error.
async fn all(writes: Vec<impl Future<Output = Result<(), Error>>>) -> Result<(), Error> {
    stream::iter(writes)
        .buffer_unordered(SIDE_BY_SIDE)
        .fold(Ok(()), |before, now| std::future::ready(before.and(now)))
        .await
}

/// Pods by the uid of their Job, and by namespace and uid of the object that it was made for, if they are
/// labelled with that.
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

    /// The pods of an object's namespace that are labelled as made for it, whether or not their Job is
    /// still there.
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
