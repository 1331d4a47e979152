//! `operon run`: the host, from its arguments to its end.

use std::{net::SocketAddr, pin::pin};

use anyhow::Context;
use clap::ValueEnum;
use kube::{Client, Config};
use operon_controllers::{
    apply::client_config, colla_set::CollaSets, driven::Driven, health::Health, metrics::Metrics,
    operation_job::OperationJobs, pod_ops_lifecycle::PodOpsLifecycle, run::Reconciler as _,
};
use operon_core::namespaces::{Namespaces, is_label};
use operon_plugin_registry::Trust;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    beside::StandDown,
    components::ComponentArguments,
    leader::Leadership,
    logging::{self, LogFormat},
    metrics::PluginMetrics,
    probes::{self, Phase, Readiness},
    trust::TrustArguments,
    wiring::{self, Running},
};

/// Why the host exits immediately.
const LOST: &str = "leadership was lost; nothing more is written";

/// How the host runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The operator's namespace, with its Lease and the `ConfigMaps` and `ServiceAccounts` of actions
    #[arg(long, env = "POD_NAMESPACE", default_value = "operon-system")]
    namespace: String,

    /// The namespaces with the objects that the host caches and reconciles, separated by commas [default: all]
    #[arg(long, env = "OPERON_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,

    /// The shard of this host: it loads the ActionPlugins with the label `operon.dev/shard` of this value [default: those without the label]
    #[arg(long, env = "OPERON_SHARD")]
    shard: Option<String>,

    /// The name of this instance, unique among the replicas [default: operon-PID]
    #[arg(long, env = "POD_NAME")]
    instance: Option<String>,

    /// The address of /healthz, /readyz and /metrics
    #[arg(long, env = "OPERON_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    #[command(flatten)]
    components: ComponentArguments,

    #[command(flatten)]
    trust: TrustArguments,

    /// The format of log lines
    #[arg(long, env = "OPERON_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,

    /// The log level, or levels by module (info,operon_controllers=debug); operon::audit=off switches the audit log off
    #[arg(long, env = "OPERON_LOG", default_value = "info")]
    log: String,

    /// The optional controllers to run, separated by commas [default: none]
    #[arg(long, env = "OPERON_CONTROLLERS", value_enum, value_delimiter = ',')]
    controllers: Vec<OptionalController>,

    #[command(flatten)]
    stand_down: StandDown,

    /// Run OperationJobs even if the API server does not know all of their fields: their CustomResourceDefinition is not Operon's
    #[arg(long)]
    allow_foreign_crds: bool,

    /// Run without leader election, for a single instance on a developer's machine
    #[arg(long)]
    no_leader_election: bool,
}

/// A controller that runs only if it is enabled. Each writes as a ServiceAccount of its own, which exists only where it
/// is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OptionalController {
    /// ReactiveJobs
    #[value(name = "reactivejob")]
    ReactiveJob,
    /// JobFlows and JobTemplates
    #[value(name = "jobflow")]
    JobFlow,
    /// DaemonJobs
    #[value(name = "daemonjob")]
    DaemonJob,
    /// CollaSets
    #[value(name = "collaset")]
    CollaSet,
    /// The lifecycle of pods that have the label `kusionstack.io/control`
    #[value(name = "podopslifecycle")]
    PodOpsLifecycle,
}

/// A controller of a kind that KusionStack has a controller of too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BesideKusionStack {
    /// CollaSets
    #[value(name = "collaset")]
    CollaSet,
    /// The lifecycle of pods that have the label `kusionstack.io/control`
    #[value(name = "podopslifecycle")]
    PodOpsLifecycle,
    /// OperationJobs
    #[value(name = "operationjob")]
    OperationJob,
}

impl BesideKusionStack {
    /// The controllers that run if these optional ones are enabled.
    pub(crate) fn running(enabled: &[OptionalController]) -> Vec<Self> {
        let optional = enabled.iter().filter_map(|one| match one {
            OptionalController::CollaSet => Some(Self::CollaSet),
            OptionalController::PodOpsLifecycle => Some(Self::PodOpsLifecycle),
            OptionalController::ReactiveJob
            | OptionalController::JobFlow
            | OptionalController::DaemonJob => None,
        });
        optional.chain([Self::OperationJob]).collect()
    }

