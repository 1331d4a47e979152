//! The JobTemplate controller: reports which Jobs were created from a template.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use operon_api::JobTemplate;
use operon_core::{
    driver::{Conclusion, StatusWrite},
    job_flow::template,
};

use crate::{
    error::Error,
    owner_triggers::OwnerTriggers,
    report::Reports,
    run::{Next, Reconciler},
    store::Cache,
};

/// The controller's parts.
pub struct JobTemplates {
    /// The Jobs of flows and DaemonJobs.
    pub jobs: Cache<Job>,
    /// Knows the Jobs of an object, and wakes it.
    pub triggers: Arc<OwnerTriggers>,
    /// Writes statuses.
    pub reports: Arc<Reports<JobTemplate>>,
}

impl Reconciler for JobTemplates {
    type Object = JobTemplate;
    const NAME: &'static str = "jobtemplate";
    const STATUS_MANAGER: Option<&'static str> = None;

    async fn reconcile(&self, template: Arc<JobTemplate>) -> Result<Next, Error> {
        match self.reports.status_write(&template) {
            StatusWrite::None => {}
            StatusWrite::Sent(_) => return Ok(Next::default()),
            StatusWrite::Failed(refusal) => return Err(refusal.into()),
        }
        if template.metadata.deletion_timestamp.is_some() {
            return Ok(Next::default());
        }
        let jobs = self.triggers.jobs_of_template(&template, &self.jobs.store); // (no client)
        let conclusion = Conclusion {
            status: template::status(&template, &jobs), // (no client)
            events: Vec::new(),
            requeue_after: None,
        };
        Ok(self.reports.report(&template, conclusion)) // (client)
    }

    async fn stop(&self) {
        self.reports.written().await;
    }
}

#[cfg(test)]
mod simulation;
