//! Jobs that the API server refuses, and Jobs that can't progress.

use std::time::Duration;

use operon_api::{
    conditions::{RECONCILING, STALLED},
    daemon_job::FlowState,
};
use serde_json::{Value, json};

use super::world::World;
use crate::action::Failure;
use crate::driver::memory::Reconciles as _;

fn quota() -> Failure {
    Failure::new("Forbidden", "failed to create Job: exceeded quota: jobs")
}

/// A pod that waits for its image.
fn no_image(message: &str) -> Value {
    waiting("ImagePullBackOff", message)
}

fn waiting(reason: &str, message: &str) -> Value {
    let waiting = json!({"reason": reason, "message": message});
    let container = json!({"name": "main", "state": {"waiting": waiting}});
    json!({"phase": "Pending", "containerStatuses": [container]})
}

#[test]
fn a_job_that_is_refused_stalls_its_node_and_the_others_go_on() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{parallelism: 1}");
    world.refusals.insert("a".to_owned(), quota());
    world.settle();
    assert_eq!(world.busy(), ["b"]);
    assert_eq!(world.condition(STALLED).reason, "Forbidden");
    assert_eq!(
        world.said(),
        "0 of 3 nodes succeeded, 1 running, 2 waiting to start. Waiting for node \"b\". The API server refuses the Job for node \"a\": failed to create Job: exceeded quota: jobs"
    );
    assert_eq!(world.events(), ["Stalled", "Created"]);
    world.succeed("b");
    world.settle();
    assert_eq!(world.busy(), ["c"], "nobody waits for the refused one");
    world.succeed("c");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Running, "2/3")
    );

    world.refusals.clear();
    world.settle();
    assert_eq!(world.busy(), ["a"]);
    assert_eq!(world.status().refused_node_digests, [""; 0]);
    assert_eq!(world.condition(RECONCILING).reason, "Running");
    world.succeed("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);
}

#[test]
fn when_all_jobs_are_refused_it_is_said_once_and_its_words_stay() {
    let mut world = World::new(&["a", "b", "c"]);
    world.refusals.insert("*".to_owned(), quota());
    world.settle();
    assert_eq!((world.state(), world.made), (FlowState::Pending, 0));
    assert_eq!(world.status_writes, 1);
    assert_eq!(world.status().refused_node_digests.len(), 3);
    assert!(
        world
            .said()
            .contains(". The API server refuses the Jobs for 3 nodes; for node \"a\": failed"),
        "{}",
        world.said()
    );
    assert_eq!(world.events(), ["Stalled"]);
    // Nothing is tried while the rollout is paused, and the report stays.
    world.set_rollout("{paused: true}");
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "Forbidden");
    world.leave("a");
    world.settle();
    assert!(
        world.said().contains("for 2 nodes; for node \"b\""),
        "{}",
        world.said()
    );
}

#[test]
fn a_job_that_can_not_progress_stalls_after_five_minutes_and_names_its_node() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.add_pod(
        "dj-a",
        &json!({"phase": "Running", "containerStatuses": [
            {"name": "main", "state": {"running": {}}},
        ]}),
    );
    world.add_pod("dj-b", &no_image("Back-off pulling image \"x\": 10s"));
    let conclusion = world.pass().expect("a conclusion");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_mins(5)));
    assert_eq!(world.condition(RECONCILING).reason, "Running");
    world.now += 300;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "ImagePullBackOff");
    let said = world.said().to_owned();
    assert_eq!(
        said,
        "0 of 2 nodes succeeded, 2 running. Waiting for nodes \"b\" (ImagePullBackOff), \"a\". Job \"dj-b\" can't progress on node \"b\": container \"main\" of pod \"dj-b-abcde\": Back-off pulling image \"x\": 10s"
    );
    assert_eq!(world.state(), FlowState::Running);
    let uid = world.job("dj-b").metadata.uid.clone().expect("a uid");
    let set_pod = |world: &mut World, status: Value| {
        let mut pod = json!(world.pods[&uid][0]);
        pod["status"] = status;
        let pod = serde_json::from_value(pod).expect("a pod");
        world.pods.insert(uid.clone(), vec![pod]);
    };
    // Each try words it differently, and that is nothing to write.
    set_pod(&mut world, no_image("Back-off pulling image \"x\": 20s"));
    world.settle();
    assert_eq!(world.said(), said);
    for missing in ["configmap \"x\" not found", "configmap \"y\" not found"] {
        set_pod(&mut world, waiting("CreateContainerConfigError", missing));
        world.settle();
        assert!(world.said().ends_with(missing), "{}", world.said());
    }
    world.succeed("b");
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "Running");
}

