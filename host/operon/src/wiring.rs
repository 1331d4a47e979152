//! Joins the layers: stores, catalogue, loader, registry and the controllers on top of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::{Client, Config, runtime::reflector::ObjectRef};
use operon_api::{
    ActionPlugin, DaemonJob, JobFlow, JobTemplate, OperationJob, ReactiveJob, keys,
    operation_job::Progress,
};
use operon_controllers::{
    action_events::ActionEvents,
    action_plugin::ActionPlugins,
    ask::Questions,
    book::Book,
    catalogue::Catalogue,
    colla_set::CollaSetTriggers,
    config::Configs,
    daemon_job::DaemonJobs,
    driven::{Controller, Driven},
    effects::Performers,
    events::Events,
    existing_jobs::ExistingJobs,
    fault::Faults,
    health::Health,
    job_flow::JobFlows,
    job_template::JobTemplates,
    left_behind::LeftBehind,
    metrics::Metrics,
    operation_job::{EFFECTS_AT_ONCE, OperationJobs, Starts},
    orphaned_job::OrphanedJobs,
    owner_triggers::OwnerTriggers,
    pod_ops_lifecycle::LifecycleTriggers,
    pod_transition_rule::RuleTriggers,
    reactive_job::{ReactiveJobTriggers, ReactiveJobs},
    report::{Reported, Reports},
    run::{self, Reconciler},
    served_fields::ServedFields,
    served_namespaces::Served,
    stand_down::Notice,
    status::StatusWriter,
    store::{Cache, Store},
    triggers::Triggers,
};
use operon_core::{namespaces::Namespaces, shares::Shares};
use operon_plugin_registry::Trust;
use tokio::{
    sync::OnceCell,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    beside::{Beside, StandDown},
    components::ComponentArguments,
    metrics::PluginMetrics,
    optional::{self, Optional, OptionalQueues},
    probes::{Phase, Readiness},
    run::{BesideKusionStack, OptionalController},
    stores::{JobFlowStores, Listeners, ReactiveJobStores, Stores, Watched},
};

/// The parts of the controllers.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) namespaces: Namespaces,
    pub(crate) shard: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) components: ComponentArguments,
    pub(crate) trust: Trust,
    pub(crate) controllers: Vec<OptionalController>,
    pub(crate) stand_down: StandDown,
    pub(crate) allow_foreign_crds: bool,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) plugin_metrics: PluginMetrics,
}

/// How long loading the existing ActionPlugins may delay OperationJobs. The jobs of an ActionPlugin that
/// takes longer wait for it.
const LOAD_LIMIT: Duration = Duration::from_mins(1);

/// How long running reconciles and calls may take to finish when the host is stopped. After it, and the
/// time that releasing the Lease may take, the kubelet kills the process.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The controllers, running.
pub(crate) struct Running {
    controllers: JoinSet<()>,
    /// What needs no end: a component that is being compiled when the host ends is compiled again.
    loading: Option<AbortHandle>,
    faults: Faults,
    action_events: ActionEvents,
    health: Health,
    book: Arc<Book>,
    end: Vec<Box<dyn FnOnce() + Send>>,
}

impl Running {
    /// Nothing runs yet.
    pub(crate) fn new(parts: &Parts) -> Self {
        Self {
            controllers: JoinSet::new(),
            loading: None,
            faults: Faults {
                client: parts.client.clone(),
                events: Events::new(&parts.client, parts.instance.as_deref()),
            },
            action_events: ActionEvents::new(
                &parts.client,
                parts.instance.as_deref(),
                parts.metrics.clone(),
            ),
            health: parts.health.clone(),
            book: Arc::default(),
            end: Vec::new(),
        }
    }

    /// Starts a controller on its queue.
    pub(crate) fn start<R: Reconciler>(
        &mut self,
        reconciler: Arc<R>,
        store: &Store<R::Object>,
        queue: Queue<R::Object>,
    ) -> AbortHandle {
        let Queue { sender, receiver } = queue;
        let handle = self.controllers.spawn(run::run(
            reconciler,
            store.clone(),
            receiver,
            self.health.clone(),
            self.faults.clone(),
        ));
        self.end.push(Box::new(move || sender.close_channel()));
        handle
    }

