//! The metrics of the plugin runtime, under OpenMetrics names, and `operon metrics`: every series that a host can have,
//! from which `docs/metrics.md` is generated.

use std::time::Duration;

use operon_controllers::{
    action_plugin::ActionPlugins,
    colla_set::CollaSets,
    daemon_job::DaemonJobs,
    driven::Driven,
    job_flow::JobFlows,
    job_template::JobTemplates,
    metrics::{Metrics, Seen},
    operation_job::OperationJobs,
    orphaned_job::OrphanedJobs,
    pod_ops_lifecycle::PodOpsLifecycle,
    pod_transition_rule::PodTransitionRules,
    reactive_job::ReactiveJobs,
    run::Reconciler as _,
};
use operon_plugin_runtime::{CacheFault, CallObserver, CodeSource, Function, Outcome};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    run::{BesideKusionStack, OptionalController},
    stdout::print,
};

/// Every metric of the plugin runtime.
#[derive(Clone)]
pub(crate) struct PluginMetrics {
    calls: Family<Call, Counter>,
    durations: Family<Action, Histogram, fn() -> Histogram>,
    loads: Family<Load, Counter>,
    cache_errors: Family<Cache, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    action: String,
    function: &'static str,
    outcome: &'static str,
}

impl Call {
    fn of(action: &str, function: Function, outcome: Outcome) -> Self {
        Self {
            action: action.to_owned(),
            function: function.as_str(),
            outcome: outcome.as_str(),
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Action {
    action: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Load {
    action: String,
    source: &'static str,
}

impl Load {
    fn of(action: &str, source: CodeSource) -> Self {
        let (action, source) = (action.to_owned(), source.as_str());
        Self { action, source }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Cache {
    operation: &'static str,
}

impl Cache {
    fn of(fault: CacheFault) -> Self {
        let operation = fault.as_str();
        Self { operation }
    }
}

impl PluginMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            loads: Family::default(),
            cache_errors: Family::default(),
        };
        // From 0 on: the first error is an increase too.
        for fault in CacheFault::ALL {
            drop(metrics.cache_errors.get_or_create(&Cache::of(*fault)));
        }
        let registry = registry.sub_registry_with_prefix("operon_action");
        registry.register(
            "calls",
            "Calls of components, by function and outcome: another outcome than ok and action_error is a limit that was reached, or a trap",
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "The time that a call of a component took",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "loads",
            "Components that were prepared to run, by the source of their compiled code",
            metrics.loads.clone(),
        );
        registry.register(
            "cache_errors",
            "Files of compiled code that could not be read or verified (read), so that their component was compiled again, or not be written (write), so that it is compiled again after a restart",
            metrics.cache_errors.clone(),
        );
        metrics
    }

    /// Begins every series that there can be of these actions.
    fn begin(&self, actions: &[String]) {
        // Every field, so that a new metric is not forgotten.
        let Self {
            calls,
            durations,
            loads,
            cache_errors: _,
        } = self;
        for action in actions {
            for function in Function::ALL {
                for outcome in Outcome::ALL {
                    drop(calls.get_or_create(&Call::of(action, *function, *outcome)));
                }
            }
            let named = Action {
                action: action.clone(),
            };
            drop(durations.get_or_create(&named));
            for source in CodeSource::ALL {
                drop(loads.get_or_create(&Load::of(action, *source)));
            }
        }
    }
}

impl CallObserver for PluginMetrics {
    fn called(&self, action: &str, function: Function, outcome: Outcome, duration: Duration) {
        let call = Call::of(action, function, outcome);
        self.calls.get_or_create(&call).inc();
        let action = call.action;
        self.durations
            .get_or_create(&Action { action })
            .observe(duration.as_secs_f64());
    }

    fn compiled(&self, action: &str, source: CodeSource, _: Duration) {
        self.loads.get_or_create(&Load::of(action, source)).inc();
    }

    fn cache_failed(&self, fault: CacheFault) {
        self.cache_errors.get_or_create(&Cache::of(fault)).inc();
    }
}

const BUCKETS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0,
];

/// The names of all controllers.
const CONTROLLERS: [&str; 10] = [
    OperationJobs::NAME,
    ActionPlugins::NAME,
    Driven::<ReactiveJobs>::NAME,
    OrphanedJobs::NAME,
    Driven::<JobFlows>::NAME,
    JobTemplates::NAME,
    Driven::<DaemonJobs>::NAME,
    Driven::<CollaSets>::NAME,
    PodOpsLifecycle::NAME,
    PodTransitionRules::NAME,
];

/// What stands for any ActionPlugin, action or kind.
const ANY: [&str; 3] = ["PLUGIN", "ACTION", "KIND"];

/// `operon metrics`: the series of a host with one ActionPlugin, as `/metrics` shows them.
pub(crate) fn run() -> anyhow::Result<()> {
    let [plugin, action, kind] = ANY.map(|any| vec![any.to_owned()]);
    print(&every_series(&plugin, &action, &kind)?)
}

/// Every series that a host with all controllers can have with these ActionPlugins, their actions, and the kinds that it
/// watches.
fn every_series(
    plugins: &[String],
    actions: &[String],
    kinds: &[String],
) -> anyhow::Result<String> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let plugin_metrics = PluginMetrics::register(&mut registry);
    let optional = [
        OptionalController::CollaSet,
        OptionalController::PodOpsLifecycle,
    ];
    let beside: Vec<_> = BesideKusionStack::running(&optional)
        .into_iter()
        .map(BesideKusionStack::name)
        .collect();
    metrics.begin(&Seen {
        controllers: &CONTROLLERS,
        beside: &beside,
        plugins,
        kinds,
    });
    plugin_metrics.begin(actions);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// How many series a host may have with 20 ActionPlugins.
    const LIMIT: usize = 2_000;

    fn names(what: &str, count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("{what}-{number}"))
            .collect()
    }

    #[test]
    fn a_host_with_20_plugins_has_fewer_than_2000_series_whatever_happens() {
        // The host watches about 20 kinds for all of its controllers, and each plugin may declare others.
        let (plugins, actions, kinds) = (names("p", 20), names("Action", 20), names("Kind", 40));
        let text = every_series(&plugins, &actions, &kinds).expect("text");
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series < LIMIT, "{series} series");
        let distinct: BTreeSet<_> = text.lines().collect();
        assert_eq!(
            distinct.len(),
            text.lines().count(),
            "a line is there twice"
        );
    }

    #[test]
    fn all_controllers_have_series() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../controllers/src");
        let files = std::fs::read_dir(folder).expect("the controllers");
        let mut found = BTreeSet::new();
        for file in files.flatten().filter(|file| file.path().is_file()) {
            let text = std::fs::read_to_string(file.path()).expect("a source");
            let names = text.lines().filter_map(|line| {
                let name = line.trim().strip_prefix("const NAME: &'static str = \"")?;
                Some(name.strip_suffix("\";")?.to_owned())
            });
            found.extend(names);
        }
        let known: BTreeSet<_> = CONTROLLERS.map(str::to_owned).into();
        assert_eq!(found, known);
    }
}
