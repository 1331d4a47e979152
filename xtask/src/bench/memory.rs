//! What the host holds in memory of a cluster that asks nothing of it: pods, and ReplicaSets, which Replace watches.
//!
//! The objects are created by a plain client, as those of many workloads. The host is started anew before each
//! measurement, so that what it holds is what it listed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use operon_devcluster::{Cluster, Process, Progress, output_of};
use serde_json::{Value, json};

use super::load;
use super::machine::{self, Usage};
use super::metrics;
use super::operation_job::containers;
use super::table::Table;
use super::test_bed::{LINE, NAMESPACE, NODES, PATIENCE, Setup};
use crate::host;

/// How many objects of a kind are alike, because they belong to one workload.
const ALIKE: usize = 50;

/// How long a host runs before its memory is measured: what it does not read is compressed after 30 to 60 s.
const SETTLED: Duration = Duration::from_secs(70);

/// The most that the host may hold with 10,000 pods, and with 50,000, in MiB.
const GOALS: [(usize, f64); 2] = [(10_000, 96.0), (50_000, 200.0)];

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many pods there are
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How many ReplicaSets without pods there are: those of 5,000 Deployments with ten old ones each
    #[arg(long, default_value_t = 55_000)]
    replica_sets: usize,
    #[command(flatten)]
    setup: Setup,
}

/// Measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments {
        pods,
        replica_sets,
        setup,
    } = arguments;
    let machine = machine::description();
    let prepared = setup.prepare("memory", progress)?;
    let table = prepared.with_host("", NODES, |cluster, host| {
        let process = host.process.context("the host runs as no process")?;
        let mut bench = Bench {
            cluster,
            built: &prepared.built,
            kubeconfig: &host.kubeconfig,
            process,
            progress,
            table: Table::default(),
        };
        bench.run(*pods, *replica_sets)?;
        Ok(bench.table)
    })?;
    println!("{machine}; load {} after it.\n", machine::load_average());
    println!("{}", table.markdown());
    Ok(())
}

struct Bench<'a> {
    cluster: &'a mut Cluster,
    built: &'a host::Built,
    kubeconfig: &'a Path,
    process: Process,
    progress: &'a Progress,
    table: Table,
}

impl Bench<'_> {
    fn run(&mut self, pods: usize, replica_sets: usize) -> Result<()> {
        let mut create = self.cluster.kubectl(self.progress)?;
        output_of(create.args(["create", "namespace", NAMESPACE]))?;
        let empty = self.measured()?;
        let mib = |usage: &Usage| format!("{:.0} MiB", usage.rss);
        self.table.row("resident memory without pods", mib(&empty));

        self.create("/api/v1", "pods", pods, pod)?;
        self.until_running()?;
        let with_pods = self.measured()?;
        let of_pods = format!("with {pods} pods");
        self.table.row(of_pods.clone(), mib(&with_pods));
        self.table
            .row("of that, for each pod", each(&empty, &with_pods, pods));

        self.create("/apis/apps/v1", "replicasets", replica_sets, replica_set)?;
        let with_all = self.measured()?;
        let measure = format!("{of_pods} and {replica_sets} ReplicaSets");
        let goal = GOALS.iter().find(|(most, _)| pods <= *most);
        match goal {
            Some((most, goal)) => self.table.goal(
                measure,
                mib(&with_all),
                &format!("below {goal} MiB for up to {most} pods"),
                with_all.rss < *goal,
            ),
            None => self.table.row(measure, mib(&with_all)),
        }
        self.table.row(
            "of that, for each ReplicaSet",
            each(&with_pods, &with_all, replica_sets),
        );
        let peak = format!("{:.0} MiB", with_all.peak_rss);
        self.table.row("peak while all are listed", peak);
        let cpu = format!("{:.1} s", with_all.cpu);
        self.table
            .row("processor time to list them, and 70 s after it", cpu);
        Ok(())
    }

    /// Creates objects of workloads that are unlike each other.
    fn create(
        &self,
        api: &str,
        resource: &str,
        count: usize,
        object: fn(usize) -> Value,
    ) -> Result<()> {
        let path = format!("{api}/namespaces/{NAMESPACE}/{resource}");
        let mut done = 0;
        let mut line = Instant::now();
        while done < count {
            let some = ALIKE.min(count - done);
            load::create(self.cluster, &path, some, &object(done / ALIKE))?;
            done += some;
            if line.elapsed() > LINE {
                self.progress
                    .say(format!("{done} of {count} {resource} are created"));
                line = Instant::now();
            }
        }
        Ok(())
    }

    /// Waits until the simulated nodes have written the statuses of all pods: what changes is not compressed.
    fn until_running(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let mut get = self.cluster.kubectl(self.progress)?;
            get.args(["--namespace", NAMESPACE, "get", "pods", "--output=name"]);
            let pending = output_of(get.arg("--field-selector=status.phase=Pending"))?;
            let pending = pending.lines().count();
            if pending == 0 {
                return Ok(());
            }
            self.process.expect_alive()?;
            if begin.elapsed() > PATIENCE {
                bail!("{pending} pods are still Pending");
            }
            self.progress.say(format!("{pending} pods are Pending"));
            std::thread::sleep(LINE);
        }
    }

    /// What a host uses that was started a while ago.
    fn measured(&mut self) -> Result<Usage> {
        self.process.end(Duration::from_secs(10))?;
        let (process, address) =
            host::spawn(self.cluster, self.built, self.kubeconfig, self.progress)?;
        self.process = process;
        while !metrics::is_ready(&address) {
            self.process.expect_alive()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        let seconds = SETTLED.as_secs();
        self.progress
            .say(format!("the host is ready; it is measured in {seconds} s"));
        std::thread::sleep(SETTLED);
        Usage::of(self.process.pid)
    }
}

/// What each of so many objects added.
fn each(before: &Usage, after: &Usage, count: usize) -> String {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let kib = (after.rss - before.rss) * 1024.0 / f64::from(count.max(1));
    format!("{kib:.2} KiB")
}

/// What people write into the pods of a workload.
fn template(workload: usize) -> Value {
    let name = format!("app-{workload}");
    let mut spec = json!({
        "containers": containers(&format!("1.{workload}")),
        "volumes": [
            {"name": "cache", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "config", "configMap": {"name": format!("{name}-config"), "optional": true}},
        ],
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
        }],
    });
    spec["containers"][0]["volumeMounts"] = json!([
        {"name": "cache", "mountPath": "/var/cache"},
        {"name": "config", "mountPath": "/etc/app", "readOnly": true},
    ]);
    let labels = json!({"app.kubernetes.io/name": name, "team": format!("team-{}", workload % 7)});
    json!({"metadata": {"labels": labels, "annotations": {"checksum/config": format!("{workload:064x}")}}, "spec": spec})
}

/// A pod on one of the nodes, as its name is generated.
fn pod(workload: usize) -> Value {
    let mut pod = template(workload);
    let node = u32::try_from(workload).unwrap_or(0) % NODES + 1;
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["generateName"] = format!("app-{workload}-").into();
    pod["spec"]["nodeName"] = format!("simulated-{node}").into();
    pod
}

/// A ReplicaSet as an old revision of a Deployment leaves it.
fn replica_set(workload: usize) -> Value {
    let template = template(workload);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"generateName": format!("app-{workload}-"), "labels": template["metadata"]["labels"]},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": template["metadata"]["labels"]},
            "template": template,
        },
    })
}
