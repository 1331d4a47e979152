//! Stories of two jobs that replace the same pods of a `ReplicaSet`, or each other's new pods.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::FakeJob;
use operon_sdk::{Progress, json};

#[test]
fn two_jobs_on_one_pod_both_succeed_with_the_same_new_pod() {
    let mut world = world(1);
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &[FIRST]),
        FakeJob::<Replace>::new("j2", &[FIRST]),
    );
    for _ in 0..5 {
        first.pass(&mut world);
        second.pass(&mut world);
        world.run_replica_sets();
        world.make_all_ready();
        world.finish_deletions();
        world.advance(1);
    }
    assert_eq!(first.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(first.target(FIRST).extra(keys::NEW_POD), Some(SECOND));
    assert_eq!(second.target(FIRST).extra(keys::NEW_POD), Some(SECOND));
    assert_eq!(world.writes().len(), 3);
}

#[test]
fn an_observing_job_undoes_nothing_and_starts_when_the_other_was_cancelled() {
    let mut world = world(1);
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &[FIRST]),
        FakeJob::<Replace>::new("j2", &[FIRST]),
    );
    turn(&mut first, &mut world);
    turn(&mut second, &mut world);
    assert_eq!(second.target(FIRST).reason(), Some("ReplacedByOtherJob"));
    let before = world.writes().len();
    second.clone().cancel(&mut world);
    assert_eq!(world.writes().len(), before);

    first.cancel(&mut world);
    world.run_replica_sets();
    world.finish_deletions();
    assert_untouched(&world, &[FIRST]);
    ready_turns(&mut second, &mut world, 5);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn the_new_pod_of_an_unfinished_replacement_has_to_wait_for_its_end() {
    let mut world = world(1);
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &[FIRST]),
        FakeJob::<Replace>::new("j2", &[SECOND]),
    );
    turn(&mut first, &mut world);
    turn(&mut first, &mut world);
    turn(&mut second, &mut world);
    let sentence = second
        .target(SECOND)
        .extra(keys::NOT_ALLOWED)
        .map(str::to_owned);
    assert!(sentence.is_some_and(|sentence| sentence.contains(FIRST)));
    world.make_ready(SECOND);
    ready_turns(&mut first, &mut world, 2);
    assert_eq!(first.progress(), [Some(Progress::Succeeded)]);
    ready_turns(&mut second, &mut world, 5);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(second.target(SECOND).extra(keys::NOT_ALLOWED), None);
    assert_eq!(
        second.target(SECOND).extra(keys::NEW_POD),
        Some(world.staying_pods()[0].as_str())
    );
}

#[test]
fn a_substitute_for_another_pod_does_not_confuse_two_jobs_of_one_replica_set() {
    let mut world = world(3);
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &[FIRST]),
        FakeJob::<Replace>::new("j2", &[SECOND]),
    );
    turn(&mut first, &mut world);
    assert_eq!(world.staying_pods(), [FIRST, SECOND, THIRD, FOURTH]);
    for _ in 0..5 {
        first.pass(&mut world);
        second.pass(&mut world);
        world.run_replica_sets();
        world.make_all_ready();
        world.finish_deletions();
        world.advance(1);
    }
    let new =
        |job: &FakeJob<Replace>, name| job.target(name).extra(keys::NEW_POD).map(str::to_owned);
    assert_eq!(first.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
    assert_ne!(new(&first, FIRST), new(&second, SECOND));
    assert_eq!(world.staying_pods().len(), 3);
}

#[test]
fn a_job_whose_new_pod_is_scaled_in_takes_the_one_that_a_cancelled_job_left() {
    let mut world = world(2);
    let all = json!({"maxReleased": "100%"});
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &[FIRST]).settings(&all),
        FakeJob::<Replace>::new("j2", &[SECOND]).settings(&all),
    );
    turn(&mut first, &mut world);
    turn(&mut first, &mut world);
    turn(&mut second, &mut world);
    turn(&mut second, &mut world);
    assert_eq!(second.target(SECOND).extra(keys::NEW_POD), Some(FOURTH));
    // There is room for both the old and the new pod, for a moment.
    world.scale("foo", 3);
    first.cancel(&mut world);
    world.scale("foo", 2);
    world.run_replica_sets();
    world.finish_deletions();
    assert_eq!(world.staying_pods(), [FIRST, SECOND, THIRD]);
    ready_turns(&mut second, &mut world, 5);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(second.target(SECOND).extra(keys::NEW_POD), Some(THIRD));
    assert_eq!(world.staying_pods(), [FIRST, THIRD]);
}

#[test]
fn a_job_whose_new_pod_goes_when_another_is_cancelled_gets_another() {
    let mut world = world(2);
    let all = json!({"maxReleased": "100%"});
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &[FIRST]).settings(&all),
        FakeJob::<Replace>::new("j2", &[SECOND]).settings(&all),
    );
    turn(&mut first, &mut world);
    turn(&mut first, &mut world);
    turn(&mut second, &mut world);
    turn(&mut second, &mut world);
    first.cancel(&mut world);
    // Something removes the other job's new pod.
    world.start_deleting(FOURTH);
    ready_turns(&mut second, &mut world, 5);
    assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
    let new = second
        .target(SECOND)
        .extra(keys::NEW_POD)
        .map(str::to_owned);
    assert_eq!(
        world.staying_pods(),
        [FIRST.to_owned(), new.expect("a new pod")]
    );
}
