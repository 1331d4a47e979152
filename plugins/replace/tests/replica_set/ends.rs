//! Stories of Replace on pods of a `ReplicaSet` that end early: cancelled, scaled down, deleted. In the end
//! the number of pods is right, and no marks are left.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::FakeJob;
use operon_sdk::{Progress, json};

#[test]
fn scaling_down_while_a_pod_is_out_fails_with_a_reason_and_leaves_the_right_number() {
    for replicas in [0, 1] {
        let mut world = world(2);
        let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
        job.pass(&mut world);
        world.scale("foo", replicas);
        ready_turns(&mut job, &mut world, 2);
        assert_eq!(job.target(FIRST).reason(), Some(keys::OWNER_SCALED_DOWN));
        job.release(&mut world);
        world.run_replica_sets();
        world.finish_deletions();
        assert_eq!(world.staying_pods().len(), replicas as usize);
        let left = world.staying_pods();
        assert_untouched(&world, &left.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn a_pod_whose_replica_set_is_gone_goes_with_it() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    job.pass(&mut world);
    world.remove("apps/v1", "ReplicaSet", "foo");
    job.pass(&mut world);
    assert_eq!(job.target(FIRST).reason(), Some(keys::OWNER_SCALED_DOWN));
    job.release(&mut world);
    world.finish_deletions();
    assert!(world.staying_pods().is_empty());
}

#[test]
fn cancelling_at_any_point_leaves_as_many_pods_as_belong_and_no_trace() {
    for passes in 0..=3 {
        for ready in [false, true] {
            let mut world = world(2);
            let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
            for _ in 0..passes {
                job.pass(&mut world);
                world.run_replica_sets();
                if ready {
                    world.advance(1);
                    world.make_all_ready();
                }
            }
            job.job.ending = true;
            job.cancel(&mut world);
            world.run_replica_sets();
            world.finish_deletions();
            world.run_replica_sets();
            assert_eq!(
                world.staying_pods().len(),
                2,
                "{passes} passes, new pod ready: {ready}"
            );
            if job.progress() == [Some(Progress::Succeeded)] {
                assert_eq!(world.staying_pods(), [SECOND, THIRD], "{passes} {ready}");
            } else {
                assert_untouched(&world, &[FIRST, SECOND]);
            }
        }
    }
}

#[test]
fn a_pod_that_is_put_back_is_its_replica_sets_before_that_has_noticed() {
    let mut world = world(1);
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c1"});
    let owner = world.expect_pod(FIRST).owners[0].to_object();
    let owners = json!([other, owner]);
    world.change_pod(FIRST, &json!({"metadata": {"ownerReferences": owners}}));
    let before = world.expect_pod(FIRST).owners;
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    assert_ne!(world.expect_pod(FIRST).owners, before);
    job.cancel(&mut world);
    assert_eq!(world.expect_pod(FIRST).owners, before);
}

#[test]
fn a_job_that_is_deleted_while_the_old_pod_terminates_has_succeeded() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 2);
    job.pass(&mut world);
    assert!(world.expect_pod(FIRST).deleting);
    job.job.ending = true;
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn an_old_pod_that_ended_while_it_was_out_is_deleted_at_a_cancel() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    world.end_pod(FIRST, "Failed");
    job.cancel(&mut world);
    world.run_replica_sets();
    world.finish_deletions();
    assert_untouched(&world, &[SECOND]);
}

#[test]
fn a_new_pod_that_stays_after_a_cancel_stands_for_nobody_any_more() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    assert!(world.expect_pod(SECOND).label(keys::REPLACES).is_some());
    world.scale("foo", 2);
    job.cancel(&mut world);
    world.run_replica_sets();
    assert_untouched(&world, &[FIRST, SECOND]);
}

#[test]
fn a_pod_is_not_given_back_to_a_replica_set_that_is_being_deleted() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    job.pass(&mut world);
    let deleted = json!({"metadata": {"deletionTimestamp": "1970-01-12T14:00:00Z"}});
    world.change("apps/v1", "ReplicaSet", "foo", &deleted);
    job.pass(&mut world);
    assert_eq!(job.target(FIRST).reason(), Some(keys::OWNER_SCALED_DOWN));
    job.release(&mut world);
    assert!(world.expect_pod(FIRST).deleting);
}
