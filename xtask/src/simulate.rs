//! `cargo xtask simulate`: the seeded simulations of the controllers, at length. They are tests of
//! `operon-core`, which run a bounded number of schedules with all others.

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
}

/// Runs the simulations; the first schedule that breaks a promise ends the run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let tests = match arguments.kind {
        None => "tests::simulation::",
        Some(Kind::ReactiveJob) => "tests::simulation::reactive_job",
        Some(Kind::JobFlow) => "tests::simulation::job_flow",
        Some(Kind::DaemonJob) => "tests::simulation::daemon_job",
    };
    let mut command = tools::cargo();
    command
        .args([
            "test",
            "--quiet",
            "--package",
            "operon-core",
            "--lib",
            tests,
        ])
        .args(["--", "--nocapture"])
        .env("OPERON_SIMULATE_FIRST", arguments.first.to_string())
        .env("OPERON_SIMULATE_SEEDS", arguments.seeds.to_string());
    let what = format!("simulating {} schedules of each kind", arguments.seeds);
    tools::run(&Progress::stderr(), &what, &mut command)
}
