//! The built-in actions that leave a pod in service, as the chart installs them: each page's example runs, and jobs
//! that cannot be done are refused before a pod is touched.

use operon_e2e::{
    environment,
    prelude::*,
    workload::{gated_pod_spec, pod_spec},
};
use serde_json::Value;

/// Creates the job of an action's page.
async fn apply_example(world: &World, page: &str) {
    let applied = world.kubectl_apply(&environment::example(page)).await;
    assert!(applied.status.success(), "{page}: {applied:?}");
}

/// A pod of this name, with this metadata.
async fn pod(world: &World, name: &str, metadata: Value) -> Pod {
    let mut object = json!({"metadata": metadata, "spec": pod_spec()});
    object["metadata"]["name"] = json!(name);
    world.make::<Pod>(object).await
}

/// A job of one pod with these parameters.
fn job_with(name: &str, action: &str, target: &str, parameters: &Value) -> OperationJob {
    let job = Job::of(name, action, &[target]);
    job.parameters(parameters).object()
}

/// Jobs of one pod with these parameters fail with these reasons.
async fn refused(world: &World, action: &str, target: &str, parameters: &[(&str, Value, &str)]) {
    for (name, parameters, reason) in parameters {
        world
            .create(&job_with(name, action, target, parameters))
            .await;
        let failed = world.finished(name).await;
        assert_eq!(job::progress(&failed), Progress::Failed, "{parameters}");
        let error = job::error(&failed, target);
        assert_eq!(error.reason, *reason, "{parameters}: {error:?}");
    }
}

