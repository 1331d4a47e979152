//! The metrics of the controllers, under OpenMetrics names.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use operon_core::operation_job::turns::CallCause;

use crate::error::Class;

/// Every metric of the controllers; clones share them.
#[derive(Clone)]
pub struct Metrics {
    reconciles: Family<Reconcile, Counter>,
    durations: Family<Controller, Histogram, fn() -> Histogram>,
    errors: Family<ErrorClass, Counter>,
    queued: Family<Controller, Gauge>,
    calls: Family<Caused, Counter>,
    effects: Family<EffectKind, Counter>,
    dropped_events: Family<DroppedEvent, Counter>,
    plugins: Gauge,
    panics: Family<Place, Counter>,
    watches: Family<Kind, Gauge>,
    left_behind: Family<Plugin, Gauge>,
    standing_down: Family<Controller, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorClass {
    controller: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Caused {
    plugin: String,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EffectKind {
    plugin: String,
    kind: &'static str,
    result: &'static str,
}

/// An Event of an action that was not sent: `rate`, the action sends too many; `queue`, there was no room.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DroppedEvent {
    plugin: String,
    cause: &'static str,
}

/// Where a panic was contained: a controller's name, or `watch` and a kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Place {
    place: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Plugin {
    plugin: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: String,
}

impl Metrics {
    /// Metrics that `registry` exposes.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            errors: Family::default(),
            queued: Family::default(),
            calls: Family::default(),
            effects: Family::default(),
            dropped_events: Family::default(),
            plugins: Gauge::default(),
            panics: Family::default(),
            watches: Family::default(),
            left_behind: Family::default(),
            standing_down: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("operon");
        registry.register(
            "reconciles",
            "Reconciles by result",
            metrics.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of a reconcile",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Failed reconciles by class of the error",
            metrics.errors.clone(),
        );
        registry.register(
            "queue_depth",
            "Objects that wait to be reconciled",
            metrics.queued.clone(),
        );
        registry.register(
            "action_calls_by_cause",
            "Calls of actions about targets by the cause of the call",
            metrics.calls.clone(),
        );
        registry.register(
            "action_effects",
            "Effects of actions by kind and result",
            metrics.effects.clone(),
        );
        registry.register(
            "action_events_dropped",
            "Events of actions that were not sent, by cause",
            metrics.dropped_events.clone(),
        );
        registry.register(
            "plugins_loaded",
            "Actions that a component serves",
            metrics.plugins.clone(),
        );
        registry.register(
            "panics",
            "Contained panics of the host by controller or watch",
            metrics.panics.clone(),
        );
        registry.register(
            "watch_up",
            "Whether the cache of a kind follows the API server",
            metrics.watches.clone(),
        );
        registry.register(
            "pods_left_behind",
            "Pods that an action marked for an OperationJob that no longer exists, by ActionPlugin",
            metrics.left_behind.clone(),
        );
        registry.register(
            "controller_standing_down",
            "Whether a controller writes nothing, because KusionStack's controllers run in the cluster",
            metrics.standing_down.clone(),
        );
        metrics
    }

    pub(crate) fn reconciled(
        &self,
        controller: &'static str,
        result: &'static str,
        time: Duration,
    ) {
        self.reconciles
            .get_or_create(&Reconcile { controller, result })
            .inc();
        self.durations
            .get_or_create(&Controller { controller })
            .observe(time.as_secs_f64());
    }

    pub(crate) fn failed(&self, controller: &'static str, class: Class) {
        self.errors
            .get_or_create(&ErrorClass {
                controller,
                class: class.as_str(),
            })
            .inc();
    }

    pub(crate) fn queued(&self, controller: &'static str, depth: usize) {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        self.queued
            .get_or_create(&Controller { controller })
            .set(depth);
    }

    pub(crate) fn left_behind(&self, plugin: &str, pods: usize) {
        let plugin = plugin.to_owned();
        let pods = i64::try_from(pods).unwrap_or(i64::MAX);
        self.left_behind.get_or_create(&Plugin { plugin }).set(pods);
    }

    /// An ActionPlugin was deleted: nothing is known of its pods any more.
    pub(crate) fn plugin_deleted(&self, plugin: &str) {
        let plugin = plugin.to_owned();
        self.left_behind.remove(&Plugin { plugin });
    }

    pub(crate) fn standing_down(&self, controller: &'static str, is_down: bool) {
        self.standing_down
            .get_or_create(&Controller { controller })
            .set(i64::from(is_down));
    }

    pub(crate) fn called(&self, plugin: &str, cause: CallCause) {
        self.calls
            .get_or_create(&Caused {
                plugin: plugin.to_owned(),
                cause: cause.as_str(),
            })
            .inc();
    }

    pub(crate) fn effect(&self, plugin: &str, kind: &'static str, result: &'static str) {
        self.effects
            .get_or_create(&EffectKind {
                plugin: plugin.to_owned(),
                kind,
                result,
            })
            .inc();
    }

    pub(crate) fn event_dropped(&self, plugin: &str, cause: &'static str) {
        let plugin = plugin.to_owned();
        self.dropped_events
            .get_or_create(&DroppedEvent { plugin, cause })
            .inc();
    }

    pub(crate) fn plugins_loaded(&self, count: usize) {
        self.plugins.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn panicked(&self, place: &str) {
        let place = place.to_owned();
        self.panics.get_or_create(&Place { place }).inc();
    }

    /// Whether the watches of a kind work; none if there is none any more.
    pub(crate) fn watched(&self, kind: &str, is_up: Option<bool>) {
        let kind = Kind {
            kind: kind.to_owned(),
        };
        match is_up {
            Some(is_up) => drop(self.watches.get_or_create(&kind).set(i64::from(is_up))),
            None => drop(self.watches.remove(&kind)),
        }
    }
}

const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0,
];
