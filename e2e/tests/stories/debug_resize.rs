//! The built-in actions Debug and Resize, as the chart installs them. Both need nodes on which containers run.

use operon_e2e::{environment, prelude::*};
use serde_json::Value;

const IMAGE: &str = "localhost/busybox:1.35";

/// A job of this action, with these parameters.
fn job_with(name: &str, action: &str, target: &str, parameters: &Value) -> OperationJob {
    let job = Job::of(name, action, &[target]);
    job.parameters(parameters).object()
}

fn script(script: &str) -> Value {
    json!({"image": IMAGE, "command": ["sh", "-c", script], "targetContainer": "main"})
}

/// The job of a page's example, for this pod, with the image that the nodes have.
fn example(page: &str, target: &str) -> OperationJob {
    let manifest = environment::example(page);
    let mut job: OperationJob = serde_yaml_ng::from_str(&manifest).expect("an OperationJob");
    target.clone_into(&mut job.spec.targets[0].name);
    if let Some(image) = job.spec.parameters.get_mut("image") {
        *image = json!(IMAGE);
    }
    job
}

/// The ephemeral containers of a pod.
async fn ephemeral(world: &World, pod: &str) -> Vec<String> {
    let pod = world.get::<Pod>(pod).await.expect("the pod");
    let containers = pod.spec.and_then(|spec| spec.ephemeral_containers);
    let names = containers.into_iter().flatten();
    names.map(|container| container.name).collect()
}

#[tokio::test]
async fn an_ephemeral_container_runs_once_and_its_end_is_in_the_status() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let before = Deployment::of("foo", 1).up(world).await;
        let target = names(&before)[0].clone();
        let look = example("debug.md", &target);
        world.create(&look).await;
        let look = look.name_any();
        let done = world.finished(&look).await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        let extra = job::detail(&done, &target).extra_info;
        let name = format!("debug-{}", done.uid().expect("a uid"));
        assert_eq!(extra.get("Container"), Some(&name));
        assert_eq!(extra.get("ExitCode").map(String::as_str), Some("0"));
        let processes = extra.get("Message").expect("what it wrote");
        assert!(processes.contains("sleep 1000000"), "{processes}");
        assert_eq!(ephemeral(world, &target).await, std::slice::from_ref(&name));

        let mut failing = script("echo no disk; exit 3");
        failing["name"] = json!("failing");
        world
            .create(&job_with("fail", "Debug", &target, &failing))
            .await;
        let failed = world.finished("fail").await;
        let error = job::error(&failed, &target);
        assert_eq!(error.reason, "DebugFailed", "{error:?}");
        assert!(
            error.message.contains("exited with 3: no disk"),
            "{error:?}"
        );
        let extra = job::detail(&failed, &target).extra_info;
        assert_eq!(extra.get("ExitCode").map(String::as_str), Some("3"));
        let mut both = ephemeral(world, &target).await;
        both.sort();
        assert_eq!(both, [name, "failing".to_owned()]);
        let after = world.settled("foo", 1).await;
        assert_eq!(pods::identities(&after), pods::identities(&before));
    })
    .await;
}

#[tokio::test]
async fn a_debug_image_that_cannot_be_pulled_is_named_until_the_deadline() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let target = names(&Deployment::of("foo", 1).up(world).await)[0].clone();
        let mut unknown = job_with(
            "opj",
            "Debug",
            &target,
            &json!({"image": "localhost/none:1"}),
        );
        unknown.spec.active_deadline_seconds = Some(20);
        world.create(&unknown).await;
        let waits = world
            .job_until("opj", "the image cannot be pulled", |found| {
                job::error(found, &target).reason == "ImageNotPulled"
            })
            .await;
        let error = job::error(&waits, &target);
        assert!(error.message.contains("localhost/none:1"), "{error:?}");
        let failed = world.finished("opj").await;
        let error = job::error(&failed, &target);
        assert_eq!(error.reason, "DeadlineExceeded", "{error:?}");
        let stays = ephemeral(world, &target).await;
        assert_eq!(stays.len(), 1, "Kubernetes removes none");

        let wrong = json!({"image": IMAGE, "comand": ["true"]});
        world
            .create(&job_with("wrong", "Debug", &target, &wrong))
            .await;
        let wrong = world.finished("wrong").await;
        let error = job::error(&wrong, &target);
        assert_eq!(error.reason, "BadParameters", "{error:?}");
        assert_eq!(ephemeral(world, &target).await, stays);
    })
    .await;
}

