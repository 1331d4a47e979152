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
    jobs::{AllMade, Made, Start},
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
    /// The label that holds the uid of the object that a Job was made for.
    pub owner_label: &'static str,
}

impl Maker<'_> {
    /// Makes Jobs, side by side, and says what came of each.
    ///
    /// # Errors
    /// One that may go better in the next pass. A Job that the API server refuses is no error.
    pub async fn make_all(&self, starts: &[Start]) -> Result<AllMade, Error> {
        stream::iter(starts)
            .map(|start| async move {
                let made = self.make(&start.names, &start.body).await?;
                Ok((start.subject.clone(), made))
            })
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await
    }

    /// Makes a Job under the first of these names that nobody else has, or finds that it is made
    /// already.
    ///
    /// # Errors
    /// One that may go better in the next pass. A Job that the API server refuses is no error.
    pub async fn make(&self, names: &[String], body: &Value) -> Result<Made, Error> {
        for name in names {
            let mut body = body.clone();
            body["metadata"]["name"] = json!(name);
            let job = match apply::create::<Job>(&self.api, self.manager, &body).await {
                Ok(Created::New(job)) => job,
                Ok(Created::Exists(job)) => match self.ours(job, &body).await? {
                    Some(job) => job,
                    None => continue,
                },
                Err(error) if error.class() == Class::Terminal => {
                    return Ok(Made::Refused(Failure::new(error.reason(), error.chain())));
                }
                Err(error) => return Err(error),
            };
            self.jobs.wrote(job.clone());
            return Ok(Made::Job(Arc::new(job)));
        }
        let names = names.join(", ");
        Ok(Made::Refused(Failure::new(
            "NamesTaken",
            format!(
                "failed to create a Job: somebody else's Jobs have the names that it may have: {names}"
            ),
        )))
    }

    /// A Job that there is already, if it belongs to the same object. One that another operator made for
    /// that object has it as owner, and gets the marks that ours have.
    async fn ours(&self, job: Job, body: &Value) -> Result<Option<Job>, Error> {
        let owner = &body["metadata"]["ownerReferences"][0]["uid"];
        let wanted = owner.as_str().unwrap_or_default();
        if job.labels().get(self.owner_label).map(String::as_str) == Some(wanted) {
            return Ok(Some(job));
        }
        let mut controllers = job.owner_references().iter();
        let is_owned = job.owner_references().iter().any(|o| o.uid == wanted)
            && controllers.all(|owner| owner.controller != Some(true) || owner.uid == wanted);
        if !is_owned {
            return Ok(None);
        }
        let metadata = &body["metadata"];
        let patch = json!({"metadata": {
            "labels": metadata["labels"],
            "annotations": metadata["annotations"],
            "ownerReferences": metadata["ownerReferences"],
        }});
        apply::patch(&self.api, &job, patch, true).await.map(Some)
    }

    /// Patches Jobs, each if it is still this one. One that is gone meanwhile is left at that.
    ///
    /// # Errors
    /// One that may go better in the next pass.
    pub async fn adjust_all(&self, adjust: &[(Arc<Job>, Value)]) -> Result<(), Error> {
        stream::iter(adjust)
            .map(Ok)
            .try_for_each_concurrent(SIDE_BY_SIDE, |(job, patch)| async move {
                match apply::patch(&self.api, &**job, patch.clone(), false).await {
                    Ok(adjusted) => {
                        self.jobs.wrote(adjusted);
                        Ok(())
                    }
                    Err(error) if error.class() == Class::Gone => Ok(()),
                    Err(error) => Err(error),
                }
            })
            .await
    }

    /// Deletes Jobs, pods first.
    ///
    /// # Errors
    /// One that may go better in the next pass.
    pub async fn delete_all(&self, jobs: &[Arc<Job>]) -> Result<(), Error> {
        stream::iter(jobs)
            .map(Ok)
            .try_for_each_concurrent(SIDE_BY_SIDE, |job| async move {
                match apply::delete(&self.api, &**job, DeleteParams::foreground()).await {
                    Err(error) if error.class() != Class::Gone => Err(error),
                    _ => Ok(()),
                }
            })
            .await
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
