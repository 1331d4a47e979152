//! Stories about a quota that has no room beside the old pods: the `ReplicaSet` is refused, backs off for
//! longer and longer, and does not learn when there is room.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

fn quota(world: &mut FakeCluster, pods: &str) {
    world.put(json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "pods"}, "spec": {"hard": {"pods": pods}}}));
}

/// A job of two targets, both of which may be released at the same time.
fn job_of_both() -> FakeJob<Replace> {
    FakeJob::<Replace>::new("j1", &[FIRST, SECOND]).settings(&json!({"maxReleased": "100%"}))
}

#[test]
fn a_pod_that_waited_long_for_room_has_its_new_pod_within_a_minute_of_there_being_room() {
    let mut world = world(2);
    quota(&mut world, "3");
    let mut job = job_of_both();
    // The first new pod takes ten minutes to become ready.
    for _ in 0..600 {
        turn(&mut job, &mut world);
        assert_eq!(ready(&world), 2);
    }
    let waits = [FIRST, SECOND].map(|name| job.target(name).reason());
    assert!(waits.contains(&Some("WaitingForNewPod")), "{waits:?}");
    for _ in 0..60 {
        ready_turn(&mut job, &mut world);
        assert!(ready(&world) >= 2);
    }
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 2]);
}

#[test]
fn a_target_without_room_quotes_the_quota_whether_its_pod_is_released_or_not() {
    let mut world = world(2);
    quota(&mut world, "2");
    let mut job = job_of_both();
    let (mut quoted, mut writes) = (0, 0);
    for _ in 0..600 {
        turn(&mut job, &mut world);
        writes = world.writes().len();
        let says = |name| job.target(name).failure.clone().map(|told| told.message);
        let says = says(FIRST).unwrap_or_default();
        quoted += usize::from(says.contains("exceeded quota: \"pods\""));
    }
    assert!(quoted > 500, "{quoted} of 600 s");
    assert!(writes < 100, "{writes} writes in ten minutes");
    job.cancel(&mut world);
    turn(&mut job, &mut world);
    assert_untouched(&world, &[FIRST, SECOND]);
}

#[test]
fn a_pod_is_not_released_while_its_replica_set_can_make_none() {
    let mut world = world(2);
    quota(&mut world, "2");
    world.scale("foo", 3);
    world.run_replica_sets();
    let mut job = job_of_both();
    for _ in 0..5 {
        turn(&mut job, &mut world);
    }
    assert_eq!(world.expect_pod(FIRST).label(keys::RELEASED_FROM), None);
    quota(&mut world, "9");
    ready_turns(&mut job, &mut world, 60);
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 2]);
}
