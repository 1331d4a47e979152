//! Stories of cancelled replacements: the old pod stays, the new one is deleted, and no other is touched,
//! in whichever order the `ReplicaSet` removes pods.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob, target_of};
use operon_sdk::{Action, Progress, json};

/// A world in which the first pod is released and its new pod is known.
fn replacing(
    replicas: u32,
    prepare: impl Fn(&mut FakeCluster),
) -> (FakeJob<Replace>, FakeCluster, String) {
    let mut world = world(replicas);
    prepare(&mut world);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    let new = job.target(FIRST).extra(keys::NEW_POD).map(str::to_owned);
    (job, world, new.expect("the new pod is known"))
}

fn assert_restored(mut job: FakeJob<Replace>, mut world: FakeCluster, kept: &[&str]) {
    job.cancel(&mut world);
    for _ in 0..2 {
        world.run_replica_sets();
        world.finish_deletions();
        world.advance(1);
    }
    assert_untouched(&world, kept);
}

#[test]
fn the_old_pod_stays_though_its_deletion_cost_is_low() {
    let cheap = json!({"metadata": {"annotations": {keys::DELETION_COST: "-100"}}});
    for ready in [false, true] {
        let (job, mut world, new) = replacing(2, |world| world.change_pod(FIRST, &cheap));
        if ready {
            world.make_ready(&new);
        }
        assert_restored(job, world, &[FIRST, SECOND]);
    }
}

#[test]
fn the_old_pod_stays_though_its_node_is_crowded() {
    let (job, mut world, new) = replacing(2, |_| {});
    world.change_pod(&new, &json!({"spec": {"nodeName": "node-2"}}));
    world.make_ready(&new);
    assert_restored(job, world, &[FIRST, SECOND]);
}

#[test]
fn the_old_pod_stays_though_it_or_a_sibling_is_not_ready() {
    for broken in [FIRST, SECOND] {
        let (job, mut world, new) = replacing(2, |_| {});
        world.make_ready(&new);
        world.make_unready(broken);
        assert_restored(job, world, &[FIRST, SECOND]);
    }
}

#[test]
fn the_old_pod_stays_though_a_sibling_that_was_replaced_before_is_not_ready() {
    let (job, mut world, new) = replacing(2, |world| {
        let replaced = json!({"metadata": {"labels": {keys::REPLACES: "an-old-uid"}}});
        world.change_pod(SECOND, &replaced);
    });
    world.make_ready(&new);
    world.make_unready(SECOND);
    let (mut job, mut world) = (job, world);
    job.cancel(&mut world);
    world.run_replica_sets();
    world.run_replica_sets();
    assert_eq!(world.staying_pods(), [FIRST, SECOND]);
}

#[test]
fn the_old_pod_stays_though_a_sibling_has_the_lowest_cost_of_all() {
    let cheapest = json!({"metadata": {"annotations": {keys::DELETION_COST: "-2147483648"}}});
    let (job, mut world, new) = replacing(2, |world| world.change_pod(SECOND, &cheapest));
    world.make_ready(&new);
    assert_restored(job, world, &[FIRST, SECOND]);
}

#[test]
fn no_pod_keeps_a_deletion_cost_though_a_sibling_vanishes_while_a_job_is_cancelled() {
    let (mut job, mut world, new) = replacing(2, |_| {});
    world.make_ready(&new);
    job.cancel(&mut world);
    world.start_deleting(SECOND);
    for _ in 0..3 {
        world.run_replica_sets();
        world.finish_deletions();
        world.advance(1);
    }
    assert!(world.expect_pod(FIRST).ready);
    for pod in world.pods() {
        assert_eq!(pod.annotation(keys::DELETION_COST), None, "{}", pod.name);
    }
}

/// How far a host comes with the release of a target, at most.
const MOST_EFFECTS: usize = 3;

/// A cancelled job whose host ends after so many effects of the release.
fn interrupted(performed: usize) -> (FakeJob<Replace>, FakeCluster, String) {
    let (mut job, mut world, new) = replacing(2, |_| {});
    world.make_ready(&new);
    job.cancel(&mut world.clone());
    let target = target_of(&world.expect_pod(FIRST));
    let mut operation = Replace
        .release_target(&target, &job.job, &world)
        .expect("an operation");
    assert!(operation.effects.len() <= MOST_EFFECTS);
    operation.effects.truncate(performed);
    world.perform_operation(&operation).expect("it is allowed");
    (job, world, new)
}

fn assert_no_deletion_cost(world: &FakeCluster) {
    for pod in world.pods() {
        assert_eq!(pod.annotation(keys::DELETION_COST), None, "{}", pod.name);
    }
}

#[test]
fn a_host_that_ends_while_it_cancels_leaves_no_deletion_cost_though_a_sibling_vanishes() {
    for performed in 0..=MOST_EFFECTS {
        let (mut job, mut world, _) = interrupted(performed);
        world.start_deleting(SECOND);
        job.release(&mut world);
        for _ in 0..3 {
            world.run_replica_sets();
            world.finish_deletions();
            world.advance(1);
        }
        assert!(world.expect_pod(FIRST).ready);
        assert_no_deletion_cost(&world);
    }
}

