//! Controllers of kinds that KusionStack's controllers reconcile too write nothing while those run. What the
//! signs mean is decided in `operon_core::stand_down`; this file watches the signs, and keeps the controllers
//! from reconciling. `notice.rs` reports it on the objects.
//!
//! If the signs cannot be read, the controllers run as configured.

mod notice;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{channel::mpsc::UnboundedSender, future::join_all};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, coordination::v1::Lease,
};
use kube::{Api, Client, ResourceExt, api::ListParams, runtime::reflector::ObjectRef};
use operon_core::stand_down::{LEASE, Presence, Signs, WEBHOOKS};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use self::notice::Notice;

use self::notice::Tell;
use crate::{
    error::Error,
    health::Health,
    metrics::Metrics,
    run::{Next, Reconciler},
    store::{AbortOnDrop, Cache, Store},
};

/// How long the first look at the signs may take. The controllers run as configured if it takes longer.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long the question may take whether a Lease was renewed that the watch reports no renewal of.
const QUESTION: Duration = Duration::from_secs(10);

/// Whether KusionStack's controllers run. Clones share it.
#[derive(Clone)]
pub struct KusionStack {
    presence: watch::Receiver<Presence>,
    _task: Option<Arc<AbortOnDrop>>,
}

impl KusionStack {
    /// Watches the signs, and returns when they were read for the first time, or could not be. `controllers` are
    /// the names of those that stand down; with none of them nothing is watched. A Lease is a sign only in this
    /// namespace.
    pub async fn watch(
        client: &Client,
        health: &Health,
        controllers: Vec<&'static str>,
        namespace: &str,
    ) -> Self {
        let (sender, presence) = watch::channel(Presence::Absent);
        if controllers.is_empty() {
            return Self {
                presence,
                _task: None,
            };
        }
        let watched = Watched::start(client, health, namespace);
        watched.first_look().await;
        let report = Report {
            controllers,
            metrics: health.metrics().clone(),
        };
        for controller in &report.controllers {
            report.metrics.standing_down(controller, false);
        }
        let until = watched.look(&sender, &report);
        let task = tokio::spawn(async move { watched.run(sender, report, until).await });
        Self {
            presence,
            _task: Some(Arc::new(AbortOnDrop(task))),
        }
    }

    fn presence(&self) -> Presence {
        self.presence.borrow().clone()
    }
}

/// The signs, and what tells of their changes.
struct Watched {
    lease: Api<Lease>,
    known: Arc<Known>,
    leases: Cache<Lease>,
    webhooks: Vec<Cache<MutatingWebhookConfiguration>>,
}

struct Known {
    signs: Mutex<Signs>,
    changed: Notify,
    begin: Instant,
}

impl Known {
    fn change(&self, change: impl FnOnce(&mut Signs, Duration)) {
        change(&mut self.signs(), self.begin.elapsed());
        self.changed.notify_one();
    }

    fn lease(&self, lease: &Lease, exists: bool) {
        if lease.metadata.name.as_deref() != Some(LEASE) {
            return;
        }
        let namespace = lease.namespace().unwrap_or_default();
        // A Lease without a spec has no holder.
        let spec = exists.then(|| lease.spec.clone().unwrap_or_default());
        self.change(|signs, now| signs.lease(&namespace, spec.as_ref(), now));
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn start(client: &Client, health: &Health, namespace: &str) -> Self {
        // Each user with Kubernetes' role `edit` in a namespace may write Leases there.
        let lease: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let known = Arc::new(Known {
            signs: Mutex::default(),
            changed: Notify::new(),
            begin: Instant::now(),
        });
        let health = health.optional();
        let on_lease = {
            let known = Arc::clone(&known);
            move |lease: &Lease, leases: &Store<Lease>| {
                let latest = leases.get(&ObjectRef::from_obj(lease));
                known.lease(latest.as_deref().unwrap_or(lease), latest.is_some());
            }
        };
        let leases = Cache::of(lease.clone()).fields(&named(LEASE));
        let leases = leases.start(on_lease, &health);
        let webhook = |name: &'static str| {
            let known = Arc::clone(&known);
            let on_webhook = move |one: &MutatingWebhookConfiguration, all: &Store<_>| {
                let exists = all.get(&ObjectRef::from_obj(one)).is_some();
                known.change(|signs, _| signs.webhook(&one.name_any(), exists));
            };
            Cache::of(Api::all(client.clone()))
                .fields(&named(name))
                .without(without_webhooks)
                .start(on_webhook, &health)
        };
        Self {
            lease,
            leases,
            webhooks: WEBHOOKS.into_iter().map(webhook).collect(),
            known,
        }
    }

    async fn first_look(&self) {
        let webhooks = self
            .webhooks
            .iter()
            .map(|cache| cache.ready_within(FIRST_LOOK));
        let (leases, webhooks) =
            tokio::join!(self.leases.ready_within(FIRST_LOOK), join_all(webhooks));
        if !leases || webhooks.contains(&false) {
            tracing::warn!(
                "it cannot be read whether KusionStack's controllers run in this cluster; until it can, Operon's \
                 controllers run as configured"
            );
        }
    }

