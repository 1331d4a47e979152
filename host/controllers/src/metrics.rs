//! The metrics of the controllers, under OpenMetrics names. `docs/metrics.md` is generated from what is registered here.
//!
//! No label names a job or a pod: a host has a few series for each controller, plugin and kind that it watches.

mod labels;
mod oldest;

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use operon_core::{action::Verb, operation_job::turns::CallCause};

use self::{
    labels::{
        Caused, Controller, DroppedEvent, EffectKind, ErrorClass, Kind, Place, Plugin, Reconcile,
    },
    oldest::Oldest,
};
pub(crate) use self::{
    labels::{DropCause, PassResult},
    oldest::Waiting,
};
use crate::error::Class;

/// Every metric of the controllers; clones share them.
#[derive(Clone)]
pub struct Metrics {
    leader: Gauge,
    reconciles: Family<Reconcile, Counter>,
    durations: Family<Controller, Histogram, fn() -> Histogram>,
    errors: Family<ErrorClass, Counter>,
    queued: Family<Controller, Gauge>,
    oldest: Oldest,
    calls: Family<Caused, Counter>,
    effects: Family<EffectKind, Counter>,
    dropped_events: Family<DroppedEvent, Counter>,
    plugins: Gauge,
    ready: Family<Plugin, Gauge>,
    suspended: Family<Plugin, Gauge>,
    panics: Family<Place, Counter>,
    watches: Family<Kind, Gauge>,
    left_behind: Family<Plugin, Gauge>,
    standing_down: Family<Controller, Gauge>,
}

/// What there can be series of.
pub struct Seen<'a> {
    /// Names of controllers.
    pub controllers: &'a [&'static str],
    /// Those of them that stand down beside KusionStack's.
    pub beside: &'a [&'static str],
    /// Names of ActionPlugins.
    pub plugins: &'a [String],
    /// Kinds that are watched, as kubectl takes them.
    pub kinds: &'a [String],
}

