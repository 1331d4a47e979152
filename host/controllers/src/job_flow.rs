//! The JobFlow controller. Everything that is decided is decided in `operon_core::job_flow`; this file
//! reads the caches.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{JobFlow, JobTemplate, keys};
use operon_core::job_flow::{Around, Driven, Seen};

use crate::{
    driven::Controller, jobs::PodsOfJobs, owner_triggers::OwnerTriggers, status::whole_seconds,
    store::Cache,
};

/// What JobFlows are decided from.
pub struct JobFlows {
    /// All JobTemplates.
    pub templates: Cache<JobTemplate>,
    /// The Jobs of flows and DaemonJobs.
    pub jobs: Cache<Job>,
    /// All pods, and the Jobs that own them.
    pub pods: Cache<Pod>,
    /// See [`JobFlows::pods`].
    pub pods_of_jobs: Arc<PodsOfJobs>,
    /// Knows the Jobs of an object, and wakes it.
    pub triggers: Arc<OwnerTriggers>,
}

impl Controller for JobFlows {
    type Object = JobFlow;
    type Kind = Driven;

    const NAME: &'static str = "jobflow";
    const MANAGER: &'static str = keys::JOB_FLOW_MANAGER;

    fn look(&self, flow: Arc<JobFlow>, before: Option<Seen>) -> Seen {
        let around = self.around(&flow);
        match before {
            Some(before) => before.again(around),
            None => Seen::new(flow, around),
        }
    }

    fn object(seen: &Seen) -> &Arc<JobFlow> {
        &seen.flow
    }
}

impl JobFlows {
    fn around(&self, flow: &JobFlow) -> Around {
        let namespace = flow.namespace().unwrap_or_default();
        let jobs = self.triggers.jobs_of(flow, &self.jobs.store);
        let steps = flow.status.iter().flat_map(|status| &status.steps);
        let known = steps.filter_map(|step| step.job_uid.clone());
        let uids: BTreeSet<_> = jobs
            .iter()
            .filter_map(|job| job.uid())
            .chain(known)
            .collect();
        let steps = flow.spec.flows.iter();
        let names = steps.filter_map(|step| step.job_template_ref.as_ref());
        let templates = names.filter_map(|name| {
            let reference = ObjectRef::new(name).within(&namespace);
            let found = self.templates.store.get(&reference)?;
            Some((name.clone(), found))
        });
        Around {
            pods: self.pods_of_jobs.of(uids, &self.pods.store),
            templates: templates.collect(),
            now: whole_seconds(Timestamp::now()),
            jobs,
        }
    }
}