    /// Waits until a controller ends, which it should not.
    async fn ended(&mut self) {
        self.controllers.join_next().await;
    }

    /// Ends the queues and waits for the running reconciles and calls, and for their Events. When this
    /// returns, nothing is written any more.
    pub(crate) async fn stop(mut self) {
        if let Some(loading) = self.loading {
            loading.abort();
        }
        for end in self.end {
            end();
        }
        let end = Instant::now() + STOP_LIMIT;
        let passes = async { while self.controllers.join_next().await.is_some() {} };
        if tokio::time::timeout_at(end, passes).await.is_err() {
            tracing::warn!(limit = ?STOP_LIMIT, "some reconciles did not finish in time and are aborted");
            self.controllers.shutdown().await;
        }
        if tokio::time::timeout_at(end, self.book.stop())
            .await
            .is_err()
        {
            tracing::warn!(limit = ?STOP_LIMIT, "some calls of actions did not finish in time and are aborted");
        }
        tokio::join!(self.faults.events.flush(), self.action_events.flush());
    }
}

/// The objects that a controller must look at.
pub(crate) struct Queue<K: kube::Resource<DynamicType = ()>> {
    pub(crate) sender: UnboundedSender<ObjectRef<K>>,
    pub(crate) receiver: UnboundedReceiver<ObjectRef<K>>,
}

impl<K: kube::Resource<DynamicType = ()>> Queue<K> {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }
}

/// The objects that every controller must reconcile.
struct Queues {
    operation_jobs: Queue<OperationJob>,
    plugins: Queue<ActionPlugin>,
    jobs: JobQueues,
    optional: OptionalQueues,
}

/// Those of the controllers of Jobs.
struct JobQueues {
    reactive_jobs: Queue<ReactiveJob>,
    orphaned_jobs: Queue<Job>,
    job_flows: Queue<JobFlow>,
    job_templates: Queue<JobTemplate>,
    daemon_jobs: Queue<DaemonJob>,
}

impl Queues {
    fn new(enabled: &[OptionalController]) -> Self {
        Self {
            optional: OptionalQueues::new(enabled),
            operation_jobs: Queue::new(),
            plugins: Queue::new(),
            jobs: JobQueues {
                reactive_jobs: Queue::new(),
                orphaned_jobs: Queue::new(),
                job_flows: Queue::new(),
                job_templates: Queue::new(),
                daemon_jobs: Queue::new(),
            },
        }
    }

    /// What puts objects into these queues when something changes.
    fn listeners(&self, book: &Arc<Book>, metrics: &Metrics, health: &Health) -> Listeners {
        let OptionalQueues {
            colla_sets,
            lifecycles,
            rules,
        } = &self.optional;
        let colla_sets = colla_sets.as_ref().map(|queue| queue.sender.clone());
        let lifecycles = lifecycles.as_ref().map(|queue| queue.sender.clone());
        let rules = rules.as_ref().map(|queue| queue.sender.clone());
        let rules = rules.zip(lifecycles.clone());
        let jobs = &self.jobs;
        let catalogue = Arc::new(Catalogue::new(Timestamp::now()));
        let existing_jobs = Arc::<ExistingJobs>::default();
        let plugins = self.plugins.sender.clone();
        Listeners {
            triggers: Arc::new(Triggers::new(
                self.operation_jobs.sender.clone(),
                Arc::clone(&catalogue),
                Arc::clone(book),
            )),
            catalogue,
            left_behind: Arc::new(LeftBehind::new(Arc::clone(&existing_jobs), plugins)),
            existing_jobs,
            reactive_job_triggers: Arc::new(ReactiveJobTriggers::new(
                jobs.reactive_jobs.sender.clone(),
                jobs.orphaned_jobs.sender.clone(),
            )),
            owner_triggers: Arc::new(OwnerTriggers::new(
                jobs.job_flows.sender.clone(),
                jobs.job_templates.sender.clone(),
                jobs.daemon_jobs.sender.clone(),
            )),
            pods_of_jobs: Arc::default(),
            unready_nodes: Arc::default(),
            colla_set_triggers: colla_sets.map(|queue| Arc::new(CollaSetTriggers::new(queue))),
            lifecycle_triggers: lifecycles.map(|queue| Arc::new(LifecycleTriggers::new(queue))),
            rule_triggers: rules
                .map(|(rules, lifecycles)| Arc::new(RuleTriggers::new(rules, lifecycles))),
            plugin_queue: self.plugins.sender.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
        }
    }
}

