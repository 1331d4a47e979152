//! The DaemonJob controller. Everything that is decided is decided in `operon_core::daemon_job`; this
//! file reads the caches.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{DaemonJob, keys};
use operon_core::daemon_job::{Driven, Seen};

use crate::{
    driven::Controller, jobs::PodsOfJobs, owner_triggers::OwnerTriggers, status::whole_seconds,
    store::Cache,
};

/// What DaemonJobs are decided from.
pub struct DaemonJobs {
    /// All nodes, without what their kubelets report of images and volumes.
    pub nodes: Cache<Node>,
    /// The Jobs of JobFlows and DaemonJobs.
    pub jobs: Cache<Job>,
    /// All pods, and the Jobs that own them.
    pub pods: Cache<Pod>,
    /// See [`DaemonJobs::pods`].
    pub pods_of_jobs: Arc<PodsOfJobs>,
    /// Knows the Jobs of an object, and wakes it.
    pub triggers: Arc<OwnerTriggers>,
}

impl Controller for DaemonJobs {
    type Object = DaemonJob;
    type Kind = Driven;

    const NAME: &'static str = "daemonjob";
    const MANAGER: &'static str = keys::DAEMON_JOB_MANAGER;

    fn look(&self, object: Arc<DaemonJob>, _before: Option<Seen>) -> Seen {
        let jobs = self.triggers.jobs_of(&*object, &self.jobs.store);
        let uids = jobs.iter().filter_map(|job| job.uid());
        Seen {
            pods: self.pods_of_jobs.of(uids, &self.pods.store),
            all_pods: self.pods_of_jobs.of_owner(&*object, &self.pods.store),
            nodes: self.nodes.store.state(),
            now: whole_seconds(Timestamp::now()),
            jobs,
            object,
        }
    }

    fn object(seen: &Seen) -> &Arc<DaemonJob> {
        &seen.object
    }
}
