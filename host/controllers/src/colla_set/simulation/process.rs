//! A process of the simulation: the CollaSet and the PodOpsLifecycle controller as `operon` wires them.

use std::sync::{Arc, atomic::AtomicUsize};

use futures::channel::mpsc::unbounded;
use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::{Api, core::ApiResource, runtime::watcher};
use operon_api::{CollaSet, keys};
use prometheus_client::registry::Registry;

use super::super::{CollaSetTriggers, CollaSets, without_foreign_data};
use crate::{
    driven::{Controller as _, Driven},
    effects::Performer,
    events::Events,
    fault::Faults,
    health::Health,
    metrics::Metrics,
    pod_ops_lifecycle::{LifecycleTriggers, PodOpsLifecycle, takes_part},
    report::Reports,
    run::{self, Reconciler as _},
    simulation::{Counted, Server},
    stand_down::{Guarded, KusionStack, Notice},
    store::Cache,
};

/// Nothing: the process does everything by itself.
pub(super) struct Process;

/// The process as `operon` wires it; called in its runtime.
pub(super) async fn start(server: Arc<Server>, passes: Arc<AtomicUsize>) -> Process {
    let client = server.client();
    let (queue, queued) = unbounded();
    let (lifecycle_queue, lifecycles_queued) = unbounded();
    let triggers = Arc::new(CollaSetTriggers::new(queue.clone()));
    let lifecycle = LifecycleTriggers::new(lifecycle_queue.clone());
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let config = watcher::Config::default();
    let listener = Arc::clone(&triggers);
    let on_object = move |object: &_, _: &_| listener.object_changed(object);
    let all = Api::all(client.clone());
    let objects: Cache<CollaSet> =
        Cache::start_guarded(all, config.clone(), (), Arc::new(on_object), &health);
    let (listener, known) = (Arc::clone(&triggers), objects.store.clone());
    let on_revision = move |revision: &_, revisions: &_| {
        listener.revision_changed(revision, revisions, &known);
    };
    let (all, on_revision) = (Api::all(client.clone()), Arc::new(on_revision));
    let shed = without_foreign_data;
    let revisions: Cache<ControllerRevision> =
        Cache::start_lean(all, config.clone(), (), shed, on_revision, &health);
    let (listener, known) = (Arc::clone(&triggers), objects.store.clone());
    let on_pod = move |pod: &Pod, pods: &_| {
        listener.pod_changed(pod, pods, &known);
        lifecycle.pod_changed(pod);
    };
    let all = Api::all(client.clone());
    let pods = Cache::start(all, config, (), Arc::new(on_pod), &health);
    objects.ready().await;
    revisions.ready().await;
    pods.ready().await;
    let events = Events::new(&client, None);
    let kinds = || {
        [
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<ControllerRevision>(&()),
        ]
    };
    let performer = |manager| Performer::of_host(client.clone(), manager, kinds());
    let faults = || Faults {
        client: client.clone(),
        events: events.clone(),
    };
    let lifecycles = PodOpsLifecycle {
        pods: pods.clone(),
        performer: performer(keys::POD_OPS_LIFECYCLE_MANAGER),
        events: events.clone(),
    };
    let names = vec![CollaSets::NAME, PodOpsLifecycle::NAME];
    let kusion_stack = KusionStack::watch(&client, &health, names).await;
    let lifecycles = Arc::new(Counted(lifecycles, Arc::clone(&passes)));
    let queue_of_pods = &lifecycle_queue;
    let lifecycles = Guarded::new(
        lifecycles,
        &kusion_stack,
        &pods.store,
        queue_of_pods,
        takes_part,
    );
    tokio::spawn(run::run(
        Arc::new(lifecycles),
        pods.store.clone(),
        lifecycles_queued,
        health.clone(),
        faults(),
    ));
    let manager = keys::COLLA_SET_MANAGER;
    let cache = objects.clone();
    let colla_sets = Driven {
        controller: CollaSets {
            pods: pods.clone(),
            revisions: revisions.clone(),
            triggers,
            can_resize: true,
        },
        performer: performer(manager),
        client: client.clone(),
        owned: vec![Arc::new(pods), Arc::new(revisions)],
        reports: Reports::new(
            client.clone(),
            manager,
            cache,
            events.clone(),
            queue.clone(),
        ),
    };
    let colla_sets = Arc::new(Counted(colla_sets, passes));
    let notice = Notice::new(&client, manager, &objects, &events, |_| true);
    let colla_sets = Guarded::new(colla_sets, &kusion_stack, &objects.store, &queue, |_| true);
    tokio::spawn(run::run(
        Arc::new(colla_sets.with_notice(notice)),
        objects.store,
        queued,
        health,
        faults(),
    ));
    Process
}