/// A pod with its own CPU and memory.
async fn pod_with(world: &World, resources: Value) {
    let mut spec = operon_e2e::workload::pod_spec();
    spec["containers"][0]["resources"] = resources;
    world
        .make::<Pod>(json!({"metadata": {"name": "foo"}, "spec": spec}))
        .await;
    world
        .eventually("foo is ready", async || {
            let pod = world.get::<Pod>("foo").await?;
            ensure!(pod.is_ready(), "not ready");
            Ok(())
        })
        .await;
}

/// Of the only container: its resources in the spec, how often it restarted, and its id.
async fn container(world: &World) -> (Value, i32, Option<String>) {
    let pod = world.get::<Pod>("foo").await.expect("the pod");
    let spec = pod.spec.expect("a spec");
    let statuses = pod.status.and_then(|status| status.container_statuses);
    let status = statuses.expect("statuses").remove(0);
    let resources = json!(spec.containers[0].resources);
    (resources, status.restart_count, status.container_id)
}

fn small() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}})
}

#[tokio::test]
async fn a_container_gets_more_cpu_and_memory_without_a_restart() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        pod_with(world, small()).await;
        let (_, restarts, id) = container(world).await;
        let more = example("resize.md", "foo");
        world.create(&more).await;
        let done = world.finished(&more.name_any()).await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        let larger = json!({"requests": {"cpu": "200m", "memory": "64Mi"},
            "limits": {"cpu": "400m", "memory": "128Mi"}});
        assert_eq!(container(world).await, (larger.clone(), restarts, id));

        // The QoS class would change.
        let guaranteed = json!({"resources": {"requests": {"cpu": "400m", "memory": "128Mi"}}});
        world
            .create(&job_with("class", "Resize", "foo", &guaranteed))
            .await;
        let refused = world.finished("class").await;
        let error = job::error(&refused, "foo");
        assert_eq!(error.reason, "Invalid", "{error:?}");
        assert!(error.message.contains("QOS"), "{error:?}");
        assert_eq!(container(world).await.0, larger);
    })
    .await;
}

#[tokio::test]
async fn a_resize_that_the_node_can_never_give_is_put_back() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let requests = json!({"requests": {"cpu": "100m", "memory": "32Mi"}});
        pod_with(world, requests.clone()).await;
        let huge = json!({"resources": {"requests": {"cpu": 10_000}}});
        world.create(&job_with("opj", "Resize", "foo", &huge)).await;
        let failed = world.finished("opj").await;
        let error = job::error(&failed, "foo");
        assert_eq!(error.reason, "ResizeInfeasible", "{error:?}");
        assert!(error.message.contains("Infeasible"), "{error:?}");
        world
            .eventually("the previous resources are back", async || {
                let (found, ..) = container(world).await;
                ensure!(found == requests, "{found}");
                Ok(())
            })
            .await;

        let wrong = json!({"resources": {"requests": {"gpu": "1"}}});
        world
            .create(&job_with("wrong", "Resize", "foo", &wrong))
            .await;
        let wrong = world.finished("wrong").await;
        assert_eq!(job::error(&wrong, "foo").reason, "BadParameters");
    })
    .await;
}

#[tokio::test]
async fn a_simulated_node_does_not_resize_and_the_target_says_so() {
    if environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        pod_with(world, small()).await;
        let more = example("resize.md", "foo");
        world.create(&more).await;
        let failed = world.finished(&more.name_any()).await;
        let error = job::error(&failed, "foo");
        assert_eq!(error.reason, "ResizeNotSupported", "{error:?}");
    })
    .await;
}
