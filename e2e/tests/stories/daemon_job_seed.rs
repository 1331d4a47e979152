//! The manifest of job-deploy-operator's documents, unchanged, on a cluster with the nodes that they speak
//! of. It takes every node of the cluster, so no other story runs beside it.

use k8s_openapi::api::{batch::v1::Job as BatchJob, core::v1::Pod};
use kube::api::ListParams;
use operon_api::{DaemonJob, daemon_job::FlowState};
use operon_e2e::{
    daemon_job::{node_of, status},
    kubectl::rows,
    prelude::*,
};

const SEED: &str = include_str!("../../../examples/daemonjob/example.yaml");

const NAME: &str = "daemonjob-example";

/// The nodes of the documents; the manifest excludes the first two.
const NODES: [&str; 4] = ["node1", "node2", "vm-0-12-centos", "vm-0-17-centos"];

/// What `kubectl get daemonjobs` prints of it, checked against the documents.
async fn state_in_table(world: &World) -> String {
    let table = world
        .kubectl_says(&["get", "daemonjobs.api.practice.com"])
        .await;
    let rows = rows(&table);
    assert_eq!(rows[0], ["NAME", "STATUS", "NODES", "AGE"]);
    assert_eq!(rows[1][0], NAME);
    rows[1][1].to_owned()
}

/// The nodes that shall get a Job, in the order of their names.
async fn wanted_nodes(world: &World) -> Vec<String> {
    let nodes = world.nodes().list(&ListParams::default()).await;
    let nodes = nodes.expect("the nodes").items.into_iter();
    let mut names: Vec<_> = nodes.map(|node| node.name_any()).collect();
    names.retain(|name| name != "node1" && name != "node2");
    names.sort();
    names
}

#[tokio::test]
async fn the_seeds_manifest_runs_a_job_on_every_node_but_the_excluded() {
    story(async |world: &World| {
        for name in NODES {
            world.add_node(name, json!({})).await;
        }
        for name in NODES {
            world.node_is_ready(name).await;
        }
        let wanted = wanted_nodes(world).await;
        // The pods of simulated nodes end immediately; without any there is time to look.
        world.set_quota(0).await;
        let applied = world.kubectl_apply(SEED).await;
        let answer = String::from_utf8_lossy(&applied.stdout).into_owned();
        assert_eq!(
            answer.trim(),
            format!("daemonjob.api.practice.com/{NAME} created"),
            "{applied:?}"
        );
        world.daemon_comes_to(NAME, FlowState::Running).await;
        assert_eq!(state_in_table(world).await, "Running");
        let jobs = world.jobs_are_on(NAME, &wanted).await;
        for job in &jobs {
            assert_eq!(job.name_any(), format!("{NAME}-{}", node_of(job)));
        }

        world.lift_quota().await;
        let object = world.daemon_comes_to(NAME, FlowState::Succeed).await;
        assert_eq!(state_in_table(world).await, "Succeed");
        assert_eq!(
            status(&object).progress,
            Some(format!("{0}/{0}", wanted.len()))
        );
        world
            .kubectl_says(&["wait", "--for=condition=Ready", "dj", NAME])
            .await;
        for job in world.jobs_are_on(NAME, &wanted).await {
            the_job_is_as_the_documents_say(world, &job).await;
        }
        let jobs = world.kubectl_says(&["get", "jobs"]).await;
        assert_eq!(rows(&jobs).len(), 1 + wanted.len(), "{jobs}");

        world.kubectl_says(&["delete", "daemonjob", NAME]).await;
        world.gone::<DaemonJob>(NAME).await;
        world
            .eventually("its Jobs go with it", async || {
                let jobs = world.list::<BatchJob>().await?;
                ensure!(jobs.is_empty(), "{} are left", jobs.len());
                Ok(())
            })
            .await;
    })
    .await;
}

async fn the_job_is_as_the_documents_say(world: &World, job: &BatchJob) {
    let key = |map: &std::collections::BTreeMap<String, String>| {
        let value = |key: &str| map.get(key).cloned().unwrap_or_default();
        [value("key1"), value("key2")]
    };
    let expected = ["value1", "value2"];
    assert_eq!(key(job.labels()), expected);
    assert_eq!(key(job.annotations()), expected);
    let pod: Pod = world.pod_of(job).await;
    assert_eq!(key(pod.labels()), expected);
    assert_eq!(key(pod.annotations()), expected);
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(spec.node_name.as_deref(), Some(node_of(job)));
    let environment = spec.containers[0].env.iter().flatten();
    let environment: Vec<_> = environment
        .map(|variable| (&*variable.name, variable.value.as_deref()))
        .collect();
    assert_eq!(environment, [("FOO", Some("bar")), ("QUE", Some("pasa"))]);
    let limit = job.spec.as_ref().and_then(|spec| spec.backoff_limit);
    assert_eq!(limit, Some(0));
}