#[test]
fn a_job_without_pods_and_an_unschedulable_pod_are_told_of_too() {
    let mut world = World::new(&["a"]);
    world.settle();
    world.now += 300;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "NoPods");
    let unscheduled = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"});
    world.add_pod(
        "dj-a",
        &json!({"phase": "Pending", "conditions": [unscheduled]}),
    );
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "Running");
    assert!(
        world
            .said()
            .ends_with("Waiting for node \"a\" (Unschedulable): pod \"dj-a-abcde\" is not scheduled: Insufficient cpu"),
        "{}",
        world.said()
    );
    world.now += 300;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "Unschedulable");
    assert!(
        world
            .said()
            .ends_with("on node \"a\": pod \"dj-a-abcde\" is not scheduled: Insufficient cpu")
    );
    assert_eq!(world.events(), ["Created", "Stalled", "Stalled"]);
}

#[test]
fn a_node_whose_pod_is_refused_quotes_the_event_that_says_why() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.warning = Some(Failure::new("FailedCreate", "exceeded quota: pods"));
    world.now += 9;
    world.settle();
    assert_eq!(world.asked, [], "a Job that has just been made");
    assert_eq!(
        world.pass().and_then(|conclusion| conclusion.requeue_after),
        Some(Duration::from_secs(1))
    );
    world.now += 1;
    world.settle();
    for node in &world.status().blocked_nodes {
        assert_eq!(
            (node.reason.as_str(), node.message.as_str()),
            (
                "FailedCreate",
                "no pod of the Job has been created: exceeded quota: pods"
            )
        );
    }
    // The words stay, the time counts on, and they are not read again.
    world.warning = None;
    world.now += 290;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "FailedCreate");
    assert!(
        world
            .said()
            .ends_with("on node \"a\": no pod of the Job has been created: exceeded quota: pods"),
        "{}",
        world.said()
    );
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn a_node_whose_pod_no_event_explains_says_so_and_is_not_asked_about_again() {
    let mut world = World::new(&["a"]);
    world.settle();
    for _ in 0..60 {
        world.now += 10;
        world.settle();
    }
    assert_eq!(world.condition(STALLED).reason, "NoPods");
    assert!(
        world
            .said()
            .ends_with("no pod of the Job has been created: no Warning Event about it was found"),
        "{}",
        world.said()
    );
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn of_several_that_can_not_progress_the_one_that_was_named_stays_named() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.add_pod("dj-b", &no_image("no"));
    world.settle();
    world.now += 100;
    world.add_pod("dj-a", &no_image("no"));
    world.settle();
    world.now += 200;
    world.settle();
    assert!(
        world
            .said()
            .contains(". Job \"dj-b\" can't progress on node \"b\": "),
        "{}",
        world.said()
    );
    world.now += 100;
    world.settle();
    assert!(
        world
            .said()
            .contains(". 2 Jobs can't progress; Job \"dj-b\" on node \"b\": "),
        "{}",
        world.said()
    );
}

#[test]
fn of_many_that_are_refused_a_few_are_tried_in_a_pass_and_each_has_its_turn() {
    let names: Vec<_> = (0..100).map(|number| format!("n{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&names);
    world.refusals.insert("*".to_owned(), quota());
    world.pass();
    assert_eq!(world.posts, 100, "nobody knew");
    for _ in 0..5 {
        let conclusion = world.pass().expect("a conclusion");
        assert_eq!(conclusion.requeue_after, None);
    }
    assert_eq!((world.posts, world.status_writes), (150, 1));
    assert_eq!(world.status().refused_node_digests.len(), 100);
    // Whoever may run now is found, though all others stay refused.
    world.refusals.remove("*");
    for name in &names[..99] {
        world.refusals.insert((*name).to_owned(), quota());
    }
    for _ in 0..100 {
        world.now += 1;
        world.pass();
    }
    assert_eq!(world.busy(), ["n99"]);
    // When there is room again, all start immediately.
    world.refusals.clear();
    world.settle();
    assert_eq!(world.busy().len(), 100);
}

#[test]
fn the_next_node_is_tried_at_once_when_the_first_is_refused_and_nothing_in_a_circle() {
    let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1}");
    world.refusals.insert("*".to_owned(), quota());
    let mut after = || world.pass().expect("a conclusion").requeue_after;
    assert_eq!(after(), Some(Duration::ZERO));
    assert_eq!((after(), after()), (None, None));
    assert_eq!(world.posts, 3);
}

#[test]
fn a_refusal_that_is_over_is_not_reported_while_nodes_wait_for_their_turn() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{parallelism: 1}");
    let outage = Failure::new("InternalError", "failed calling webhook");
    world.refusals.insert("*".to_owned(), outage);
    for _ in 0..3 {
        world.settle();
        world.wait(60);
    }
    assert_eq!(world.condition(STALLED).reason, "InternalError");

    world.refusals.clear();
    world.wait(60);
    world.settle();
    assert_eq!(world.made, 1);
    let standing = world.standing();
    assert!(
        standing.iter().all(|(type_, _, _)| *type_ != STALLED),
        "{standing:?}"
    );
}
