//! Objects in every state, and the verdicts on them.

use std::{path::PathBuf, process::Stdio};

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{CollaSet, JobFlow, OperationJob, PodTransitionRule};
use operon_e2e::{
    colla_set::colla_set,
    daemon_job::{Daemon, STORY},
    environment,
    job_flow::{Flow, Step},
    plugin::Plugin,
    prelude::*,
    reactive_job::Reactive,
    workload::{gated_pod_spec, pod_spec},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Its kind and name.
    pub(super) object: String,
    /// The reason of its condition `Ready`; empty if it has none.
    pub(super) reason: String,
    /// The status by kstatus.
    pub(super) kstatus: String,
    /// The health by Argo CD.
    pub(super) health: String,
}

/// The pod that OperationJobs check.
pub(super) const POD: &str = "foo";

/// The names of objects without their kind, the reason of `Ready`, what kstatus says, and what Argo CD says.
type States<'a> = &'a [(&'a str, &'a str, &'a str, &'a str)];

const OPERATION_JOBS: States<'_> = &[
    ("succeeded", "Succeeded", "Current", "Healthy"),
    ("failed", "PodNotFound", "Failed", "Degraded"),
    ("no-target", "NoTargets", "Failed", "Degraded"),
    ("in-progress", "Processing", "InProgress", "Progressing"),
    (
        "partition",
        "WaitingForPartition",
        "InProgress",
        "Suspended",
    ),
    ("paused", "Paused", "InProgress", "Suspended"),
    ("deleted", "Canceled", "Terminating", "Progressing"),
];

const JOB_FLOWS: States<'_> = &[
    ("succeeded", "Succeed", "Current", "Healthy"),
    ("failed", "StepFailed", "Failed", "Degraded"),
    ("failing", "StepFailed", "InProgress", "Progressing"),
    ("running", "Running", "InProgress", "Progressing"),
    ("suspended", "Suspended", "InProgress", "Suspended"),
    ("held", "JobSuspended", "InProgress", "Suspended"),
    ("invalid", "InvalidFlow", "Failed", "Degraded"),
    ("deleted", "Terminating", "Terminating", "Progressing"),
];

const DAEMON_JOBS: States<'_> = &[
    ("succeeded", "Succeeded", "Current", "Healthy"),
    ("never-ends", "Succeeded", "Current", "Healthy"),
    ("failed", "NodesFailed", "Failed", "Degraded"),
    ("running", "Running", "InProgress", "Progressing"),
    ("suspended", "Suspended", "InProgress", "Suspended"),
    ("paused", "Paused", "InProgress", "Suspended"),
    ("no-node", "NoEligibleNodes", "InProgress", "Progressing"),
];

const REACTIVE_JOBS: States<'_> = &[
    ("succeeded", "Ready", "Current", "Healthy"),
    ("failed", "Error", "Failed", "Degraded"),
    ("running", "Processing", "InProgress", "Progressing"),
    ("suspended", "New", "InProgress", "Suspended"),
];

const COLLA_SETS: States<'_> = &[
    ("serves", "Available", "Current", "Healthy"),
    ("starts", "PodsUnavailable", "InProgress", "Progressing"),
    ("paused", "Paused", "InProgress", "Suspended"),
    ("invalid", "InvalidSelector", "Failed", "Degraded"),
];

const POD_TRANSITION_RULES: States<'_> = &[
    ("valid", "Observed", "Current", "Healthy"),
    ("invalid", "InvalidSelector", "Failed", "Degraded"),
];

/// Creates an object in every state, and returns what is to be said of each.
pub(super) async fn create(world: &World) -> Vec<Verdict> {
    world.add_nodes(["a"]).await;
    finished(world).await;
    operation_jobs(world).await;
    job_flows(world).await;
    daemon_jobs(world).await;
    reactive_jobs(world).await;
    about_pods(world).await;
    let [unseen, stalled] = plugins(world).await;
    let plugins = [
        ("check", "Loaded", "Current", "Healthy"),
        (&*unseen, "", "InProgress", "Progressing"),
        (&*stalled, "ConfigMapNotFound", "Failed", "Degraded"),
    ];
    let kinds = [
        ("OperationJob", OPERATION_JOBS),
        ("JobFlow", JOB_FLOWS),
        ("DaemonJob", DAEMON_JOBS),
        ("ReactiveJob", REACTIVE_JOBS),
        ("CollaSet", COLLA_SETS),
        ("PodTransitionRule", POD_TRANSITION_RULES),
        ("ActionPlugin", &plugins),
    ];
    let all = kinds.iter().flat_map(|(kind, states)| {
        states
            .iter()
            .map(move |(name, reason, kstatus, health)| Verdict {
                object: format!("{kind}/{name}"),
                reason: (*reason).to_owned(),
                kstatus: (*kstatus).to_owned(),
                health: (*health).to_owned(),
            })
    });
    all.collect()
}

