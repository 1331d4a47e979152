//! Stories about how the old pod is removed, how many are replaced at the same time, and the messages of a
//! waiting target.

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

fn budget(world: &mut FakeCluster, name: &str, allowed: u32) {
    world.put(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "foo"}}},
        "status": {"disruptionsAllowed": allowed}
    }));
}

fn says(job: &FakeJob<Replace>, target: &str) -> String {
    let failure = job.target(target).failure.clone();
    failure.map(|failure| failure.message).unwrap_or_default()
}

#[test]
fn a_budget_keeps_the_old_pod_until_it_allows_the_eviction() {
    let mut world = world(2);
    budget(&mut world, "web", 0);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 4);
    assert!(!world.expect_pod(FIRST).deleting);
    budget(&mut world, "web", 1);
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_drain_beside_a_replacement_leaves_as_many_ready_pods_as_the_budget_wants() {
    let mut world = world(2);
    let patch = json!({"spec": {"minReadySeconds": 30}});
    world.change("apps/v1", "ReplicaSet", "foo", &patch);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    // The new pod is ready and sits out its time, so the budget of two allows the drain a sibling.
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(ready(&world), 3);
    world.start_deleting(SECOND);
    // The sibling's successor is not ready for a minute.
    for _ in 0..60 {
        let allowed = u32::from(ready(&world) > 2);
        budget(&mut world, "web", allowed);
        turn(&mut job, &mut world);
        assert!(ready(&world) >= 2);
    }
    assert_eq!(job.progress(), [Some(Progress::Processing)]);
    world.make_all_ready();
    budget(&mut world, "web", 1);
    ready_turns(&mut job, &mut world, 2);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn several_budgets_over_a_pod_are_named_and_no_eviction_is_tried() {
    let mut world = world(2);
    budget(&mut world, "web", 1);
    budget(&mut world, "all", 1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 4);
    assert_eq!(job.target(FIRST).reason(), Some(keys::SEVERAL_BUDGETS));
    assert!(
        says(&job, FIRST).contains("all, web"),
        "{}",
        says(&job, FIRST)
    );
}

#[test]
fn a_deletion_asks_no_budget_where_the_settings_say_so() {
    let mut world = world(2);
    budget(&mut world, "web", 0);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]).settings(&json!({"removal": "delete"}));
    ready_turns(&mut job, &mut world, 4);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_quarter_of_the_replicas_is_replaced_at_the_same_time() {
    let mut world = world(8);
    let targets = world.staying_pods();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let mut job = FakeJob::<Replace>::new("j1", &targets);
    for _ in 0..30 {
        job.pass(&mut world);
        let out =
            |pod: &&operon_sdk::Pod| !pod.deleting && pod.label(keys::RELEASED_FROM).is_some();
        assert!(world.pods().iter().filter(out).count() <= 2);
        world.run_replica_sets();
        world.make_all_ready();
        world.finish_deletions();
        world.advance(1);
    }
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 8]);
}

#[test]
fn a_stale_new_pod_never_costs_the_old_one() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    ready_turns(&mut job, &mut world, 2);
    let stale = world.clone();
    let target = operon_sdk::testing::target_of(&stale.expect_pod(FIRST));
    let operation = operon_sdk::Action::operate_target(&Replace, &target, &job.job, &stale);
    let operation = operation.expect("it answers");
    assert!(!operation.effects.is_empty());
    world.make_unready(SECOND);
    assert!(world.perform_operation(&operation).is_err());
    assert!(!world.expect_pod(FIRST).deleting);
}

#[test]
fn a_waiting_target_quotes_the_cluster() {
    let mut world = world(1);
    let mut job = FakeJob::<Replace>::new("j1", &[FIRST]);
    job.pass(&mut world);
    let failure = "pods \"foo-\" is forbidden: exceeded quota: pods";
    let quota = json!({"status": {"conditions": [
        {"type": "ReplicaFailure", "status": "True", "message": failure}]}});
    world.change("apps/v1", "ReplicaSet", "foo", &quota);
    job.pass(&mut world);
    assert!(says(&job, FIRST).contains(failure));

    world.run_replica_sets();
    let sentence = "0/1 nodes are available: 1 node(s) didn't satisfy anti-affinity rules";
    let unscheduled = json!({"status": {"conditions": [
        {"type": "PodScheduled", "status": "False", "message": sentence}]}});
    world.change_pod(SECOND, &unscheduled);
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    assert!(
        says(&job, FIRST).contains(sentence),
        "{}",
        says(&job, FIRST)
    );

    world.make_ready(SECOND);
    world.change_pod(FIRST, &json!({"metadata": {"finalizers": ["x/y"]}}));
    turn(&mut job, &mut world);
    turn(&mut job, &mut world);
    let stuck = says(&job, FIRST);
    assert!(stuck.contains("x/y") && stuck.contains("node-1"), "{stuck}");
}