/// Fills the stores, starts the controllers, and runs until one of them ends unexpectedly. OperationJobs
/// are reconciled only once every action was tried, so that no job reports an action as missing that is
/// merely late, but no later than [`LOAD_LIMIT`].
///
/// It also ends when the host may read other namespaces than at its start, because a host begins with complete caches
/// of all namespaces that it serves.
///
/// Nothing is lost if this is dropped at any point: `running` has everything that was started.
pub(crate) async fn run_in(
    running: &mut Running,
    parts: Parts,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let served = Served::find(&parts.client, &parts.namespaces, &parts.health).await;
    tokio::select! {
        ended = run_on(running, parts, served.namespaces(), readiness) => ended,
        () = served.changed() => Ok(()),
    }
}

/// Runs the controllers for these namespaces.
async fn run_on(
    running: &mut Running,
    parts: Parts,
    namespaces: &Namespaces,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    let Parts {
        config,
        client,
        namespace,
        namespaces: _,
        shard,
        instance: _,
        components,
        trust,
        controllers,
        stand_down,
        allow_foreign_crds,
        metrics,
        health,
        plugin_metrics,
    } = parts;
    let components = components.start(namespace.clone(), trust, Arc::new(plugin_metrics))?;
    let queues = Queues::new(&controllers);
    let book = Arc::clone(&running.book);
    let listeners = queues.listeners(&book, &metrics, &health);
    let watched = Watched::new(&client, &namespace, namespaces, shard.as_deref());
    let stores = Stores::start(&watched, &listeners, &controllers);
    stores.ready().await;
    let enabled = BesideKusionStack::running(&controllers);
    let beside = Beside::watch(&client, &health, &enabled, stand_down).await;
    let events = running.faults.events.clone();
    let performers = Performers::new(config, client.clone(), namespace.clone());
    let optional = Optional {
        performers: &performers,
        stores: &stores,
        listeners: &listeners,
        events: &events,
        client: &client,
        beside: &beside,
    };
    let pod_writer = optional.pod_writer(&queues.optional)?;
    optional.start(running, queues.optional).await?;
    let kit = Kit {
        client: &client,
        performers: &performers,
        stores: &stores,
        listeners: &listeners,
        events: &events,
    };
    kit.start(running, queues.jobs)?;
    let action_plugins = Arc::new(ActionPlugins {
        client: client.clone(),
        namespace,
        host_user: OnceCell::new(),
        plugins: stores.plugins.clone(),
        config_maps: stores.config_maps.clone(),
        accounts: stores.accounts.clone(),
        pods: stores.pods.clone(),
        source: Arc::new(components.registry),
        loader: Arc::new(components.loader),
        performers,
        catalogue: Arc::clone(&listeners.catalogue),
        triggers: Arc::clone(&listeners.triggers),
        left_behind: Arc::clone(&listeners.left_behind),
        has_lifecycle: listeners.lifecycle_triggers.is_some(),
        queue: listeners.plugin_queue.clone(),
        events: events.clone(),
        status: StatusWriter::default(),
        metrics: metrics.clone(),
        refused: Mutex::default(),
    });
    let loading = running.start(action_plugins, &stores.plugins.store, queues.plugins);
    running.loading = Some(loading);
    readiness.set(Phase::Loading);
    tried(&listeners.catalogue).await;
    let served_fields = if allow_foreign_crds {
        ServedFields::any()
    } else {
        ServedFields::of(client.clone())
    };
    let jobs = Arc::new(OperationJobs {
        client,
        jobs: stores.operation_jobs.clone(),
        existing: listeners.existing_jobs,
        pods: stores.pods.clone(),
        pod_writer,
        unready_nodes: listeners.unready_nodes,
        catalogue: listeners.catalogue,
        book,
        triggers: listeners.triggers,
        events,
        action_events: running.action_events.clone(),
        effects: Shares::new(EFFECTS_AT_ONCE),
        status: StatusWriter::default(),
        metrics,
        clock: Arc::new(Timestamp::now),
        served_fields,
        starts: Starts::default(),
    });
    start_jobs(running, jobs, &beside, queues.operation_jobs);
    readiness.set(Phase::Ready);
    running.ended().await;
    anyhow::bail!("a controller stopped unexpectedly")
}