/// Removes what holds objects that are being deleted.
pub(super) async fn let_go(world: &World) {
    let free = json!({"metadata": {"finalizers": null}});
    world.patch::<OperationJob>("deleted", free.clone()).await;
    world.patch::<JobFlow>("deleted", free).await;
}

/// Objects of each kind that finishes, which succeed or fail.
pub(super) async fn finished(world: &World) {
    pod(world).await;
    check(world, "succeeded", POD, "app", json!({})).await;
    check(world, "failed", "not-there", "app", json!({})).await;
    let flow = |name: &str, step: Step| Flow::of(name, [pinned(world, step)]);
    flow("succeeded", Step::of("a")).apply(world).await;
    flow("failed", Step::of("a").failing()).apply(world).await;
    Daemon::of(world, "succeeded").apply(world).await;
    failing_daemon(world).await;
}

async fn failing_daemon(world: &World) {
    let job = format!("failed-{}", world.named("a"));
    let failed = Daemon::of(world, "failed").failing(&[job]);
    failed.apply(world).await;
}

/// A pod with the label `app=foo`, on the node of the story: other nodes are deleted with other stories.
pub(super) async fn pod(world: &World) {
    let mut spec = pod_spec();
    spec["nodeSelector"] = node(world);
    let pod = json!({"metadata": {"name": POD, "labels": {"app": "foo"}}, "spec": spec});
    world.make::<Pod>(pod).await;
    world.pod_until(POD, "is ready", Pod::is_ready).await;
}

/// What selects the node of the story.
pub(super) fn node(world: &World) -> Value {
    json!({STORY: world.namespace})
}

/// The step, on the node of the story.
fn pinned(world: &World, step: Step) -> Step {
    step.pod("nodeSelector", node(world))
}

/// An OperationJob that waits until a pod has this label with the value `foo`.
async fn check(world: &World, name: &str, pod: &str, label: &str, more: Value) {
    let parameters = json!({"label": {"key": label, "value": "foo"}});
    let job = Job::of(name, "Check", &[pod]).parameters(&parameters);
    let mut job = json!(job.object());
    merge(&mut job["spec"], &more);
    world.make::<OperationJob>(job).await;
}

/// Sets these fields, and removes those that are null.
fn merge(spec: &mut Value, more: &Value) {
    let spec = spec.as_object_mut().expect("an object");
    for (field, value) in more.as_object().into_iter().flatten() {
        if value.is_null() {
            spec.remove(field);
        } else {
            spec.insert(field.clone(), value.clone());
        }
    }
}

async fn operation_jobs(world: &World) {
    let none = json!({"targets": null, "targetSelector": {"owner": "deployment/not-there"}});
    check(world, "no-target", POD, "app", none).await;
    check(world, "in-progress", POD, "other", json!({})).await;
    check(world, "partition", POD, "other", json!({"partition": 0})).await;
    check(world, "paused", POD, "other", json!({"paused": true})).await;
    check(world, "deleted", POD, "other", json!({})).await;
    let starts = |job: &OperationJob| job::progress(job) == Progress::Processing;
    world.job_until("deleted", "has started", starts).await;
    let hold = json!({"metadata": {"finalizers": ["try.example.com/hold"]}});
    world.patch::<OperationJob>("deleted", hold).await;
    world.delete::<OperationJob>("deleted").await;
}

async fn job_flows(world: &World) {
    let two = [Step::of("a").failing(), Step::of("b").endless()];
    let two = two.map(|step| pinned(world, step));
    Flow::of("failing", two).apply(world).await;
    let endless = |name: &str| Flow::of(name, [pinned(world, Step::of("a").endless())]);
    endless("running").apply(world).await;
    let suspended = endless("suspended").with("suspend", json!(true));
    suspended.apply(world).await;
    endless("held").apply(world).await;
    world.flow_stands("held", "a Running").await;
    let suspend = json!({"spec": {"suspend": true}});
    world.patch::<BatchJob>("held-a", suspend).await;
    let cycle = [Step::of("a").after(&["b"]), Step::of("b").after(&["a"])];
    Flow::of("invalid", cycle).apply(world).await;
    endless("deleted").apply(world).await;
    let hold = json!({"metadata": {"finalizers": ["try.example.com/hold"]}});
    world.patch::<JobFlow>("deleted", hold).await;
    world.delete::<JobFlow>("deleted").await;
}

