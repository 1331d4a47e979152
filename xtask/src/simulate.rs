//! `cargo xtask simulate`: the seeded simulations of the controllers, at length. They are tests of
//! `operon-core` and, for OperationJobs, JobTemplates and CollaSets, of `operon-controllers`, which run a
//! bounded number of schedules with all others.

use anyhow::Result;
use clap::{Args, ValueEnum};
use operon_devcluster::Progress;

use crate::tools;

/// What is simulated, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The kind [default: all]
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// How many schedules; each takes about 0.1 s
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed; a failure prints its own
    #[arg(long, default_value_t = 0)]
    first: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    #[value(name = "reactivejob")]
    ReactiveJob,
    #[value(name = "jobflow")]
    JobFlow,
    #[value(name = "daemonjob")]
    DaemonJob,
    #[value(name = "operationjob")]
    OperationJob,
    #[value(name = "jobtemplate")]
    JobTemplate,
    /// OperationJobs whose action is Replace
    #[value(name = "replace")]
    Replace,
    /// CollaSets, with the PodOpsLifecycle
    #[value(name = "collaset")]
    CollaSet,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::ReactiveJob,
        Self::JobFlow,
        Self::DaemonJob,
        Self::OperationJob,
        Self::JobTemplate,
        Self::Replace,
        Self::CollaSet,
    ];

    /// The package and the name of its test.
    fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::ReactiveJob => ("operon-core", "tests::simulation::reactive_job"),
            Self::JobFlow => ("operon-core", "tests::simulation::job_flow"),
            Self::DaemonJob => ("operon-core", "tests::simulation::daemon_job"),
            Self::OperationJob => ("operon-controllers", "tests::simulation::operation_job"),
            Self::JobTemplate => ("operon-controllers", "job_template::simulation"),
            Self::Replace => ("operon-controllers", "tests::replace::replace"),
            Self::CollaSet => ("operon-controllers", "colla_set::simulation"),
        }
    }
}

/// Runs the simulations; the first schedule that breaks a promise ends the run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let kinds = arguments.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
    for kind in kinds {
        let (package, test) = kind.test();
        let mut command = tools::cargo();
        command
            .args(["test", "--quiet", "--package", package, "--lib", test])
            .args(["--", "--nocapture"])
            .env("OPERON_SIMULATE_FIRST", arguments.first.to_string())
            .env("OPERON_SIMULATE_SEEDS", arguments.seeds.to_string());
        let what = format!("simulating {} schedules: {test}", arguments.seeds);
        tools::run(&Progress::stderr(), &what, &mut command)?;
    }
    Ok(())
}
