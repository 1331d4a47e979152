//! A process of the simulation: the CollaSet and the PodOpsLifecycle controller as `operon` wires them.

use std::sync::{Arc, atomic::AtomicUsize};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{Api, Client, core::ApiResource, runtime::reflector::ObjectRef};
use operon_api::{CollaSet, PodDecoration, PodTransitionRule, ResourceContext, keys};
use operon_core::pod_lifecycle::pod::takes_part;
use prometheus_client::registry::Registry;

use super::super::{CollaSetTriggers, CollaSets, without_foreign_data};
use crate::{
    ask::Questions,
    driven::Driven,
    effects::Performer,
    events::Events,
    fault::Faults,
    health::Health,
    metrics::Metrics,
    pod_ops_lifecycle::{LifecycleTriggers, PodOpsLifecycle},
    pod_transition_rule::{PodTransitionRules, RuleBook, RuleTriggers},
    report::Reports,
    run::{self, Reconciler},
    simulation::{Counted, Server},
    stand_down::{Guarded, KusionStack, Notice},
    store::{Cache, Store},
};

/// Nothing: the process does everything by itself.
pub(super) struct Process;

/// The process as `operon` wires it; called in its runtime.
pub(super) async fn start(server: Arc<Server>, passes: Arc<AtomicUsize>) -> Process {
    let client = server.client();
    let (sets, queued_sets) = unbounded();
    let (rules, queued_rules) = unbounded();
    let (lifecycles, queued_lifecycles) = unbounded();
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let rule_triggers = Arc::new(RuleTriggers::new(rules.clone(), lifecycles.clone()));
    let set_triggers = Arc::new(CollaSetTriggers::new(sets.clone()));
    let lifecycle = LifecycleTriggers::new(lifecycles.clone());
    let caches = Caches::start(&client, &health, &set_triggers, &rule_triggers, lifecycle).await;
    let events = Events::new(&client, None);
    let names = vec![Driven::<CollaSets>::NAME, PodOpsLifecycle::NAME];
    let process = Parts {
        passes,
        kusion_stack: KusionStack::watch(&client, &health, names, "kusionstack-system").await,
        health,
        faults: Faults {
            client: client.clone(),
            events: events.clone(),
        },
    };
    let kinds = [
        ApiResource::erase::<CollaSet>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<ControllerRevision>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<ResourceContext>(&()),
    ];
    let performer = |manager| Performer::of_client(client.clone(), manager, kinds.clone());
    let decisions = PodTransitionRules {
        pods: caches.pods.store.clone(),
        colla_sets: Some(caches.sets.store.clone()),
        triggers: Arc::clone(&rule_triggers),
        reports: Reports::new(
            client.clone(),
            keys::POD_TRANSITION_RULE_MANAGER,
            caches.rules.clone(),
            events.clone(),
            rules.clone(),
        ),
    };
    let decisions = process.guard(decisions, &caches.rules.store, &rules, |_| true);
    process.run(decisions, &caches.rules.store, queued_rules);
    let controller = PodOpsLifecycle {
        pods: caches.pods.clone(),
        rules: RuleBook {
            rules: caches.rules.store.clone(),
            triggers: rule_triggers,
        },
        performer: performer(keys::POD_OPS_LIFECYCLE_MANAGER),
        events: events.clone(),
    };
    let lifecycles = process.guard(controller, &caches.pods.store, &lifecycles, takes_part);
    process.run(lifecycles, &caches.pods.store, queued_lifecycles);
    let manager = keys::COLLA_SET_MANAGER;
    let colla_sets = Driven {
        controller: CollaSets {
            objects: caches.sets.clone(),
            contexts: caches.contexts.clone(),
            pods: caches.pods.clone(),
            revisions: caches.revisions.clone(),
            claims: caches.claims.clone(),
            decorations: caches.decorations,
            triggers: set_triggers,
            can_resize: true,
        },
        performer: performer(manager),
        questions: Questions::to(client.clone()),
        owned: vec![
            Arc::new(caches.pods),
            Arc::new(caches.revisions),
            Arc::new(caches.claims),
            Arc::new(caches.contexts),
        ],
        reports: Reports::new(
            client.clone(),
            manager,
            caches.sets.clone(),
            events.clone(),
            sets.clone(),
        ),
    };
    let notice = Notice::new(&client, manager, &caches.sets, &events, |_| true);
    let colla_sets = process.guard(colla_sets, &caches.sets.store, &sets, |_| true);
    process.run(
        colla_sets.with_notice(notice),
        &caches.sets.store,
        queued_sets,
    );
    Process
}

