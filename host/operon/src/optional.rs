//! The controllers that run only if they are enabled. Each writes as a ServiceAccount of its own.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use operon_api::{CollaSet, keys};
use operon_controllers::{
    colla_set::{CollaSets, can_resize},
    driven::{Controller, Driven, OwnedCache},
    effects::{Performer, Performers},
    events::Events,
    pod_ops_lifecycle::{self, PodOpsLifecycle},
    pod_writer::PodWriter,
    report::Reports,
    stand_down::Notice,
};

use crate::{
    beside::Beside,
    run::OptionalController,
    stores::{Listeners, Stores},
    wiring::{Queue, Running},
};

/// The objects that they must look at.
pub(crate) struct OptionalQueues {
    pub(crate) colla_sets: Option<Queue<CollaSet>>,
    pub(crate) lifecycles: Option<Queue<Pod>>,
}

impl OptionalQueues {
    pub(crate) fn new(enabled: &[OptionalController]) -> Self {
        let is_enabled = |one| enabled.contains(&one);
        Self {
            colla_sets: is_enabled(OptionalController::CollaSet).then(Queue::new),
            lifecycles: is_enabled(OptionalController::PodOpsLifecycle).then(Queue::new),
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
            Some(_) => Some(self.performer(keys::POD_OPS_LIFECYCLE_MANAGER)?),
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
        } = queues;
        if let Some(queue) = lifecycles {
            let controller = Arc::new(PodOpsLifecycle {
                pods: self.stores.pods.clone(),
                performer: self.performer(keys::POD_OPS_LIFECYCLE_MANAGER)?,
                events: self.events.clone(),
            });
            let store = &self.stores.pods.store;
            let guarded =
                self.beside
                    .guard(controller, store, &queue, pod_ops_lifecycle::takes_part);
            running.start(Arc::new(guarded), store, queue);
        }
        let triggers = self.listeners.colla_set_triggers.as_ref();
        let stores = self.stores.colla_sets.as_ref();
        if let (Some(queue), Some(triggers), Some(stores)) = (colla_sets, triggers, stores) {
            let owned: Vec<Arc<dyn OwnedCache>> = vec![
                Arc::new(self.stores.pods.clone()),
                Arc::new(stores.revisions.clone()),
            ];
            let controller = Arc::new(Driven {
                controller: CollaSets {
                    pods: self.stores.pods.clone(),
                    revisions: stores.revisions.clone(),
                    triggers: Arc::clone(triggers),
                    can_resize: can_resize(self.client)
                        .await
                        .context("failed to ask the API server whether it can resize pods")?,
                },
                performer: self.performer(CollaSets::MANAGER)?,
                client: self.client.clone(),
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
            let guarded = self
                .beside
                .guard(controller, &objects.store, &queue, concerns);
            running.start(Arc::new(guarded.with_notice(notice)), &objects.store, queue);
        }
        Ok(())
    }

    fn performer(&self, account: &str) -> anyhow::Result<Performer> {
        self.performers
            .of_controller(account)
            .map_err(|error| anyhow::anyhow!("failed to build a client of {account}: {error}"))
    }
}
