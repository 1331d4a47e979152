//! The caches of everything that the controllers look at, and whom a change in them wakes.

use std::sync::Arc;

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    batch::v1::Job,
    core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, PodTemplateSpec, ServiceAccount},
};
use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::reflector::ObjectRef};
use operon_api::{
    ActionPlugin, CollaSet, DaemonJob, JobFlow, JobTemplate, OperationJob, PodTransitionRule,
    ReactiveJob, ResourceContext, keys,
};
use operon_controllers::{
    action_plugin,
    catalogue::Catalogue,
    colla_set::{CollaSetTriggers, without_foreign_data},
    existing_jobs::ExistingJobs,
    health::Health,
    jobs::PodsOfJobs,
    left_behind::LeftBehind,
    metrics::Metrics,
    owner_triggers::OwnerTriggers,
    pod_ops_lifecycle::LifecycleTriggers,
    pod_transition_rule::RuleTriggers,
    reactive_job::ReactiveJobTriggers,
    store::{Cache, Cached, Store},
    triggers::Triggers,
    unready_nodes::UnreadyNodes,
};
use operon_core::namespaces::Namespaces;
use serde::Serialize;

use crate::run::OptionalController;

/// The receivers of changes.
pub(crate) struct Listeners {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) triggers: Arc<Triggers>,
    pub(crate) existing_jobs: Arc<ExistingJobs>,
    pub(crate) left_behind: Arc<LeftBehind>,
    pub(crate) reactive_job_triggers: Arc<ReactiveJobTriggers>,
    pub(crate) owner_triggers: Arc<OwnerTriggers>,
    pub(crate) pods_of_jobs: Arc<PodsOfJobs>,
    pub(crate) unready_nodes: Arc<UnreadyNodes>,
    /// Of controllers that run only if they are enabled.
    pub(crate) colla_set_triggers: Option<Arc<CollaSetTriggers>>,
    /// As above.
    pub(crate) lifecycle_triggers: Option<Arc<LifecycleTriggers>>,
    /// As above.
    pub(crate) rule_triggers: Option<Arc<RuleTriggers>>,
    pub(crate) plugin_queue: UnboundedSender<ObjectRef<ActionPlugin>>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

/// The caches.
pub(crate) struct Stores {
    pub(crate) operation_jobs: Cache<OperationJob>,
    pub(crate) plugins: Cache<ActionPlugin>,
    /// Those of the operator's namespace.
    pub(crate) config_maps: Cache<ConfigMap>,
    /// Those of the operator's namespace.
    pub(crate) accounts: Cache<ServiceAccount>,
    /// If ReactiveJobs are enabled.
    pub(crate) reactive_jobs: Option<ReactiveJobStores>,
    /// If JobFlows are enabled.
    pub(crate) job_flows: Option<JobFlowStores>,
    /// If DaemonJobs are enabled.
    pub(crate) daemon_jobs: Option<Cache<DaemonJob>>,
    /// Those of JobFlows and DaemonJobs, if one of the two is enabled.
    pub(crate) jobs_of_owners: Option<Cache<Job>>,
    /// If CollaSets are enabled.
    pub(crate) colla_sets: Option<CollaSetStores>,
    /// If the PodOpsLifecycle is enabled.
    pub(crate) rules: Option<Cache<PodTransitionRule>>,
    pub(crate) nodes: Cache<Node>,
    pub(crate) pods: Cache<Pod>,
}

/// The caches of ReactiveJobs.
pub(crate) struct ReactiveJobStores {
    pub(crate) objects: Cache<ReactiveJob>,
    /// The Jobs that name a ReactiveJob.
    pub(crate) jobs: Cache<Job>,
}

/// The caches of JobFlows and of their templates.
pub(crate) struct JobFlowStores {
    pub(crate) objects: Cache<JobFlow>,
    pub(crate) templates: Cache<JobTemplate>,
}

