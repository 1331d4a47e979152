//! Joins the layers: stores, catalogue, loader, registry and the controllers on top of them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::Context;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    runtime::{reflector::ObjectRef, watcher},
};
use operon_api::{ActionPlugin, OperationJob};
use operon_controllers::{
    action_plugin::{self, ActionPlugins},
    apply::Performers,
    catalogue::Catalogue,
    events::Events,
    metrics::Metrics,
    operation_job::OperationJobs,
    run,
    status::StatusWriter,
    store::Cache,
    triggers::Triggers,
};
use operon_plugin_registry::Registry;
use operon_plugin_runtime::{Loader, LoaderConfig};
use tokio::task::JoinSet;

use crate::metrics::PluginMetrics;

/// What the controllers are made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) instance: Option<String>,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) metrics: Metrics,
    pub(crate) plugin_metrics: PluginMetrics,
}

/// The controllers, running.
pub(crate) struct Running {
    controllers: JoinSet<()>,
    events: Events,
    end: Vec<Box<dyn FnOnce() + Send>>,
}

impl Running {
    /// Waits until a controller ends, which it should not.
    pub(crate) async fn ended(&mut self) {
        self.controllers.join_next().await;
    }

    /// Ends the queues and waits for the passes under way, and for the Events that they sent.
    pub(crate) async fn stop(mut self) {
        for end in self.end {
            end();
        }
        while self.controllers.join_next().await.is_some() {}
        self.events.flush().await;
    }
}

/// Fills the stores and starts the controllers. Jobs are looked at only once every action that exists
/// has been looked at, so that none waits for one that is merely late.
pub(crate) async fn start(parts: Parts) -> anyhow::Result<Running> {
    let Parts {
        config,
        client,
        namespace,
        instance,
        cache_dir,
        metrics,
        plugin_metrics,
    } = parts;
    let loader = Loader::new(LoaderConfig {
        cache_dir,
        observer: Arc::new(plugin_metrics),
        ..LoaderConfig::default()
    })
    .context("failed to start the plugin runtime")?;
    let catalogue = Arc::new(Catalogue::default());
    let (job_queue, job_requests) = unbounded();
    let (plugin_queue, plugin_requests) = unbounded::<ObjectRef<ActionPlugin>>();
    let triggers = Arc::new(Triggers::new(job_queue.clone(), Arc::clone(&catalogue)));
    let stores = Stores::start(
        &client,
        &namespace,
        &catalogue,
        &triggers,
        &plugin_queue,
        &metrics,
    );
    stores.ready().await;
    tracing::info!(
        jobs = stores.jobs.store.len(),
        pods = stores.pods.store.len(),
        plugins = stores.plugins.store.len(),
        "caches are full"
    );
    let host_user = whoami(&client).await?;
    let events = Events::new(client.clone(), instance);
    let plugins = Arc::new(ActionPlugins {
        client: client.clone(),
        namespace: namespace.clone(),
        host_user,
        plugins: stores.plugins.clone(),
        config_maps: stores.config_maps,
        pods: stores.pods.clone(),
        source: Arc::new(Registry::new(namespace.clone())),
        loader: Arc::new(loader),
        performers: Performers::new(config, client.clone(), namespace),
        catalogue: Arc::clone(&catalogue),
        triggers: Arc::clone(&triggers),
        events: events.clone(),
        status: StatusWriter::default(),
        metrics: metrics.clone(),
        refused: Mutex::default(),
    });
    plugins.load_all().await;
    let jobs = Arc::new(OperationJobs {
        client,
        jobs: stores.jobs.clone(),
        pods: stores.pods,
        catalogue,
        events: events.clone(),
        status: StatusWriter::default(),
        metrics: metrics.clone(),
    });
    let mut controllers = JoinSet::new();
    controllers.spawn(run::run(
        plugins,
        stores.plugins.store,
        plugin_requests,
        metrics.clone(),
    ));
    controllers.spawn(run::run(jobs, stores.jobs.store, job_requests, metrics));
    let end: Vec<Box<dyn FnOnce() + Send>> = vec![
        Box::new(move || job_queue.close_channel()),
        Box::new(move || plugin_queue.close_channel()),
    ];
    Ok(Running {
        controllers,
        events,
        end,
    })
}

/// The user that this host is to the API server.
async fn whoami(client: &Client) -> anyhow::Result<String> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let status = review
        .context("failed to ask the API server who this host is")?
        .status;
    Ok(status
        .and_then(|status| status.user_info?.username)
        .unwrap_or_default())
}

struct Stores {
    jobs: Cache<OperationJob>,
    pods: Cache<Pod>,
    plugins: Cache<ActionPlugin>,
    config_maps: Cache<ConfigMap>,
}

impl Stores {
    fn start(
        client: &Client,
        namespace: &str,
        catalogue: &Arc<Catalogue>,
        triggers: &Arc<Triggers>,
        plugin_queue: &UnboundedSender<ObjectRef<ActionPlugin>>,
        metrics: &Metrics,
    ) -> Self {
        let all = watcher::Config::default;
        let on_job = {
            let triggers = Arc::clone(triggers);
            move |job: &OperationJob, _: &_| triggers.job_changed(job)
        };
        let on_pod = {
            let triggers = Arc::clone(triggers);
            move |pod: &Pod, pods: &_| triggers.pod_changed(pod, pods)
        };
        let on_plugin = {
            let (catalogue, triggers) = (Arc::clone(catalogue), Arc::clone(triggers));
            let (queue, metrics) = (plugin_queue.clone(), metrics.clone());
            move |plugin: &ActionPlugin, plugins: &_| {
                for reference in
                    action_plugin::plugin_changed(plugin, plugins, &catalogue, &triggers, &metrics)
                {
                    // A closed queue means that the process is going down.
                    let _ = queue.unbounded_send(reference);
                }
            }
        };
        let plugins = Cache::start(Api::all(client.clone()), all(), (), Arc::new(on_plugin));
        let on_config_map = {
            let (queue, plugins) = (plugin_queue.clone(), plugins.store.clone());
            move |config_map: &ConfigMap, _: &_| {
                for reference in action_plugin::config_map_changed(config_map, &plugins) {
                    let _ = queue.unbounded_send(reference);
                }
            }
        };
        let config_maps = Api::namespaced(client.clone(), namespace);
        Self {
            jobs: Cache::start(Api::all(client.clone()), all(), (), Arc::new(on_job)),
            pods: Cache::start(Api::all(client.clone()), all(), (), Arc::new(on_pod)),
            config_maps: Cache::start(config_maps, all(), (), Arc::new(on_config_map)),
            plugins,
        }
    }

    async fn ready(&self) {
        tokio::join!(
            self.jobs.ready(),
            self.pods.ready(),
            self.plugins.ready(),
            self.config_maps.ready()
        );
    }
}
