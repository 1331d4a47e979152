//! One `OperationJob` replaces all pods of many Deployments at once: its throughput, and what it costs.
//!
//! The cluster is new, its nodes are simulated, and the host is installed by its chart. What the host
//! asked of the API server is read off the audit log afterwards, so measuring it costs it nothing.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use operon_devcluster::{
    Cluster, KUBERNETES_VERSION, Nodes, Options, Process, Progress, output_of,
};
use serde_json::{Value, json};

use super::machine::{self, Usage};
use super::measures::{Measures, Run};
use super::metrics::Counted;
use super::{audit, load};
use crate::host;

/// Where the pods are.
const NAMESPACE: &str = "bench";

/// How long a step may take.
const PATIENCE: Duration = Duration::from_mins(20);

/// A line of progress comes this often.
const LINE: Duration = Duration::from_secs(10);

/// How many simulated nodes there are.
const NODES: u32 = 5;

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many pods are replaced
    #[arg(long, default_value_t = 1000)]
    targets: usize,
    /// How many Deployments they belong to
    #[arg(long, default_value_t = 20)]
    deployments: usize,
    /// The cluster's name; it ends with the bench
    #[arg(long, default_value = "bench")]
    name: String,
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
    /// Measure a debug build: to work on the bench itself
    #[arg(long)]
    debug: bool,
}

/// Brings up the cluster, measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    if arguments.deployments == 0 || !arguments.targets.is_multiple_of(arguments.deployments) {
        bail!("--targets must be a multiple of --deployments: each has the same number of pods");
    }
    if Cluster::open(&arguments.name)?.is_some() {
        bail!(
            "cluster {0} is up, and a bench begins on a new one: end it with `cargo xtask cluster down --name {0}`, or give another --name",
            arguments.name
        );
    }
    let built = host::build(progress, !arguments.debug)?;
    let machine = machine::description();
    let options = Options {
        simulated_nodes: NODES,
        audit: true,
        ..Options::new(&arguments.name, Nodes::Simulated)
    };
    let mut cluster = Cluster::up(&options, progress)?;
    let outcome = host::install(&mut cluster, &built, progress).and_then(|host| {
        let process = host
            .process
            .context("the host runs as no process of this machine")?;
        let metrics = host.metrics.context("the host serves no metrics here")?;
        let cluster = &cluster;
        Bench {
            arguments,
            cluster,
            progress,
            process,
            metrics,
        }
        .run()
    });
    if arguments.keep {
        progress.say(format!(
            "cluster {} is left up: export KUBECONFIG={}",
            arguments.name,
            cluster.kubeconfig().display()
        ));
    } else {
        Cluster::down(&arguments.name, progress)?;
    }
    let measures = outcome?;
    println!("{}\n", headline(arguments, &machine));
    println!("{}", measures.table().markdown());
    println!("{}", measures.requests());
    Ok(())
}

/// The command and the machine.
fn headline(arguments: &Arguments, machine: &str) -> String {
    let Arguments {
        targets,
        deployments,
        name: _,
        keep: _,
        debug,
    } = arguments;
    let build = if *debug { " --debug" } else { "" };
    format!(
        "`cargo xtask bench operationjob --targets {targets} --deployments {deployments}{build}`\n\n\
         {machine}; load {} after it; Kubernetes {KUBERNETES_VERSION} with {NODES} simulated nodes, all on this machine.",
        machine::load_average()
    )
}

/// A bench under way.
struct Bench<'a> {
    arguments: &'a Arguments,
    cluster: &'a Cluster,
    progress: &'a Progress,
    process: Process,
    /// Where the host's metrics are.
    metrics: String,
}

