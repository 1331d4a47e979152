//! No request is lost while every pod of a CollaSet is replaced, and then updated in place: clients of a
//! Service, one connection for each request. Without the lifecycle the same change loses requests, so this
//! story can fail.

use k8s_openapi::api::{apps::v1::Deployment as DeploymentObject, core::v1::Service};
use operon_api::{CollaSet, PodTransitionRule};
use operon_e2e::{
    colla_set::{colla_set, status},
    environment,
    prelude::*,
    traffic::{Failure, Traffic, judge},
};
use serde_json::Value;

/// How many pods serve.
const REPLICAS: i32 = 4;

/// How many requests are sent at least; the pods are changed again until they are.
const REQUESTS: usize = 100_000;

const IMAGE: &str = "localhost/busybox:1.35";
const NEXT_IMAGE: &str = "localhost/busybox:1.36";

/// A web server. It ends as soon as it is asked to, whatever it is sending.
const SCRIPT: &str = "\
mkdir /www
head -c 4096 /dev/zero | tr '\\0' x > /www/index.html
trap 'exit 0' TERM
httpd -f -p 80 -h /www &
wait";

/// Pods with a web server, which for a while answers those who did not notice yet that it is out of service.
fn server() -> Value {
    json!({
        "terminationGracePeriodSeconds": 10,
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", SCRIPT],
            "readinessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}
        }]
    })
}

/// At most one of the pods may be out of service.
fn one_at_a_time() -> Value {
    let rule = json!({"name": "one-at-a-time", "availablePolicy": {"maxUnavailableValue": 1}});
    json!({
        "metadata": {"name": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "rules": [rule]}
    })
}

/// The Service `shop`, and clients that send requests to it.
async fn open_shop(world: &World) -> Traffic {
    world
        .make::<Service>(json!({
            "metadata": {"name": "shop"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}
        }))
        .await;
    world.traffic("shop").await
}

/// How often the container of a pod was started again.
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| &status.container_statuses);
    statuses.flatten().map(|status| status.restart_count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_every_pod_is_replaced_and_updated_in_place() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        world
            .make::<CollaSet>(colla_set("shop", REPLICAS, &server()))
            .await;
        world.colla_set_serves("shop", REPLICAS).await;
        world.make::<PodTransitionRule>(one_at_a_time()).await;
        let traffic = open_shop(world).await;
        let endpoints = world.endpoints_of("shop", 4).await;
        for round in 1.. {
            replace_all(world, round).await;
            println!("replaced: {}", traffic.so_far());
            assert!(endpoints.least() >= 4, "{} serve", endpoints.least());
            if round > 1 && traffic.so_far().requests() >= REQUESTS {
                break;
            }
            update_all(world, if round % 2 == 1 { NEXT_IMAGE } else { IMAGE }).await;
            println!("updated in place: {}", traffic.so_far());
            assert!(endpoints.least() >= 3, "{} serve", endpoints.least());
            if traffic.so_far().requests() >= REQUESTS {
                break;
            }
            endpoints.reset();
        }
        let seen = traffic.end().await;
        println!("in all: {seen}");
        assert_eq!(seen.failed(), 0, "{seen}");
    })
    .await;
}

/// Replaces every pod of the CollaSet by one OperationJob.
async fn replace_all(world: &World, round: usize) {
    let before = world.colla_set_serves("shop", REPLICAS).await;
    let job = format!("replace-{round}");
    world
        .create(&Job::replace(&job, &names(&before)).object())
        .await;
    let job = world.finished(&job).await;
    assert_eq!(job::status(&job).succeeded_pod_count, Some(REPLICAS));
    let after = world.colla_set_serves("shop", REPLICAS).await;
    let (before, after) = (pods::identities(&before), pods::identities(&after));
    assert!(after.iter().all(|uid| !before.contains(uid)));
}

/// Gives every pod of the CollaSet another image: its container starts again.
async fn update_all(world: &World, image: &str) {
    let before = world.colla_set_serves("shop", REPLICAS).await;
    let mut pod = server();
    pod["containers"][0]["image"] = json!(image);
    let edited = world
        .patch::<CollaSet>("shop", json!({"spec": {"template": {"spec": pod}}}))
        .await;
    world
        .eventually("all pods are updated and serve", async || {
            let status = status(&world.get::<CollaSet>("shop").await?);
            ensure!(
                status.observed_generation == edited.metadata.generation
                    && status.updated_available_replicas == REPLICAS
                    && status.current_revision == status.updated_revision,
                "{status:?}"
            );
            Ok(())
        })
        .await;
    let after = world.colla_set_serves("shop", REPLICAS).await;
    assert_eq!(pods::identities(&before), pods::identities(&after));
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(restarts(new), restarts(old) + 1, "{}", pods::describe(new));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_lifecycle_requests_are_lost_in_an_update_of_the_same_pods() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let pods = deployment(world, server()).await;
        let traffic = open_shop(world).await;
        for pod in &names(&pods) {
            let image = format!("main={NEXT_IMAGE}");
            world
                .kubectl_says(&["set", "image", &format!("pod/{pod}"), &image])
                .await;
            world
                .pod_until(pod, "runs the next image", |pod| {
                    restarts(pod) == 1 && pod.is_ready()
                })
                .await;
        }
        let seen = traffic.end().await;
        println!("updated in place without the lifecycle: {seen}");
        assert!(seen.failed() > 0, "{seen}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_lifecycle_requests_are_lost_when_the_same_pods_are_created_again() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let mut server = server();
        server["containers"][0]["lifecycle"] = Value::Null;
        let pods = deployment(world, server).await;
        let traffic = open_shop(world).await;
        for pod in &pods {
            world.delete_pod(pod).await;
            world.pod_gone(pod).await;
            world.exactly("shop", 4, Pod::is_ready).await;
        }
        let seen = traffic.end().await;
        println!("created again without the lifecycle: {seen}");
        assert!(seen.failed() > 0, "{seen}");
    })
    .await;
}

/// A Deployment of the same pods, which all serve.
async fn deployment(world: &World, server: Value) -> Vec<Pod> {
    world
        .make::<DeploymentObject>(json!({
            "metadata": {"name": "shop"},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": {"app": "shop"}},
                "template": {"metadata": {"labels": {"app": "shop"}}, "spec": server}
            }
        }))
        .await;
    world.exactly("shop", 4, Pod::is_ready).await
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_a_failure() {
    let failure = |answer: &str| judge(answer.as_bytes()).err().map(|(failure, _)| failure);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(failure(&format!("{head}hello")), None);
    let rest = [
        ("", Failure::Short),
        ("HTTP/1.1 200 OK\r\n", Failure::Short),
        (&format!("{head}hell"), Failure::Short),
        ("HTTP/1.1 200 OK\r\n\r\nhello", Failure::Short),
        (
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            Failure::Status,
        ),
    ];
    for (answer, expected) in rest {
        assert_eq!(failure(answer), Some(expected), "{answer}");
    }
}
