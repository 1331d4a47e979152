//! The caches of everything that the controllers look at, and whom a change in them wakes.

use std::sync::Arc;

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client,
    runtime::{reflector::ObjectRef, watcher},
};
use operon_api::{ActionPlugin, OperationJob, ReactiveJob, keys};
use operon_controllers::{
    action_plugin, catalogue::Catalogue, jobs::PodsOfJobs, metrics::Metrics,
    reactive_job::Relations, store::Cache, triggers::Triggers,
};

/// Who is told of changes.
pub(crate) struct Listeners {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) triggers: Arc<Triggers>,
    pub(crate) relations: Arc<Relations>,
    pub(crate) pods_of_jobs: Arc<PodsOfJobs>,
    pub(crate) plugin_queue: UnboundedSender<ObjectRef<ActionPlugin>>,
    pub(crate) metrics: Metrics,
}

/// The caches.
pub(crate) struct Stores {
    pub(crate) operation_jobs: Cache<OperationJob>,
    pub(crate) plugins: Cache<ActionPlugin>,
    /// Those of the operator's namespace.
    pub(crate) config_maps: Cache<ConfigMap>,
    pub(crate) reactive_jobs: Cache<ReactiveJob>,
    /// Those that name a ReactiveJob.
    pub(crate) jobs_of_reactive_jobs: Cache<Job>,
    pub(crate) pods: Cache<Pod>,
}

impl Stores {
    pub(crate) fn start(client: &Client, namespace: &str, listeners: &Listeners) -> Self {
        let all = watcher::Config::default;
        let plugins = plugins(client, listeners);
        let config_maps = config_maps(client, namespace, listeners, &plugins);
        let triggers = Arc::clone(&listeners.triggers);
        let on_operation_job = move |job: &OperationJob, _: &_| triggers.job_changed(job);
        let relations = Arc::clone(&listeners.relations);
        let on_job = move |job: &Job, jobs: &_| relations.job_changed(job, jobs);
        let jobs_of_reactive_jobs = Cache::start(
            Api::all(client.clone()),
            all().labels(keys::CONTROLLER_UID),
            (),
            Arc::new(on_job),
        );
        let relations = Arc::clone(&listeners.relations);
        let jobs = jobs_of_reactive_jobs.store.clone();
        let on_reactive_job = move |object: &ReactiveJob, objects: &_| {
            relations.object_changed(object, objects, &jobs);
        };
        let triggers = Arc::clone(&listeners.triggers);
        let relations = Arc::clone(&listeners.relations);
        let pods_of_jobs = Arc::clone(&listeners.pods_of_jobs);
        let jobs = jobs_of_reactive_jobs.store.clone();
        let on_pod = move |pod: &Pod, pods: &_| {
            triggers.pod_changed(pod, pods);
            pods_of_jobs.changed(pod, pods);
            relations.pod_changed(pod, &jobs);
        };
        Self {
            operation_jobs: Cache::start(
                Api::all(client.clone()),
                all(),
                (),
                Arc::new(on_operation_job),
            ),
            plugins,
            config_maps,
            reactive_jobs: Cache::start(
                Api::all(client.clone()),
                all(),
                (),
                Arc::new(on_reactive_job),
            ),
            jobs_of_reactive_jobs,
            pods: Cache::start(Api::all(client.clone()), all(), (), Arc::new(on_pod)),
        }
    }

    /// Waits until every cache has its first list.
    pub(crate) async fn ready(&self) {
        let Self {
            operation_jobs,
            plugins,
            config_maps,
            reactive_jobs,
            jobs_of_reactive_jobs,
            pods,
        } = self;
        tokio::join!(
            operation_jobs.ready(),
            plugins.ready(),
            config_maps.ready(),
            reactive_jobs.ready(),
            jobs_of_reactive_jobs.ready(),
            pods.ready(),
        );
        tracing::info!(
            operation_jobs = operation_jobs.store.len(),
            reactive_jobs = reactive_jobs.store.len(),
            plugins = plugins.store.len(),
            pods = pods.store.len(),
            "caches are full"
        );
    }
}

fn plugins(client: &Client, listeners: &Listeners) -> Cache<ActionPlugin> {
    let Listeners {
        catalogue,
        triggers,
        relations: _,
        pods_of_jobs: _,
        plugin_queue,
        metrics,
    } = listeners;
    let (catalogue, triggers) = (Arc::clone(catalogue), Arc::clone(triggers));
    let (queue, metrics) = (plugin_queue.clone(), metrics.clone());
    let on_plugin = move |plugin: &ActionPlugin, plugins: &_| {
        for reference in
            action_plugin::plugin_changed(plugin, plugins, &catalogue, &triggers, &metrics)
        {
            // A closed queue means that the process is going down.
            let _ = queue.unbounded_send(reference);
        }
    };
    let api = Api::all(client.clone());
    Cache::start(api, watcher::Config::default(), (), Arc::new(on_plugin))
}

fn config_maps(
    client: &Client,
    namespace: &str,
    listeners: &Listeners,
    plugins: &Cache<ActionPlugin>,
) -> Cache<ConfigMap> {
    let (queue, plugins) = (listeners.plugin_queue.clone(), plugins.store.clone());
    let on_config_map = move |config_map: &ConfigMap, _: &_| {
        for reference in action_plugin::config_map_changed(config_map, &plugins) {
            let _ = queue.unbounded_send(reference);
        }
    };
    let api = Api::namespaced(client.clone(), namespace);
    Cache::start(api, watcher::Config::default(), (), Arc::new(on_config_map))
}
