//! A Replace job on an idle host, and beside sixteen jobs of an action whose calls run into their timeout: how much later
//! it reacts.
//!
//! It replaces few pods at a time, so that the host and not the API server is its limit. The action is the hostile guest
//! of the tests: it computes without end about some targets, and answers in a moment about others. An action all of
//! whose calls fault is set aside soon; one that answers now and then is not.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use operon_devcluster::{Progress, output_of};
use serde_json::{Value, json};

use super::metrics;
use super::operation_job::measures::reactions;
use super::operation_job::{deploy, job, names, number, origins, replace};
use super::report::{p50_and_p99, percentile};
use super::table::Table;
use super::test_bed::{NAMESPACE, NODES, Setup, TestBed};
use crate::{host, tools};

/// How many pods the jobs of the slow action are about: of one half every call runs into its timeout.
const SLOW_PODS: usize = 50;

/// The names of their pods begin with one of these, by which the guest selects what it does.
const COMPUTES: &str = "endless-loop";
const ANSWERS: &str = "restless";

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many pods are replaced, in each run
    #[arg(long, default_value_t = 200)]
    targets: usize,
    /// How many of them at the same time
    #[arg(long, default_value_t = 10)]
    concurrent: usize,
    /// How many jobs of the slow action run beside it
    #[arg(long, default_value_t = 16)]
    jobs: usize,
    #[command(flatten)]
    setup: Setup,
}

/// Brings up the cluster, measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments {
        targets,
        concurrent,
        jobs,
        setup,
    } = arguments;
    if *targets == 0 {
        bail!("--targets must be at least 1");
    }
    let command = format!("neighbours --targets {targets} --concurrent {concurrent} --jobs {jobs}");
    let prepared = setup.prepare(&command, progress)?;
    let guest = tools::build_wasm(progress, "operon-hostile-guest")?;
    let (headline, runs) =
        prepared.on_a_new_cluster("", NODES, |bed| Bench { arguments, bed }.run(&guest))?;
    println!("{headline}\n");
    println!("{}", table(&runs));
    Ok(())
}

/// What was measured in one run.
struct Measured {
    what: &'static str,
    succeeded: u64,
    /// From a new pod's being Ready and claimed to its origin's eviction.
    reactions: Vec<f64>,
    /// Calls of the slow action that ended meanwhile, and those of them that ran into their timeout.
    calls: [f64; 2],
    /// Targets of all jobs whose release was given up, until their jobs were deleted.
    abandoned: usize,
}

fn table(runs: &[Measured]) -> String {
    let idle = runs
        .first()
        .map_or(f64::NAN, |run| percentile(&run.reactions, 99));
    let column = |run: &Measured| {
        let mut table = Table::default();
        table.row("targets Succeeded", run.succeeded.to_string());
        table.row(
            "new pod Ready and claimed → its origin's eviction, p50, p99",
            p50_and_p99(&run.reactions),
        );
        let ratio = percentile(&run.reactions, 99) / idle;
        table.goal(
            "p99, as a multiple of that on an idle host",
            format!("{ratio:.2}"),
            "below 2",
            ratio < 2.0,
        );
        let [calls, timeouts] = run.calls;
        table.row(
            "calls of the slow action meanwhile, those that ran into their timeout",
            format!("{calls:.0}, {timeouts:.0}"),
        );
        table.goal(
            "targets ReleaseAbandoned",
            run.abandoned.to_string(),
            "0",
            run.abandoned == 0,
        );
        (run.what.to_owned(), table)
    };
    Table::side_by_side(&runs.iter().map(column).collect::<Vec<_>>())
}

/// A bench under way.
struct Bench<'a> {
    arguments: &'a Arguments,
    bed: &'a TestBed<'a>,
}

