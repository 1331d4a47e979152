//! What is written, and when a target has succeeded.

use std::time::Duration;

use operon_action_resize::{Resize, record::PREVIOUS};
use operon_sdk::testing::FakeCluster;
use operon_sdk::{Action, Effect, Failure, PatchKind, Progress, json};

use crate::common::{
    another_writes, before, begun, counts, cpu, gives_all, job, message, object, reason, says,
    world, written,
};

#[test]
fn the_target_succeeds_when_the_kubelet_has_given_what_is_asked_for() {
    let mut world = world();
    let mut job = job(&cpu("200m"));
    job.pass(&mut world);
    let target = job.target("foo");
    assert_eq!(
        target.extra("Previous"),
        Some(r#"{"app":{"requests":{"cpu":"100m"}},"web":{"requests":{"cpu":"100m"}}}"#),
        "before the first write"
    );
    assert_eq!(target.recheck_after, Some(Duration::from_millis(100)));
    assert_eq!(world.writes(), []);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeRequested");
    for name in ["app", "web"] {
        let mut expected = before();
        expected["requests"]["cpu"] = json!("200m");
        assert_eq!(written(&world, name), expected);
    }
    assert_eq!(written(&world, "proxy"), before());
    counts(&mut world);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeNotSeen");
    says(&mut world, &[("PodResizeInProgress", "", "")]);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeInProgress");
    gives_all(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn each_container_may_get_something_else() {
    let mut world = world();
    let mut job = job(&json!({
        "resources": {"requests": {"cpu": 0.25}},
        "containers": {
            "web": {"limits": {"memory": "256Mi"}},
            "proxy": {"requests": {"memory": "32Mi"}},
        },
    }));
    job.pass(&mut world);
    job.pass(&mut world);
    assert_eq!(written(&world, "app")["requests"]["cpu"], "0.25");
    assert_eq!(written(&world, "web")["requests"]["cpu"], "100m");
    assert_eq!(written(&world, "web")["limits"]["memory"], "256Mi");
    assert_eq!(written(&world, "proxy")["requests"]["memory"], "32Mi");
    counts(&mut world);
    gives_all(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn only_the_named_containers_of_a_target_are_resized() {
    let mut world = world();
    let mut job = job(&cpu("200m"));
    job.targets[0].containers = vec!["web".to_owned()];
    job.pass(&mut world);
    job.pass(&mut world);
    assert_eq!(written(&world, "app"), before());
    assert_eq!(written(&world, "web")["requests"]["cpu"], "200m");
}

#[test]
fn the_write_is_a_patch_of_the_subresource_over_the_version_that_was_seen() {
    let mut world = world();
    let mut job = job(&cpu("200m"));
    job.pass(&mut world);
    let target = job.target("foo").clone();
    let pod = world.expect_pod("foo");
    let seen = operon_sdk::Target {
        extra_info: target.extra_info,
        ..operon_sdk::testing::target_of(&pod)
    };
    let operation = Resize
        .operate_target(&seen, &job.job, &world)
        .expect("it acts");
    let Some(Effect::Patch(patch)) = operation.effects.first() else {
        unreachable!("a patch: {operation:?}");
    };
    assert_eq!(patch.subresource.as_deref(), Some("resize"));
    assert_eq!(patch.kind, PatchKind::Strategic);
    assert_eq!(patch.uid, Some(pod.uid));
    assert_eq!(patch.resource_version, Some(pod.resource_version));
}

#[test]
fn a_pod_that_has_what_is_asked_for_is_not_written() {
    let mut world = world();
    for asked in ["100m", "0.1"] {
        let mut job = job(&cpu(asked));
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Succeeded)], "{asked}");
    }
    assert_eq!(world.writes(), []);
}

#[test]
fn the_kubelets_words_are_what_the_target_waits_for() {
    let mut world = world();
    let mut job = begun(&mut world);
    let words = "Node didn't have enough resource: cpu";
    says(&mut world, &[("PodResizePending", "Deferred", words)]);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Processing)]);
    assert_eq!(reason(&job), "ResizeDeferred");
    assert!(message(&job).ends_with(&format!(": Deferred: {words}")));
    says(
        &mut world,
        &[("PodResizeInProgress", "Error", "memory limit below usage")],
    );
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeInProgress");
    assert!(message(&job).ends_with(": Error: memory limit below usage"));
    says(
        &mut world,
        &[("PodResizePending", "Infeasible", "capacity: 2")],
    );
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(reason(&job), "ResizeInfeasible");
    assert!(message(&job).ends_with(": Infeasible: capacity: 2"));
}

