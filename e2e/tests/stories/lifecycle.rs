//! Actions that take part in the PodOpsLifecycle: a pod leaves service before the action is called, and returns.

use k8s_openapi::api::apps::v1::Deployment as DeploymentObject;
use operon_e2e::{
    plugin::{Plugin, REPLACE_VERBS},
    prelude::*,
    workload::pod_spec,
};
use serde_json::Value;

const SERVICE_READY: &str = "pod.kusionstack.io/service-ready";
const SERVICE_AVAILABLE: &str = "podopslifecycle.kusionstack.io/service-available";
const ANNOTATION: &str = "operon.dev/annotated";

/// What a controller of traffic puts on a pod that it sends requests to.
const PROTECTED: &str = "prot.podopslifecycle.kusionstack.io/traffic";

/// The labels of a pod that takes part.
fn labels() -> Value {
    json!({"app": "foo", "kusionstack.io/control": "true"})
}

/// The specification of a pod that can be taken out of service.
fn spec() -> Value {
    let mut spec = pod_spec();
    spec["readinessGates"] = json!([{"conditionType": SERVICE_READY}]);
    spec
}

/// The labels of the lifecycle that a pod has.
fn lifecycle(pod: &Pod) -> Vec<&str> {
    let keys = pod.labels().keys().map(String::as_str);
    keys.filter(|key| key.contains("podopslifecycle")).collect()
}

fn is_in_service(pod: &Pod) -> bool {
    pod.is_ready() && lifecycle(pod) == [SERVICE_AVAILABLE]
}

/// A pod that serves, and that a controller of traffic protects.
async fn protected_pod(world: &World) -> Pod {
    world
        .make::<Pod>(json!({
            "metadata": {"name": "foo", "labels": labels()},
            "spec": spec()
        }))
        .await;
    world.pod_until("foo", "serves", is_in_service).await;
    protect(world, "foo", &json!([PROTECTED])).await
}

async fn protect(world: &World, pod: &str, finalizers: &Value) -> Pod {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    world.patch::<Pod>(pod, patch).await
}

/// Waits until a target waits for the controller of traffic.
async fn waits_for_traffic(world: &World, job: &str, target: &str) {
    world
        .job_until(job, "waits for the protection finalizer", |found| {
            let detail = job::status(found).target_details;
            let mut detail = detail.into_iter().filter(|detail| detail.name == target);
            detail.next().is_some_and(|detail| {
                detail.error.is_some_and(|error| {
                    error.reason == "LeavingService" && error.message.contains(PROTECTED)
                })
            })
        })
        .await;
}

#[tokio::test]
async fn a_pod_leaves_service_before_the_action_is_called_and_returns_afterwards() {
    story(async |world: &World| {
        let plugin = Plugin::annotate(world)
            .with("enablePodOpsLifecycle", json!(true))
            .up(world)
            .await;
        protected_pod(world).await;
        let job = Job::of("collaset", &plugin.action, &["foo"]).object();
        world.create(&job).await;
        waits_for_traffic(world, "collaset", "foo").await;
        let pod = world
            .pod_until("foo", "is not Ready", |pod| !pod.is_ready())
            .await;
        assert_eq!(pod.annotations().get(ANNOTATION), None);
        let label = "operating.podopslifecycle.kusionstack.io/opj-collaset";
        assert!(lifecycle(&pod).contains(&label), "{:?}", lifecycle(&pod));

        protect(world, "foo", &Value::Null).await;
        let done = world.finished("collaset").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let pod: Pod = world.get("foo").await.expect("the pod");
        assert!(is_in_service(&pod), "{:?}", pod.labels());
        assert!(pod.annotations().contains_key(ANNOTATION));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_deleted_gives_the_pod_back() {
    story(async |world: &World| {
        let plugin = Plugin::annotate(world)
            .with("enablePodOpsLifecycle", json!(true))
            .up(world)
            .await;
        protected_pod(world).await;
        let job = Job::of("job", &plugin.action, &["foo"]).object();
        world.create(&job).await;
        waits_for_traffic(world, "job", "foo").await;
        world.delete::<OperationJob>("job").await;
        world.gone::<OperationJob>("job").await;
        let pod = world.pod_until("foo", "serves", is_in_service).await;
        assert_eq!(pod.annotations().get(ANNOTATION), None);
        protect(world, "foo", &Value::Null).await;
    })
    .await;
}

/// Two pods of a Deployment that take part, the first of which is protected.
async fn deployment(world: &World) -> Vec<Pod> {
    world
        .make::<DeploymentObject>(json!({
            "metadata": {"name": "foo"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "foo"}},
                "template": {"metadata": {"labels": labels()}, "spec": spec()}
            }
        }))
        .await;
    let pods = world.exactly("foo", 2, is_in_service).await;
    protect(world, &pods[0].name_any(), &json!([PROTECTED])).await;
    pods
}

#[tokio::test]
async fn a_replace_that_is_cancelled_while_the_old_pod_is_out_of_service_costs_no_capacity() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS)
            .with("enablePodOpsLifecycle", json!(true))
            .up(world)
            .await;
        let before = deployment(world).await;
        let endpoints = world.service("foo", 2).await;
        let old = before[0].name_any();
        world
            .create(&Job::of("job", &plugin.action, &[&old]).object())
            .await;
        waits_for_traffic(world, "job", &old).await;
        world
            .pod_until(&old, "is not Ready", |pod| !pod.is_ready())
            .await;
        world.delete::<OperationJob>("job").await;
        world.gone::<OperationJob>("job").await;
        protect(world, &old, &Value::Null).await;
        world.settled("foo", 2).await;
        let after = world.exactly("foo", 2, is_in_service).await;
        assert!(names(&after).contains(&old), "{:?}", names(&after));
        let least = endpoints.least();
        assert!(least >= 2, "{least} endpoints for a while");
    })
    .await;
}

#[tokio::test]
async fn replace_takes_the_old_pod_out_of_service_once_the_new_one_serves() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS)
            .with("enablePodOpsLifecycle", json!(true))
            .up(world)
            .await;
        let before = deployment(world).await;
        let endpoints = world.service("foo", 2).await;
        let old = before[0].name_any();
        let job = Job::of("job", &plugin.action, &[&old]).object();
        world.create(&job).await;
        waits_for_traffic(world, "job", &old).await;
        let pods = world
            .exactly("foo", 3, |pod| {
                pod.is_live() && pod.is_ready() == (pod.name_any() != old)
            })
            .await;
        assert!(names(&pods).contains(&old));

        protect(world, &old, &Value::Null).await;
        let done = world.finished("job").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world.pod_gone(&before[0]).await;
        world.exactly("foo", 2, is_in_service).await;
        let least = endpoints.least();
        assert!(least >= 2, "{least} endpoints for a while");
    })
    .await;
}
