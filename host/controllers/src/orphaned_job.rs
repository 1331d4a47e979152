//! Releases Jobs of a ReactiveJob that does not exist any more: its finalizers were removed, or a copy of a
//! Job outlived it. These Jobs have our finalizer, and no other controller removes it.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client, ResourceExt};
use operon_api::{ReactiveJob, keys};
use operon_core::reactive_job::family::is_held;

use crate::{
    apply,
    error::Error,
    reactive_job::ReactiveJobTriggers,
    run::{Next, Reconciler},
    store::Cache,
};

/// The controller's parts.
pub struct OrphanedJobs {
    /// Takes finalizers off.
    pub client: Client,
    /// All ReactiveJobs.
    pub objects: Cache<ReactiveJob>,
    /// Which of them there are.
    pub triggers: Arc<ReactiveJobTriggers>,
}

impl Reconciler for OrphanedJobs {
    type Object = Job;
    const NAME: &'static str = "orphanedjob";
    const STATUS_MANAGER: Option<&'static str> = None;

    async fn reconcile(&self, job: Arc<Job>) -> Result<Next, Error> {
        let is_deleted = job.metadata.deletion_timestamp.is_some();
        if is_deleted && is_held(&job) && !self.triggers.has_object(&job, &self.objects.store) {
            let api = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
            apply::set_finalizer(&api, &*job, keys::REACTIVE_JOB_FINALIZER, false).await?;
        }
        Ok(Next::default())
    }
}
