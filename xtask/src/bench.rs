//! `cargo xtask bench`: the measurements that `docs/benchmarks.md` quotes.
//!
//! A bench prints a Markdown table, with the machine it ran on. Nothing is compared with an
//! earlier run and nothing fails because it was slow: numbers are for people to judge.

mod colla_set;
mod daemon_job;
mod job_flow;
mod load;
mod machine;
mod memory;
mod metrics;
mod neighbours;
mod operation_job;
mod plugins;
mod reactive_job;
mod report;
mod table;
mod test_bed;

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use operon_devcluster::Progress;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// One `OperationJob` replaces all pods of many Deployments; every request is counted
    ///
    /// On a cluster of its own with simulated nodes, which ends with it; some minutes.
    #[command(name = "operationjob")]
    OperationJob(operation_job::Arguments),
    /// The templates of many `ReactiveJob`s change at the same time; every request is counted, an idle host's too
    ///
    /// On a cluster of its own with simulated nodes, which ends with it; some minutes.
    #[command(name = "reactivejob")]
    ReactiveJob(reactive_job::Arguments),
    /// A `JobFlow` of very many steps, and many of five; how soon each step follows, every request counted
    ///
    /// On two clusters of its own with simulated nodes, which end with it; some minutes.
    #[command(name = "jobflow")]
    JobFlow(job_flow::Arguments),
    /// A `DaemonJob` over very many nodes; every request is counted, an idle host's too
    ///
    /// On a cluster of its own with simulated nodes, which ends with it; some minutes.
    #[command(name = "daemonjob")]
    DaemonJob(daemon_job::Arguments),
    /// The pods of many `CollaSet`s are created, replaced and updated in place; every request is counted
    ///
    /// `CollaSet`s are scaled from 0 to `--pods`. One `OperationJob` replaces all pods, and then an edited image is
    /// updated in place. For each of the three: pods per second; what everybody wrote meanwhile, as a share
    /// of what the API server takes from plain clients in the same run; requests of the host per pod;
    /// its processor time and memory. On a cluster of its own with simulated nodes, which ends with it;
    /// some minutes.
    #[command(name = "collaset")]
    CollaSet(colla_set::Arguments),
    /// How soon a Replace job reacts on an idle host, and beside sixteen jobs of an action whose calls never end
    ///
    /// On a cluster of its own with simulated nodes, which ends with it; some minutes.
    Neighbours(neighbours::Arguments),
    /// What the host holds in memory of many pods and ReplicaSets that no job concerns
    ///
    /// On a cluster of its own with simulated nodes, which ends with it; ten minutes and more.
    Memory(memory::Arguments),
    /// What a call of an action costs in each language, an idle plugin, loading and pulling one; the start of a host
    ///
    /// The start of a host is measured on a cluster of its own, which ends with it; some minutes, and an optimised
    /// build before that.
    #[command(alias = "action-call")]
    Plugins(plugins::Arguments),
}

/// Runs a bench, or lists them.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let progress = Progress::stderr();
    match arguments.bench {
        None => {
            list();
            Ok(())
        }
        Some(Bench::OperationJob(arguments)) => operation_job::run(&arguments, &progress),
        Some(Bench::ReactiveJob(arguments)) => reactive_job::run(&arguments, &progress),
        Some(Bench::JobFlow(arguments)) => job_flow::run(&arguments, &progress),
        Some(Bench::DaemonJob(arguments)) => daemon_job::run(&arguments, &progress),
        Some(Bench::CollaSet(arguments)) => colla_set::run(&arguments, &progress),
        Some(Bench::Neighbours(arguments)) => neighbours::run(&arguments, &progress),
        Some(Bench::Memory(arguments)) => memory::run(&arguments, &progress),
        Some(Bench::Plugins(arguments)) => plugins::run(&arguments, &progress),
    }
}

fn list() {
    #[derive(Parser)]
    struct Benches {
        #[command(subcommand)]
        _bench: Bench,
    }
    for bench in Benches::command().get_subcommands() {
        let about = bench.get_about().map(ToString::to_string);
        println!(
            "cargo xtask bench {:<14} {}",
            bench.get_name(),
            about.unwrap_or_default()
        );
    }
}
