//! `operon plugin test`: runs a component for the targets of a job, in a cluster in memory, and shows each answer
//! and what its effects change. The calls are those of the host; the cluster is the fake one of the SDK.

mod changes;
mod conformance;
mod guard;
mod kubelet;
mod round;
mod shown;
mod subject;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use operon_api::OperationJob;
use serde_json::Value;

use self::{
    changes::Paint,
    round::{Course, Script},
    subject::Subject,
    world::World,
};
use super::{load, manifests};
use crate::stdout::{Color, print};

/// What is run, and on what.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  operon plugin test mark-pod.wasm --target pod.yaml
  operon plugin test mark-pod.wasm --target pods.yaml --job job.yaml --settings plugin.yaml
  operon plugin test mark-pod.wasm --target pod.yaml --conformance
  kubectl get pod foo -o yaml | operon plugin test mark-pod.wasm --target /dev/stdin

Each round calls operate-target, performs its effects, and calls get-ops-progress, until every target has finished
or nothing changes any more; a failed target is released. Between two rounds a second passes, deleted pods
disappear, ReplicaSets create pods, pending pods become ready, and the kubelet restarts and resizes containers.
Effects that the host never performs are refused. Nothing checks RBAC, admission or the schema of objects: that
needs a cluster. The exit code is 0 if every target
has succeeded.

With --conformance this is only the plain run. Then the job runs again and again from the same objects, and each time
one thing goes wrong at one call: it is made twice, the host is killed before, between or after its effects, an effect
is refused as a conflict, other clients write the objects, the pod is missing, terminating or another one of the same
name, or the job is deleted. Repetitions must end as the plain run does. No run may end in a trap, without a reason,
with a second object beside the first, or with a write to another pod. After a release, a pod that stays must have no label of the job and no finalizer that
the action added, and no object that the action created for it may exist. A plain run without an effect in which a
target does not succeed tests nothing, and is refused. The table has a line for each function and mishap; the exit
code is 0 if all are ok.")]
pub(super) struct Arguments {
    /// The component
    file: PathBuf,

    /// A file of pods, the targets; a pod without a status runs and is ready
    #[arg(long, required = true, value_name = "FILE")]
    target: Vec<PathBuf>,

    /// A file with an OperationJob, for its parameters and its targets [default: a job of all pods in --target]
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,

    /// A file of other objects that the action reads or changes
    #[arg(long, value_name = "FILE")]
    objects: Vec<PathBuf>,

    /// A file with the settings, or with an ActionPlugin that has them and the finalizers that the action may change
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// The most rounds
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    rounds: u32,

    /// Run again and again with one thing going wrong each time: calls repeated, effects refused, the pod recreated
    #[arg(long)]
    conformance: bool,

    /// Whether text has colours; auto means on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.conformance {
        // What the component logs, beside its answers.
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
        // Another subscriber would be that of a test.
        let _ = log.without_time().with_target(false).try_init();
    }
    let mut world = World::new();
    let pods = read(&arguments.target)?;
    for pod in &pods {
        ensure!(
            pod["kind"] == "Pod",
            "--target: {} {} is not a pod: give it by --objects",
            pod["kind"],
            pod["metadata"]["name"]
        );
    }
    for object in pods.iter().chain(&read(&arguments.objects)?) {
        world.put(object)?;
    }
    let job = match &arguments.job {
        Some(file) => Some(job_of(file)?),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start")?;
    runtime.block_on(async {
        let loaded = load::load(&arguments.file, arguments.settings.as_deref()).await?;
        let subject = Subject::new(&loaded, job.as_ref(), &pods, world);
        subject.check_parameters().await?;
        let color = arguments.color.is_wanted();
        if arguments.conformance {
            let again = load::load(&arguments.file, arguments.settings.as_deref()).await?;
            let rounds = arguments.rounds.max(1).try_into()?;
            return conformance::run(&subject, &again, rounds, Paint(color)).await;
        }
        let mut script = Script::new(subject);
        print(&script.setup(color))?;
        for number in 1..=arguments.rounds.max(1) {
            let (text, course) = script.round(number, color).await;
            print(&text)?;
            match course {
                Course::Goes => {}
                Course::Ended => break,
            }
        }
        script.verdict()
    })
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in files {
        let objects = manifests::read(file)?;
        ensure!(!objects.is_empty(), "{} has no object", file.display());
        all.extend(objects);
    }
    Ok(all)
}

fn job_of(file: &Path) -> anyhow::Result<OperationJob> {
    let shown = file.display();
    let mut jobs = manifests::read(file)?;
    jobs.retain(|object| object["kind"] == "OperationJob");
    let count = jobs.len();
    let (Some(job), 1) = (jobs.pop(), count) else {
        bail!("{shown} must have one OperationJob; it has {count}");
    };
    serde_json::from_value(job).with_context(|| format!("{shown} has no valid OperationJob"))
}
