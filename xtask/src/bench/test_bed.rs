//! A new cluster with the host on it: what the benches share before and beside what they measure.
//!
//! The cluster's nodes are simulated, the host is installed by its chart, and the API server writes an
//! audit log. Nothing here knows what is measured.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use operon_devcluster::{
    Cluster, KUBERNETES_VERSION, Nodes, Options, Process, Progress, output_of,
};
use serde_json::Value;

use super::machine::{self, Usage};
use super::metrics::Counted;
use super::report::Spent;
use crate::audit::{self, Request};
use crate::host;

/// Where a bench's objects are.
pub(super) const NAMESPACE: &str = "bench";

/// How long a step may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(20);

/// A line of progress comes this often.
pub(super) const LINE: Duration = Duration::from_secs(10);

/// How many simulated nodes there are where their number does not matter.
pub(super) const NODES: u32 = 5;

/// How the cluster and the host are made.
#[derive(Debug, Args)]
pub(super) struct Setup {
    /// The cluster's name; it ends with the bench
    #[arg(long, default_value = "bench")]
    name: String,
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
    /// Measure a debug build: to work on the bench itself
    #[arg(long)]
    pub(super) debug: bool,
}

/// A bench whose host is built: all its clusters have the same.
pub(super) struct Prepared<'a> {
    setup: &'a Setup,
    /// What the bench is called with.
    command: &'a str,
    progress: &'a Progress,
    pub(super) built: host::Built,
}

impl Setup {
    /// Builds the host for the bench that is called with `command`.
    pub(super) fn prepare<'a>(
        &'a self,
        command: &'a str,
        progress: &'a Progress,
    ) -> Result<Prepared<'a>> {
        Ok(Prepared {
            setup: self,
            command,
            progress,
            built: host::build(progress, !self.debug)?,
        })
    }
}

impl Prepared<'_> {
    /// Brings up a cluster with so many simulated nodes, measures, and ends it. Its name is the one that
    /// was asked for, and `part` behind it. Returns what stands above the table, and the measures.
    pub(super) fn on_a_new_cluster<M>(
        &self,
        part: &str,
        nodes: u32,
        measure: impl FnOnce(&TestBed<'_>) -> Result<M>,
    ) -> Result<(String, M)> {
        let Self {
            setup,
            command,
            progress,
            built: _,
        } = self;
        let machine = machine::description();
        let measures = self.with_host(part, nodes, |cluster, host| {
            let bed = TestBed {
                cluster,
                progress,
                process: host
                    .process
                    .context("the host runs as no process of this machine")?,
                metrics: host.metrics.context("the host serves no metrics here")?,
            };
            output_of(bed.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
            measure(&bed)
        })?;
        let profile = if setup.debug { " --debug" } else { "" };
        let headline = format!(
            "`cargo xtask bench {command}{profile}`\n\n\
             {machine}; load {} after it; Kubernetes {KUBERNETES_VERSION} with {nodes} simulated nodes, all on this machine.",
            machine::load_average()
        );
        Ok((headline, measures))
    }

    /// Brings up a cluster with the host, measures, and ends it.
    pub(super) fn with_host<M>(
        &self,
        part: &str,
        nodes: u32,
        measure: impl FnOnce(&mut Cluster, host::Host) -> Result<M>,
    ) -> Result<M> {
        let Self {
            setup,
            command: _,
            progress,
            built,
        } = self;
        let name = format!("{}{part}", setup.name);
        if Cluster::open(&name)?.is_some() {
            bail!(
                "cluster {name} is up, and a bench begins on a new one: end it with `cargo xtask cluster down --name {name}`, or give another --name"
            );
        }
        let options = Options {
            simulated_nodes: nodes,
            audit: true,
            ..Options::new(&name, Nodes::Simulated)
        };
        let mut cluster = Cluster::up(&options, progress)?;
        let outcome = host::install(&mut cluster, built, progress)
            .and_then(|host| measure(&mut cluster, host));
        if setup.keep {
            progress.say(format!(
                "cluster {name} is left up: export KUBECONFIG={}",
                cluster.kubeconfig().display()
            ));
        } else {
            Cluster::down(&name, progress)?;
        }
        outcome
    }
}

/// The cluster, and the host on it.
pub(super) struct TestBed<'a> {
    /// The cluster.
    pub(super) cluster: &'a Cluster,
    /// Where is said how it goes.
    pub(super) progress: &'a Progress,
    process: Process,
    /// Where the host's metrics are.
    pub(super) metrics: String,
}