/// Waits until every action was loaded or failed, but not for long.
async fn tried(catalogue: &Catalogue) {
    if !catalogue.tried(LOAD_LIMIT).await {
        tracing::warn!(limit = ?LOAD_LIMIT, "some ActionPlugins are still being loaded; only their OperationJobs wait for them");
    }
}

/// Starts the controller of OperationJobs.
fn start_jobs(
    running: &mut Running,
    jobs: Arc<OperationJobs>,
    beside: &Beside,
    queue: Queue<OperationJob>,
) {
    let objects = jobs.jobs.clone();
    let notice = Notice::new(
        &jobs.client,
        keys::OPERATION_JOB_MANAGER,
        &objects,
        &jobs.events,
        |job| !is_finished(job),
    );
    let guarded = beside.guard(
        BesideKusionStack::OperationJob,
        jobs,
        &objects.store,
        &queue,
        |_| true,
    );
    running.start(Arc::new(guarded.with_notice(notice)), &objects.store, queue);
}

/// Whether nothing is left to do for a job but to delete it after its TTL.
fn is_finished(job: &OperationJob) -> bool {
    let progress = job.status.as_ref().and_then(|status| status.progress);
    progress.is_some_and(Progress::is_finished) && job.metadata.deletion_timestamp.is_none()
}

/// What the controllers that create Jobs have in common.
struct Kit<'a> {
    client: &'a Client,
    performers: &'a Performers,
    stores: &'a Stores,
    listeners: &'a Listeners,
    events: &'a Events,
}

