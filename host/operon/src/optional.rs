//! CollaSets and the PodOpsLifecycle, which stand down beside KusionStack.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use operon_api::{CollaSet, PodDecoration, PodTransitionRule, keys};
use operon_controllers::{
    ask::Questions,
    colla_set::{CollaSetTriggers, CollaSets, can_resize},
    driven::{Controller, Driven, OwnedCache},
    effects::{Performer, Performers},
    events::Events,
    pod_ops_lifecycle::PodOpsLifecycle,
    pod_transition_rule::{PodTransitionRules, RuleBook},
    pod_writer::PodWriter,
    report::Reports,
    stand_down::Notice,
    store::Cache,
};
use operon_core::pod_lifecycle::pod::takes_part;

use crate::{
    beside::Beside,
    run::{BesideKusionStack, OptionalController},
    stores::{CollaSetStores, Listeners, Stores},
    wiring::{Queue, Running},
};

/// How long the first list of the PodDecorations may take. CollaSets are reconciled as if there were none if it takes
/// longer.
const FIRST_LIST: Duration = Duration::from_secs(5);

/// The objects that they must look at.
pub(crate) struct OptionalQueues {
    pub(crate) colla_sets: Option<Queue<CollaSet>>,
    pub(crate) lifecycles: Option<Queue<Pod>>,
    /// With the PodOpsLifecycle.
    pub(crate) rules: Option<Queue<PodTransitionRule>>,
}

impl OptionalQueues {
    pub(crate) fn new(enabled: &[OptionalController]) -> Self {
        let is_enabled = |one| enabled.contains(&one);
        Self {
            colla_sets: is_enabled(OptionalController::CollaSet).then(Queue::new),
            lifecycles: is_enabled(OptionalController::PodOpsLifecycle).then(Queue::new),
            rules: is_enabled(OptionalController::PodOpsLifecycle).then(Queue::new),
        }
    }
}

/// What they are made of.
pub(crate) struct Optional<'a> {
    pub(crate) performers: &'a Performers,
    pub(crate) stores: &'a Stores,
    pub(crate) listeners: &'a Listeners,
    pub(crate) events: &'a Events,
    pub(crate) client: &'a Client,
    pub(crate) beside: &'a Beside,
}