/// The caches of CollaSets and of what they own besides pods.
#[derive(Clone)]
pub(crate) struct CollaSetStores {
    pub(crate) objects: Cache<CollaSet>,
    /// Those of other kinds without what they hold.
    pub(crate) revisions: Cache<ControllerRevision>,
    /// Those that were created from claim templates.
    pub(crate) claims: Cache<PersistentVolumeClaim>,
    pub(crate) contexts: Cache<ResourceContext>,
}

/// What caches are kept of.
pub(crate) struct Watched<'a> {
    client: &'a Client,
    operator_namespace: &'a str,
    namespaces: &'a Namespaces,
    shard: Option<&'a str>,
}

impl<'a> Watched<'a> {
    /// The objects that controllers reconcile are in `namespaces`; the ActionPlugins are those of the shard.
    pub(crate) fn new(
        client: &'a Client,
        operator_namespace: &'a str,
        namespaces: &'a Namespaces,
        shard: Option<&'a str>,
    ) -> Self {
        Self {
            client,
            operator_namespace,
            namespaces,
            shard,
        }
    }
}

impl Stores {
    pub(crate) fn start(
        watched: &Watched<'_>,
        listeners: &Listeners,
        enabled: &[OptionalController],
    ) -> Self {
        let is_enabled = |one| enabled.contains(&one);
        let plugins = plugins(watched, listeners);
        let config_maps = config_maps(watched, listeners, &plugins);
        let health = &listeners.health;
        let accounts = accounts(watched, listeners, &plugins);
        let reactive_jobs = is_enabled(OptionalController::ReactiveJob)
            .then(|| ReactiveJobStores::start(watched, listeners));
        let job_flows = is_enabled(OptionalController::JobFlow)
            .then(|| JobFlowStores::start(watched, listeners));
        let owner_triggers = Arc::clone(&listeners.owner_triggers);
        let daemon_jobs = is_enabled(OptionalController::DaemonJob).then(|| {
            all(watched, health, move |object: &DaemonJob, _| {
                owner_triggers.daemon_job_changed(object);
            })
        });
        let owner_triggers = Arc::clone(&listeners.owner_triggers);
        let on_job = move |job: &Job, jobs: &_| owner_triggers.job_changed(job, jobs);
        let jobs_of_owners = (job_flows.is_some() || daemon_jobs.is_some())
            .then(|| labelled(watched, health, keys::OWNER_UID, without_template, on_job));
        let nodes = nodes(watched.client, listeners, daemon_jobs.as_ref());
        let colla_sets = listeners.colla_set_triggers.as_ref();
        let rule_triggers = listeners.rule_triggers.as_ref();
        let colla_sets = colla_sets
            .map(|triggers| CollaSetStores::start(watched, health, triggers, rule_triggers));
        let owners = Owners {
            reactive: reactive_jobs.as_ref().map(|stores| &stores.jobs),
            owned: jobs_of_owners.as_ref(),
            colla_sets: colla_sets.as_ref(),
        };
        let pods = pods(watched, listeners, &owners);
        let rules = rule_triggers.map(|triggers| rules(watched, health, triggers, &pods));
        let (triggers, targets) = (Arc::clone(&listeners.triggers), pods.store.clone());
        let left_behind = Arc::clone(&listeners.left_behind);
        let operation_jobs = all(watched, health, move |job, jobs| {
            // First: a job that is woken exists.
            left_behind.job_changed(job, jobs, &targets);
            triggers.job_changed(job, jobs, &targets);
        });
        Self {
            operation_jobs,
            plugins,
            config_maps,
            accounts,
            reactive_jobs,
            job_flows,
            daemon_jobs,
            jobs_of_owners,
            colla_sets,
            rules,
            nodes,
            pods,
        }
    }