impl Kit<'_> {
    /// Starts the controllers of Jobs that are enabled.
    fn start(&self, running: &mut Running, queues: JobQueues) -> anyhow::Result<()> {
        let JobQueues {
            reactive_jobs,
            orphaned_jobs,
            job_flows,
            job_templates,
            daemon_jobs,
        } = queues;
        if let Some(stores) = &self.stores.reactive_jobs {
            let controller = self.reactive_jobs(stores, &reactive_jobs)?;
            running.start(controller, &stores.objects.store, reactive_jobs);
            let controller = self.orphaned_jobs(stores)?;
            running.start(controller, &stores.jobs.store, orphaned_jobs);
        }
        let Some(jobs) = &self.stores.jobs_of_owners else {
            return Ok(());
        };
        if let Some(stores) = &self.stores.job_flows {
            let controller = self.job_flows(stores, jobs, &job_flows)?;
            running.start(controller, &stores.objects.store, job_flows);
            let controller = self.job_templates(stores, jobs, &job_templates);
            running.start(controller, &stores.templates.store, job_templates);
        }
        if let Some(objects) = &self.stores.daemon_jobs {
            let controller = self.daemon_jobs(objects, jobs, &daemon_jobs)?;
            running.start(controller, &objects.store, daemon_jobs);
        }
        Ok(())
    }

    /// ConfigMaps and Secrets are watched when an object needs them.
    fn reactive_jobs(
        &self,
        stores: &ReactiveJobStores,
        queue: &Queue<ReactiveJob>,
    ) -> anyhow::Result<Arc<Driven<ReactiveJobs>>> {
        let triggers = Arc::clone(&self.listeners.reactive_job_triggers);
        let objects = stores.objects.store.clone();
        let on_config = move |namespace: &str, reference: &_| {
            triggers.config_changed(namespace, reference, &objects);
        };
        let triggers = Arc::clone(&self.listeners.reactive_job_triggers);
        let on_listed = move || triggers.configs_listed();
        let controller = ReactiveJobs {
            objects: stores.objects.clone(),
            jobs: stores.jobs.clone(),
            pods: self.stores.pods.clone(),
            pods_of_jobs: Arc::clone(&self.listeners.pods_of_jobs),
            triggers: Arc::clone(&self.listeners.reactive_job_triggers),
            configs: Configs::new(
                optional::client(self.performers, ReactiveJobs::MANAGER)?,
                self.listeners.reactive_job_triggers.watches(),
                Arc::new(on_config),
                Arc::new(on_listed),
                self.stores.pods.namespaces(),
                &self.listeners.health,
            ),
        };
        self.driven(controller, &stores.objects, &stores.jobs, queue)
    }

    /// A controller of objects that own Jobs. It reads logs and Events, and writes, as its own ServiceAccount; only the
    /// status is the host's.
    fn driven<C: Controller>(
        &self,
        controller: C,
        objects: &Cache<C::Object>,
        jobs: &Cache<Job>,
        queue: &Queue<C::Object>,
    ) -> anyhow::Result<Arc<Driven<C>>> {
        Ok(Arc::new(Driven {
            controller,
            performer: optional::performer(self.performers, C::MANAGER)?,
            questions: Questions::to(optional::client(self.performers, C::MANAGER)?),
            owned: vec![Arc::new(jobs.clone())],
            reports: self.reports(C::MANAGER, objects, queue),
        }))
    }

    fn reports<K: Reported>(
        &self,
        manager: &'static str,
        objects: &Cache<K>,
        queue: &Queue<K>,
    ) -> Arc<Reports<K>> {
        let (client, events) = (self.client.clone(), self.events.clone());
        Reports::new(
            client,
            manager,
            objects.clone(),
            events,
            queue.sender.clone(),
        )
    }

    fn orphaned_jobs(&self, stores: &ReactiveJobStores) -> anyhow::Result<Arc<OrphanedJobs>> {
        Ok(Arc::new(OrphanedJobs {
            client: optional::client(self.performers, ReactiveJobs::MANAGER)?,
            objects: stores.objects.clone(),
            triggers: Arc::clone(&self.listeners.reactive_job_triggers),
        }))
    }

    fn job_flows(
        &self,
        stores: &JobFlowStores,
        jobs: &Cache<Job>,
        queue: &Queue<JobFlow>,
    ) -> anyhow::Result<Arc<Driven<JobFlows>>> {
        let controller = JobFlows {
            templates: stores.templates.clone(),
            jobs: jobs.clone(),
            pods: self.stores.pods.clone(),
            pods_of_jobs: Arc::clone(&self.listeners.pods_of_jobs),
            triggers: Arc::clone(&self.listeners.owner_triggers),
        };
        self.driven(controller, &stores.objects, jobs, queue)
    }

    fn job_templates(
        &self,
        stores: &JobFlowStores,
        jobs: &Cache<Job>,
        queue: &Queue<JobTemplate>,
    ) -> Arc<JobTemplates> {
        Arc::new(JobTemplates {
            jobs: jobs.clone(),
            triggers: Arc::clone(&self.listeners.owner_triggers),
            reports: self.reports(keys::JOB_TEMPLATE_MANAGER, &stores.templates, queue),
        })
    }

    fn daemon_jobs(
        &self,
        objects: &Cache<DaemonJob>,
        jobs: &Cache<Job>,
        queue: &Queue<DaemonJob>,
    ) -> anyhow::Result<Arc<Driven<DaemonJobs>>> {
        let controller = DaemonJobs {
            nodes: self.stores.nodes.clone(),
            jobs: jobs.clone(),
            pods: self.stores.pods.clone(),
            pods_of_jobs: Arc::clone(&self.listeners.pods_of_jobs),
            triggers: Arc::clone(&self.listeners.owner_triggers),
        };
        self.driven(controller, objects, jobs, queue)
    }
}
