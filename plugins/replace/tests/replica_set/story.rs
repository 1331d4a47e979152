//! The usual stories, from the first pass to the last.

use std::time::Duration;

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

#[test]
fn the_old_pod_serves_until_the_new_one_is_ready_and_three_writes_do_it() {
    let mut world = world(2);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    assert_eq!(world.staying_pods(), [FIRST, SECOND, THIRD]);
    assert!(world.expect_pod(FIRST).ready);
    assert_eq!(job.target(FIRST).reason(), Some("NewPodNotReady"));
    assert_eq!(job.target(FIRST).extra(keys::NEW_POD), Some(THIRD));

    world.make_ready(THIRD);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    assert_eq!(world.staying_pods(), [SECOND, THIRD]);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(job.target(FIRST).extra(keys::NEW_POD), Some(THIRD));
    assert_eq!(job.target(FIRST).failure, None);

    let writes: Vec<_> = world
        .writes()
        .iter()
        .map(|w| (w.verb, w.name.as_str()))
        .collect();
    assert_eq!(
        writes,
        [("patch", FIRST), ("patch", THIRD), ("evict", FIRST)]
    );
    let events: Vec<_> = world
        .events()
        .iter()
        .map(|event| event.reason.as_str())
        .collect();
    assert_eq!(events, ["ReplaceOriginPod", "ReplaceNewPod"]);
}

#[test]
fn all_pods_of_a_replica_set_are_replaced_at_once_each_by_its_own() {
    let mut world = world(3);
    let mut job = FakeJob::<Replace>::new("j1", &[THIRD, FIRST, SECOND])
        .settings(&json!({"maxReleased": "100%"}));
    ready_turns(&mut job, &mut world, 5);
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 3]);
    let mut new_pods: Vec<_> = job
        .targets
        .iter()
        .filter_map(|target| target.extra(keys::NEW_POD))
        .collect();
    new_pods.sort_unstable();
    assert_eq!(world.staying_pods(), new_pods);
    assert_eq!(world.writes().len(), 9);
}

#[test]
fn pods_made_in_the_second_of_the_release_are_not_mistaken_for_older_ones() {
    let mut world = FakeCluster::new();
    world.add_replica_set("foo", "h", 2);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    for _ in 0..5 {
        job.pass(&mut world);
        world.run_replica_sets();
        world.make_all_ready();
        world.finish_deletions();
    }
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.staying_pods(), [SECOND, THIRD]);
}

#[test]
fn the_new_pod_has_to_stay_ready_for_the_replica_sets_min_ready_seconds() {
    let mut world = world(1);
    world.change(
        "apps/v1",
        "ReplicaSet",
        "foo",
        &json!({"spec": {"minReadySeconds": 10}}),
    );
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 3);
    assert_eq!(job.target(FIRST).reason(), Some("NewPodNotAvailable"));
    assert_eq!(
        job.target(FIRST).recheck_after,
        Some(Duration::from_secs(9))
    );
    world.advance(9);
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_new_pod_that_dies_before_it_is_ready_is_followed_by_the_next() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    world.end_pod(SECOND, "Failed");
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    assert_eq!(job.target(FIRST).extra(keys::NEW_POD), Some(THIRD));
    world.make_ready(THIRD);
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert!(world.pod(FIRST).is_none());
}

#[test]
fn a_new_pod_that_vanishes_after_the_old_one_is_followed_by_its_successor() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 3);
    assert!(world.pod(FIRST).is_none());
    world.remove_pod(SECOND);
    ready_turn(&mut job, &mut world);
    assert_eq!(job.target(FIRST).reason(), Some("WaitingForNewPod"));
    ready_turn(&mut job, &mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    let successor = world.staying_pods();
    assert_eq!(
        job.target(FIRST).extra(keys::NEW_POD),
        Some(successor[0].as_str())
    );
}

#[test]
fn a_pod_that_never_was_is_not_found() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &["foo-zzzzz"]);
    job.pass(&mut world);
    assert_eq!(job.target("foo-zzzzz").reason(), Some(keys::POD_NOT_FOUND));
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
}

#[test]
fn a_pod_that_ended_before_is_only_deleted_because_its_replica_set_replaced_it() {
    let mut world = world(2);
    world.end_pod(FIRST, "Failed");
    world.run_replica_sets();
    world.make_all_ready();
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 3);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(job.target(FIRST).extra(keys::NEW_POD), Some(SECOND));
    assert_eq!(world.staying_pods(), [SECOND, THIRD]);
}

#[test]
fn a_pod_that_somebody_is_deleting_is_never_touched() {
    let mut world = world(2);
    world.start_deleting(FIRST);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert!(world.writes().iter().all(|write| write.name == THIRD));
    assert_eq!(job.target(FIRST).extra(keys::NEW_POD), Some(THIRD));
    assert_eq!(world.staying_pods(), [SECOND, THIRD]);
}

#[test]
fn a_replica_set_that_does_not_select_by_the_hash_is_refused_with_a_way_out() {
    let mut world = world(1);
    let labels = json!({"spec": {"selector": {"matchLabels": {"pod-template-hash": null}}}});
    world.change("apps/v1", "ReplicaSet", "foo", &labels);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    job.pass(&mut world);
    assert_eq!(job.target(FIRST).reason(), Some(keys::UNSUPPORTED_OWNER));
    assert!(world.writes().is_empty());
}

#[test]
fn a_pod_of_a_stateful_set_is_refused_at_once_by_name() {
    let mut world = FakeCluster::new();
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s",
        "controller": true}]);
    world.add_pod("db-0", &json!({"ownerReferences": owner}));
    let mut job = FakeJob::<Replace>::new("j1", &["db-0"]);
    job.pass(&mut world);
    let failure = job.target("db-0").failure.clone().expect("it failed");
    assert_eq!(failure.reason, keys::UNSUPPORTED_OWNER);
    assert!(
        failure.message.contains("StatefulSet \"db\""),
        "{}",
        failure.message
    );
}