async fn daemon_jobs(world: &World) {
    let never = Daemon::of(world, "never-ends").rollout("completionPolicy", json!("Never"));
    never.apply(world).await;
    Daemon::of(world, "running").held().apply(world).await;
    let suspended = Daemon::of(world, "suspended").with("suspend", json!(true));
    suspended.apply(world).await;
    let paused = Daemon::of(world, "paused").rollout("paused", json!(true));
    paused.apply(world).await;
    let nowhere = json!({"matchLabels": {STORY: "none"}});
    let none = Daemon::of(world, "no-node").nodes("selector", nowhere);
    none.apply(world).await;
}

async fn reactive_jobs(world: &World) {
    let job = |name: &str| Reactive::of(name).pod("nodeSelector", node(world));
    job("succeeded").apply(world).await;
    job("failed").failing("exit 3").apply(world).await;
    job("running").endless().apply(world).await;
    let suspended = job("suspended").with("suspend", json!(true));
    suspended.apply(world).await;
}

/// The kinds whose objects are about pods.
async fn about_pods(world: &World) {
    let set = |name: &str, mut pod: Value| {
        pod["nodeSelector"] = node(world);
        colla_set(name, 1, &pod)
    };
    world.make::<CollaSet>(set("serves", pod_spec())).await;
    let starts = set("starts", gated_pod_spec());
    world.make::<CollaSet>(starts).await;
    let mut paused = set("paused", pod_spec());
    paused["spec"]["paused"] = json!(true);
    world.make::<CollaSet>(paused).await;
    let mut invalid = set("invalid", pod_spec());
    invalid["spec"]["selector"]["matchLabels"]["app"] = json!("other");
    world.make::<CollaSet>(invalid).await;
    let rule = |name: &str, operator: &str| {
        let expression = json!({"key": "app", "operator": operator});
        json!({
            "metadata": {"name": name},
            "spec": {"selector": {"matchExpressions": [expression]}, "rules": []},
        })
    };
    world
        .make::<PodTransitionRule>(rule("valid", "Exists"))
        .await;
    world
        .make::<PodTransitionRule>(rule("invalid", "Resembles"))
        .await;
}

/// An ActionPlugin that no host of the cluster loads, and one that cannot be loaded.
async fn plugins(world: &World) -> [String; 2] {
    let stalled = Plugin::annotate(world).without_component();
    let stalled = stalled.install(world).await.name;
    let unseen = Plugin::annotate(world).named(&world.named("unseen"));
    let unseen = unseen.without_component().shard("elsewhere");
    let unseen = unseen.install(world).await.name;
    [unseen, stalled]
}

/// The script that the documentation installs.
pub(super) fn health_script() -> PathBuf {
    environment::repository().join("examples/argocd/health.lua")
}

/// What is said of every object of the namespace, and of every ActionPlugin.
pub(super) async fn verdicts(world: &World) -> Result<Vec<Verdict>> {
    #[derive(Deserialize)]
    struct Said {
        kind: String,
        name: String,
        kstatus: String,
        health: String,
    }
    let objects = world.kubectl_says(&["get", "operon", "-o", "json"]).await;
    let mut judge = Command::new(environment::judge())
        .arg("-health")
        .arg(health_script())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = judge.stdin.take().context("its input is piped")?;
    input.write_all(objects.as_bytes()).await?;
    drop(input);
    let output = judge.wait_with_output().await?;
    ensure!(output.status.success(), "{}", output.status);
    let objects: Value = serde_json::from_str(&objects)?;
    let objects = objects["items"].as_array().context("a list")?;
    let output = String::from_utf8(output.stdout)?;
    let said = output.lines().map(serde_json::from_str::<Said>);
    let said = said.collect::<Result<Vec<_>, _>>()?;
    ensure!(said.len() == objects.len(), "{output}");
    let verdicts = said.into_iter().zip(objects).map(|(said, object)| Verdict {
        object: format!("{}/{}", said.kind, said.name),
        reason: reason(object),
        kstatus: said.kstatus,
        health: said.health,
    });
    Ok(verdicts.collect())
}

/// The reason of the condition `Ready`.
fn reason(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    let reason = ready.and_then(|ready| ready["reason"].as_str());
    reason.unwrap_or_default().to_owned()
}
