//! `cargo xtask`: every developer command of this project, each in a file of its own.
//!
//! What a command needs (the control plane's programs, the WebAssembly target) it sets up
//! by itself, saying so; the second time it is quick.

mod audit;
mod bench;
mod browser;
mod chart;
mod cluster;
mod crds;
mod demo;
mod deny;
mod example;
mod faults;
mod fuzz;
mod generated;
mod host;
mod image;
mod krew;
mod man;
mod metrics;
mod monitoring;
mod permissions;
mod plugins;
mod release;
mod rights;
mod simulate;
mod stories;
mod test;
mod tools;
mod wasm;
mod workflows;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use operon_devcluster::Progress;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Every developer command of Operon",
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure how fast the host is, and what it asks of the API server; lists the benches
    Bench(bench::Arguments),
    /// Test the page of `kubectl operon dashboard` in a real browser, and measure it
    Browser(browser::Arguments),
    /// A Kubernetes cluster on this machine: bring it up, look at it, end it
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Generate the `CustomResourceDefinitions` from the types, into crds/ and the chart
    Crds(crds::Arguments),
    /// Tell the story of Replace on a cluster of its own: what a user would see with kubectl
    Demo(demo::Arguments),
    /// Check licences, duplicates and sources of all dependencies
    Deny,
    /// Container images of the host
    #[command(subcommand)]
    Image(image::Command),
    /// Pack `kubectl operon` for krew, and let krew check and install it
    Krew,
    /// Write the manual pages of `kubectl operon`
    Man(man::Arguments),
    /// Generate the table of docs/metrics.md from the metrics that the host registers
    Metrics(metrics::Arguments),
    /// Generate the table of rights in docs/permissions.md from the chart's RBAC
    Permissions(permissions::Arguments),
    /// Make faults at every write of a scenario of each kind: all must come to the same end
    Faults(faults::Arguments),
    /// Load and call mutated components: each is refused, or ends within its limits
    Fuzz(fuzz::Arguments),
    /// Make everything that a release publishes, in a folder
    Release(release::Arguments),
    /// Simulate the controllers: whatever happens in whatever order, what is promised holds
    Simulate(simulate::Arguments),
    /// Load one host with all kinds for an hour: its memory and its open files must not grow
    Soak(faults::Soak),
    /// Run every check there is, or the steps that are named
    Test(test::Arguments),
    /// Run every check there is, as the public CI does
    Ci,
    /// Build a package of the workspace as a WebAssembly component and print the file's path
    Wasm(wasm::Arguments),
    /// Pass TCP connections on; what pods of the cluster reach the API server by
    #[command(hide = true)]
    Forward {
        /// The address to listen on
        from: SocketAddr,
        /// The address to pass connections on to
        to: SocketAddr,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(arguments),
        Command::Browser(arguments) => browser::run(&arguments),
        Command::Cluster(command) => cluster::run(command),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Deny => deny::check(&Progress::stderr()),
        Command::Image(command) => image::run(command),
        Command::Krew => krew::check(&Progress::stderr()),
        Command::Man(arguments) => man::run(&arguments),
        Command::Metrics(arguments) => metrics::run(&arguments),
        Command::Permissions(arguments) => permissions::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Release(arguments) => release::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Soak(arguments) => faults::soak(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Ci => test::run(&test::Arguments::default()),
        Command::Wasm(arguments) => wasm::run(&arguments),
        Command::Forward { from, to } => operon_devcluster::forward(from, to),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
