//! Stories about who owns a pod of a `ReplicaSet` while it is replaced, and about what other jobs and people
//! left behind.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

#[test]
fn a_released_pod_is_controlled_by_its_deployment_and_put_back_with_the_exact_reference() {
    let mut world = world(2);
    let before = world.expect_pod(FIRST).owners;
    assert!(before[0].block_owner_deletion);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    let pod = world.expect_pod(FIRST);
    let kinds: Vec<_> = pod.owners.iter().map(|owner| owner.kind.as_str()).collect();
    assert_eq!(kinds, ["Deployment"]);
    assert!(pod.owners[0].controller && !pod.owners[0].block_owner_deletion);
    assert_eq!(world.staying_pods(), [FIRST, SECOND, THIRD]);
    job.cancel(&mut world);
    assert_eq!(world.expect_pod(FIRST).owners, before);
}

#[test]
fn a_pod_without_a_deployment_keeps_its_replica_set_as_an_owner_that_does_not_control_it() {
    for controller in [None, Some("Rollout")] {
        let mut world = FakeCluster::new();
        world.add_replica_set("foo", "h", 2);
        world.advance(60);
        let owners = controller.map(|kind| {
            json!([{"apiVersion": "example.com/v1", "kind": kind, "name": "r", "uid": "r1",
                "controller": true}])
        });
        let patch = json!({"metadata": {"ownerReferences": owners}});
        world.change("apps/v1", "ReplicaSet", "foo", &patch);
        let before = world.expect_pod(FIRST).owners;
        let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
        job.pass(&mut world);
        let says = job
            .target(FIRST)
            .failure
            .clone()
            .map(|failure| failure.message);
        assert!(
            says.is_some_and(|says| says.contains("drain")),
            "{controller:?}"
        );
        let pod = world.expect_pod(FIRST);
        assert!(pod.owners[0].kind == "ReplicaSet" && pod.controller().is_none());
        world.run_replica_sets();
        assert_eq!(world.staying_pods(), [FIRST, SECOND, THIRD]);
        job.cancel(&mut world);
        assert_eq!(world.expect_pod(FIRST).owners, before);
    }
}

#[test]
fn a_pod_is_not_released_to_a_deployment_that_is_being_deleted() {
    let mut world = world(2);
    let deleted = json!({"metadata": {"deletionTimestamp": "1970-01-12T14:00:00Z"}});
    world.change("apps/v1", "Deployment", "foo", &deleted);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    assert_untouched(&world, &[FIRST, SECOND]);
    world.remove("apps/v1", "Deployment", "foo");
    turn(&mut job, &mut world);
    assert_untouched(&world, &[FIRST, SECOND]);
    // The garbage collector orphaned the ReplicaSet.
    let orphaned = json!({"metadata": {"ownerReferences": null}});
    world.change("apps/v1", "ReplicaSet", "foo", &orphaned);
    ready_turns(&mut job, &mut world, 5);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_pod_whose_label_is_put_back_by_hand_is_put_back_and_never_deleted() {
    for claimed in [false, true] {
        let mut world = world(1);
        let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
        job.pass(&mut world);
        if claimed {
            world.run_replica_sets();
            turn(&mut job, &mut world);
        }
        let label = json!({"metadata": {"labels": {keys::TEMPLATE_HASH: "h"}}});
        world.change_pod(FIRST, &label);
        world.run_replica_sets();
        turn(&mut job, &mut world);
        assert_eq!(job.target(FIRST).reason(), Some(keys::ORIGIN_PUT_BACK));
        job.release(&mut world);
        world.run_replica_sets();
        world.finish_deletions();
        assert_untouched(&world, &[FIRST]);
    }
}

#[test]
fn a_pod_is_never_its_own_substitute() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    job.pass(&mut world);
    // As if the ReplicaSet had adopted it, with label and all.
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "foo",
        "uid": world.expect_pod(FIRST).label(keys::RELEASED_FROM), "controller": true}]);
    let adopted = json!({"metadata": {"labels": {"app": "foo", keys::TEMPLATE_HASH: "h"},
        "ownerReferences": owner}});
    world.change_pod(FIRST, &adopted);
    ready_turns(&mut job, &mut world, 3);
    assert_eq!(job.target(FIRST).reason(), Some(keys::ORIGIN_PUT_BACK));
    assert!(!world.expect_pod(FIRST).deleting);
}

