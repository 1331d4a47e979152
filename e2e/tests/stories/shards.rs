//! Several releases of the chart in one cluster, each for namespaces of its own: a host acts there alone, with rights
//! there alone.
//!
//! The story runs hosts of its own, with the accounts of its releases, so it runs alone, after most others.

use std::process::Output;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use operon_api::{CollaSet, DaemonJob, JobFlow, ReactiveJob, daemon_job, job_flow, reactive_job};
use operon_e2e::{
    colla_set::colla_set,
    daemon_job::Daemon,
    environment,
    host::{Host, alone, folder, free_port},
    job_flow::{Flow, Step},
    plugin::SYSTEM,
    prelude::*,
    reactive_job::Reactive,
    release,
    workload::pod_spec,
    world::Kind,
};

/// The shard, and the release, of the second host.
const SHARD: &str = "b";
const RELEASE: &str = "operon-b";

/// Installs or upgrades a release, for these namespaces, without replicas: hosts run as processes here.
fn released(release: &str, namespace: &str, watched: &[&str], values: &[&str]) -> Output {
    let chart = environment::chart().to_string_lossy().into_owned();
    let watched = format!("watchNamespaces={}", json!(watched));
    let arguments = [
        &[
            "upgrade",
            "--install",
            release,
            &chart,
            "--namespace",
            namespace,
        ][..],
        &["--create-namespace", "--reuse-values", "--set=replicas=0"],
        &["--set-json", &watched],
        values,
    ];
    release::helm(&arguments.concat())
}

/// The chart's own release for some namespaces only, until this is dropped.
struct Limited;

impl Limited {
    fn to(namespaces: &[&str]) -> Self {
        let output = released("operon", SYSTEM, namespaces, &[]);
        assert!(output.status.success(), "{output:?}");
        Self
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let output = released("operon", SYSTEM, &[], &[]);
        if !output.status.success() {
            eprintln!("the chart's release is still limited: {output:?}");
        }
    }
}

/// One object of each kind that a host runs.
async fn fill(world: &World) {
    let pods = Deployment::of("web", 1).up(world).await;
    let label = Job::of("label", "Label", &names(&pods));
    let label = label.parameters(&json!({"set": {"tier": "canary"}}));
    world.create(&label.object()).await;
    Flow::of("flow", [Step::of("one")]).apply(world).await;
    Reactive::of("reactive").apply(world).await;
    let daemon = Daemon::of(world, "daemon").with("nodes", json!({}));
    daemon.apply(world).await;
    world
        .make::<CollaSet>(colla_set("set", 1, &pod_spec()))
        .await;
}

/// Waits until a host has run all of them.
async fn runs(world: &World) {
    let job = world.finished("label").await;
    assert_eq!(job::progress(&job), Progress::Succeeded);
    let pods = world.pods("web").await.expect("pods");
    let tiers: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod.labels().get("tier"))
        .collect();
    assert_eq!(tiers, ["canary"]);
    world.flow_ends("flow", job_flow::FlowState::Succeed).await;
    world.comes_to("reactive", reactive_job::State::Ready).await;
    world
        .daemon_comes_to("daemon", daemon_job::FlowState::Succeed)
        .await;
    world.colla_set_serves("set", 1).await;
}

/// Whether no host has touched an object.
async fn is_untouched<K: Kind>(world: &World, name: &str) -> Result<()> {
    let object = serde_json::to_value(world.get::<K>(name).await?)?;
    let metadata = &object["metadata"];
    // Objects are created with a status of this generation.
    let status = &object["status"];
    let is_created = status.is_null() || status["observedGeneration"] == -1;
    ensure!(is_created && status["conditions"].is_null(), "{status}");
    ensure!(metadata["finalizers"].is_null(), "{metadata}");
    Ok(())
}

/// Asserts that no host touches any of them.
async fn is_left_alone(world: &World) {
    world
        .for_a_while("nothing is touched", async || {
            is_untouched::<OperationJob>(world, "label").await?;
            is_untouched::<JobFlow>(world, "flow").await?;
            is_untouched::<ReactiveJob>(world, "reactive").await?;
            is_untouched::<DaemonJob>(world, "daemon").await?;
            is_untouched::<CollaSet>(world, "set").await?;
            let pods = world.all_pods().await?;
            ensure!(pods.len() == 1, "{:?}", names(&pods));
            let jobs = world.list::<k8s_openapi::api::batch::v1::Job>().await?;
            ensure!(jobs.is_empty(), "{} Jobs", jobs.len());
            Ok(())
        })
        .await;
}