/// What all controllers of the process share.
struct Parts {
    passes: Arc<AtomicUsize>,
    kusion_stack: KusionStack,
    health: Health,
    faults: Faults,
}

impl Parts {
    fn guard<R: Reconciler>(
        &self,
        reconciler: R,
        store: &Store<R::Object>,
        queue: &UnboundedSender<ObjectRef<R::Object>>,
        concerns: fn(&R::Object) -> bool,
    ) -> Guarded<Counted<R>> {
        let counted = Arc::new(Counted(reconciler, Arc::clone(&self.passes)));
        Guarded::new(counted, &self.kusion_stack, store, queue, concerns)
    }

    fn run<R: Reconciler>(
        &self,
        reconciler: R,
        store: &Store<R::Object>,
        queue: UnboundedReceiver<ObjectRef<R::Object>>,
    ) {
        tokio::spawn(run::run(
            Arc::new(reconciler),
            store.clone(),
            queue,
            self.health.clone(),
            self.faults.clone(),
        ));
    }
}

/// The caches of the process.
struct Caches {
    sets: Cache<CollaSet>,
    revisions: Cache<ControllerRevision>,
    claims: Cache<PersistentVolumeClaim>,
    contexts: Cache<ResourceContext>,
    decorations: Cache<PodDecoration>,
    pods: Cache<Pod>,
    rules: Cache<PodTransitionRule>,
}

impl Caches {
    async fn start(
        client: &Client,
        health: &Health,
        set_triggers: &Arc<CollaSetTriggers>,
        rule_triggers: &Arc<RuleTriggers>,
        lifecycle: LifecycleTriggers,
    ) -> Self {
        let (on_sets, on_rules) = (Arc::clone(set_triggers), Arc::clone(rule_triggers));
        let on_set = move |object: &CollaSet, objects: &_| {
            on_sets.object_changed(object, objects);
            on_rules.colla_set_changed(object);
        };
        let all = Api::all(client.clone());
        let sets = Cache::guarded(all).packed().start(on_set, health);
        let on_sets = Arc::clone(set_triggers);
        let on_revision = move |revision: &_, revisions: &_| {
            on_sets.revision_changed(revision, revisions);
        };
        let revisions = Cache::of(Api::all(client.clone()))
            .without(without_foreign_data)
            .start(on_revision, health);
        let (on_sets, known) = (Arc::clone(set_triggers), sets.store.clone());
        let on_context = move |context: &_, _: &_| on_sets.context_changed(context, &known);
        let all = Api::all(client.clone());
        let contexts = Cache::guarded(all).packed().start(on_context, health);
        let (on_sets, known) = (Arc::clone(set_triggers), sets.store.clone());
        let on_claim = move |claim: &_, claims: &_| on_sets.claim_changed(claim, claims, &known);
        let claims = Cache::of(Api::all(client.clone())).start(on_claim, health);
        let (on_sets, known) = (Arc::clone(set_triggers), sets.store.clone());
        let on_decoration = move |decoration: &_, decorations: &_| {
            on_sets.decoration_changed(decoration, decorations, &known);
        };
        let decorations = Cache::guarded(Api::all(client.clone()))
            .if_served()
            .start(on_decoration, &health.optional());
        let (on_sets, known) = (Arc::clone(set_triggers), sets.store.clone());
        let on_rules = Arc::clone(rule_triggers);
        let on_pod = move |pod: &Pod, pods: &_| {
            on_sets.pod_changed(pod, pods, &known);
            on_rules.pod_changed(pod, pods);
            lifecycle.pod_changed(pod);
        };
        let pods = Cache::of(Api::all(client.clone())).start(on_pod, health);
        let (on_rules, known) = (Arc::clone(rule_triggers), pods.store.clone());
        let on_rule = move |rule: &_, rules: &_| on_rules.rule_changed(rule, rules, &known);
        let all = Api::all(client.clone());
        let rules = Cache::guarded(all).packed().start(on_rule, health);
        let caches = Self {
            sets,
            revisions,
            claims,
            contexts,
            decorations,
            pods,
            rules,
        };
        caches.sets.ready().await;
        caches.revisions.ready().await;
        caches.claims.ready().await;
        caches.contexts.ready().await;
        caches.decorations.ready().await;
        caches.pods.ready().await;
        caches.rules.ready().await;
        caches
    }
}