#[test]
fn a_pod_that_a_vanished_job_released_is_taken_over_by_the_next() {
    for claimed in [false, true] {
        let mut world = world(1);
        let mut first = FakeJob::<Replace>::new("j1", &[FIRST]);
        turn(&mut first, &mut world);
        if claimed {
            ready_turn(&mut first, &mut world);
        }
        let mut second = FakeJob::<Replace>::new("j2", &[FIRST]);
        turn(&mut second, &mut world);
        assert_ne!(second.target(FIRST).reason(), Some("TakenOver"));
        world.remove_job("j1");
        turn(&mut second, &mut world);
        assert_eq!(second.target(FIRST).reason(), Some("TakenOver"));
        let mut cancelled = (second.clone(), world.clone());
        cancelled.0.cancel(&mut cancelled.1);
        cancelled.1.run_replica_sets();
        cancelled.1.finish_deletions();
        assert_untouched(&cancelled.1, &[FIRST]);
        ready_turns(&mut second, &mut world, 5);
        assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.staying_pods(), [SECOND]);
    }
}

#[test]
fn a_label_put_back_after_its_job_vanished_is_completed_and_the_target_starts_over() {
    let mut world = world(1);
    let mut first = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut first, &mut world);
    world.remove_job("j1");
    let label = json!({"metadata": {"labels": {keys::TEMPLATE_HASH: "h"}}});
    world.change_pod(FIRST, &label);
    let mut second = FakeJob::<Replace>::new("j2", &[FIRST]);
    turn(&mut second, &mut world);
    world.finish_deletions();
    assert_untouched(&world, &[FIRST]);
    ready_turns(&mut second, &mut world, 5);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_label_put_back_after_its_job_vanished_is_never_undone_by_a_job_that_waits_for_its_turn() {
    let mut world = world(2);
    let mut first = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut first, &mut world, 2);
    world.remove_job("j1");
    let label = json!({"metadata": {"labels": {keys::TEMPLATE_HASH: "h"}}});
    world.change_pod(FIRST, &label);
    let mut second = FakeJob::<Replace>::new("j2", &[SECOND]);
    turn(&mut second, &mut world);
    world.finish_deletions();
    assert_untouched(&world, &[FIRST, SECOND]);
}

#[test]
fn a_job_that_waits_for_its_turn_leaves_a_vanished_jobs_new_pod_its_min_ready_seconds() {
    let mut world = world(2);
    let patch = json!({"spec": {"minReadySeconds": 10}});
    world.change("apps/v1", "ReplicaSet", "foo", &patch);
    let mut first = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut first, &mut world, 2);
    world.remove_job("j1");
    let mut second = FakeJob::<Replace>::new("j2", &[SECOND]);
    turn(&mut second, &mut world);
    assert!(world.expect_pod(FIRST).live());
    world.advance(10);
    turn(&mut second, &mut world);
    assert!(world.pod(FIRST).is_none());
}

#[test]
fn the_new_pod_of_an_abandoned_replacement_can_be_replaced() {
    let mut world = world(1);
    let mut first = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut first, &mut world);
    ready_turn(&mut first, &mut world);
    world.remove_job("j1");
    let mut second = FakeJob::<Replace>::new("j2", &[SECOND]);
    ready_turns(&mut second, &mut world, 5);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn the_advice_for_a_mark_that_cannot_be_read_leaves_no_trace() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    world.change_pod(
        FIRST,
        &json!({"metadata": {"annotations": {keys::ORIGIN: "{}"}}}),
    );
    job.pass(&mut world);
    let failure = job.target(FIRST).failure.clone().expect("it failed");
    assert_eq!(failure.reason, "OriginUnreadable");
    let command = failure.message.split_once("-p '").expect("a command").1;
    let patch = command.split_once('\'').expect("a quoted patch").0;
    world.change_pod(FIRST, &serde_json::from_str(patch).expect("JSON"));
    world.run_replica_sets();
    world.finish_deletions();
    assert_untouched(&world, &[FIRST]);
}
