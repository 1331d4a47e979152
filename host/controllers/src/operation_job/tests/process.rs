//! A process of the simulations: the OperationJob controller as `operon` wires it, with one action.

use std::sync::atomic::AtomicUsize;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    policy::v1::PodDisruptionBudget,
};
use kube::core::ApiResource;
use operon_api::{ActionPlugin, action_plugin::ActionPluginSpec};
use prometheus_client::encoding::text::encode;

use super::*;
use crate::{
    action_events::ActionEvents,
    effects::Guard,
    fault::Faults,
    plugin_watch::Watcher,
    restraint::Restraint,
    run,
    served_fields::ServedFields,
    simulation::{Counted, Server},
};

/// The ServiceAccount of the action.
const ACCOUNT: &str = "action";

/// What is known of the ActionPlugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    Gone,
    NotLoaded,
    Loaded,
}

/// The action, by its name in `spec.action`, with its settings.
#[derive(Clone)]
pub(super) struct Acting {
    pub(super) name: &'static str,
    pub(super) action: Arc<dyn Action>,
    pub(super) settings: String,
}

/// A process that leads.
pub(super) struct Process {
    catalogue: Arc<Catalogue>,
    triggers: Arc<Triggers>,
    performers: Performers,
    pods: Cache<Pod>,
    acting: Acting,
    registry: Registry,
}

impl Process {
    /// The process as `operon` wires it; called in its runtime.
    pub(super) async fn start(
        server: Arc<Server>,
        passes: Arc<AtomicUsize>,
        acting: Acting,
    ) -> Self {
        let client = server.client();
        let (queue, queued) = unbounded();
        let catalogue = Arc::new(Catalogue::new(server.now()));
        let book = Arc::new(Book::default());
        let triggers = Arc::new(Triggers::new(
            queue,
            Arc::clone(&catalogue),
            Arc::clone(&book),
        ));
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let health = Health::new(metrics.clone());
        let listener = Arc::clone(&triggers);
        let on_pod = move |pod: &Pod, pods: &_| listener.pod_changed(pod, pods);
        let pods = Cache::of(Api::all(client.clone())).start(on_pod, &health);
        let (listener, targets) = (Arc::clone(&triggers), pods.store.clone());
        let existing = Arc::new(ExistingJobs::default());
        let exist = Arc::clone(&existing);
        let on_job = move |job: &_, jobs: &_| {
            exist.changed(job, jobs);
            listener.job_changed(job, jobs, &targets);
        };
        let jobs = Cache::of(Api::all(client.clone())).start(on_job, &health);
        pods.ready().await;
        jobs.ready().await;
        let events = Events::new(&client, None);
        let action_events = ActionEvents::new(&client, None, metrics.clone());
        let clock = Arc::clone(&server);
        let controller = OperationJobs {
            client: client.clone(),
            jobs: jobs.clone(),
            served_fields: ServedFields::any(),
            starts: Starts::default(),
            existing,
            pod_writer: PodWriter {
                pods: pods.clone(),
                performer: None,
            },
            pods: pods.clone(),
            unready_nodes: Arc::default(),
            catalogue: Arc::clone(&catalogue),
            book,
            triggers: Arc::clone(&triggers),
            events: events.clone(),
            action_events,
            effects: Shares::new(EFFECTS_AT_ONCE),
            status: StatusWriter::default(),
            metrics,
            clock: Arc::new(move || clock.now()),
        };
        let reconciler = Arc::new(Counted(controller, passes));
        let faults = Faults {
            client: client.clone(),
            events,
        };
        tokio::spawn(run::run(reconciler, jobs.store, queued, health, faults));
        let kinds = [
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<Deployment>(&()),
            ApiResource::erase::<ReplicaSet>(&()),
            ApiResource::erase::<PodDisruptionBudget>(&()),
        ];
        Self {
            catalogue,
            triggers,
            performers: Performers::of_client(client, ACCOUNT, kinds),
            pods,
            acting,
            registry,
        }
    }

    /// How often the action was called, by the cause of the calls.
    pub(super) fn calls(&self) -> BTreeMap<String, usize> {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("metrics");
        let of_cause = |line: &str| {
            let sample = line.strip_prefix("operon_action_calls_by_cause_total{")?;
            let (_, rest) = sample.split_once("cause=\"")?;
            let (cause, count) = rest.split_once("\"} ")?;
            Some((cause.to_owned(), count.parse().ok()?))
        };
        text.lines().filter_map(of_cause).collect()
    }

    /// The watch of ActionPlugins reports this.
    pub(super) async fn report(&self, plugin: Plugin, now: Timestamp) {
        let action = self.acting.name;
        match plugin {
            Plugin::Gone => {
                self.catalogue.settle(Vec::new, now);
            }
            Plugin::NotLoaded => {
                self.catalogue
                    .stop(|_| Some("its ServiceAccount was deleted".to_owned()));
                let spec = ActionPluginSpec {
                    action: action.to_owned(),
                    ..ActionPluginSpec::default()
                };
                let there = || vec![Arc::new(ActionPlugin::new("plugin", spec))];
                self.catalogue.settle(there, now);
                let why = "its ServiceAccount does not exist";
                self.catalogue.fail(action, "", why, || true);
            }
            Plugin::Loaded => {
                let loaded = self.load().await;
                self.catalogue.publish(action, loaded, || true);
            }
        }
        self.triggers.action_changed(action);
    }

    async fn load(&self) -> Loaded {
        let Acting {
            name,
            action,
            settings,
        } = self.acting.clone();
        let watcher = Watcher {
            performers: &self.performers,
            service_account: ACCOUNT,
            action: name,
            pods: &self.pods,
            triggers: &self.triggers,
            on_revoked: Arc::new(|_| {}),
        };
        let watch = watcher.start(action.registration()).await;
        let guard = Guard {
            finalizers: Vec::new(),
            pods: Some(self.pods.store.clone()),
        };
        Loaded {
            plugin: "plugin".to_owned(),
            action,
            performer: self
                .performers
                .performer(("plugin", "sha256:any"), ACCOUNT, guard)
                .expect("a client"),
            watch: watch.expect("what the action declares can be watched"),
            version: Version {
                signers: Vec::new(),
                plugin: "uid".to_owned(),
                digest: String::new(),
                settings,
                limits: None,
                service_account: ACCOUNT.to_owned(),
                lifecycle: false,
                finalizers: Vec::new(),
            },
            restraint: Restraint::default(),
        }
    }
}
