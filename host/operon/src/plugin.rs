//! `operon plugin`: what an author of an action needs, from an empty folder to a component in a registry.
//!
//! One file per subcommand. None of them needs a cluster.

mod build;
mod component;
mod credentials;
mod inspect;
mod load;
mod manifests;
mod name;
mod new;
mod push;
mod rbac;
mod scaffold;
mod test;

use clap::Subcommand;

/// The subcommands about actions.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a new action in Rust, TypeScript or Python, its test, and the manifests that install and use it
    New(new::Arguments),
    /// Build the component of a crate or package, and say whether a ConfigMap holds it
    Build(build::Arguments),
    /// Load a component as the host does, and show what it is, reads and accepts
    Inspect(inspect::Arguments),
    /// Run a component for the targets of a job in a cluster in memory, and show what it changes
    Test(test::Arguments),
    /// Push a component to an OCI registry
    Push(push::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::New(arguments) => new::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Push(arguments) => push::run(&arguments),
    }
}