    /// The name of the controller.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CollaSet => Driven::<CollaSets>::NAME,
            Self::PodOpsLifecycle => PodOpsLifecycle::NAME,
            Self::OperationJob => OperationJobs::NAME,
        }
    }
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let is_enabled = |one| arguments.controllers.contains(&one);
    if is_enabled(OptionalController::CollaSet) && !is_enabled(OptionalController::PodOpsLifecycle)
    {
        anyhow::bail!(
            "--controllers has collaset without podopslifecycle, which makes the pods of CollaSets Ready: add it"
        );
    }
    let namespaces = Namespaces::parse(&arguments.watch_namespaces)
        .context("failed to read --watch-namespaces")?;
    if let Some(shard) = arguments.shard.as_deref().filter(|shard| !is_label(shard)) {
        anyhow::bail!(
            "failed to read --shard: {shard:?} has to be 1 to 63 lower-case letters, digits and \"-\", with a letter or a digit at both ends"
        );
    }
    logging::start(&arguments.log, arguments.log_format)?;
    let trust = arguments.trust.read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let ended = runtime.block_on(host(arguments, namespaces, trust));
    // Running tasks must not hold up the end of a process that may not write any more.
    runtime.shutdown_background();
    ended
}

/// From the first connection to the last write.
async fn host(arguments: Arguments, namespaces: Namespaces, trust: Trust) -> anyhow::Result<()> {
    let mut end = Termination::listen()?;
    let config = Config::infer().await.context(
        "failed to find a cluster: the host does not run in a pod, and there is no kubeconfig",
    )?;
    let config = client_config(config);
    let client = Client::try_from(config.clone()).context("failed to build a client")?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let plugin_metrics = PluginMetrics::register(&mut registry);
    let health = Health::new(metrics.clone());
    let readiness = Readiness::new(health.clone());
    probes::serve(arguments.listen, readiness.clone(), registry).await?;
    let identity = arguments
        .instance
        .clone()
        .unwrap_or_else(|| format!("operon-{}", std::process::id()));
    // A replica that waits to lead is ready: it would serve as soon as it leads.
    readiness.set(Phase::Ready);
    let leadership = if arguments.no_leader_election {
        None
    } else {
        let acquired = Leadership::acquire(config.clone(), &arguments.namespace, &identity);
        tokio::select! {
            leadership = acquired => Some(leadership?),
            () = end.asked() => return Ok(()),
        }
    };
    metrics.leads(true);
    readiness.set(Phase::Filling);
    let parts = wiring::Parts {
        config,
        client,
        namespace: arguments.namespace,
        namespaces,
        shard: arguments.shard,
        instance: Some(identity),
        components: arguments.components,
        trust,
        controllers: arguments.controllers,
        stand_down: arguments.stand_down,
        allow_foreign_crds: arguments.allow_foreign_crds,
        metrics,
        health,
        plugin_metrics,
    };
    let ended = {
        // From the first moment to the last write: controllers write long before the last of them has
        // started, and some writes end long after the host received the signal to stop.
        let mut lost = pin!(lost(leadership.as_ref()));
        let mut running = Running::new(&parts);
        let ended = tokio::select! {
            failed = wiring::run_in(&mut running, parts, &readiness) => failed,
            () = end.asked() => {
                tracing::info!("received a termination signal; waiting for the running reconciles to finish");
                Ok(())
            }
            () = &mut lost => anyhow::bail!(LOST),
        };
        tokio::select! {
            () = running.stop() => ended,
            () = lost => anyhow::bail!(LOST),
        }
    };
    if let Some(leadership) = leadership {
        leadership.release().await;
    }
    ended
}

async fn lost(leadership: Option<&Leadership>) {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// SIGTERM and SIGINT.
struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn bad_namespaces_and_shards_are_refused_by_name_before_anything_starts() {
        for (argument, name, value) in [
            ("--watch-namespaces=a,B", "--watch-namespaces", "\"B\""),
            (
                "--watch-namespaces=a,b,a",
                "--watch-namespaces",
                "\"a\" is named twice",
            ),
            ("--watch-namespaces=", "--watch-namespaces", "\"\""),
            ("--shard=B", "--shard", "\"B\""),
        ] {
            let line = Line::try_parse_from(["operon", argument]).expect("arguments");
            let refusal = format!("{:#}", run(line.arguments).expect_err(argument));
            assert!(
                refusal.contains(name) && refusal.contains(value),
                "{refusal}"
            );
        }
    }
}