    /// Waits until every cache has its first list.
    pub(crate) async fn ready(&self) {
        let Self {
            operation_jobs,
            plugins,
            config_maps,
            accounts,
            reactive_jobs,
            job_flows,
            daemon_jobs,
            jobs_of_owners,
            colla_sets,
            rules,
            nodes,
            pods,
        } = self;
        if let Some(rules) = rules {
            rules.ready().await;
        }
        if let Some(ReactiveJobStores { objects, jobs }) = reactive_jobs {
            tokio::join!(objects.ready(), jobs.ready());
        }
        if let Some(JobFlowStores { objects, templates }) = job_flows {
            tokio::join!(objects.ready(), templates.ready());
        }
        if let Some(objects) = daemon_jobs {
            objects.ready().await;
        }
        if let Some(jobs) = jobs_of_owners {
            jobs.ready().await;
        }
        if let Some(stores) = colla_sets {
            let CollaSetStores {
                objects,
                revisions,
                claims,
                contexts,
            } = stores;
            tokio::join!(
                objects.ready(),
                revisions.ready(),
                claims.ready(),
                contexts.ready(),
            );
        }
        tokio::join!(
            operation_jobs.ready(),
            plugins.ready(),
            config_maps.ready(),
            accounts.ready(),
            nodes.ready(),
            pods.ready(),
        );
        tracing::info!(
            operation_jobs = operation_jobs.store.len(),
            reactive_jobs = reactive_jobs
                .as_ref()
                .map(|stores| stores.objects.store.len()),
            job_flows = job_flows.as_ref().map(|stores| stores.objects.store.len()),
            daemon_jobs = daemon_jobs.as_ref().map(|objects| objects.store.len()),
            plugins = plugins.store.len(),
            pods = pods.store.len(),
            "caches are synced"
        );
    }
}

impl ReactiveJobStores {
    fn start(watched: &Watched<'_>, listeners: &Listeners) -> Self {
        let health = &listeners.health;
        let triggers = Arc::clone(&listeners.reactive_job_triggers);
        let on_job = move |job: &Job, jobs: &_| triggers.job_changed(job, jobs);
        let jobs = labelled(watched, health, keys::CONTROLLER_UID, |_| {}, on_job);
        let triggers = Arc::clone(&listeners.reactive_job_triggers);
        let known = jobs.store.clone();
        let objects = all(watched, health, move |object, objects| {
            triggers.object_changed(object, objects, &known);
        });
        Self { objects, jobs }
    }
}

impl JobFlowStores {
    fn start(watched: &Watched<'_>, listeners: &Listeners) -> Self {
        let health = &listeners.health;
        let triggers = Arc::clone(&listeners.owner_triggers);
        let objects: Cache<JobFlow> = all(watched, health, move |flow, flows| {
            triggers.flow_changed(flow, flows);
        });
        let triggers = Arc::clone(&listeners.owner_triggers);
        let flows = objects.store.clone();
        let templates = all(watched, health, move |template, _| {
            triggers.template_changed(template, &flows);
        });
        Self { objects, templates }
    }
}

impl CollaSetStores {
    fn start(
        watched: &Watched<'_>,
        health: &Health,
        triggers: &Arc<CollaSetTriggers>,
        rules: Option<&Arc<RuleTriggers>>,
    ) -> Self {
        let (on_object, rules) = (Arc::clone(triggers), rules.cloned());
        let objects: Cache<CollaSet> = all(watched, health, move |object, objects| {
            on_object.object_changed(object, objects);
            if let Some(rules) = &rules {
                rules.colla_set_changed(object);
            }
        });
        let on_revision = Arc::clone(triggers);
        let on_revision = move |revision: &ControllerRevision, revisions: &_| {
            on_revision.revision_changed(revision, revisions);
        };
        let (on_context, known) = (Arc::clone(triggers), objects.store.clone());
        let contexts = all(watched, health, move |context, _| {
            on_context.context_changed(context, &known);
        });
        let (on_claim, known) = (Arc::clone(triggers), objects.store.clone());
        let on_claim = move |claim: &PersistentVolumeClaim, claims: &_| {
            on_claim.claim_changed(claim, claims, &known);
        };
        let claims = Cache::of(Api::all(watched.client.clone()))
            .within(watched.namespaces)
            .labels(keys::CLAIM_HASH)
            .start(on_claim, health);
        let revisions = Cache::of(Api::all(watched.client.clone()))
            .within(watched.namespaces)
            .without(without_foreign_data)
            .packed()
            .start(on_revision, health);
        Self {
            objects,
            revisions,
            claims,
            contexts,
        }
    }
}

