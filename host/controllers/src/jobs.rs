//! What the controllers share that make Jobs for their objects: Jobs are made under names that say what
//! they are for, patched and deleted, and found again with their pods.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::DeleteParams,
    runtime::reflector::{ObjectRef, Store},
};
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
    /// Makes Jobs, side by side, and says what came of each.
    ///
    /// # Errors
    /// One that may go better in the next pass. A Job that the API server refuses is no error.
    pub async fn make_all(
        &self,
        starts: &[Start],
        claimant: Claimant<'_>,
    ) -> Result<AllMade, Error> {
        let making: Vec<_> = starts
            .iter()
            .map(|start| self.make(start, claimant))
            .collect();
        let subjects = starts.iter().map(|start| start.subject.clone());
        let made: Vec<_> = stream::iter(making)
            .buffered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
        Ok(subjects.zip(made).collect())
    }

    /// Makes a Job under the first of its names that nobody else has, or finds that it is made already.
    ///
    /// # Errors
    /// One that may go better in the next pass. A Job that the API server refuses is no error.
    pub async fn make(&self, start: &Start, claimant: Claimant<'_>) -> Result<Made, Error> {
        for name in &start.names {
            let mut body = start.body.clone();
            body["metadata"]["name"] = json!(name);
            let job = match apply::create::<Job>(&self.api, self.manager, &body).await {
                Ok(Created::New(job)) => job,
                Ok(Created::Exists(job)) => match claimant(start, &job) {
                    Claim::Mine => job,
                    Claim::Adopt(patch) => apply::patch(&self.api, &job, patch, true).await?,
                    Claim::Others => continue,
                },
                Err(error) if error.class() == Class::Terminal => {
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

    /// Patches Jobs, each if it is still this one. One that is gone meanwhile is left at that.
    ///
    /// # Errors
    /// One that may go better in the next pass.
    pub async fn adjust_all(&self, adjust: &[(Arc<Job>, Value)]) -> Result<(), Error> {
        let patches: Vec<_> = adjust
            .iter()
            .map(|(job, patch)| self.adjust(job, patch))
            .collect();
        stream::iter(patches)
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await
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
    /// One that may go better in the next pass.
    pub async fn delete_all(&self, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let deletions: Vec<_> = jobs.iter().map(|job| self.delete(job)).collect();
        stream::iter(deletions)
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await
    }

    async fn delete(&self, job: &Job) -> Result<(), Error> {
        match apply::delete(&self.api, job, DeleteParams::foreground()).await {
            Err(error) if error.class() != Class::Gone => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a Job was refused that may be granted later: a quota may have room again, and what is invalid
/// stays so.
pub fn may_be_granted(made: &AllMade) -> bool {
    made.values()
        .any(|made| matches!(made, Made::Refused(why) if why.reason == "Forbidden"))
}

/// Pods by the uid of their Job.
pub struct PodsOfJobs(Index<Pod>);

impl Default for PodsOfJobs {
    fn default() -> Self {
        Self(Index::new(|pod| {
            job_of(pod).into_iter().map(|(uid, _)| uid).collect()
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