#[test]
fn what_the_kubelet_said_before_the_write_does_not_count() {
    let mut world = world();
    says(
        &mut world,
        &[("PodResizePending", "Infeasible", "of before")],
    );
    let mut job = begun(&mut world);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeNotSeen");
    let generation = object(&world)["metadata"]["generation"].clone();
    world.change_pod(
        "foo",
        &json!({"status": {"observedGeneration": generation}}),
    );
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeNotSeen", "the condition is older");
    gives_all(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_kubelet_without_generations_must_report_the_resources() {
    let mut world = world();
    let mut job = begun(&mut world);
    let none = json!({"status": {"observedGeneration": null}});
    world.change_pod("foo", &none);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeInProgress");
    assert!(
        message(&job).contains("requests.cpu 100m instead of 200m"),
        "{}",
        message(&job)
    );
    world.advance(3600);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeInProgress");
    gives_all(&mut world);
    world.change_pod("foo", &none);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_runtime_that_reports_no_resources_is_waited_for_ten_seconds() {
    let mut world = world();
    let mut job = begun(&mut world);
    says(&mut world, &[]);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeNotReported");
    assert_eq!(
        job.target("foo").recheck_after,
        Some(Duration::from_secs(10))
    );
    world.advance(4);
    job.pass(&mut world);
    assert_eq!(
        job.target("foo").recheck_after,
        Some(Duration::from_secs(6))
    );
    world.advance(6);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert!(job.target("foo").extra("Unreported").is_some());
}

#[test]
fn a_node_that_does_not_resize_pods_fails_the_target() {
    let mut world = world();
    let without = json!([{"name": "app", "state": {"running": {}}}]);
    let status = json!({"status": {"containerStatuses": without}});
    world.change_pod("foo", &status);
    let mut early = job(&cpu("200m"));
    early.pass(&mut world);
    assert_eq!(reason(&early), "ResizeNotSupported");
    assert_eq!(world.writes(), []);
    // The containers start after the write.
    let mut world = self::world();
    let mut late = begun(&mut world);
    world.change_pod("foo", &status);
    late.pass(&mut world);
    assert_eq!(reason(&late), "ResizeNotSupported");
}

#[test]
fn an_api_server_without_the_subresource_fails_the_target() {
    let mut world = world();
    let mut job = job(&cpu("200m"));
    job.pass(&mut world);
    job.targets[0].failure = Some(Failure::new(
        "NotFound",
        "failed to patch: the server could not find the requested resource",
    ));
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeNotServed");
    assert_eq!(world.writes(), []);
}

#[test]
fn a_change_by_another_client_is_not_overwritten() {
    let mut world = world();
    let mut job = begun(&mut world);
    another_writes(&mut world, &json!({"requests": {"cpu": "300m"}}));
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResourcesChanged");
    job.release(&mut world);
    assert_eq!(written(&world, "app")["requests"]["cpu"], "300m");
}

#[test]
fn resources_that_change_before_the_write_are_the_ones_that_are_remembered() {
    let mut world = world();
    let mut job = job(&cpu("200m"));
    job.pass(&mut world);
    let mut resources = before();
    resources["requests"]["cpu"] = json!("150m");
    another_writes(&mut world, &resources);
    job.pass(&mut world);
    assert_eq!(world.writes(), [], "they are remembered first");
    let previous = job.target("foo").extra(PREVIOUS).unwrap_or_default();
    assert!(
        previous.contains(r#""app":{"requests":{"cpu":"150m"}}"#),
        "{previous}"
    );
    job.pass(&mut world);
    counts(&mut world);
    assert_eq!(written(&world, "app")["requests"]["cpu"], "200m");
    job.cancel(&mut world);
    assert_eq!(written(&world, "app"), resources);
    assert_eq!(written(&world, "web"), before());
}

#[test]
fn an_update_in_place_is_waited_for() {
    let mut world = world();
    let key = "operon.dev/in-place-update";
    world.change_pod("foo", &json!({"metadata": {"annotations": {key: "{}"}}}));
    let mut job = job(&cpu("200m"));
    job.pass(&mut world);
    assert_eq!(reason(&job), "UpdateUnderWay");
    assert_eq!(world.writes(), []);
}

#[test]
fn a_write_that_no_status_remembers_is_not_repeated() {
    let mut world = world();
    let mut job = begun(&mut world);
    let extra = &mut job.targets[0].extra_info;
    extra.retain(|(key, _)| key != "Written");
    job.pass(&mut world);
    assert_eq!(reason(&job), "ResizeNotSeen");
    gives_all(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn what_cannot_be_resized_fails_before_anything_is_written() {
    let one = |name: &str| json!({"containers": {name: {"requests": {"cpu": "1"}}}});
    let mut deleted = world();
    deleted.start_deleting("foo");
    let mut ended = world();
    ended.end_pod("foo", "Failed");
    let mut mirror = world();
    let annotations = json!({"kubernetes.io/config.mirror": "x"});
    mirror.change_pod("foo", &json!({"metadata": {"annotations": annotations}}));
    for (mut world, parameters, expected) in [
        (world(), one("db"), "ContainerNotFound"),
        (world(), one("setup"), "CannotResize"),
        (mirror, cpu("1"), "StaticPod"),
        (deleted, cpu("1"), "PodTerminating"),
        (ended, cpu("1"), "PodTerminating"),
        (FakeCluster::new(), cpu("1"), "PodNotFound"),
    ] {
        let mut job = job(&parameters);
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Failed)], "{expected}");
        assert_eq!(reason(&job), expected);
        assert_eq!(world.writes(), []);
    }
}

#[test]
fn more_containers_than_a_status_has_room_for_are_refused() {
    let mut world = world();
    let containers: Vec<_> = (0..12)
        .map(|index| json!({"name": format!("container-{index}"), "resources": before()}))
        .collect();
    world.change_pod(
        "foo",
        &json!({"spec": {"containers": containers}, "status": {"containerStatuses": []}}),
    );
    let all =
        json!({"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}});
    let mut job = job(&json!({ "resources": all }));
    job.pass(&mut world);
    assert_eq!(reason(&job), "TooManyContainers");
}
