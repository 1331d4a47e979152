//! Jobs that a user deletes: when the next one is created, and when not.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{conditions::READY, daemon_job::FlowState, keys};
use serde_json::json;

use super::world::{START, World};
use crate::driver::memory::Reconciles as _;

fn run(world: &mut World, job: &str) {
    world.add_pod(job, &json!({"phase": "Running"}));
}

#[test]
fn an_unfinished_job_that_somebody_deletes_is_made_again_when_its_pods_are_gone() {
    for foreground in [false, true] {
        let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1}");
        world.settle();
        run(&mut world, "dj-a");
        world.delete_job("dj-a", foreground);
        world.settle();
        assert_eq!(world.made, 1, "neither on this node nor on another");
        assert_eq!(world.status().active, Some(1));
        let conclusion = world.pass().expect("a conclusion");
        let look = (!foreground).then_some(Duration::from_secs(2));
        assert_eq!(conclusion.requeue_after, look, "no Job tells of its pods");
        world.collect_garbage();
        world.settle();
        assert_eq!(world.names(), ["dj-a-2"]);
        assert_eq!(world.job("dj-a-2").annotations()[keys::RUN_ATTEMPT], "2");
        world.succeed("a");
        world.settle();
        world.delete_job("dj-a-2", false);
        world.settle();
        assert_eq!((world.progress(), world.made), ("1/2", 3));
    }
}

#[test]
fn pods_that_go_within_a_pass_are_not_waited_for_any_longer() {
    let mut world = World::new(&["a"]);
    world.settle();
    run(&mut world, "dj-a");
    world.delete_job("dj-a", false);
    world.settle();
    world.meanwhile = vec![World::collect_garbage];
    let conclusion = world.pass().expect("a conclusion");
    assert_eq!(
        (world.made, conclusion.requeue_after),
        (1, Some(Duration::ZERO))
    );
    world.settle();
    assert_eq!(world.names(), ["dj-a-2"]);
}

#[test]
fn a_node_is_not_used_twice_when_somebody_takes_the_labels_off_its_job() {
    type Edit = fn(&mut Job);
    let edits: [Edit; 2] = [
        |job| {
            job.labels_mut().remove(keys::OWNER_UID);
        },
        |job| {
            job.annotations_mut().remove(keys::NODE_NAME);
        },
    ];
    for edit in edits {
        let mut world = World::new(&["a"]);
        world.settle();
        run(&mut world, "dj-a");
        edit(world.jobs.get_mut("dj-a").expect("a Job"));
        world.settle();
        assert_eq!((world.made, world.status().active), (1, Some(1)));
        world.end_job("dj-a", "Complete", "CompletionsReached", "well");
        world.settle();
        assert_eq!(world.names(), ["dj-a", "dj-a-2"]);
    }
}

#[test]
fn a_job_that_lost_its_label_before_it_was_written_down_gets_it_back() {
    let mut world = World::new(&["a"]);
    world.die_after(1);
    assert_eq!((world.made, world.object.status.is_some()), (1, false));
    let job = world.jobs.get_mut("dj-a").expect("a Job");
    job.labels_mut().remove(keys::OWNER_UID);
    world.settle();
    assert_eq!((world.made, world.names()), (1, vec!["dj-a"]));
    assert_eq!(world.job("dj-a").labels()[keys::OWNER_UID], "object");
}

#[test]
fn an_edit_waits_for_pods_of_a_job_that_is_gone() {
    let mut world = World::with_rollout(&["a", "b"], "{topologyKey: zone}");
    world.settle();
    world.succeed("a");
    world.succeed("b");
    world.settle();
    world.edit_image("alpine:2");
    world.settle();
    run(&mut world, "dj-b");
    world.delete_job("dj-b", false);
    world.edit_image("alpine:3");
    world.settle();
    assert_eq!(world.busy(), ["a"]);
    let edited = world.made;
    world.succeed("a");
    world.settle();
    assert_eq!(world.made, edited, "a pod of the spec before runs on b");
    world.collect_garbage();
    world.settle();
    assert_eq!(world.busy(), ["b"]);
}

#[test]
fn a_retry_waits_for_pods_of_the_job_that_failed() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 1, backoffSeconds: 0}}");
    world.settle();
    world.fail("a");
    run(&mut world, "dj-a");
    world.settle();
    assert_eq!(world.made, 1);
    world.pods.clear();
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn pods_on_a_node_that_is_not_fit_are_waited_for_as_long_as_the_node() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    run(&mut world, "dj-a");
    world.delete_job("dj-a", false);
    world.set_ready("a", false);
    world.settle();
    world.succeed("b");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Running, "1/2")
    );
    world.wait(600);
    world.settle();
    assert_eq!(world.condition(READY).reason, "NodesSkipped");
}

#[test]
fn a_job_that_is_deleted_again_and_again_is_made_again_after_a_wait_that_doubles() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 0, backoffSeconds: 3000}}");
    world.settle();
    world.delete_job("dj-a", false);
    world.settle();
    assert_eq!(world.names(), ["dj-a-2"], "at once, for the first time");
    let waits = [10, 20, 40, 80, 160, 320, 360, 360];
    for (attempt, wait) in (2..).zip(waits) {
        world.delete_job(&format!("dj-a-{attempt}"), false);
        world.settle();
        assert_eq!(world.said(), "0 of 1 node succeeded, 1 to run again");
        assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(wait)));
        world.now += i64::try_from(wait).expect("a number") - 1;
        world.settle();
        assert_eq!(world.made, attempt, "the wait begins once");
        world.now += 1;
        world.settle();
        assert_eq!(world.made, attempt + 1);
    }
    world.succeed("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);
}

#[test]
fn the_wait_for_a_deleted_job_ends_by_a_retry_and_by_a_job_that_fails() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 9, backoffSeconds: 100}}");
    world.settle();
    for job in ["dj-a", "dj-a-2"] {
        world.delete_job(job, false);
        world.settle();
    }
    assert_eq!((world.made, world.now), (2, START));
    world.retry("1");
    world.settle();
    assert_eq!(world.made, 3);
    world.fail("a");
    world.settle();
    world.now += 400;
    world.settle();
    assert_eq!(world.made, 4);
    world.delete_job("dj-a-4", false);
    world.settle();
    assert_eq!(world.made, 5, "none was deleted in a row with it");
}

#[test]
fn a_node_whose_jobs_are_deleted_is_waited_for_when_it_is_not_fit() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    for job in ["dj-a", "dj-a-2"] {
        world.delete_job(job, false);
        world.settle();
    }
    world.cordon("a", true);
    world.settle();
    assert_eq!(world.status().desired, Some(2));
    world.now += 4;
    world.cordon("a", false);
    world.settle();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(6)));
}
