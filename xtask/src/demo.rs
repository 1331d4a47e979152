//! `cargo xtask demo`: a story on real objects, with the commands a user would type.
//!
//! Every line with a `$` was run; what follows it is what it printed. What a story promises is checked
//! on the objects in its end, and the demo fails if it is not so.

mod daemon_job;
mod job_flow;
mod reactive_job;
mod replace;
mod teller;
mod watch;

use std::cell::LazyCell;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use operon_devcluster::{Cluster, Nodes, Options, Progress};

use self::replace::Owner;
use crate::{cluster, host};

/// How many nodes there are where they are simulated: two in each of three zones.
const SIMULATED_NODES: u32 = 6;

/// What the demo shows, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The story to tell
    #[arg(long, value_enum, default_value_t = Story::Replace)]
    story: Story,
    /// The cluster's name; it is left running. If a cluster of other nodes has that name, it stays, and the demo adds its
    /// own nodes to the name
    #[arg(long, default_value = "demo")]
    name: String,
    /// What its nodes are [default: real where this machine can, else simulated]
    #[arg(long)]
    nodes: Option<cluster::NodesArgument>,
    /// End the cluster afterwards
    #[arg(long)]
    down: bool,
    /// Tell the story on a cluster of your own, in its namespace `default`; install the chart there first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "down", "name"])]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Story {
    /// An `OperationJob` replaces the pods of a `CollaSet`, one after the other
    Replace,
    /// The same of a Deployment
    Deployment,
    /// A `ReactiveJob` runs its Job again when its template changes
    #[value(name = "reactivejob")]
    ReactiveJob,
    /// A `JobFlow` runs Jobs in the order of their dependencies
    #[value(name = "jobflow")]
    JobFlow,
    /// A `DaemonJob` runs a Job on every node; on simulated nodes unless others are asked for
    #[value(name = "daemonjob")]
    DaemonJob,
}

/// Brings up a cluster, installs the host and tells the story.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    if let Some(kubeconfig) = &arguments.kubeconfig {
        return tell_on(kubeconfig, arguments.story, &progress);
    }
    tell_all(arguments, &[arguments.story])
}

/// Tells stories on a cluster of the nodes that they need; on one after the other if they differ.
fn tell_all(arguments: &Arguments, stories: &[Story]) -> Result<()> {
    let progress = Progress::stderr();
    let of_this_machine = LazyCell::new(|| cluster::default_nodes(&progress));
    let nodes_of = |story: Story| match (arguments.nodes, story) {
        (Some(nodes), _) => nodes.into(),
        // It needs several, and this machine is only one.
        (None, Story::DaemonJob) => Nodes::Simulated,
        (None, Story::Replace | Story::Deployment | Story::ReactiveJob | Story::JobFlow) => {
            *of_this_machine
        }
    };
    for nodes in [Nodes::Real, Nodes::Simulated] {
        let here = stories.iter().copied().filter(|s| nodes_of(*s) == nodes);
        let here: Vec<Story> = here.collect();
        if !here.is_empty() {
            tell_with(nodes, arguments, &here, &progress)?;
        }
    }
    Ok(())
}

fn tell_with(
    nodes: Nodes,
    arguments: &Arguments,
    stories: &[Story],
    progress: &Progress,
) -> Result<()> {
    let built = host::build(progress, false)?;
    let mut options = Options {
        simulated_nodes: SIMULATED_NODES,
        ..Options::new(&arguments.name, nodes)
    };
    if let Some(why) = Cluster::mismatch(&options)? {
        let (taken, free) = (&options.name, format!("{}-{nodes}", options.name));
        progress.say(format!(
            "cluster {taken} is up, but {why}: it stays, and the demo takes the name {free}"
        ));
        options.name = free;
    }
    let mut cluster = Cluster::up(&options, progress)?;
    host::install(&mut cluster, &built, progress)?;
    let told = stories
        .iter()
        .try_for_each(|story| tell(*story, &cluster, progress));
    if arguments.down {
        Cluster::down(&options.name, progress)?;
        return told;
    }
    told?;
    farewell(&cluster, arguments.story, &options);
    Ok(())
}

/// On a cluster of the user's own, where nothing is installed and nothing is ended.
fn tell_on(kubeconfig: &Path, story: Story, progress: &Progress) -> Result<()> {
    let options = Options {
        kubeconfig: Some(kubeconfig.to_path_buf()),
        ..Options::new("own", Nodes::Real)
    };
    let cluster = Cluster::up(&options, progress)?;
    host::wait_for_action(&cluster, progress)
        .context("install the chart in this cluster first, as README.md says")?;
    tell(story, &cluster, progress)
}

fn tell(story: Story, cluster: &Cluster, progress: &Progress) -> Result<()> {
    match story {
        Story::Replace => replace::tell(cluster, progress, Owner::CollaSet),
        Story::Deployment => replace::tell(cluster, progress, Owner::Deployment),
        Story::ReactiveJob => reactive_job::tell(cluster, progress),
        Story::JobFlow => job_flow::tell(cluster, progress),
        Story::DaemonJob => daemon_job::tell(cluster, progress),
    }
}

/// The demo as a check: every story, on clusters of their own, which end with them.
pub(crate) fn check(nodes: Option<cluster::NodesArgument>) -> Result<()> {
    tell_all(
        &Arguments {
            story: Story::Replace,
            name: "test-demo".to_owned(),
            nodes,
            down: true,
            kubeconfig: None,
        },
        Story::value_variants(),
    )
}

fn farewell(cluster: &Cluster, story: Story, options: &Options) {
    let described = match story {
        Story::Replace | Story::Deployment => "opj opj-replace",
        Story::ReactiveJob => "reactivejob test",
        Story::JobFlow => "jobflow jobflow-example",
        Story::DaemonJob => "daemonjob node-upgrade",
    };
    println!("\nTo look around:");
    println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("  kubectl get cls,opj,reactivejobs,jobflows,daemonjobs,actionplugins,jobs,pods");
    println!("  kubectl describe {described}");
    match options.nodes {
        Nodes::Real => println!(
            "  kubectl logs -n {} deploy/{}",
            host::NAMESPACE,
            host::RELEASE
        ),
        Nodes::Simulated => {
            println!("  (the nodes are simulated: pods become Ready, nothing runs in them)");
        }
    }
    println!("To stop and remove everything:");
    println!("  cargo xtask cluster down --name {}", options.name);
}