/// All objects of a kind of ours: of each there may be some that another operator left.
fn all<K>(
    watched: &Watched<'_>,
    health: &Health,
    on_change: impl Fn(&K, &Store<K>) + Send + Sync + 'static,
) -> Cache<K>
where
    K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize,
{
    Cache::guarded(Api::all(watched.client.clone()))
        .within(watched.namespaces)
        .packed()
        .start(on_change, health)
}

/// The Jobs that have this label.
fn labelled(
    watched: &Watched<'_>,
    health: &Health,
    label: &str,
    shed: fn(&mut Job),
    on_change: impl Fn(&Job, &Store<Job>) + Send + Sync + 'static,
) -> Cache<Job> {
    Cache::of(Api::all(watched.client.clone()))
        .within(watched.namespaces)
        .labels(label)
        .without(shed)
        .packed()
        .start(on_change, health)
}

/// The annotations of a step's or a node's Job name what it was created from.
fn without_template(job: &mut Job) {
    if let Some(spec) = &mut job.spec {
        spec.template = PodTemplateSpec::default();
    }
}

/// The nodes, without the images and volumes that kubelets report: they are the largest part of a node, and
/// no controller needs them.
fn nodes(
    client: &Client,
    listeners: &Listeners,
    daemon_jobs: Option<&Cache<DaemonJob>>,
) -> Cache<Node> {
    let owner_triggers = Arc::clone(&listeners.owner_triggers);
    let unready_nodes = Arc::clone(&listeners.unready_nodes);
    let objects = daemon_jobs.map(|objects| objects.store.clone());
    let on_node = move |node: &Node, nodes: &_| {
        unready_nodes.changed(node, nodes);
        if let Some(objects) = &objects {
            owner_triggers.node_changed(node, nodes, objects);
        }
    };
    let shed = |node: &mut Node| {
        if let Some(status) = &mut node.status {
            status.images = None;
            status.volumes_attached = None;
            status.volumes_in_use = None;
        }
    };
    Cache::of(Api::all(client.clone()))
        .without(shed)
        .start(on_node, &listeners.health)
}

/// The objects that pods belong to.
struct Owners<'a> {
    reactive: Option<&'a Cache<Job>>,
    owned: Option<&'a Cache<Job>>,
    colla_sets: Option<&'a CollaSetStores>,
}

/// All pods; those of Jobs concern the objects that the Jobs are for.
fn pods(watched: &Watched<'_>, listeners: &Listeners, owners: &Owners<'_>) -> Cache<Pod> {
    let triggers = Arc::clone(&listeners.triggers);
    let left_behind = Arc::clone(&listeners.left_behind);
    let pods_of_jobs = Arc::clone(&listeners.pods_of_jobs);
    let (reactive_job_triggers, owner_triggers) = (
        Arc::clone(&listeners.reactive_job_triggers),
        Arc::clone(&listeners.owner_triggers),
    );
    let reactive = owners.reactive.map(|jobs| jobs.store.clone());
    let owned = owners.owned.map(|jobs| jobs.store.clone());
    let colla_sets = owners.colla_sets.map(|stores| stores.objects.store.clone());
    let colla_sets = colla_sets.zip(listeners.colla_set_triggers.clone());
    let lifecycle = listeners.lifecycle_triggers.clone();
    let rules = listeners.rule_triggers.clone();
    let on_pod = move |pod: &Pod, pods: &_| {
        triggers.pod_changed(pod, pods);
        left_behind.pod_changed(pod, pods);
        pods_of_jobs.changed(pod, pods);
        if let Some(reactive) = &reactive {
            reactive_job_triggers.pod_changed(pod, reactive);
        }
        if let Some(owned) = &owned {
            owner_triggers.pod_changed(pod, owned);
        }
        if let Some((objects, triggers)) = &colla_sets {
            triggers.pod_changed(pod, pods, objects);
        }
        if let Some(rules) = &rules {
            rules.pod_changed(pod, pods);
        }
        if let Some(lifecycle) = &lifecycle {
            lifecycle.pod_changed(pod);
        }
    };
    Cache::of(Api::all(watched.client.clone()))
        .within(watched.namespaces)
        .packed()
        .start(on_pod, &listeners.health)
}

