//! Pods of each kind of controller are recreated, and what does not end so.

use std::time::Duration;

use operon_action_recreate::Recreate;
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, Value, json};

/// A world with a controller that wants so many pods.
fn world(kind: &str, replicas: usize) -> FakeCluster {
    let mut world = FakeCluster::new();
    let api_version = api_version(kind);
    world.put(json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": "web", "namespace": "default", "uid": "owner"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}}}));
    world
}

fn api_version(kind: &str) -> &str {
    match kind {
        "CollaSet" => "apps.kusionstack.io/v1alpha1",
        "CloneSet" => "apps.kruise.io/v1alpha1",
        _ => "apps/v1",
    }
}

/// A ready pod of the controller.
fn add(world: &mut FakeCluster, kind: &str, name: &str) {
    let owner = json!([{"apiVersion": api_version(kind), "kind": kind, "name": "web", "uid": "owner",
        "controller": true}]);
    world.add_pod(
        name,
        &json!({"labels": {"app": "web"}, "ownerReferences": owner}),
    );
}

/// Another second begins, and the kubelets end what is being deleted.
fn ends(world: &mut FakeCluster) {
    world.advance(1);
    world.finish_deletions();
}

fn reason(job: &FakeJob<Recreate>, name: &str) -> String {
    job.target(name).reason().unwrap_or_default().to_owned()
}

fn is_done(job: &FakeJob<Recreate>) -> bool {
    job.progress()
        .iter()
        .all(|one| *one == Some(Progress::Succeeded))
}

#[test]
fn a_pod_of_a_replica_set_is_recreated_when_another_one_is_ready() {
    let mut world = world("ReplicaSet", 2);
    for name in ["a", "b"] {
        add(&mut world, "ReplicaSet", name);
    }
    let mut job = FakeJob::<Recreate>::new("j1", &["a"]);
    job.pass(&mut world);
    assert!(
        !world.expect_pod("a").deleting,
        "what was there is remembered first"
    );
    job.pass(&mut world);
    assert!(world.expect_pod("a").deleting);
    job.pass(&mut world);
    assert_eq!(reason(&job, "a"), "PodTerminating");
    ends(&mut world);
    job.pass(&mut world);
    assert_eq!(reason(&job, "a"), "WaitingForNewPod");
    assert_eq!(job.target("a").recheck_after, None, "nothing is polled");
    let uid = ("ControllerUID".to_owned(), "owner".to_owned());
    assert!(
        job.target("a").extra_info.contains(&uid),
        "a pod of the controller wakes the target"
    );
    add(&mut world, "ReplicaSet", "c");
    world.make_unready("c");
    job.pass(&mut world);
    assert_eq!(reason(&job, "a"), "NewPodNotReady");
    assert_eq!(job.target("a").recheck_after, None, "nothing is polled");
    world.make_ready("c");
    job.pass(&mut world);
    assert!(is_done(&job));
    assert_eq!(world.writes().len(), 1, "one eviction");
}

#[test]
fn two_targets_of_one_controller_wait_for_two_new_pods() {
    let mut world = world("CollaSet", 3);
    for name in ["a", "b", "c"] {
        add(&mut world, "CollaSet", name);
    }
    let mut job = FakeJob::<Recreate>::new("j1", &["a", "b"]);
    for _ in 0..2 {
        job.pass(&mut world);
    }
    ends(&mut world);
    add(&mut world, "CollaSet", "d");
    job.pass(&mut world);
    assert!(
        !is_done(&job)
            && job
                .progress()
                .iter()
                .all(|one| *one == Some(Progress::Processing))
    );
    add(&mut world, "CollaSet", "e");
    world.make_unready("e");
    job.pass(&mut world);
    assert!(!is_done(&job));
    world.make_ready("e");
    job.pass(&mut world);
    assert!(is_done(&job));
}

#[test]
fn a_pod_that_was_not_ready_before_is_not_waited_for() {
    let mut world = world("ReplicaSet", 3);
    for name in ["a", "b", "broken"] {
        add(&mut world, "ReplicaSet", name);
    }
    world.make_unready("broken");
    let mut job = FakeJob::<Recreate>::new("j1", &["a"]);
    for _ in 0..2 {
        job.pass(&mut world);
    }
    ends(&mut world);
    add(&mut world, "ReplicaSet", "c");
    job.pass(&mut world);
    assert!(is_done(&job));
}

#[test]
fn the_new_pod_of_a_stateful_set_has_the_same_name_and_that_of_a_daemon_set_the_same_node() {
    for (kind, name, other) in [
        ("StatefulSet", "web-1", "web-0"),
        ("DaemonSet", "web-x", "web-y"),
    ] {
        let mut world = world(kind, 2);
        add(&mut world, kind, name);
        add(&mut world, kind, other);
        world.change_pod(other, &json!({"spec": {"nodeName": "node-2"}}));
        let mut job = FakeJob::<Recreate>::new("j1", &[name]);
        for _ in 0..2 {
            job.pass(&mut world);
        }
        ends(&mut world);
        job.pass(&mut world);
        assert_eq!(reason(&job, name), "WaitingForNewPod", "{kind}");
        let new = if kind == "StatefulSet" { name } else { "web-z" };
        add(&mut world, kind, new);
        world.make_unready(new);
        job.pass(&mut world);
        assert_eq!(reason(&job, name), "NewPodNotReady", "{kind}");
        world.make_ready(new);
        job.pass(&mut world);
        assert!(is_done(&job), "{kind}");
        assert!(
            !world.expect_pod(new).deleting,
            "{kind}: the new pod is another one"
        );
    }
}

#[test]
fn a_controller_that_wants_no_pod_any_more_is_not_waited_for() {
    for (kind, name, replicas) in [("ReplicaSet", "a", 0), ("StatefulSet", "web-1", 1)] {
        let mut world = world(kind, 2);
        add(&mut world, kind, name);
        let mut job = FakeJob::<Recreate>::new("j1", &[name]);
        for _ in 0..2 {
            job.pass(&mut world);
        }
        ends(&mut world);
        world.change(
            "apps/v1",
            kind,
            "web",
            &json!({"spec": {"replicas": replicas}}),
        );
        job.pass(&mut world);
        assert!(is_done(&job), "{kind}");
    }
}

#[test]
fn pods_of_a_controller_that_is_not_read_are_counted() {
    let mut world = FakeCluster::new();
    world.stop_serving("apps.kruise.io/v1alpha1", "CloneSet");
    for name in ["a", "b"] {
        add(&mut world, "CloneSet", name);
    }
    let mut job = FakeJob::<Recreate>::new("j1", &["a"]);
    for _ in 0..2 {
        job.pass(&mut world);
    }
    ends(&mut world);
    job.pass(&mut world);
    assert_eq!(reason(&job, "a"), "WaitingForNewPod");
    assert_eq!(job.target("a").recheck_after, Some(Duration::from_secs(2)));
    add(&mut world, "CloneSet", "c");
    job.pass(&mut world);
    assert!(is_done(&job));
}

#[test]
fn what_nobody_would_create_again_is_not_removed() {
    let mut world = FakeCluster::new();
    world.add_pod("bare", &json!({}));
    let static_pod: Value = json!({"annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n", "controller": true}]});
    world.add_pod("static", &static_pod);
    let mut job = FakeJob::<Recreate>::new("j1", &["bare", "static", "nobody"]);
    job.pass(&mut world);
    let reasons = ["bare", "static", "nobody"].map(|name| reason(&job, name));
    assert_eq!(reasons, ["NoController", "StaticPod", "PodNotFound"]);
    assert_eq!(world.writes(), []);
}

#[test]
fn a_controller_that_was_deleted_meanwhile_fails_the_target() {
    let mut world = world("ReplicaSet", 1);
    add(&mut world, "ReplicaSet", "a");
    let mut job = FakeJob::<Recreate>::new("j1", &["a"]);
    for _ in 0..2 {
        job.pass(&mut world);
    }
    ends(&mut world);
    world.remove("apps/v1", "ReplicaSet", "web");
    job.pass(&mut world);
    assert_eq!(reason(&job, "a"), "OwnerGone");
}

#[test]
fn the_job_may_ask_for_a_deletion() {
    let mut world = world("ReplicaSet", 1);
    add(&mut world, "ReplicaSet", "a");
    let mut job = FakeJob::<Recreate>::new("j1", &["a"]).parameters(&json!({"removal": "delete"}));
    for _ in 0..2 {
        job.pass(&mut world);
    }
    assert_eq!(world.writes()[0].verb, "delete");
}
