//! The program: reads its arguments and starts what they name. Nothing is decided here.

mod beside;
mod check;
mod child;
mod components;
mod crds;
mod leader;
mod logging;
mod memory;
mod metrics;
mod optional;
mod plugin;
mod probes;
mod run;
mod stdout;
mod stores;
mod trust;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Kubernetes operator that runs operations and Jobs; actions are WebAssembly components
#[derive(Debug, Parser)]
#[command(name = "operon", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the host with all controllers, in the cluster of its pod or of KUBECONFIG
    Run(Box<run::Arguments>),
    /// Check whether the installed host works: a replica leads and is ready, and the built-in actions are loaded; `helm test` runs it
    Check(check::Arguments),
    /// Print the CustomResourceDefinitions as YAML, or write them to a folder, one file per kind
    Crds(crds::Arguments),
    /// Print every series that a host can have, as /metrics shows them
    #[command(hide = true)]
    Metrics,
    /// Create, build, try and publish an action
    Plugin(plugin::Arguments),
    /// Compile a component, within limits; started by the host
    #[command(hide = true)]
    Compile(child::Compile),
    /// Check settings or parameters against an action's schema, within limits; started by the host
    #[command(hide = true)]
    CheckValue(child::Limits),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Compile(arguments) => return child::compile(arguments),
        Command::CheckValue(limits) => return child::check_value(limits),
        Command::Check(arguments) => check::run(&arguments),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Metrics => metrics::run(),
        Command::Plugin(arguments) => plugin::run(arguments),
        Command::Run(arguments) => run::run(*arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("operon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