/// All PodTransitionRules.
fn rules(
    watched: &Watched<'_>,
    health: &Health,
    triggers: &Arc<RuleTriggers>,
    pods: &Cache<Pod>,
) -> Cache<PodTransitionRule> {
    let (triggers, pods) = (Arc::clone(triggers), pods.store.clone());
    all(watched, health, move |rule, rules| {
        triggers.rule_changed(rule, rules, &pods);
    })
}

/// Those of this host. Of each there may be one that an older version stored.
fn plugins(watched: &Watched<'_>, listeners: &Listeners) -> Cache<ActionPlugin> {
    let Listeners {
        catalogue,
        triggers,
        existing_jobs: _,
        left_behind: _,
        reactive_job_triggers: _,
        owner_triggers: _,
        pods_of_jobs: _,
        unready_nodes: _,
        colla_set_triggers: _,
        lifecycle_triggers: _,
        rule_triggers: _,
        plugin_queue,
        metrics,
        health,
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
    Cache::guarded(Api::all(watched.client.clone()))
        .labels(&plugins_of(watched.shard))
        .packed()
        .start(on_plugin, health)
}

/// Selects the ActionPlugins of a shard, or those of none.
pub(crate) fn plugins_of(shard: Option<&str>) -> String {
    shard.map_or_else(
        || format!("!{}", keys::SHARD),
        |shard| format!("{}={shard}", keys::SHARD),
    )
}

fn config_maps(
    watched: &Watched<'_>,
    listeners: &Listeners,
    plugins: &Cache<ActionPlugin>,
) -> Cache<ConfigMap> {
    let (queue, plugins) = (listeners.plugin_queue.clone(), plugins.store.clone());
    let on_config_map = move |config_map: &ConfigMap, _: &_| {
        for reference in action_plugin::config_map_changed(config_map, &plugins) {
            let _ = queue.unbounded_send(reference);
        }
    };
    Cache::of(Api::namespaced(
        watched.client.clone(),
        watched.operator_namespace,
    ))
    .start(on_config_map, &listeners.health)
}

fn accounts(
    watched: &Watched<'_>,
    listeners: &Listeners,
    plugins: &Cache<ActionPlugin>,
) -> Cache<ServiceAccount> {
    let (catalogue, triggers) = (
        Arc::clone(&listeners.catalogue),
        Arc::clone(&listeners.triggers),
    );
    let (queue, metrics) = (listeners.plugin_queue.clone(), listeners.metrics.clone());
    let plugins = plugins.store.clone();
    let on_account = move |account: &ServiceAccount, accounts: &_| {
        for reference in action_plugin::account_changed(
            account, accounts, &plugins, &catalogue, &triggers, &metrics,
        ) {
            let _ = queue.unbounded_send(reference);
        }
    };
    Cache::of(Api::namespaced(
        watched.client.clone(),
        watched.operator_namespace,
    ))
    .start(on_account, &listeners.health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_plugin_belongs_to_the_host_of_its_shard_or_to_the_one_without() {
        assert_eq!(plugins_of(Some("b")), "operon.dev/shard=b");
        assert_eq!(plugins_of(None), "!operon.dev/shard");
    }
}
