//! Many `ReactiveJob`s whose templates all change at the same time: how long until every one has run again, and
//! what that costs; and that a host with nothing to do asks for nothing.
//!
//! The cluster is new and its nodes are simulated, so a Job's pod completes as soon as it runs. What the
//! host asked of the API server is read off the audit log afterwards, so measuring it costs it nothing.

mod measures;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use operon_devcluster::Progress;
use serde_json::{Value, json};

use self::measures::{Measures, Run};
use super::load;
use super::test_bed::{LINE, NAMESPACE, NODES, Setup, TestBed};

/// How long nothing happens.
const IDLE: Duration = Duration::from_mins(1);

/// Where ReactiveJobs are served.
const PATH: &str = "/apis/batch.cs.sap.com/v1alpha1/namespaces";

/// The change: any part of the template would do, and a digest is what people change.
const CHANGE: &str = r#"{"spec":{"jobTemplate":{"metadata":{"annotations":{"digest":"def456"}}}}}"#;

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many ReactiveJobs there are
    #[arg(long, default_value_t = 1000)]
    objects: usize,
    #[command(flatten)]
    setup: Setup,
}

/// Brings up the cluster, measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments { objects, setup } = arguments;
    if *objects == 0 {
        bail!("--objects must be at least 1");
    }
    if !load::is_possible() {
        bail!("this bench changes many objects at once with curl, which is not here: install it");
    }
    let command = format!("reactivejob --objects {objects}");
    let prepared = setup.prepare(&command, progress)?;
    let (headline, measures) = prepared.on_a_new_cluster("", NODES, |bed| {
        Bench {
            objects: *objects,
            bed,
        }
        .run()
    })?;
    println!("{headline}\n");
    println!("{}", measures.table().markdown());
    println!("{}", measures.requests());
    Ok(())
}

/// A bench under way.
struct Bench<'a> {
    objects: usize,
    bed: &'a TestBed<'a>,
}

impl Bench<'_> {
    fn run(&self) -> Result<Measures> {
        let bed = self.bed;
        self.make()?;
        self.until_ready(1)?;
        bed.until_quiet()?;
        let idle = bed.idle(IDLE)?;
        let ((), spent) = bed.spending("reactivejob", || {
            self.change()?;
            self.until_ready(2)
        })?;
        let run = Run {
            objects: self.objects,
            idle,
            spent,
            jobs: self.jobs()?,
        };
        Measures::take(&bed.requests()?, run)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (0..self.objects).map(|number| format!("run-{number:04}"))
    }

    fn make(&self) -> Result<()> {
        self.bed
            .progress
            .say(format!("making {} ReactiveJobs", self.objects));
        let items: Vec<Value> = self.names().map(|name| reactive_job(&name)).collect();
        self.bed.create(
            "bench-reactivejobs.json",
            &json!({"apiVersion": "v1", "kind": "List", "items": items}),
        )
    }

    /// Changes all templates.
    fn change(&self) -> Result<()> {
        self.bed.progress.say(format!(
            "a plain client changes all templates, {} requests at once",
            load::CLIENTS
        ));
        let paths: Vec<String> = self
            .names()
            .map(|name| format!("{PATH}/{NAMESPACE}/reactivejobs/{name}"))
            .collect();
        load::patch_all(self.bed.cluster, &paths, CHANGE)
    }

    /// Waits until all statuses say Ready, about this generation. It is looked seldom: the moment itself
    /// is in the audit log, and each look at all objects takes part in the measurement.
    fn until_ready(&self, generation: u32) -> Result<()> {
        let objects = self.objects;
        let ready = format!("{generation} Ready");
        self.bed.until(
            &format!("{objects} ReactiveJobs to be Ready"),
            LINE,
            || {
                let states = self.bed.get(&[
                    "reactivejobs",
                    r#"--output=jsonpath={range .items[*]}{.status.observedGeneration} {.status.state}{"\n"}{end}"#,
                ])?;
                let count = states.lines().filter(|state| *state == ready).count();
                let usage = self.bed.usage()?;
                let state = format!(
                    "{count} of {objects} are Ready; the host used {:.1} s of a processor and has {:.0} MiB",
                    usage.cpu, usage.rss
                );
                Ok((count == objects, state))
            },
        )
    }

    /// How many Jobs each ReactiveJob has.
    fn jobs(&self) -> Result<BTreeMap<String, usize>> {
        let owners = self.bed.get(&[
            "jobs",
            r#"--output=jsonpath={range .items[*]}{.metadata.ownerReferences[0].name}{"\n"}{end}"#,
        ])?;
        let mut jobs = BTreeMap::new();
        for owner in owners.lines() {
            *jobs.entry(owner.to_owned()).or_default() += 1;
        }
        Ok(jobs)
    }
}

/// A `ReactiveJob` as people write them: a digest, a command, an environment, requests and limits.
fn reactive_job(name: &str) -> Value {
    json!({
        "apiVersion": "batch.cs.sap.com/v1alpha1",
        "kind": "ReactiveJob",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "bench"}},
        "spec": {"jobTemplate": {
            "metadata": {"annotations": {"digest": "abc123"}},
            "spec": {
                "backoffLimit": 3,
                "template": {
                    "metadata": {"labels": {"app.kubernetes.io/name": name}},
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{
                            "name": "main",
                            "image": "registry.example/migration:1.0",
                            "command": ["sh", "-c", "migrate --to $TARGET"],
                            "env": [{"name": "TARGET", "value": "42"}, {"name": "LOG_LEVEL", "value": "info"}],
                            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}
                        }]
                    }
                }
            }
        }}
    })
}