    async fn run(self, sender: watch::Sender<Presence>, report: Report, first: Option<Instant>) {
        let mut until = first;
        loop {
            let due = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let known = Arc::clone(&self.known);
            tokio::select! {
                () = known.changed.notified() => {}
                () = due => self.confirm().await,
            }
            until = self.look(&sender, &report);
        }
    }

    /// The watch has reported no renewal of a Lease for too long: the API server is asked, because a watch may be
    /// dead unnoticed.
    async fn confirm(&self) {
        let params = ListParams::default().fields(&format!("metadata.name={LEASE}"));
        match tokio::time::timeout(QUESTION, self.lease.list(&params)).await {
            Ok(Ok(found)) => {
                for lease in &found.items {
                    self.known.lease(lease, true);
                }
            }
            Ok(Err(_)) | Err(_) => self.known.change(Signs::leases_unseen),
        }
    }

    /// Decides what the signs mean now, and passes it on if it is something else than before. Returns when it
    /// must be decided again.
    fn look(&self, sender: &watch::Sender<Presence>, report: &Report) -> Option<Instant> {
        let (presence, until) = {
            let mut signs = self.known.signs();
            signs.presence(self.known.begin.elapsed())
        };
        let before = sender.borrow().clone();
        if presence != before {
            report.changed(&before, &presence);
            sender.send_replace(presence);
        }
        until.map(|until| self.known.begin + until)
    }
}

/// What is logged and counted.
struct Report {
    controllers: Vec<&'static str>,
    metrics: Metrics,
}

impl Report {
    fn changed(&self, before: &Presence, now: &Presence) {
        let controllers = self.controllers.join(", ");
        match (before, now) {
            (Presence::Present(_), Presence::Present(_)) => {}
            (_, Presence::Present(sign)) => tracing::warn!(
                controllers,
                sign = %sign,
                "KusionStack's controllers run in this cluster; Operon's of the same kinds stand down and write \
                 nothing"
            ),
            (_, Presence::Unclear) => tracing::info!(
                controllers,
                lease = LEASE,
                "KusionStack's Lease exists; these controllers wait until it is clear whether anybody renews it"
            ),
            (_, Presence::Absent) => tracing::warn!(
                controllers,
                "KusionStack's controllers do not run in this cluster any more; Operon's take over"
            ),
        }
        let is_down = *now != Presence::Absent;
        for controller in &self.controllers {
            self.metrics.standing_down(controller, is_down);
        }
    }
}

/// The object of this name.
fn named(name: &str) -> String {
    format!("metadata.name={name}")
}

/// Only its existence counts.
fn without_webhooks(configuration: &mut MutatingWebhookConfiguration) {
    configuration.webhooks = None;
}

/// A controller that stands down while KusionStack's controllers run.
pub struct Guarded<R: Reconciler> {
    reconciler: Arc<R>,
    kusion_stack: KusionStack,
    notice: Option<Box<dyn Tell<R::Object>>>,
    _wakes: AbortOnDrop,
}

impl<R: Reconciler> Guarded<R> {
    /// Guards a controller. When KusionStack comes or goes, it reconciles all objects of the `store` that it
    /// reconciles at all.
    pub fn new(
        reconciler: Arc<R>,
        kusion_stack: &KusionStack,
        store: &Store<R::Object>,
        queue: &UnboundedSender<ObjectRef<R::Object>>,
        concerns: fn(&R::Object) -> bool,
    ) -> Self {
        let mut presence = kusion_stack.presence.clone();
        let (store, queue) = (store.clone(), queue.clone());
        let wakes = tokio::spawn(async move {
            presence.mark_unchanged();
            while presence.changed().await.is_ok() {
                for object in store.state_filter(concerns) {
                    // A closed queue means that the process ends.
                    let _ = queue.unbounded_send(ObjectRef::from_obj(&*object));
                }
            }
        });
        Self {
            reconciler,
            kusion_stack: kusion_stack.clone(),
            notice: None,
            _wakes: AbortOnDrop(wakes),
        }
    }

    /// Reports it on the objects too.
    #[must_use]
    pub fn with_notice(mut self, notice: impl Tell<R::Object> + 'static) -> Self {
        self.notice = Some(Box::new(notice));
        self
    }
}

impl<R: Reconciler> Reconciler for Guarded<R> {
    type Object = R::Object;
    const NAME: &'static str = R::NAME;
    const STATUS_MANAGER: Option<&'static str> = R::STATUS_MANAGER;

    async fn reconcile(&self, object: Arc<R::Object>) -> Result<Next, Error> {
        let notice = self.notice.as_deref();
        match self.kusion_stack.presence() {
            Presence::Absent => {
                notice.inspect(|notice| notice.forget(&object));
                self.reconciler.reconcile(object).await
            }
            Presence::Unclear => {
                self.reconciler.leave(&object);
                Ok(Next::default())
            }
            Presence::Present(sign) => {
                self.reconciler.leave(&object);
                match notice {
                    Some(notice) => notice.tell(&object, &sign).await,
                    None => Ok(Next::default()),
                }
            }
        }
    }

    fn pace(object: &R::Object) -> Duration {
        R::pace(object)
    }

    fn leave(&self, object: &R::Object) {
        self.reconciler.leave(object);
    }

    async fn stop(&self) {
        self.reconciler.stop().await;
    }
}