#[test]
fn the_old_pod_stays_though_the_host_ends_while_it_cancels_and_another_new_pod_serves_meanwhile() {
    for performed in 0..=MOST_EFFECTS {
        let (mut job, mut world, _) = interrupted(performed);
        for _ in 0..2 {
            world.finish_deletions();
            world.run_replica_sets();
            world.make_all_ready();
            world.advance(1);
        }
        job.release(&mut world);
        for _ in 0..2 {
            world.run_replica_sets();
            world.finish_deletions();
        }
        assert_untouched(&world, &[FIRST, SECOND]);
        assert_no_deletion_cost(&world);
    }
}

#[test]
fn the_new_pod_of_a_cancelled_replacement_stays_if_the_old_one_vanishes() {
    let (mut job, mut world, new) = interrupted(0);
    world.remove_pod(FIRST);
    job.release(&mut world);
    assert_eq!(world.staying_pods(), [SECOND, &new]);
    assert_no_deletion_cost(&world);
}

#[test]
fn a_pod_that_another_job_replaces_after_an_interrupted_cancel_gets_a_new_pod_without_deletion_cost()
 {
    for performed in 0..=MOST_EFFECTS {
        let (mut first, mut world, _) = interrupted(performed);
        let mut second = FakeJob::<Replace>::new("j2", &[FIRST]);
        // A host that ended begins with the other job.
        second.pass(&mut world);
        first.release(&mut world);
        ready_turns(&mut second, &mut world, 6);
        assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.staying_pods().len(), 2);
        assert_no_deletion_cost(&world);
    }
}

#[test]
fn a_job_that_takes_over_an_interrupted_cancel_leaves_no_deletion_cost() {
    for performed in 0..=MOST_EFFECTS {
        let (_, mut world, _) = interrupted(performed);
        world.remove_job("j1");
        let mut second = FakeJob::<Replace>::new("j2", &[FIRST]);
        ready_turns(&mut second, &mut world, 6);
        assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.staying_pods().len(), 2);
        assert_no_deletion_cost(&world);
    }
}

#[test]
fn a_new_pod_that_stays_after_an_interrupted_cancel_has_no_deletion_cost() {
    for performed in 0..=MOST_EFFECTS {
        let (mut job, mut world, _) = interrupted(performed);
        world.scale("foo", 3);
        job.release(&mut world);
        for _ in 0..2 {
            world.run_replica_sets();
            world.finish_deletions();
        }
        assert_eq!(world.staying_pods().len(), 3);
        assert_no_deletion_cost(&world);
    }
}

#[test]
fn a_new_pod_is_not_deleted_for_an_old_one_that_is_only_in_a_stale_cache() {
    let (mut job, mut world, new) = replacing(2, |_| {});
    world.make_ready(&new);
    let stale = world.clone();
    job.cancel(&mut stale.clone());
    let target = target_of(&stale.expect_pod(FIRST));
    let operation = Replace.release_target(&target, &job.job, &stale);
    let operation = operation.expect("an operation");
    world.start_deleting(FIRST);
    assert!(world.perform_operation(&operation).is_err());
    assert_eq!(world.staying_pods(), [SECOND, &new]);
}

#[test]
fn a_new_pod_that_was_not_claimed_yet_goes_as_well() {
    let cheap = json!({"metadata": {"annotations": {keys::DELETION_COST: "-100"}}});
    let mut world = world(2);
    world.change_pod(FIRST, &cheap);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    turn(&mut job, &mut world);
    world.make_all_ready();
    assert_restored(job, world, &[FIRST, SECOND]);
}

#[test]
fn a_cancelled_job_of_many_targets_restores_each() {
    let mut world = world(4);
    let targets = [FIRST, SECOND, THIRD];
    let mut job = FakeJob::<Replace>::new("j1", &targets).settings(&json!({"maxReleased": "100%"}));
    ready_turns(&mut job, &mut world, 2);
    for target in targets {
        assert!(job.target(target).extra(keys::NEW_POD).is_some());
    }
    assert_restored(job, world, &[FIRST, SECOND, THIRD, FOURTH]);
}

#[test]
fn two_jobs_that_are_cancelled_at_once_each_give_up_a_new_pod() {
    let all = json!({"maxReleased": "100%"});
    for cost in ["0", "-100"] {
        let mut world = world(2);
        let cheap = json!({"metadata": {"annotations": {keys::DELETION_COST: cost}}});
        world.change_pod(FIRST, &cheap);
        let (mut first, mut second) = (
            FakeJob::<Replace>::new("j1", &[FIRST]).settings(&all),
            FakeJob::<Replace>::new("j2", &[SECOND]).settings(&all),
        );
        first.pass(&mut world);
        second.pass(&mut world);
        world.advance(1);
        world.run_replica_sets();
        world.make_all_ready();
        first.pass(&mut world);
        first.cancel(&mut world);
        second.cancel(&mut world);
        world.run_replica_sets();
        world.finish_deletions();
        assert_untouched(&world, &[FIRST, SECOND]);
    }
}
