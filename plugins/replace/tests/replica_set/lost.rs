//! Stories of pods that something else removes: whether they were replaced, or scaled in.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

#[test]
fn a_pod_that_was_scaled_in_is_not_replaced() {
    for (from, to) in [(3, 2), (2, 0)] {
        let mut world = world(from);
        let held = json!({"metadata": {"finalizers": ["x/y"],
            "annotations": {keys::DELETION_COST: "-100"}}});
        world.change_pod(FIRST, &held);
        world.scale("foo", to);
        world.run_replica_sets();
        assert!(world.expect_pod(FIRST).deleting);
        let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
        ready_turns(&mut job, &mut world, 2);
        assert_eq!(job.target(FIRST).reason(), Some(keys::OWNER_SCALED_DOWN));
        assert_eq!(job.progress(), [Some(Progress::Failed)]);
    }
}

#[test]
fn a_pod_that_is_scaled_in_while_it_waits_for_its_turn_is_not_replaced() {
    let mut world = world(3);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST, SECOND]);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    assert_eq!(job.target(SECOND).reason(), Some("WaitingForTurn"));
    // Deleted between two reconciles, and not created again.
    world.scale("foo", 2);
    world.remove_pod(SECOND);
    ready_turns(&mut job, &mut world, 6);
    assert_eq!(job.target(SECOND).reason(), Some(keys::OWNER_SCALED_DOWN));
    assert_eq!(job.target(FIRST).progress, Some(Progress::Succeeded));
}

#[test]
fn a_pod_that_vanishes_while_it_waits_for_its_turn_is_replaced_by_the_one_made_for_it() {
    let mut world = world(3);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST, SECOND]);
    turn(&mut job, &mut world);
    world.remove_pod(SECOND);
    ready_turns(&mut job, &mut world, 6);
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 2]);
    let new = |name| job.target(name).extra(keys::NEW_POD);
    assert!(new(FIRST).is_some() && new(SECOND).is_some() && new(FIRST) != new(SECOND));
}

#[test]
fn two_pods_that_vanish_at_once_are_not_both_replaced_by_the_pod_that_both_wanted() {
    let mut world = world(2);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST, SECOND]);
    turn(&mut job, &mut world);
    world.remove_pod(FIRST);
    world.remove_pod(SECOND);
    ready_turns(&mut job, &mut world, 6);
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 2]);
    let new = |name| job.target(name).extra(keys::NEW_POD);
    assert_ne!(new(FIRST), new(SECOND));
}

#[test]
fn a_pod_of_an_old_revision_is_not_replaced() {
    let mut world = world(2);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    world.start_deleting(FIRST);
    turn(&mut job, &mut world);
    world.scale("foo", 0);
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(job.target(FIRST).reason(), Some(keys::OWNER_SCALED_DOWN));
}

#[test]
fn a_broken_sibling_does_not_hold_a_replaced_target() {
    let mut world = world(3);
    world.make_unready(THIRD);
    world.start_deleting(FIRST);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    world.make_ready(FOURTH);
    turn(&mut job, &mut world);
    assert!(!world.expect_pod(THIRD).ready);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(job.target(FIRST).extra(keys::NEW_POD), Some(FOURTH));
    assert_eq!(job.target(FIRST).extra(keys::OWNER), None);
}

#[test]
fn the_owner_is_recorded_because_names_of_pods_are_shortened() {
    let name = "a-name-of-a-replica-set-that-is-longer-than-an-api-server-keeps";
    let mut world = FakeCluster::new();
    world.add_deployment(name, "h", 2);
    world.advance(60);
    // The API server keeps 58 characters of the base.
    let pod = world.pods().remove(0);
    let mut object = world
        .object("v1", "Pod", &pod.name)
        .cloned()
        .expect("it exists");
    world.remove_pod(&pod.name);
    let short = format!("{}bbbbb", &name[..58]);
    object["metadata"]["name"] = short.as_str().into();
    world.put(object);
    let mut job = FakeJob::<Replace>::new("j1", &[&short]);
    ready_turns(&mut job, &mut world, 2);
    assert!(
        job.target(&short)
            .extra(keys::OWNER)
            .is_some_and(|owner| owner.starts_with(name))
    );
    let new = job.target(&short).extra(keys::NEW_POD).map(str::to_owned);
    world.remove_pod(&short);
    world.remove_pod(&new.expect("it is claimed"));
    ready_turns(&mut job, &mut world, 4);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}
