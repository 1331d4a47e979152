//! The life of the installed chart on a node that runs containers: in a namespace with the strictest Pod Security Standard, as a
//! user that the image does not know, tested by `helm test`, upgraded, uninstalled beside live objects, and installed again.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, process::Command};

use k8s_openapi::api::{batch::v1::Job as BatchJob, core::v1::Namespace};
use kube::Api;
use operon_api::{CollaSet, ReactiveJob, job_flow::FlowState, reactive_job::State};
use operon_e2e::{
    environment,
    host::alone,
    job_flow::{Flow, Step},
    plugin::SYSTEM,
    prelude::*,
    reactive_job::{Reactive, end},
    release::{Release, helm_does},
};

/// As OpenShift gives one to a namespace.
const USER: u32 = 1_000_740_000;

/// What `operon check` prints, with the rights of an administrator, and whether it succeeds.
fn check() -> (bool, String) {
    let check = Command::new(environment::binary())
        .args(["check", "--timeout=0", "--namespace", SYSTEM])
        .output()
        .expect("operon runs");
    let printed = String::from_utf8_lossy(&check.stdout).into_owned();
    (check.status.success(), printed)
}

/// The users that hosts in containers run as.
fn users() -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let user = |process: fs::DirEntry| {
        let command = fs::read(process.path().join("cmdline")).ok()?;
        let is_host = command.starts_with(b"/usr/local/bin/operon\0run\0");
        is_host.then(|| process.metadata().ok())?.map(|it| it.uid())
    };
    processes.filter_map(user).collect()
}

/// The pod of a release under the Pod Security Standard that its namespace enforces.
async fn only_restricted_pods_may_run(world: &World) {
    let run = ["run", "other", "--image=none", "--dry-run=server"];
    let refused = world
        .kubectl(&[&run[..], &["--namespace", SYSTEM]].concat())
        .await;
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(
        words.contains("violates PodSecurity \"restricted"),
        "{words}"
    );
}

/// Objects of all kinds that wait for something.
async fn fill(world: &World) {
    let pods = Deployment::of("web", 1).up(world).await;
    let label = json!({"label": {"key": "warm", "value": "yes"}});
    for name in ["waits", "cancelled"] {
        let job = Job::of(name, "Check", &names(&pods)).parameters(&label);
        world.create(&job.object()).await;
        world
            .job_until(name, "waits for the label", |found| {
                job::error(found, &pods[0].name_any()).reason == "WaitingForLabel"
            })
            .await;
    }
    Reactive::of("reactive").apply(world).await;
    world.comes_to("reactive", State::Ready).await;
    let flow = Flow::of("flow", [Step::of("one").gated()])
        .and(Step::of("two").gated().after(&["one"]))
        .and(Step::of("three").after(&["two"]));
    flow.apply(world).await;
    world.job_appears("flow-one").await;
    world.colla_set_up("set", 1).await;
}

/// What the release consists of, in its namespace or of the whole cluster, but for the CRDs and the pod of the test.
async fn belongings(world: &World) -> String {
    let kinds = "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,\
        clusterroles,clusterrolebindings,actionplugins,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let selector = "--selector=app.kubernetes.io/instance=operon";
    let get = [
        "get",
        kinds,
        selector,
        "--output=name",
        "--namespace",
        SYSTEM,
    ];
    world.kubectl_says(&get).await
}

/// The identities of all CRDs.
async fn crds(world: &World) -> String {
    let uids = "--output=jsonpath={.items[*].metadata.uid}";
    world.kubectl_says(&["get", "crds", uids]).await
}

/// Runs the commands by which the chart's page removes what waits for a host in a namespace.
fn remove_finalizers_as_documented(world: &World) {
    let page = environment::repository().join("charts/operon/README.md");
    let page = fs::read_to_string(page).expect("the chart's page");
    let (_, section) = page.split_once("## Uninstalling").expect("a section");
    let (_, block) = section.split_once("```console\n").expect("commands");
    let (block, _) = block.split_once("```").expect("their end");
    let commands = block.lines().filter_map(|line| line.strip_prefix("$ "));
    let commands: Vec<_> = commands.collect();
    assert!(!commands.is_empty(), "{block}");
    let function = format!(
        "kubectl() {{ {} --namespace {} \"$@\"; }}",
        environment::kubectl().display(),
        world.namespace
    );
    let script = format!("set -e\n{function}\n{}", commands.join("\n"));
    let run = Command::new("sh").args(["-c", &script]).output();
    let run = run.expect("a shell");
    assert!(run.status.success(), "{script}\n{run:?}");
}

