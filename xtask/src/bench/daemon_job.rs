//! One DaemonJob over very many nodes: how long it takes until its Job ran on each, and what that costs;
//! and that the host asks for nothing afterwards.
//!
//! The cluster is new and its nodes are simulated, so a Job's pod completes as soon as it runs. What the
//! host asked of the API server is read off the audit log afterwards, so measuring it costs it nothing.

mod measures;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use operon_devcluster::Progress;
use serde_json::{Value, json};

use self::measures::{Measures, Run};
use super::test_bed::{LINE, NAMESPACE, Setup, TestBed};

/// How long nothing happens.
const IDLE: Duration = Duration::from_mins(1);

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many nodes there are
    #[arg(long, default_value_t = 1000)]
    nodes: u32,
    #[command(flatten)]
    setup: Setup,
}

/// Brings up the cluster, measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments { nodes, setup } = arguments;
    if *nodes == 0 {
        bail!("--nodes must be at least 1");
    }
    let command = format!("daemonjob --nodes {nodes}");
    let prepared = setup.prepare(&command, progress)?;
    let (headline, measures) = prepared.on_a_new_cluster("", *nodes, measure)?;
    println!("{headline}\n");
    println!("{}", measures.table().markdown());
    println!("{}", measures.requests());
    Ok(())
}

fn measure(bed: &TestBed<'_>) -> Result<Measures> {
    bed.until_quiet()?;
    let nodes = bed.get(&["nodes", "--output=jsonpath={.items[*].metadata.name}"])?;
    let ((), spent) = bed.spending("daemonjob", || {
        bed.create("bench-daemonjob.json", &daemon_job())?;
        until_finished(bed)
    })?;
    let idle = bed.idle(IDLE)?;
    let run = Run {
        nodes: nodes.split_whitespace().map(str::to_owned).collect(),
        spent,
        idle,
        jobs: bed.objects("jobs")?,
        objects: bed.objects("daemonjobs")?,
    };
    Measures::take(&bed.requests()?, run)
}

/// Waits until it has finished. It is looked seldom: the moment itself is in the audit log.
fn until_finished(bed: &TestBed<'_>) -> Result<()> {
    bed.until("the DaemonJob to finish", LINE, || {
        let status = bed.get(&[
            "daemonjob/bench",
            "--output=jsonpath={.status.completionTime} {.status.progress}",
        ])?;
        let (ended, progress) = status.split_once(' ').unwrap_or_default();
        let usage = bed.usage()?;
        let state = format!(
            "{progress} nodes have succeeded; the host used {:.1} s of a processor and has {:.0} MiB",
            usage.cpu, usage.rss
        );
        Ok((!ended.is_empty(), state))
    })
}

/// A `DaemonJob` as people write them: parameters for all, a command, requests and limits.
fn daemon_job() -> Value {
    json!({
        "apiVersion": "api.practice.com/v1alpha1",
        "kind": "DaemonJob",
        "metadata": {"name": "bench", "namespace": NAMESPACE, "labels": {"team": "bench"}},
        "spec": {
            "globalParams": {
                "env": [{"name": "FOO", "value": "bar"}, {"name": "QUE", "value": "pasa"}],
                "labels": {"key1": "value1"},
                "annotations": {"key1": "value1"},
            },
            "template": {"spec": {"containers": [{
                "name": "main",
                "image": "registry.example/node-check:1.0",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", "check"],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
            }]}},
        }
    })
}
