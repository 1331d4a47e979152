//! `cargo xtask demo`: the story of Replace on real objects, told with the commands a user would type.
//!
//! Every line with a `$` was run; what follows it is what it printed. A watch beside it counts the ready
//! endpoints of the Service from begin to end, and the demo fails if there were ever too few.

mod story;
mod watch;

use anyhow::Result;
use clap::{Args, ValueEnum};
use operon_devcluster::{Cluster, Nodes, Options, Progress};

use crate::{cluster, host};

/// What the demo shows, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The story to tell
    #[arg(long, value_enum, default_value_t = Story::Replace)]
    story: Story,
    /// The cluster's name; it is left running
    #[arg(long, default_value = "demo")]
    name: String,
    /// What its nodes are [default: real where this machine can, else simulated]
    #[arg(long)]
    nodes: Option<cluster::NodesArgument>,
    /// End the cluster afterwards
    #[arg(long)]
    down: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Story {
    /// An `OperationJob` replaces the pods of a Deployment, one after the other
    Replace,
}

/// Brings up a cluster, installs the host and tells the story.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    let nodes = match arguments.nodes {
        Some(nodes) => nodes.into(),
        None => cluster::default_nodes(&progress),
    };
    let built = host::build(&progress, false)?;
    let mut cluster = Cluster::up(&Options::new(&arguments.name, nodes), &progress)?;
    host::install(&mut cluster, &built, &progress)?;
    let told = match arguments.story {
        Story::Replace => story::replace(&cluster, &progress),
    };
    if arguments.down {
        Cluster::down(&arguments.name, &progress)?;
        return told;
    }
    told?;
    farewell(&cluster, &arguments.name, nodes);
    Ok(())
}

/// The demo as a check: on a cluster of its own, which ends with it.
pub(crate) fn check(nodes: Option<cluster::NodesArgument>) -> Result<()> {
    run(&Arguments { story: Story::Replace, name: "test-demo".to_owned(), nodes, down: true })
}

fn farewell(cluster: &Cluster, name: &str, nodes: Nodes) {
    println!("\nTo look around:");
    println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("  kubectl get opj,actionplugins,pods");
    println!("  kubectl describe opj opj-replace");
    match nodes {
        Nodes::Real => println!("  kubectl logs -n {} deploy/{}", host::NAMESPACE, host::RELEASE),
        Nodes::Simulated => println!("  (the nodes are simulated: pods become Ready, nothing runs in them)"),
    }
    println!("To stop and remove everything:");
    println!("  cargo xtask cluster down --name {name}");
}