/// While no host runs: what runs goes on, and what is deleted waits.
async fn goes_on_without_a_host(world: &World) {
    world.let_job_run("flow-two").await;
    world
        .eventually("the Job of a step ends without a host", async || {
            let job: BatchJob = world.get("flow-two").await?;
            ensure!(end(&job) == Some("Complete"), "{:?}", job.status);
            Ok(())
        })
        .await;
    world.delete::<OperationJob>("cancelled").await;
    world
        .for_a_while("a deleted job waits for a host", async || {
            let job = world.job("cancelled").await?;
            ensure!(job.metadata.deletion_timestamp.is_some(), "not deleted");
            let jobs = world.job_names().await?;
            ensure!(!jobs.iter().any(|job| job == "flow-three"), "{jobs:?}");
            Ok(())
        })
        .await;
}

/// A namespace that is deleted while no host runs waits for the finalizers of its objects, which a user can remove.
async fn can_be_deleted_without_a_host(world: &World) {
    let delete = ["delete", "namespace", &world.namespace, "--wait=false"];
    world.kubectl_says(&delete).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    world
        .eventually("what is left in the namespace has finalizers", async || {
            let namespace = namespaces.get(&world.namespace).await?;
            let status = namespace.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let held = conditions
                .iter()
                .any(|one| one.type_ == "NamespaceFinalizersRemaining" && one.status == "True");
            ensure!(held, "{conditions:?}");
            Ok(())
        })
        .await;
    remove_finalizers_as_documented(world);
    world
        .eventually("the namespace is deleted", async || {
            let found = namespaces.get_opt(&world.namespace).await?;
            ensure!(found.is_none(), "{found:?}");
            Ok(())
        })
        .await;
}

/// A host finds everything where it was left.
async fn is_continued(world: &World) {
    world.gone::<OperationJob>("cancelled").await;
    world.flow_ends("flow", FlowState::Succeed).await;
    let pod = world.pods("web").await.expect("a pod").remove(0);
    let warm = json!({"metadata": {"labels": {"warm": "yes"}}});
    world.patch::<Pod>(&pod.name_any(), warm).await;
    let job = world.finished("waits").await;
    assert_eq!(job::progress(&job), Progress::Succeeded);
    world
        .patch::<CollaSet>("set", json!({"spec": {"replicas": 2}}))
        .await;
    world.colla_set_serves("set", 2).await;
    world.delete::<ReactiveJob>("reactive").await;
    world.gone::<ReactiveJob>("reactive").await;
}

#[tokio::test]
async fn the_chart_is_upgraded_tested_and_uninstalled_beside_live_objects_and_the_next_host_continues()
 {
    if !environment::has_containers() {
        return;
    }
    alone(async |world: &World| {
        let abandoned = world.another("abandoned").await;
        only_restricted_pods_may_run(world).await;
        let (chart, release) = (environment::chart(), Release::of(world));
        release.install(&chart, &["replicas=1"]);
        for world in [world, &abandoned] {
            fill(world).await;
        }
        let pods = world.all_pods().await.expect("pods");

        let other_user = format!("replicas=1,runAsUser={USER},runAsGroup=null");
        release.install(&chart, &[&other_user]);
        world.let_job_run("flow-one").await;
        world.job_appears("flow-two").await;
        assert!(users().contains(&USER), "{:?}", users());
        let test = ["test", "operon", "--namespace", SYSTEM, "--logs"];
        let tested = helm_does(&test);
        assert!(tested.contains("leads, and is ready"), "{tested}");
        let (works, printed) = check();
        assert!(works && printed.contains("Replace"), "{printed}");

        let kept = crds(world).await;
        helm_does(&["uninstall", "operon", "--namespace", SYSTEM, "--wait"]);
        assert_eq!(belongings(world).await, "");
        assert_eq!(crds(world).await, kept);
        let (works, printed) = check();
        assert!(!works && printed.contains("FAILED"), "{printed}");
        goes_on_without_a_host(world).await;
        can_be_deleted_without_a_host(&abandoned).await;
        for pod in pods.iter().filter(|pod| pod.labels().contains_key("app")) {
            world.assert_untouched(pod).await;
        }

        release.install(&chart, &[&other_user]);
        is_continued(world).await;
        drop(release);
        world
            .eventually("the chart's host has ended", async || {
                ensure!(!users().contains(&USER), "{:?}", users());
                Ok(())
            })
            .await;
    })
    .await;
}
