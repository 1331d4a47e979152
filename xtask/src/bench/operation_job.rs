//! One `OperationJob` replaces all pods of many Deployments: its throughput, and what it costs.
//!
//! The cluster is new, its nodes are simulated, and the host is installed by its chart. What the host
//! asked of the API server is read off the audit log afterwards, so measuring it costs it nothing.

pub(super) mod measures;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use operon_devcluster::{Progress, output_of};
use serde_json::{Value, json};

use self::measures::{Measures, Run};
use super::load;
use super::table::Table;
use super::test_bed::{LINE, NAMESPACE, NODES, PATIENCE, Setup, TestBed};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(15);

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many pods are replaced; several numbers, as in 500,1000,2000, each on a cluster of its own
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    targets: Vec<usize>,
    /// How many pods each Deployment has: an action reads the siblings of a target
    #[arg(long, default_value_t = 50)]
    siblings: usize,
    /// How many of them at the same time, so that the API server is not the limit; by default all
    #[arg(long)]
    concurrent: Option<usize>,
    #[command(flatten)]
    setup: Setup,
}

/// How many pods each node has room for.
const ROOM: usize = 1000;

/// Enough nodes for all pods and their successors.
fn nodes(targets: usize) -> u32 {
    u32::try_from((3 * targets).div_ceil(ROOM))
        .unwrap_or(u32::MAX)
        .max(NODES)
}

/// Brings up the cluster, measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments {
        targets,
        siblings,
        concurrent,
        setup,
    } = arguments;
    if *siblings == 0 || !targets.iter().all(|n| n.is_multiple_of(*siblings)) {
        bail!(
            "--targets must be a multiple of --siblings: each Deployment has the same number of pods"
        );
    }
    let sizes: Vec<_> = targets.iter().map(usize::to_string).collect();
    let sizes = sizes.join(",");
    let concurrent_too = concurrent.map_or_else(String::new, |n| format!(" --concurrent {n}"));
    let command = format!("operationjob --targets {sizes} --siblings {siblings}{concurrent_too}");
    let prepared = setup.prepare(&command, progress)?;
    let mut tables = Vec::new();
    for targets in targets {
        let bench = |bed: &TestBed<'_>| {
            let (targets, deployments) = (*targets, targets / siblings);
            Bench {
                targets,
                deployments,
                concurrent: *concurrent,
                bed,
            }
            .run()
        };
        let (headline, measures) = prepared.on_a_new_cluster("", nodes(*targets), bench)?;
        println!("{headline}\n");
        println!("{}", measures.table().markdown());
        println!("{}", measures.requests());
        tables.push((targets.to_string(), measures.table()));
    }
    if tables.len() > 1 {
        println!("{}", Table::side_by_side(&tables));
    }
    Ok(())
}

/// A bench under way.
struct Bench<'a> {
    targets: usize,
    deployments: usize,
    concurrent: Option<usize>,
    bed: &'a TestBed<'a>,
}

impl Bench<'_> {
    fn run(&self) -> Result<Measures> {
        let bed = self.bed;
        let scale_out = deploy(bed, self.targets, self.deployments)?;
        bed.until_quiet()?;
        let idle = bed.idle(IDLE)?;
        let pods = pods(bed)?;
        let job = || replace(bed, "bench", &pods, self.concurrent);
        let (status, spent) = bed.spending("operationjob", job)?;
        bed.progress.say(format!(
            "a plain client patches pods, {} requests at once",
            load::CLIENTS
        ));
        let run = Run {
            targets: pods.len(),
            scale_out,
            idle,
            spent,
            succeeded: number(&status, "succeededPodCount"),
            failed: failed(&status),
            origins: origins(&status),
            limit: load::patches_per_second(bed.cluster, NAMESPACE, &self::pods(bed)?)?,
        };
        Measures::take(&bed.requests()?, run)
    }
}

/// The failed targets of a job's status, with their errors.
fn failed(status: &Value) -> Vec<String> {
    let details = status["targetDetails"].as_array().into_iter().flatten();
    let failed = details.filter(|detail| detail["progress"] == "Failed");
    failed
        .map(|detail| {
            let [name, reason, message] = [
                &detail["name"],
                &detail["error"]["reason"],
                &detail["error"]["message"],
            ]
            .map(|text| text.as_str().unwrap_or_default());
            format!("{name}: {reason}: {message}")
        })
        .collect()
}