/// Whether an account of the chart's own release may do this to pods, there or everywhere.
async fn may(world: &World, account: &str, verb: &str, place: &[&str]) -> bool {
    let user = format!("--as=system:serviceaccount:{SYSTEM}:{account}");
    let ask = [&["auth", "can-i", verb, "pods", &user][..], place].concat();
    let answer = world.kubectl(&ask).await;
    String::from_utf8_lossy(&answer.stdout).trim() == "yes"
}

async fn rights_are_limited(a: &World, b: &World) {
    for (account, verb) in [
        ("operon", "list"),
        ("operon-collaset", "create"),
        ("operon-podopslifecycle", "patch"),
        ("action-label", "patch"),
        ("action-replace", "create"),
    ] {
        for (place, expected) in [
            (&["--namespace", &*a.namespace][..], true),
            (&["--namespace", &*b.namespace], false),
            (&["--namespace", SYSTEM], false),
            (&["--all-namespaces", "--namespace="], false),
        ] {
            let found = may(a, account, verb, place).await;
            assert_eq!(found, expected, "{account} {verb} pods {place:?}");
        }
    }
}

/// Asserts that Helm refuses a release beside the chart's own, because of this.
fn is_refused(operator: &str, watched: &[&str], values: &[&str], why: &str) {
    let refused = released(RELEASE, operator, watched, values);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && words.contains(why), "{words}");
}

async fn delete_namespaces(world: &World, names: &[&str]) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    for name in names {
        let deleted = namespaces.delete(name, &DeleteParams::default()).await;
        deleted.expect("a namespace of our own");
    }
}

#[tokio::test]
async fn two_releases_serve_their_own_namespaces_with_rights_there_alone() {
    alone(async |a: &World| {
        let b = a.another("b").await;
        let (operator, absent) = (a.named("operator"), a.named("c"));
        let shard = format!("--set=shard={SHARD}");
        let served = "serves all namespaces";
        is_refused(&operator, &[&b.namespace], &[&shard], served);
        let limited = Limited::to(&[&a.namespace]);
        is_refused(&operator, &[], &[&shard], served);
        let both = [&*a.namespace, &*b.namespace];
        is_refused(&operator, &both, &[&shard], "serves already");
        is_refused(&operator, &[&b.namespace], &[], "set shard");
        // A release may serve its own namespace too, which has a binding of its own there.
        let served = [&*b.namespace, &*operator];
        let installed = released(RELEASE, &operator, &served, &[&shard]);
        assert!(installed.status.success(), "{installed:?}");
        rights_are_limited(a, &b).await;

        fill(a).await;
        fill(&b).await;
        let watch = |names: &[&str]| format!("--watch-namespaces={}", names.join(","));
        let first = Host::start_with(a, "first", &[&watch(&[&a.namespace])]);
        runs(a).await;
        is_left_alone(&b).await;

        // One namespace of the second host does not exist yet.
        let kubeconfig = folder(a).join("b.kubeconfig");
        release::write_kubeconfig(RELEASE, &operator, &kubeconfig);
        let (cache, port) = (folder(a).join("cache"), free_port());
        let watched = watch(&[&b.namespace, &absent]);
        let arguments = [
            &format!("--namespace={operator}"),
            &format!("--shard={SHARD}"),
            &watched,
        ];
        let arguments = arguments.map(String::as_str);
        let start = |name| Host::start_as(a, name, &kubeconfig, &cache, port, &arguments);
        let mut second = start("second");
        runs(&b).await;
        let down = "operon_watch_up{kind=\"OperationJob.apps.kusionstack.io\"} 0";
        assert!(second.metrics().expect("metrics").contains(down));

        let c = a.another("c").await;
        let upgraded = released(RELEASE, &operator, &[&b.namespace, &c.namespace], &[]);
        assert!(upgraded.status.success(), "{upgraded:?}");
        let ended = second.ended(Duration::from_mins(2)).await;
        assert!(ended.success(), "{ended}:\n{}", second.log());
        let second = start("second-again");
        fill(&c).await;
        runs(&c).await;
        let up = down.replace("} 0", "} 1");
        assert!(second.metrics().expect("metrics").contains(&up));

        for world in [&b, &c] {
            world.delete_what_hosts_hold().await;
        }
        second.kill().await;
        first.kill().await;
        release::helm_does(&["uninstall", RELEASE, "--namespace", &operator]);
        delete_namespaces(a, &[&b.namespace, &c.namespace, &operator]).await;
        drop(limited);
    })
    .await;
}
