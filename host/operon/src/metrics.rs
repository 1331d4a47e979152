//! The metrics of the plugin runtime, under OpenMetrics names.

use std::time::Duration;

use operon_plugin_runtime::{CallObserver, CodeSource, Outcome};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Every metric of the plugin runtime.
#[derive(Clone)]
pub(crate) struct PluginMetrics {
    calls: Family<Call, Counter>,
    durations: Family<Function, Histogram, fn() -> Histogram>,
    loads: Family<Load, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    action: String,
    function: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Function {
    action: String,
    function: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Load {
    action: String,
    source: &'static str,
}

impl PluginMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            loads: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("operon_action");
        registry.register(
            "calls",
            "Calls of actions, by function and outcome; an outcome beside ok and action_error is a limit that was hit or a trap",
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "Duration of a call",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "loads",
            "Components that were prepared to run, by the source of their compiled code",
            metrics.loads.clone(),
        );
        metrics
    }
}

impl CallObserver for PluginMetrics {
    fn called(&self, action: &str, function: &'static str, outcome: Outcome, duration: Duration) {
        let call = Call {
            action: action.to_owned(),
            function,
            outcome: outcome.as_str(),
        };
        self.calls.get_or_create(&call).inc();
        let function = Function {
            action: action.to_owned(),
            function,
        };
        self.durations
            .get_or_create(&function)
            .observe(duration.as_secs_f64());
    }

    fn compiled(&self, action: &str, source: CodeSource, _: Duration) {
        self.loads
            .get_or_create(&Load {
                action: action.to_owned(),
                source: source.as_str(),
            })
            .inc();
    }
}

const BUCKETS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0,
];