#[tokio::test]
async fn labels_of_pods_are_set_and_removed() {
    story(async |world: &World| {
        world.plugin_until("label", "True", "Loaded").await;
        let labels = json!({"app": "web", "tier": "stable", "example.com/old": "x"});
        pod(world, "web-0", json!({"labels": labels})).await;
        let untouched = pod(world, "web-1", json!({"labels": labels})).await;
        let reserved = json!({"set": {"kusionstack.io/control": "true"}});
        refused(
            world,
            "Label",
            "web-1",
            &[
                ("unknown", json!({"sett": {"tier": "x"}}), "BadParameters"),
                ("wrong", json!({"set": {"tier": 1}}), "BadParameters"),
                ("syntax", json!({"set": {"tier!": "x"}}), "BadParameters"),
                ("none", json!({}), "BadParameters"),
                ("reserved", reserved, "ReservedKey"),
            ],
        )
        .await;
        let pod = world.get::<Pod>("web-1").await.expect("the pod");
        assert_eq!(pod.labels(), untouched.labels());
        apply_example(world, "label.md").await;
        let done = world.finished("label-web").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        for name in ["web-0", "web-1"] {
            let pod = world.get::<Pod>(name).await.expect("the pod");
            let labels = serde_json::to_value(pod.labels()).expect("labels");
            let expected = json!({"app": "web", "tier": "canary", "example.com/owner": "team-a"});
            assert_eq!(labels, expected);
            let remembered = &job::detail(&done, name).extra_info;
            assert!(remembered.is_empty(), "{remembered:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn annotations_of_pods_are_set_and_removed() {
    story(async |world: &World| {
        world.plugin_until("annotate", "True", "Loaded").await;
        let annotations = json!({"example.com/old": "x", "example.com/kept": "y"});
        for name in ["web-0", "web-1"] {
            pod(world, name, json!({"annotations": annotations})).await;
        }
        let reserved = json!({"remove": ["operon.dev/restarts"]});
        let long = json!({"set": {"example.com/note": "x".repeat(513)}});
        refused(
            world,
            "Annotate",
            "web-1",
            &[
                (
                    "unknown",
                    json!({"key": "example.com/old"}),
                    "BadParameters",
                ),
                (
                    "wrong",
                    json!({"remove": "example.com/old"}),
                    "BadParameters",
                ),
                ("long", long, "BadParameters"),
                ("reserved", reserved, "ReservedKey"),
            ],
        )
        .await;
        apply_example(world, "annotate.md").await;
        let done = world.finished("annotate-web").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        for name in ["web-0", "web-1"] {
            let pod = world.get::<Pod>(name).await.expect("the pod");
            let has = |key: &str| pod.annotations().get(key).map(String::as_str);
            assert_eq!(has("example.com/reviewed"), Some("2025-11-03"));
            assert_eq!(
                has("controller.kubernetes.io/pod-deletion-cost"),
                Some("-100")
            );
            assert_eq!(has("example.com/kept"), Some("y"));
            assert_eq!(has("example.com/old"), None);
        }
    })
    .await;
}

/// Waits until a target waits for this reason, and returns the message.
async fn waits_for(world: &World, name: &str, target: &str, reason: &str) -> String {
    let found = world
        .job_until(name, &format!("waits with {reason}"), |found| {
            job::error(found, target).reason == reason
        })
        .await;
    job::error(&found, target).message
}

#[tokio::test]
async fn a_job_waits_until_pods_are_as_it_wants_them() {
    story(async |world: &World| {
        world.plugin_until("check", "True", "Loaded").await;
        let mut spec = gated_pod_spec();
        spec["containers"][0]["name"] = json!("app");
        for name in ["web-0", "web-1"] {
            world
                .make::<Pod>(json!({"metadata": {"name": name}, "spec": spec}))
                .await;
        }
        apply_example(world, "check.md").await;
        let message = waits_for(world, "check-web", "web-0", "WaitingForCondition").await;
        for part in [
            "condition \"Ready\" is ",
            "label \"example.com/warm\" is absent",
        ] {
            assert!(message.contains(part), "{message}");
        }
        for name in ["web-0", "web-1"] {
            let pod = world.get::<Pod>(name).await.expect("the pod");
            world.open(&pod).await;
            let message = waits_for(world, "check-web", name, "WaitingForLabel").await;
            assert!(!message.contains("condition"), "{message}");
            let warm = json!({"metadata": {"labels": {"example.com/warm": "yes"}}});
            world.patch::<Pod>(name, warm).await;
        }
        let done = world.finished("check-web").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        for name in ["web-0", "web-1"] {
            let pod = world.get::<Pod>(name).await.expect("the pod");
            let fields = pod.metadata.managed_fields.unwrap_or_default();
            let mut managers = fields.iter().filter_map(|one| one.manager.as_deref());
            let is_written = managers.any(|manager| manager.starts_with("operon-action"));
            assert!(!is_written, "{fields:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_check_that_can_never_hold_fails_with_the_reason() {
    story(async |world: &World| {
        pod(world, "web-0", json!({})).await;
        let condition = json!({"type": "Ready", "status": true});
        let container = json!({"name": "absent", "state": "Running"});
        let exit_code = json!({"name": "main", "state": "Running", "exitCode": 0});
        refused(
            world,
            "Check",
            "web-0",
            &[
                ("none", json!({}), "BadParameters"),
                ("unknown", json!({"phase": "Running"}), "BadParameters"),
                ("wrong", json!({"condition": condition}), "BadParameters"),
                ("both", json!({"container": exit_code}), "BadParameters"),
            ],
        )
        .await;
        // An ephemeral container may still come, as long as the pod runs.
        let absent = json!({ "container": container });
        world
            .create(&job_with("absent", "Check", "web-0", &absent))
            .await;
        waits_for(world, "absent", "web-0", "ContainerNotFound").await;
        let label = json!({"label": {"key": "example.com/warm", "value": "yes"}});
        world
            .create(&job_with("gone", "Check", "web-0", &label))
            .await;
        waits_for(world, "gone", "web-0", "WaitingForLabel").await;
        world.delete::<Pod>("web-0").await;
        let failed = world.finished("gone").await;
        assert_eq!(job::error(&failed, "web-0").reason, "PodNotFound");
        assert_eq!(
            job::progress(&world.finished("absent").await),
            Progress::Failed
        );

        pod(world, "web-1", json!({})).await;
        let mut late = job_with("late", "Check", "web-1", &label);
        late.spec.active_deadline_seconds = Some(3);
        world.create(&late).await;
        let failed = world.finished("late").await;
        let error = job::error(&failed, "web-1");
        assert_eq!(error.reason, "DeadlineExceeded");
        assert!(error.message.contains("example.com/warm"), "{error:?}");
    })
    .await;
}
