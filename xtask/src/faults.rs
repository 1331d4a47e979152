//! `cargo xtask faults`: faults at every write of the host, on a cluster of its own with simulated nodes. The package
//! `operon-faults` makes them; here is what it needs.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use operon_devcluster::{Cluster, Nodes, Options, Progress};

use crate::{host, tools};

/// The name of the cluster.
const CLUSTER: &str = "faults";

/// Which faults to make.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
    /// What to pass on: --scenario, --fault, --at, --watch, --points, --minutes, --seed; `--help` after `--` explains them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    which: Vec<String>,
}

/// How long the soak takes.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long the host is loaded
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

/// Loads one host for long: its memory and its open files must not grow.
pub(crate) fn soak(arguments: &Soak) -> Result<()> {
    let minutes = arguments.minutes.to_string();
    let which = ["--soak", "--minutes", &minutes];
    make(&which, false, &Progress::stderr())
}

/// Makes the faults; one run that comes to another end fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let which: Vec<_> = arguments.which.iter().map(String::as_str).collect();
    make(&which, arguments.keep, &Progress::stderr())
}

/// Makes these faults on a cluster of its own, which is left up if `keep` says so.
pub(crate) fn make(which: &[&str], keep: bool, progress: &Progress) -> Result<()> {
    let built = host::build(progress, false)?;
    let mut cargo = tools::cargo();
    // As in the build of the host.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "operon-faults"]);
    tools::run(progress, "building the faults", &mut cargo)?;
    let program = tools::target_dir().join("debug/operon-faults");
    if which.contains(&"--help") {
        return tools::run(progress, "help", Command::new(program).arg("--help"));
    }
    let mut cluster = Cluster::up(&Options::new(CLUSTER, Nodes::Simulated), progress)?;
    let made = host::install(&mut cluster, &built, progress).and_then(|host| {
        // It has shown that the chart is installed; every run has a host of its own.
        let process = host.process.context("the host does not run as a process")?;
        process.end(Duration::from_secs(20))?;
        let mut faults = Command::new(&program);
        faults
            .args(which)
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("OPERON_CLUSTER", CLUSTER)
            .env("OPERON_XTASK", std::env::current_exe()?)
            .env("OPERON_PLUGINS_DIR", &built.plugins)
            .env("OPERON_BINARY", &built.binary)
            .env("OPERON_HOST_KUBECONFIG", &host.kubeconfig);
        tools::run(progress, "faults at every write", &mut faults)
    });
    if !keep {
        Cluster::down(CLUSTER, progress)?;
    }
    made
}