impl Bench<'_> {
    fn run(&self, guest: &Path) -> Result<Vec<Measured>> {
        let Self { arguments, bed } = self;
        deploy(bed, arguments.targets, 1)?;
        // An action of its own for each run: what is remembered of the calls of one does not count for the other.
        for name in ["half", "all"] {
            self.install(name, guest)?;
        }
        let pods = self.slow_pods()?;
        bed.until_quiet()?;
        let computing: Vec<_> = pods
            .iter()
            .filter(|pod| pod.starts_with(COMPUTES))
            .cloned()
            .collect();
        Ok(vec![
            self.beside("idle host", "idle", &[])?,
            self.beside("half of the calls never end", "half", &pods)?,
            self.beside("no call ever ends", "all", &computing)?,
        ])
    }

    /// Replaces all pods of the Deployment, beside jobs of the slow action of this name about these pods.
    fn beside(&self, what: &'static str, name: &str, slow: &[String]) -> Result<Measured> {
        let Self { arguments, bed } = self;
        let before = self.calls(name)?;
        let pods = names(bed, &["pods", "--selector=team=bench"])?;
        let jobs: Vec<Value> = (0..arguments.jobs)
            .filter(|_| !slow.is_empty())
            .map(|number| job(&format!("{name}-{number}"), name, slow))
            .collect();
        if !jobs.is_empty() {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": jobs});
            bed.create("bench-slow-jobs.json", &list)?;
        }
        let status = replace(bed, name, &pods, Some(arguments.concurrent))?;
        let after = self.calls(name)?;
        let origins: HashMap<_, _> = origins(&status);
        let (_, reactions) = reactions(&bed.requests()?, &origins);
        if reactions.is_empty() {
            bail!("the audit log has no eviction by {name}");
        }
        bed.progress.say("all jobs are deleted");
        output_of(bed.kubectl()?.args(["delete", "operationjobs", "--all"]))?;
        bed.until_quiet()?;
        let abandoned = ["events", "--field-selector=reason=ReleaseAbandoned"];
        Ok(Measured {
            what,
            succeeded: number(&status, "succeededPodCount"),
            reactions,
            calls: [after[0] - before[0], after[1] - before[1]],
            abandoned: names(bed, &abandoned)?.len(),
        })
    }

    /// Calls of the slow action about targets that ended so far, and those of them that ran into their timeout.
    fn calls(&self, slow: &str) -> Result<[f64; 2]> {
        let text = metrics::get(&self.bed.metrics, "/metrics")?;
        let operated = format!("action=\"{slow}\",function=\"operate-target\"");
        let late = format!("{operated},outcome=\"timeout\"");
        let calls = |labels: &str| metrics::sum(&text, "operon_action_calls_total", labels);
        Ok([calls(&operated), calls(&late)])
    }

    /// Installs a slow action of this name, and waits until it serves.
    fn install(&self, name: &str, guest: &Path) -> Result<()> {
        let bed = self.bed;
        let state = bed.cluster.state_dir();
        let state = state.context("the cluster has no state folder")?;
        let kubectl = || bed.cluster.kubectl(bed.progress);
        let component = format!("--from-file=plugin.wasm={}", guest.display());
        let system = ["--namespace", host::NAMESPACE];
        let mut create = kubectl()?;
        create.args(system).args(["create", "configmap", name]);
        output_of(create.arg(component))?;
        let file = state.join(format!("bench-{name}.json"));
        fs::write(&file, slow_action(name).to_string())
            .with_context(|| format!("failed to write {}", file.display()))?;
        output_of(kubectl()?.args(["create", "--filename"]).arg(&file))?;
        let plugin = format!("actionplugin/{name}");
        let served = ["wait", "--for=condition=Ready", &plugin, "--timeout=300s"];
        output_of(kubectl()?.args(served)).context("the slow action is not served")?;
        Ok(())
    }

    /// Creates the pods of the slow action, which no node runs; returns their names.
    fn slow_pods(&self) -> Result<Vec<String>> {
        let pod = |number: usize| {
            let kind = if number.is_multiple_of(2) {
                COMPUTES
            } else {
                ANSWERS
            };
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": format!("{kind}-{number}"),
                    "namespace": NAMESPACE,
                    "labels": {"team": "slow"},
                },
                "spec": {
                    "containers": [{"name": "app", "image": "registry.example/app:1.0"}],
                    "schedulingGates": [{"name": "bench.operon.dev/never"}],
                },
            })
        };
        let items: Vec<Value> = (0..SLOW_PODS).map(pod).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.bed.create("bench-slow-pods.json", &list)?;
        let mut pods = Vec::new();
        let what = format!("{SLOW_PODS} pods without a node");
        self.bed.until(&what, Duration::from_secs(1), || {
            pods = names(self.bed, &["pods", "--selector=team=slow"])?;
            Ok((pods.len() == SLOW_PODS, format!("{} pods", pods.len())))
        })?;
        // By number, so that the kinds take turns.
        let number = |pod: &String| pod.rsplit('-').next().and_then(|n| n.parse::<usize>().ok());
        pods.sort_by_key(number);
        Ok(pods)
    }
}

/// The ActionPlugin of a slow action, with its account; all have its name.
fn slow_action(name: &str) -> Value {
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
    ]);
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": name,
            "namespace": host::NAMESPACE,
            "labels": {"operon.dev/action-account": "true"},
        },
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": host::NAMESPACE}],
    });
    let plugin = json!({
        "apiVersion": "operon.dev/v1alpha1",
        "kind": "ActionPlugin",
        "metadata": {"name": name},
        "spec": {
            "action": name,
            "source": {"configMap": {"name": name}},
            "serviceAccountName": name,
        },
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [account, role, binding, plugin]})
}