impl Optional<'_> {
    /// What OperationJobs write on pods as the PodOpsLifecycle controller, where that is enabled.
    pub(crate) fn pod_writer(&self, queues: &OptionalQueues) -> anyhow::Result<PodWriter> {
        let performer = match queues.lifecycles {
            Some(_) => Some(performer(self.performers, keys::POD_OPS_LIFECYCLE_MANAGER)?),
            None => None,
        };
        Ok(PodWriter {
            pods: self.stores.pods.clone(),
            performer,
        })
    }

    pub(crate) async fn start(
        &self,
        running: &mut Running,
        queues: OptionalQueues,
    ) -> anyhow::Result<()> {
        let OptionalQueues {
            colla_sets,
            lifecycles,
            rules,
        } = queues;
        if let (Some(lifecycles), Some(rules)) = (lifecycles, rules) {
            self.start_lifecycle(running, lifecycles, rules)?;
        }
        self.start_colla_sets(running, colla_sets).await
    }

    fn start_lifecycle(
        &self,
        running: &mut Running,
        lifecycles: Queue<Pod>,
        rules: Queue<PodTransitionRule>,
    ) -> anyhow::Result<()> {
        let triggers = self.listeners.rule_triggers.as_ref();
        let Some((triggers, objects)) = triggers.zip(self.stores.rules.as_ref()) else {
            return Ok(());
        };
        let pods = &self.stores.pods;
        let colla_sets = self.stores.colla_sets.as_ref();
        let controller = Arc::new(PodTransitionRules {
            pods: pods.store.clone(),
            colla_sets: colla_sets.map(|stores| stores.objects.store.clone()),
            triggers: Arc::clone(triggers),
            reports: Reports::new(
                self.client.clone(),
                keys::POD_TRANSITION_RULE_MANAGER,
                objects.clone(),
                self.events.clone(),
                rules.sender.clone(),
            ),
        });
        let kind = BesideKusionStack::PodOpsLifecycle;
        let guarded = self
            .beside
            .guard(kind, controller, &objects.store, &rules, |_| true);
        running.start(Arc::new(guarded), &objects.store, rules);
        let controller = Arc::new(PodOpsLifecycle {
            pods: pods.clone(),
            rules: RuleBook {
                rules: objects.store.clone(),
                triggers: Arc::clone(triggers),
            },
            performer: performer(self.performers, keys::POD_OPS_LIFECYCLE_MANAGER)?,
            events: self.events.clone(),
        });
        let guarded = self
            .beside
            .guard(kind, controller, &pods.store, &lifecycles, takes_part);
        running.start(Arc::new(guarded), &pods.store, lifecycles);
        Ok(())
    }

    async fn start_colla_sets(
        &self,
        running: &mut Running,
        queue: Option<Queue<CollaSet>>,
    ) -> anyhow::Result<()> {
        let triggers = self.listeners.colla_set_triggers.as_ref();
        let stores = self.stores.colla_sets.as_ref();
        if let (Some(queue), Some(triggers), Some(stores)) = (queue, triggers, stores) {
            let owned: Vec<Arc<dyn OwnedCache>> = vec![
                Arc::new(self.stores.pods.clone()),
                Arc::new(stores.revisions.clone()),
                Arc::new(stores.claims.clone()),
                Arc::new(stores.contexts.clone()),
            ];
            let decorations = self.decorations(triggers, stores)?;
            decorations.ready_within(FIRST_LIST).await;
            let controller = Arc::new(Driven {
                controller: CollaSets {
                    objects: stores.objects.clone(),
                    contexts: stores.contexts.clone(),
                    pods: self.stores.pods.clone(),
                    revisions: stores.revisions.clone(),
                    claims: stores.claims.clone(),
                    decorations,
                    triggers: Arc::clone(triggers),
                    can_resize: can_resize(self.client)
                        .await
                        .context("failed to ask the API server whether it can resize pods")?,
                },
                performer: performer(self.performers, CollaSets::MANAGER)?,
                questions: Questions::to(client(self.performers, CollaSets::MANAGER)?),
                owned,
                reports: Reports::new(
                    self.client.clone(),
                    CollaSets::MANAGER,
                    stores.objects.clone(),
                    self.events.clone(),
                    queue.sender.clone(),
                ),
            });
            let objects = &stores.objects;
            let (manager, concerns) = (CollaSets::MANAGER, |_: &CollaSet| true);
            let notice = Notice::new(self.client, manager, objects, self.events, concerns);
            let guarded = self.beside.guard(
                BesideKusionStack::CollaSet,
                controller,
                &objects.store,
                &queue,
                concerns,
            );
            running.start(Arc::new(guarded.with_notice(notice)), &objects.store, queue);
        }
        Ok(())
    }

    /// The PodDecorations of KusionStack, as the account of CollaSets, which alone needs them.
    fn decorations(
        &self,
        triggers: &Arc<CollaSetTriggers>,
        stores: &CollaSetStores,
    ) -> anyhow::Result<Cache<PodDecoration>> {
        let account = CollaSets::MANAGER;
        let client = client(self.performers, account)?;
        let (triggers, objects) = (Arc::clone(triggers), stores.objects.store.clone());
        let on_change = move |decoration: &PodDecoration, decorations: &_| {
            triggers.decoration_changed(decoration, decorations, &objects);
        };
        let health = self.listeners.health.optional();
        let source = Cache::guarded(Api::all(client)).within(self.stores.pods.namespaces());
        Ok(source.if_served().start(on_change, &health))
    }
}

/// A client of a controller's ServiceAccount.
pub(crate) fn client(performers: &Performers, account: &str) -> anyhow::Result<Client> {
    let client = performers.client(account);
    client.map_err(|error| anyhow::anyhow!("failed to build a client of {account}: {error}"))
}

/// Writes as a controller's ServiceAccount.
pub(crate) fn performer(performers: &Performers, account: &str) -> anyhow::Result<Performer> {
    let performer = performers.of_controller(account);
    performer.map_err(|error| anyhow::anyhow!("failed to build a client of {account}: {error}"))
}
