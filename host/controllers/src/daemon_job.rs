//! The DaemonJob controller. Everything that is decided is decided in `operon_core::daemon_job`; this file
//! observes, carries out the plan, and writes the status.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt};
use operon_api::{DaemonJob, keys};
use operon_core::{
    daemon_job::{
        Observed, claim,
        conclude::{Conclusion, conclude},
        plan::plan,
    },
    jobs::is_refused,
};

use crate::{
    error::Error,
    events::Events,
    jobs::{Maker, PodsOfJobs},
    owners::Owners,
    reporter::Reporter,
    run::{Next, Reconciler},
    status::StatusWriter,
    store::Cache,
};

/// The controller's parts.
pub struct DaemonJobs {
    /// Writes objects.
    pub client: Client,
    /// All DaemonJobs.
    pub objects: Cache<DaemonJob>,
    /// All nodes, without what their kubelets tell of images and volumes.
    pub nodes: Cache<Node>,
    /// The Jobs of JobFlows and DaemonJobs.
    pub jobs: Cache<Job>,
    /// All pods, and which are whose.
    pub pods: Cache<Pod>,
    /// See [`DaemonJobs::pods`].
    pub pods_of_jobs: Arc<PodsOfJobs>,
    /// Which Jobs are whose.
    pub owners: Arc<Owners>,
    /// Sends Events.
    pub events: Events,
    /// Writes statuses.
    pub status: StatusWriter,
}

impl Reconciler for DaemonJobs {
    type Object = DaemonJob;
    const NAME: &'static str = "daemonjob";

    async fn reconcile(&self, object: Arc<DaemonJob>) -> Result<Next, Error> {
        let before = self.observe(object); // (no client)
        let plan = plan(&before.observed()); // (no client)
        let maker = self.maker(&before.object);
        let adopts = plan.adopts;
        let (made, not_made) = maker
            .make_all(&plan.start, &|start, job| {
                claim(&before.object, start, adopts, job, before.now)
            })
            .await; // (client)
        let adjusted = maker.adjust_all(&plan.adjust).await; // (client)
        let deleted = maker.delete_all(&plan.delete).await; // (client)
        let after = self.observe(Arc::clone(&before.object)); // (no client)
        let conclusion = conclude(&after.observed(), &plan, &made); // (no client)
        let Conclusion {
            status,
            events,
            requeue_after,
        } = &conclusion;
        let object = &*after.object;
        let mut next = self
            .reporter()
            .report(
                object,
                object.status.as_ref(),
                status,
                events,
                *requeue_after,
            )
            .await?; // (client)
        next.retry |= is_refused(&made);
        // What failed keeps nothing else from being done, nor the status from being written.
        not_made.and(adjusted).and(deleted).map(|()| next)
    }
}

/// What was found in the caches.
struct Observation {
    object: Arc<DaemonJob>,
    jobs: Vec<Arc<Job>>,
    nodes: Vec<Arc<Node>>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    all_pods: Vec<Arc<Pod>>,
    now: Timestamp,
}

impl Observation {
    fn observed(&self) -> Observed<'_> {
        let Self {
            object,
            jobs,
            nodes,
            pods,
            all_pods,
            now,
        } = self;
        Observed {
            object,
            jobs,
            nodes,
            pods,
            all_pods,
            now: *now,
        }
    }
}

impl DaemonJobs {
    fn observe(&self, object: Arc<DaemonJob>) -> Observation {
        let jobs = self.owners.jobs_of(&*object, &self.jobs.store);
        let uids = jobs.iter().filter_map(|job| job.uid());
        let now = Timestamp::now();
        Observation {
            pods: self.pods_of_jobs.of(uids, &self.pods.store),
            all_pods: self.pods_of_jobs.of_owner(&*object, &self.pods.store),
            nodes: self.nodes.store.state(),
            // Times in a status are whole seconds, so that writing one and reading it back is no change.
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
            jobs,
            object,
        }
    }

    fn maker(&self, object: &DaemonJob) -> Maker<'_> {
        Maker {
            api: Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default()),
            jobs: &self.jobs,
            manager: keys::DAEMON_JOB_MANAGER,
        }
    }

    fn reporter(&self) -> Reporter<'_, DaemonJob> {
        Reporter {
            client: &self.client,
            manager: keys::DAEMON_JOB_MANAGER,
            status: &self.status,
            cache: &self.objects,
            events: &self.events,
        }
    }
}