impl Bench<'_> {
    fn run(&self) -> Result<Measures> {
        let scale_out = self.deploy()?;
        self.until_quiet()?;
        let idle = self.idle()?;
        let pods = self.pods()?;
        let before = Usage::of(self.process.pid)?;
        let counted = Counted::ask(&self.metrics)?;
        let status = self.replace(&pods)?;
        self.until_quiet()?;
        let counted = Counted::ask(&self.metrics)?.since(counted);
        let after = Usage::of(self.process.pid)?;
        self.progress.say(format!(
            "a plain client patches pods, {} requests at once",
            load::CLIENTS
        ));
        let run = Run {
            targets: pods.len(),
            scale_out,
            idle,
            before,
            after,
            counted,
            succeeded: number(&status, "succeededPodCount"),
            failed: number(&status, "failedPodCount"),
            origins: origins(&status),
            limit: load::patches_per_second(self.cluster, NAMESPACE, &self.pods()?)?,
        };
        let log = self
            .cluster
            .audit_log()
            .context("the cluster has no audit log")?;
        Measures::take(&audit::read(log)?, run)
    }

    /// Makes the Deployments and waits until all pods are Ready; returns how long that took.
    fn deploy(&self) -> Result<Duration> {
        let Arguments {
            targets,
            deployments,
            ..
        } = self.arguments;
        output_of(self.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
        let begin = Instant::now();
        let items: Vec<Value> = (0..*deployments)
            .map(|number| deployment(number, targets / deployments))
            .collect();
        self.create(
            "bench-deployments.json",
            &json!({"apiVersion": "v1", "kind": "List", "items": items}),
        )?;
        self.until(
            &format!("{targets} pods of {deployments} Deployments to be Ready"),
            || {
                let ready = self.get(&[
                    "deployments",
                    "--output=jsonpath={.items[*].status.readyReplicas}",
                ])?;
                let ready = ready
                    .split_whitespace()
                    .filter_map(|count| count.parse::<usize>().ok())
                    .sum::<usize>();
                Ok((ready == *targets, format!("{ready} pods are Ready")))
            },
        )?;
        Ok(begin.elapsed())
    }

    /// Waits until neither the host nor anybody else has anything left to do about what was before.
    fn until_quiet(&self) -> Result<()> {
        let mut last = (Usage::of(self.process.pid)?, Instant::now());
        self.until("the host to be quiet", || {
            std::thread::sleep(Duration::from_secs(3));
            let usage = Usage::of(self.process.pid)?;
            let share = (usage.cpu - last.0.cpu) / last.1.elapsed().as_secs_f64();
            last = (usage, Instant::now());
            Ok((
                share < 0.02,
                format!("the host uses {:.0} % of a processor", share * 100.0),
            ))
        })
    }

    /// A while in which nothing happens: the host should not either. Returns its begin and end.
    fn idle(&self) -> Result<(f64, f64)> {
        self.progress.say("nothing happens for 15 s");
        let begin = now()?;
        std::thread::sleep(Duration::from_secs(15));
        Ok((begin, now()?))
    }

    /// Creates the job and waits for its end; returns its status.
    fn replace(&self, pods: &[String]) -> Result<Value> {
        let targets: Vec<Value> = pods.iter().map(|name| json!({"name": name})).collect();
        let job = json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1",
            "kind": "OperationJob",
            "metadata": {"name": "bench", "namespace": NAMESPACE},
            "spec": {"action": "Replace", "targets": targets}
        });
        self.create("bench-operationjob.json", &job)?;
        // A watch: asking again and again would take part in the measurement.
        let path = "{.status.endTimestamp}";
        let begin = Instant::now();
        loop {
            let mut wait = self.kubectl()?;
            wait.args([
                "wait",
                "operationjob/bench",
                &format!("--for=jsonpath={path}"),
            ]);
            if output_of(wait.arg(format!("--timeout={}s", LINE.as_secs()))).is_ok() {
                break;
            }
            let counts = self.get(&[
                "operationjob/bench",
                "--output=jsonpath={.status.succeededPodCount}",
            ])?;
            let usage = Usage::of(self.process.pid)?;
            self.progress.say(format!(
                "{} of {} targets succeeded; the host used {:.1} s of a processor and has {:.0} MiB",
                if counts.is_empty() { "0" } else { &counts }, pods.len(), usage.cpu, usage.rss
            ));
            if begin.elapsed() > PATIENCE {
                bail!(
                    "the job did not end within {} minutes",
                    PATIENCE.as_secs() / 60
                );
            }
        }
        self.progress.say("the job has ended");
        let job: Value =
            serde_json::from_str(&self.get(&["operationjob/bench", "--output=json"])?)?;
        Ok(job["status"].clone())
    }

    fn pods(&self) -> Result<Vec<String>> {
        let names = self.get(&["pods", "--output=jsonpath={.items[*].metadata.name}"])?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// Asks again until it is so, with a line of progress now and then.
    fn until(&self, what: &str, mut check: impl FnMut() -> Result<(bool, String)>) -> Result<()> {
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
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn kubectl(&self) -> Result<Command> {
        let mut kubectl = self.cluster.kubectl(self.progress)?;
        kubectl.args(["--namespace", NAMESPACE]);
        Ok(kubectl)
    }

    fn get(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.kubectl()?.arg("get").args(arguments))
    }

    fn create(&self, file: &str, manifest: &Value) -> Result<()> {
        let state = self
            .cluster
            .state_dir()
            .context("the cluster has no state folder")?;
        let file = state.join(file);
        fs::write(&file, manifest.to_string())
            .with_context(|| format!("failed to write {}", file.display()))?;
        output_of(self.kubectl()?.args(["create", "--filename"]).arg(file)).map(drop)
    }
}

/// A Deployment as people write them: requests, limits, an environment, a probe.
fn deployment(number: usize, replicas: usize) -> Value {
    let name = format!("app-{number:02}");
    let labels = json!({"app.kubernetes.io/name": name, "team": "bench"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "app",
                    "image": "registry.example/app:1.0",
                    "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "PORT", "value": "8080"}],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
                }]}
            }
        }
    })
}

/// New pods and the pods that they replaced, as the job's status tells.
fn origins(status: &Value) -> HashMap<String, String> {
    let details = status["targetDetails"].as_array().into_iter().flatten();
    let pair = |detail: &Value| {
        let new_pod = detail["extraInfo"]["NewPod"].as_str()?;
        Some((new_pod.to_owned(), detail["name"].as_str()?.to_owned()))
    };
    details.filter_map(pair).collect()
}

fn number(status: &Value, field: &str) -> u64 {
    status[field].as_u64().unwrap_or(0)
}

/// Seconds since 1970, as the audit log counts.
fn now() -> Result<f64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.context("the clock is wrong")?.as_secs_f64())
}
