//! The JobFlow controller. Everything that is decided is decided in `operon_core::job_flow`; this file
//! observes, carries out the plan, and writes the status.

use std::{
    collections::{BTreeSet, HashMap},
    pin::pin,
    sync::Arc,
};

use futures::future::{Either, select};
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt, api::DeleteParams, runtime::reflector::ObjectRef};
use operon_api::{JobFlow, JobTemplate, job_flow::JobFlowStatus, keys};
use operon_core::{
    action::Severity,
    job_flow::{
        Observed, claim,
        conclude::{Conclusion, conclude},
        graph::{FlowGraph, GraphError},
        plan::{meanwhile, plan},
    },
    jobs::{Start, is_refused},
};
use tokio::time::timeout;

use crate::{
    apply,
    error::Error,
    events::Events,
    jobs::{Maker, PodsOfJobs},
    owners::Owners,
    reporter::Reporter,
    run::{Next, PACE, Reconciler},
    status::StatusWriter,
    store::Cache,
};

/// The controller's parts.
pub struct JobFlows {
    /// Writes objects.
    pub client: Client,
    /// All JobFlows.
    pub flows: Cache<JobFlow>,
    /// All JobTemplates.
    pub templates: Cache<JobTemplate>,
    /// The Jobs of flows and DaemonJobs.
    pub jobs: Cache<Job>,
    /// All pods, and which are whose.
    pub pods: Cache<Pod>,
    /// See [`JobFlows::pods`].
    pub pods_of_jobs: Arc<PodsOfJobs>,
    /// Which Jobs are whose.
    pub owners: Arc<Owners>,
    /// Sends Events.
    pub events: Events,
    /// Writes statuses.
    pub status: StatusWriter,
}

impl Reconciler for JobFlows {
    type Object = JobFlow;
    const NAME: &'static str = "jobflow";

    async fn reconcile(&self, flow: Arc<JobFlow>) -> Result<Next, Error> {
        let graph = FlowGraph::new(&flow.spec); // (no client)
        let before = self.observe(flow); // (no client)
        let plan = plan(&before.observed(&graph)); // (no client)
        if plan.expire {
            return self.expire(&before.flow).await; // (client)
        }
        let maker = self.maker(&before.flow);
        let flow = &*before.flow;
        let deleted = maker.delete_all(&plan.delete).await; // (client)
        let adjusted = maker.adjust_all(&plan.adjust).await; // (client)
        let (made, not_made) = maker
            .make_all(&plan.start, &|start, job| {
                claim(flow, start, job, before.now)
            })
            .await; // (client)
        let after = self.observe(Arc::clone(&before.flow)); // (no client)
        let conclusion = conclude(&after.observed(&graph), &plan, &made); // (no client)
        let Conclusion {
            status,
            events,
            requeue_after,
        } = &conclusion;
        let flow = &*after.flow;
        let reporter = self.reporter();
        let current = flow.status.as_ref();
        let report = reporter.report(flow, current, status, events, *requeue_after);
        let is_refused = is_refused(&made);
        let mut next = if not_made.is_ok() && !is_refused {
            self.start_meanwhile(flow, &graph, status, report).await? // (client)
        } else {
            report.await? // (client)
        };
        next.retry |= is_refused;
        // What failed keeps nothing else from being done, nor the status from being written.
        deleted.and(adjusted).and(not_made).map(|()| next)
    }
}

/// What was found in the caches.
struct Observation {
    flow: Arc<JobFlow>,
    jobs: Vec<Arc<Job>>,
    templates: HashMap<String, Arc<JobTemplate>>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
}

impl Observation {
    fn observed<'a>(&'a self, graph: &'a Result<FlowGraph, GraphError>) -> Observed<'a> {
        let Self {
            flow,
            jobs,
            templates,
            pods,
            now,
        } = self;
        Observed {
            flow,
            graph,
            jobs,
            templates,
            pods,
            now: *now,
        }
    }
}

impl JobFlows {
    fn observe(&self, flow: Arc<JobFlow>) -> Observation {
        let namespace = flow.namespace().unwrap_or_default();
        let jobs = self.owners.jobs_of(&*flow, &self.jobs.store);
        let steps = flow.status.iter().flat_map(|status| &status.steps);
        let known = steps.filter_map(|step| step.job_uid.clone());
        let uids: BTreeSet<_> = jobs
            .iter()
            .filter_map(|job| job.uid())
            .chain(known)
            .collect();
        let names = flow
            .spec
            .flows
            .iter()
            .filter_map(|step| step.job_template_ref.as_ref());
        let templates = names.filter_map(|name| {
            let found = self
                .templates
                .store
                .get(&ObjectRef::new(name).within(&namespace))?;
            Some((name.clone(), found))
        });
        let now = Timestamp::now();
        Observation {
            pods: self.pods_of_jobs.of(uids, &self.pods.store),
            templates: templates.collect(),
            // Times in a status are whole seconds, so that writing one and reading it back is no change.
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
            jobs,
            flow,
        }
    }

    /// Waits for `report`, and starts the steps whose turn comes meanwhile: to write the status of a flow
    /// of a thousand steps takes seconds, and nobody needs to wait for that.
    async fn start_meanwhile(
        &self,
        flow: &JobFlow,
        graph: &Result<FlowGraph, GraphError>,
        status: &JobFlowStatus,
        report: impl Future<Output = Result<Next, Error>>,
    ) -> Result<Next, Error> {
        let mut report = pin!(report);
        loop {
            if let Ok(done) = timeout(PACE, &mut report).await {
                return done;
            }
            let now = self.flows.store.get(&ObjectRef::from_obj(flow));
            let Some(now) = now.filter(|now| now.uid() == flow.uid()) else {
                break;
            };
            let found = self.observe(now);
            let due = meanwhile(&found.observed(graph), status);
            let claimant = |start: &Start, job: &Job| claim(&found.flow, start, job, found.now);
            let maker = self.maker(&found.flow);
            let mut making = pin!(maker.make_all(&due, &claimant));
            match select(&mut report, &mut making).await {
                Either::Left((done, making)) => {
                    let (_, result) = making.await;
                    return result.and(done);
                }
                // What goes wrong is found and told by the next pass.
                Either::Right(((made, result), _)) => {
                    if result.is_err() || is_refused(&made) {
                        break;
                    }
                }
            }
        }
        report.await
    }

    fn maker(&self, flow: &JobFlow) -> Maker<'_> {
        Maker {
            api: Api::namespaced(self.client.clone(), &flow.namespace().unwrap_or_default()),
            jobs: &self.jobs,
            manager: keys::JOB_FLOW_MANAGER,
        }
    }

    async fn expire(&self, flow: &JobFlow) -> Result<Next, Error> {
        let ttl = flow.spec.ttl_seconds_after_finished.unwrap_or_default();
        let api = Api::namespaced(self.client.clone(), &flow.namespace().unwrap_or_default());
        apply::delete(&api, flow, true, DeleteParams::background()).await?;
        let message = format!("deleted {ttl} s after it finished (spec.ttlSecondsAfterFinished)");
        self.events
            .send(flow, Severity::Normal, "TTL", "Expire", &message)
            .await;
        Ok(Next::default())
    }

    fn reporter(&self) -> Reporter<'_, JobFlow> {
        Reporter {
            client: &self.client,
            manager: keys::JOB_FLOW_MANAGER,
            status: &self.status,
            cache: &self.flows,
            events: &self.events,
        }
    }
}