/// Makes Deployments with so many pods together, and waits until all are Ready; returns how long that took.
pub(super) fn deploy(bed: &TestBed<'_>, targets: usize, deployments: usize) -> Result<Duration> {
    let begin = Instant::now();
    let items: Vec<Value> = (0..deployments)
        .map(|number| deployment(number, targets / deployments))
        .collect();
    bed.create(
        "bench-deployments.json",
        &json!({"apiVersion": "v1", "kind": "List", "items": items}),
    )?;
    bed.until(
        &format!("{targets} pods of {deployments} Deployments to be Ready"),
        Duration::from_secs(1),
        || {
            let ready = bed.get(&[
                "deployments",
                "--output=jsonpath={.items[*].status.readyReplicas}",
            ])?;
            let ready = ready
                .split_whitespace()
                .filter_map(|count| count.parse::<usize>().ok())
                .sum::<usize>();
            Ok((ready == targets, format!("{ready} pods are Ready")))
        },
    )?;
    Ok(begin.elapsed())
}

/// Creates a job of this name that replaces these pods, so many at the same time, and waits for its end; returns its
/// status.
pub(super) fn replace(
    bed: &TestBed<'_>,
    name: &str,
    pods: &[String],
    concurrent: Option<usize>,
) -> Result<Value> {
    let mut job = job(name, "Replace", pods);
    if let Some(concurrent) = concurrent {
        job["spec"]["maxConcurrent"] = json!(concurrent);
    }
    bed.create("bench-operationjob.json", &job)?;
    let object = format!("operationjob/{name}");
    // A watch: asking again and again would take part in the measurement.
    let path = "{.status.endTimestamp}";
    let begin = Instant::now();
    loop {
        let mut wait = bed.kubectl()?;
        wait.args(["wait", &object, &format!("--for=jsonpath={path}")]);
        if output_of(wait.arg(format!("--timeout={}s", LINE.as_secs()))).is_ok() {
            break;
        }
        let counts = bed.get(&[&object, "--output=jsonpath={.status.succeededPodCount}"])?;
        let usage = bed.usage()?;
        bed.progress.say(format!(
            "{} of {} targets succeeded; the host used {:.1} s of a processor and has {:.0} MiB",
            if counts.is_empty() { "0" } else { &counts },
            pods.len(),
            usage.cpu,
            usage.rss
        ));
        if begin.elapsed() > PATIENCE {
            bail!(
                "the job did not end within {} minutes",
                PATIENCE.as_secs() / 60
            );
        }
    }
    bed.progress.say("the job has ended");
    let job: Value = serde_json::from_str(&bed.get(&[&object, "--output=json"])?)?;
    Ok(job["status"].clone())
}

/// A job of this name and action over these pods.
pub(super) fn job(name: &str, action: &str, pods: &[String]) -> Value {
    let targets: Vec<Value> = pods.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1",
        "kind": "OperationJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"action": action, "targets": targets}
    })
}

/// The names of all pods.
pub(super) fn pods(bed: &TestBed<'_>) -> Result<Vec<String>> {
    names(bed, &["pods"])
}

/// The names of all objects that kubectl gets with these arguments.
pub(super) fn names(bed: &TestBed<'_>, what: &[&str]) -> Result<Vec<String>> {
    let path = "--output=jsonpath={.items[*].metadata.name}";
    let names = bed.get(&[what, &[path]].concat())?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
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
                "spec": {"containers": containers("1.0")}
            }
        }
    })
}

/// The containers of a pod as people write them.
pub(super) fn containers(version: &str) -> Value {
    json!([{
        "name": "app",
        "image": format!("registry.example/app:{version}"),
        "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "PORT", "value": "8080"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
    }])
}

/// New pods and the pods that they replaced, as the job's status tells.
pub(super) fn origins(status: &Value) -> HashMap<String, String> {
    let details = status["targetDetails"].as_array().into_iter().flatten();
    let pair = |detail: &Value| {
        let new_pod = detail["extraInfo"]["NewPod"].as_str()?;
        Some((new_pod.to_owned(), detail["name"].as_str()?.to_owned()))
    };
    details.filter_map(pair).collect()
}

/// A count of a status.
pub(super) fn number(status: &Value, field: &str) -> u64 {
    status[field].as_u64().unwrap_or(0)
}
