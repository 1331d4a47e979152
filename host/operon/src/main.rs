//! The program: reads its arguments and starts what they name. Nothing is decided here.

mod child;
mod crds;
mod flow;
mod leader;
mod metrics;
mod probes;
mod run;
mod stores;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Operates workloads on Kubernetes, and runs actions as WebAssembly components
#[derive(Debug, Parser)]
#[command(name = "operon", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the host: all controllers, in the cluster that it finds itself in or that KUBECONFIG names
    Run(run::Arguments),
    /// Prints the CustomResourceDefinitions as YAML, or writes them to a folder, one file per kind
    Crds(crds::Arguments),
    /// Looks at a JobFlow
    Flow(flow::Arguments),
    /// Compiles a component, within limits; the host starts this itself
    #[command(hide = true)]
    Compile(child::Compile),
    /// Checks an action's settings against its schema, within limits; the host starts this itself
    #[command(hide = true)]
    CheckSettings(child::Limits),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Compile(arguments) => return child::compile(arguments),
        Command::CheckSettings(limits) => return child::check_settings(limits),
        Command::Crds(arguments) => crds::run(&arguments),
        Command::Flow(arguments) => flow::run(arguments),
        Command::Run(arguments) => run::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("operon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
