//! The JobTemplate controller: says which Jobs were made from a template.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client, ResourceExt};
use operon_api::{JobTemplate, keys};
use operon_core::job_flow::template;

use crate::{
    error::Error,
    owners::Owners,
    run::{Next, Reconciler},
    status::{StatusWriter, Written},
    store::Cache,
};

/// The controller's parts.
pub struct JobTemplates {
    /// Writes statuses.
    pub client: Client,
    /// All JobTemplates.
    pub templates: Cache<JobTemplate>,
    /// The Jobs of flows and DaemonJobs.
    pub jobs: Cache<Job>,
    /// Which Jobs are whose.
    pub owners: Arc<Owners>,
    /// Writes statuses.
    pub status: StatusWriter,
}

impl Reconciler for JobTemplates {
    type Object = JobTemplate;
    const NAME: &'static str = "jobtemplate";

    async fn reconcile(&self, template: Arc<JobTemplate>) -> Result<Next, Error> {
        if template.metadata.deletion_timestamp.is_some() {
            return Ok(Next::default());
        }
        let jobs = self.owners.jobs_of_template(&template, &self.jobs.store);
        let status = template::status(&template, &jobs);
        let api = Api::namespaced(
            self.client.clone(),
            &template.namespace().unwrap_or_default(),
        );
        let written = self
            .status
            .write(
                &api,
                keys::JOB_TEMPLATE_MANAGER,
                &*template,
                template.status.as_ref(),
                &status,
            )
            .await?;
        Ok(match written {
            Written::Unchanged => Next::default(),
            Written::Later(wait) => Next {
                requeue_after: Some(wait),
                retry: false,
            },
            Written::Yes(written) => {
                self.templates.wrote(*written);
                Next::default()
            }
        })
    }
}