impl Metrics {
    /// Metrics that `registry` exposes.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            errors: Family::default(),
            queued: Family::default(),
            oldest: Oldest::default(),
            calls: Family::default(),
            effects: Family::default(),
            dropped_events: Family::default(),
            plugins: Gauge::default(),
            ready: Family::default(),
            suspended: Family::default(),
            panics: Family::default(),
            watches: Family::default(),
            left_behind: Family::default(),
            standing_down: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("operon");
        metrics.register_controllers(registry);
        metrics.register_actions(registry);
        metrics
    }

    fn register_controllers(&self, registry: &mut Registry) {
        registry.register(
            "leader",
            "1 while this replica leads: only the leading replica reconciles and has the metrics of plugins",
            self.leader.clone(),
        );
        registry.register(
            "reconciles",
            "Reconciles of an object, by result",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "The time that a reconcile took",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed, by the class of the error: conflict, exists and gone are normal, because the object changed meanwhile",
            self.errors.clone(),
        );
        registry.register(
            "queue_depth",
            "Objects that wait to be reconciled",
            self.queued.clone(),
        );
        registry.register_collector(Box::new(self.oldest.clone()));
        registry.register(
            "panics",
            "Panics in Operon that were contained, by place: a controller, or watch and a kind. Each is a bug in Operon",
            self.panics.clone(),
        );
        registry.register(
            "watch_up",
            "1 while the cache of the kind follows the API server, in each of watchNamespaces; 0 while it is listed for the first time or its watch is interrupted",
            self.watches.clone(),
        );
        registry.register(
            "controller_standing_down",
            "1 while the controller writes nothing, because KusionStack's controllers run in the cluster",
            self.standing_down.clone(),
        );
    }

    fn register_actions(&self, registry: &mut Registry) {
        registry.register(
            "plugins_loaded",
            "Actions that a component serves",
            self.plugins.clone(),
        );
        registry.register(
            "plugin_ready",
            "1 while the component that the ActionPlugin asks for serves; 0 while it is loaded or if it can't be loaded, also if the previous component still serves",
            self.ready.clone(),
        );
        registry.register(
            "plugin_suspended",
            "1 while the action is set aside, because its calls fault",
            self.suspended.clone(),
        );
        registry.register(
            "action_calls_by_cause",
            "Calls of actions about targets, by the cause of the call",
            self.calls.clone(),
        );
        registry.register(
            "action_effects",
            "Effects of actions, by kind and result",
            self.effects.clone(),
        );
        registry.register(
            "action_events_dropped",
            "Events of actions that were not sent, by cause: rate if the action sends too many, queue if there was no room",
            self.dropped_events.clone(),
        );
        registry.register(
            "pods_left_behind",
            "Pods that an action marked for an OperationJob that does not exist any more; the condition PodsLeftBehind of the ActionPlugin names them",
            self.left_behind.clone(),
        );
    }

    /// Begins every series that there can be of these, so that it is exposed as if it had been counted.
    pub fn begin(&self, seen: &Seen<'_>) {
        // Every field, so that a new metric is not forgotten.
        let Self {
            leader: _,
            plugins: _,
            // Those of a controller.
            reconciles: _,
            durations: _,
            errors: _,
            queued: _,
            oldest: _,
            calls,
            effects,
            dropped_events,
            ready,
            suspended,
            panics,
            watches,
            left_behind,
            standing_down,
        } = self;
        let Seen {
            controllers,
            beside,
            plugins,
            kinds,
        } = *seen;
        for controller in controllers {
            self.begin_controller(controller);
        }
        for controller in beside.iter().copied() {
            drop(standing_down.get_or_create(&Controller { controller }));
        }
        for name in plugins {
            let plugin = Plugin::of(name);
            for gauges in [ready, suspended, left_behind] {
                drop(gauges.get_or_create(&plugin));
            }
            for cause in CallCause::ALL {
                drop(calls.get_or_create(&Caused::of(name, *cause)));
            }
            for (verb, is_ok) in Verb::ALL
                .iter()
                .flat_map(|verb| [(*verb, true), (*verb, false)])
            {
                drop(effects.get_or_create(&EffectKind::of(name, verb, is_ok)));
            }
            for cause in DropCause::ALL {
                drop(dropped_events.get_or_create(&DroppedEvent::of(name, *cause)));
            }
        }
        for kind in kinds {
            drop(watches.get_or_create(&Kind::of(kind)));
            drop(panics.get_or_create(&Place::of_watch(kind)));
        }
    }

    /// A controller starts: what it counts begins with 0, so that its first error is an increase too.
    pub(crate) fn begin_controller(&self, controller: &'static str) {
        let named = Controller { controller };
        for result in PassResult::ALL {
            drop(
                self.reconciles
                    .get_or_create(&Reconcile::of(controller, *result)),
            );
        }
        drop(self.durations.get_or_create(&named));
        for class in Class::ALL {
            drop(
                self.errors
                    .get_or_create(&ErrorClass::of(controller, *class)),
            );
        }
        drop(self.panics.get_or_create(&Place::of(controller)));
        self.queued(controller, 0, None);
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn reconciled(&self, controller: &'static str, result: PassResult, time: Duration) {
        self.reconciles
            .get_or_create(&Reconcile::of(controller, result))
            .inc();
        self.durations
            .get_or_create(&Controller { controller })
            .observe(time.as_secs_f64());
    }

    pub(crate) fn failed(&self, controller: &'static str, class: Class) {
        self.errors
            .get_or_create(&ErrorClass::of(controller, class))
            .inc();
    }

    /// So many objects wait, and the first of them since then.
    pub(crate) fn queued(
        &self,
        controller: &'static str,
        depth: usize,
        since: Option<tokio::time::Instant>,
    ) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.queued
            .get_or_create(&Controller { controller })
            .set(depth);
        self.oldest.waits_since(controller, since);
    }

    pub(crate) fn left_behind(&self, plugin: &str, pods: usize) {
        let pods = i64::try_from(pods).unwrap_or(i64::MAX);
        self.left_behind
            .get_or_create(&Plugin::of(plugin))
            .set(pods);
    }

    /// Whether the component that an ActionPlugin asks for serves, and whether its action is set aside.
    pub(crate) fn plugin(&self, plugin: &str, is_ready: bool, is_suspended: bool) {
        for cause in DropCause::ALL {
            drop(
                self.dropped_events
                    .get_or_create(&DroppedEvent::of(plugin, *cause)),
            );
        }
        let plugin = Plugin::of(plugin);
        self.ready.get_or_create(&plugin).set(i64::from(is_ready));
        self.suspended
            .get_or_create(&plugin)
            .set(i64::from(is_suspended));
    }

    /// An ActionPlugin was deleted: nothing is known of it any more.
    pub(crate) fn plugin_deleted(&self, plugin: &str) {
        let plugin = Plugin::of(plugin);
        for gauges in [&self.ready, &self.suspended, &self.left_behind] {
            gauges.remove(&plugin);
        }
    }

    pub(crate) fn standing_down(&self, controller: &'static str, is_down: bool) {
        self.standing_down
            .get_or_create(&Controller { controller })
            .set(i64::from(is_down));
    }

    pub(crate) fn called(&self, plugin: &str, cause: CallCause) {
        self.calls.get_or_create(&Caused::of(plugin, cause)).inc();
    }

    pub(crate) fn effect(&self, plugin: &str, verb: Verb, is_ok: bool) {
        self.effects
            .get_or_create(&EffectKind::of(plugin, verb, is_ok))
            .inc();
    }

    pub(crate) fn event_dropped(&self, plugin: &str, cause: DropCause) {
        self.dropped_events
            .get_or_create(&DroppedEvent::of(plugin, cause))
            .inc();
    }

    pub(crate) fn plugins_loaded(&self, count: usize) {
        self.plugins.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A reconcile of this controller panicked.
    pub(crate) fn panicked(&self, controller: &str) {
        self.panics.get_or_create(&Place::of(controller)).inc();
    }

    /// The cache of this kind panicked.
    pub(crate) fn watch_panicked(&self, kind: &str) {
        self.panics.get_or_create(&Place::of_watch(kind)).inc();
    }

    /// Whether the watches of a kind work; none if there is none any more.
    pub(crate) fn watched(&self, kind: &str, is_up: Option<bool>) {
        let kind = Kind::of(kind);
        match is_up {
            Some(is_up) => drop(self.watches.get_or_create(&kind).set(i64::from(is_up))),
            None => drop(self.watches.remove(&kind)),
        }
    }
}

const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0,
];
