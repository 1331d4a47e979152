//! `cargo xtask cluster`: a real control plane on this machine, with real or simulated nodes.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use operon_devcluster::{Cluster, Nodes, Options, Progress, Record};

use crate::tools;

/// A Kubernetes cluster on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring a cluster up; one that is up already is left as it is
    ///
    /// etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, with RBAC.
    /// The first time, they are built from Go modules (about 12 minutes of CPU time).
    Up(Up),
    /// End a cluster and remove everything it wrote
    Down(Down),
    /// List the clusters on this machine
    Status,
    /// Kill a process of a cluster with simulated nodes, and start it again
    Restart(Restart),
    /// Run kubectl against a cluster
    Kubectl(Kubectl),
}

/// What kind of cluster to bring up.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The cluster's name; several run side by side
    #[arg(long, default_value = "dev")]
    name: String,
    /// What its nodes are [default: real where this machine can, else simulated]
    #[arg(long)]
    nodes: Option<NodesArgument>,
    /// How many simulated nodes
    #[arg(long, default_value_t = 3)]
    simulated_nodes: u32,
    /// Let the API server write an audit log: who did what to which object
    #[arg(long)]
    audit: bool,
    /// Give Services addresses, by kube-proxy: real nodes only, and one cluster at a time
    #[arg(long)]
    services: bool,
    /// Use this cluster of your own: nothing is started
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "audit", "services", "simulated_nodes"])]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// The cluster's name
    #[arg(long, default_value = "dev", conflicts_with = "all")]
    name: String,
    /// All clusters on this machine
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// The process, as `cargo xtask cluster status` names it: etcd, kube-apiserver, …
    component: String,
    /// The cluster's name
    #[arg(long, default_value = "dev")]
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Kubectl {
    /// The cluster's name
    #[arg(long, default_value = "dev")]
    name: String,
    /// What to pass to kubectl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum NodesArgument {
    /// Pods run, by kubelet, containerd and runc; needs root
    Real,
    /// Pods become Ready and Jobs complete, but nothing runs
    Simulated,
}

impl From<NodesArgument> for Nodes {
    fn from(argument: NodesArgument) -> Self {
        match argument {
            NodesArgument::Real => Self::Real,
            NodesArgument::Simulated => Self::Simulated,
        }
    }
}

/// Runs one of the commands.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(arguments) => up(&arguments),
        Command::Down(arguments) => down(&arguments),
        Command::Status => status(),
        Command::Restart(arguments) => open(&arguments.name)?.restart(&arguments.component),
        Command::Kubectl(arguments) => kubectl(&arguments),
    }
}

/// The nodes to use where none were asked for; says which they are, and why not real ones.
pub(crate) fn default_nodes(progress: &Progress) -> Nodes {
    let (nodes, reason) = Nodes::for_this_machine();
    match reason {
        None => progress.say(format!("nodes: {nodes}")),
        Some(reason) => progress.say(format!(
            "nodes: {nodes}, because a real node is not possible here: {reason}"
        )),
    }
    nodes
}

fn up(arguments: &Up) -> Result<()> {
    let progress = Progress::stderr();
    let nodes = match arguments.nodes {
        Some(nodes) => nodes.into(),
        // Not used with a cluster of the user's own.
        None if arguments.kubeconfig.is_some() => Nodes::Real,
        None => default_nodes(&progress),
    };
    let options = Options {
        simulated_nodes: arguments.simulated_nodes,
        audit: arguments.audit,
        services: arguments.services,
        kubeconfig: arguments.kubeconfig.clone(),
        ..Options::new(&arguments.name, nodes)
    };
    let cluster = Cluster::up(&options, &progress)?;
    println!(
        "\nThe cluster is up. To use it:\n  export KUBECONFIG={}",
        cluster.kubeconfig().display()
    );
    if cluster.record().is_some() {
        if tools::kubectl_in_path().is_none() {
            println!(
                "  cargo xtask cluster kubectl{} -- get nodes",
                name_flag(&arguments.name)
            );
        }
        println!(
            "To end it:\n  cargo xtask cluster down{}",
            name_flag(&arguments.name)
        );
    }
    Ok(())
}

fn name_flag(name: &str) -> String {
    if name == "dev" {
        String::new()
    } else {
        format!(" --name {name}")
    }
}

fn down(arguments: &Down) -> Result<()> {
    let progress = Progress::stderr();
    let names: Vec<String> = if arguments.all {
        Cluster::status()?
            .into_iter()
            .map(|record| record.name)
            .collect()
    } else {
        vec![arguments.name.clone()]
    };
    if names.is_empty() {
        progress.say("no cluster is there");
    }
    for name in names {
        match Cluster::down(&name, &progress)? {
            None => progress.say(format!("no cluster {name} is there")),
            Some(ended) if ended.components.is_empty() => {
                progress.say(format!(
                    "cluster {name} did not run any more; removed its state"
                ));
            }
            Some(ended) => progress.say(format!(
                "ended cluster {name}: {}",
                ended.components.join(", ")
            )),
        }
    }
    Ok(())
}

fn status() -> Result<()> {
    let records = Cluster::status()?;
    if records.is_empty() {
        println!("no clusters; bring one up with: cargo xtask cluster up");
    }
    for record in records {
        print_record(&record);
    }
    Ok(())
}

fn print_record(record: &Record) {
    let dead: Vec<&str> = record
        .processes
        .iter()
        .filter(|p| !p.is_alive())
        .map(|process| process.component.as_str())
        .collect();
    let state = if record.is_up() {
        String::from("up")
    } else if dead.is_empty() {
        String::from("not started")
    } else {
        format!("broken: {} ended", dead.join(", "))
    };
    println!(
        "{}: {state}, {} {} node(s)",
        record.name, record.node_count, record.nodes
    );
    println!("  export KUBECONFIG={}", record.kubeconfig.display());
    if let Some(log) = &record.audit_log {
        println!("  audit log: {}", log.display());
    }
    for process in &record.processes {
        println!(
            "  {:<24} pid {:<8} {}",
            process.component,
            process.pid,
            process.log.display()
        );
    }
}

fn open(name: &str) -> Result<Cluster> {
    Cluster::open(name)?.with_context(|| {
        let flag = name_flag(name);
        format!("cluster {name} is not up; bring it up with: cargo xtask cluster up{flag}")
    })
}

fn kubectl(arguments: &Kubectl) -> Result<()> {
    let cluster = open(&arguments.name)?;
    let mut command = cluster.kubectl(&Progress::stderr())?;
    // Its own input again: `kubectl apply -f -` reads it.
    let status = command
        .stdin(std::process::Stdio::inherit())
        .args(&arguments.arguments)
        .status()?;
    std::process::exit(status.code().unwrap_or(1))
}