impl TestBed<'_> {
    /// What the host used so far.
    pub(super) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.pid)
    }

    /// Does this work, waits until the host is quiet again, and returns what it spent meanwhile.
    /// `controller` is the one whose passes count.
    pub(super) fn spending<T>(
        &self,
        controller: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Spent)> {
        let before = self.usage()?;
        let counted = Counted::ask(&self.metrics, controller)?;
        let done = work()?;
        self.until_quiet()?;
        let counted = Counted::ask(&self.metrics, controller)?.since(&counted);
        let spent = Spent {
            before,
            after: self.usage()?,
            counted,
        };
        Ok((done, spent))
    }

    /// Waits until the host has nothing left to do about what was before.
    pub(super) fn until_quiet(&self) -> Result<()> {
        let mut last = (self.usage()?, Instant::now());
        self.until("the host to be quiet", Duration::from_secs(1), || {
            std::thread::sleep(Duration::from_secs(3));
            let usage = self.usage()?;
            let share = (usage.cpu - last.0.cpu) / last.1.elapsed().as_secs_f64();
            last = (usage, Instant::now());
            Ok((
                share < 0.02,
                format!("the host uses {:.0} % of a processor", share * 100.0),
            ))
        })
    }

    /// A while in which nothing happens: the host should not either. Returns its begin and end.
    pub(super) fn idle(&self, time: Duration) -> Result<(f64, f64)> {
        self.progress
            .say(format!("nothing happens for {} s", time.as_secs()));
        let begin = now()?;
        std::thread::sleep(time);
        Ok((begin, now()?))
    }

    /// Asks again after `pause` until it is so, with a line of progress now and then.
    pub(super) fn until(
        &self,
        what: &str,
        pause: Duration,
        mut check: impl FnMut() -> Result<(bool, String)>,
    ) -> Result<()> {
        self.progress.say(format!("waiting for {what}"));
        let begin = Instant::now();
        let mut line = Instant::now();
        loop {
            self.process.expect_alive()?;
            let (done, state) = check()?;
            if done {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!(
                    "waited {} minutes for {what}: {state}",
                    PATIENCE.as_secs() / 60
                );
            }
            if line.elapsed() > LINE {
                self.progress.say(state);
                line = Instant::now();
            }
            std::thread::sleep(pause);
        }
    }

    /// kubectl, in the bench's namespace.
    pub(super) fn kubectl(&self) -> Result<Command> {
        let mut kubectl = self.cluster.kubectl(self.progress)?;
        kubectl.args(["--namespace", NAMESPACE]);
        Ok(kubectl)
    }

    /// What `kubectl get` prints.
    pub(super) fn get(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.kubectl()?.arg("get").args(arguments))
    }

    /// All objects of a kind, as the API server has them.
    pub(super) fn objects(&self, resource: &str) -> Result<Vec<Value>> {
        let list = self.get(&[resource, "--output=json", "--show-managed-fields"])?;
        let mut list: Value = serde_json::from_str(&list)?;
        let items = list["items"].as_array_mut().map(std::mem::take);
        items.with_context(|| format!("kubectl returned no list of {resource}"))
    }

    /// Creates an object, or a List of them; `file` is the name of a file that it is written to.
    pub(super) fn create(&self, file: &str, manifest: &Value) -> Result<()> {
        let state = self
            .cluster
            .state_dir()
            .context("the cluster has no state folder")?;
        let file = state.join(file);
        fs::write(&file, manifest.to_string())
            .with_context(|| format!("failed to write {}", file.display()))?;
        output_of(self.kubectl()?.args(["create", "--filename"]).arg(file)).map(drop)
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Result<Vec<Request>> {
        let log = self.cluster.audit_log();
        audit::read(log.context("the cluster has no audit log")?)
    }
}

/// Seconds since 1970, as the audit log counts.
pub(super) fn now() -> Result<f64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.context("the clock is wrong")?.as_secs_f64())
}
