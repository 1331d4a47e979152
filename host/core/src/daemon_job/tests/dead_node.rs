//! Nodes that die, or have no room, in the middle of their Job: nothing waits for them for ever.

use std::time::Duration;

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING, STALLED},
    daemon_job::FlowState,
    keys,
};
use serde_json::{Value, json};

use super::world::World;

const ROLLOUT: &str = "parallelism: 1, failurePolicy: Continue, maxFailures: 1, timeoutSeconds: 20";

/// A pod that the scheduler finds no node for.
fn unschedulable(message: &str) -> Value {
    let scheduled = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    });
    json!({"phase": "Pending", "conditions": [scheduled]})
}

#[test]
fn a_node_that_dies_in_the_middle_of_its_job_does_not_hold_up_the_others() {
    let mut world = World::with_rollout(&["a", "b", "c"], &format!("{{{ROLLOUT}}}"));
    world.settle();
    world.run("a");
    world.set_ready("a", false);
    world.settle();
    assert_eq!(
        world.said(),
        "0 of 3 nodes succeeded, 1 running, 2 waiting to start. Waiting for node \"a\" (not Ready)"
    );
    world.now += 20;
    world.time_out("a");
    world.settle();
    let failed = &world.status().failed_nodes[0];
    assert_eq!(
        (
            failed.name.as_str(),
            failed.reason.as_str(),
            failed.message.as_str()
        ),
        (
            "a",
            "DeadlineExceeded",
            "Job was active longer than specified deadline; node \"a\" is not Ready"
        )
    );
    for node in ["b", "c"] {
        assert_eq!(world.busy(), ["a", node], "one after the other");
        world.succeed(node);
        world.settle();
    }
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "2/3"),
        "maxFailures is 1"
    );
    assert_eq!(world.made, 3);
}

#[test]
fn a_job_whose_time_is_over_has_failed_even_if_kubernetes_does_not_say_so() {
    let mut world = World::with_rollout(&["a", "b"], &format!("{{{ROLLOUT}}}"));
    world.settle();
    world.run("a");
    world.settle();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(30)));
    world.now += 29;
    world.settle();
    assert_eq!(world.busy(), ["a"]);
    world.now += 1;
    world.settle();
    assert_eq!(world.busy(), ["a", "b"]);
    let failed = &world.status().failed_nodes[0];
    assert_eq!(failed.reason, "DeadlineExceeded");
    world.succeed("a");
    world.succeed("b");
    world.settle();
    assert_eq!(world.progress(), "2/2", "it did end after all");
}

#[test]
fn the_time_of_a_job_is_counted_by_this_clock_and_anew_when_it_is_resumed() {
    let mut world = World::with_rollout(&["a"], "{timeoutSeconds: 20}");
    world.settle();
    world.run("a");
    // A clock that is an hour behind.
    let behind = super::world::time(world.now - 3600);
    let start = |world: &mut World, at| {
        let job = world.jobs.get_mut("dj-a").expect("a Job");
        job.status.get_or_insert_default().start_time = at;
    };
    start(&mut world, Some(behind));
    world.settle();
    world.now += 29;
    world.settle();
    assert_eq!(world.status().failed, Some(0));
    // It was suspended and resumed while this process looked away.
    let resumed = super::world::time(world.now - 3600);
    start(&mut world, Some(resumed));
    world.settle();
    world.now += 29;
    world.settle();
    assert_eq!(world.status().failed, Some(0));
    world.now += 1;
    world.settle();
    assert_eq!(world.status().failed, Some(1));
}

#[test]
fn a_retry_waits_until_the_pod_on_the_dead_node_has_terminated_and_holds_up_nobody() {
    let rollout = format!("{{{ROLLOUT}, retry: {{limit: 1}}}}");
    let mut world = World::with_rollout(&["a", "b"], &rollout);
    world.edit(|spec| spec["nodes"] = json!({"includeUnschedulable": true}));
    world.settle();
    world.run("a");
    world.set_ready("a", false);
    world.time_out("a");
    world.settle();
    assert_eq!(world.busy(), ["a", "b"]);
    world.now += 3600;
    world.settle();
    assert_eq!(world.made, 2, "never twice on a node");
    world.succeed("b");
    world.settle();
    assert!(
        world
            .said()
            .contains("\"a\" (the pod of its failed Job has not terminated)"),
        "{}",
        world.said()
    );
    // The Job is marked as failed when its pod has terminated.
    world.pods.clear();
    world.fail("a");
    world.settle();
    assert_eq!(world.job("dj-a-2").annotations()[keys::FAILURES], "1");
}

#[test]
fn an_edit_goes_past_a_dead_node() {
    let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1}");
    world.settle();
    world.run("a");
    world.set_ready("a", false);
    world.edit_image("alpine:2");
    world.settle();
    assert_eq!(
        world.running("b"),
        "dj-b",
        "the old pod on a never terminates"
    );
}

#[test]
fn a_node_without_room_fails_with_what_the_scheduler_says() {
    let mut world = World::with_rollout(&["a", "b"], &format!("{{{ROLLOUT}}}"));
    world.settle();
    world.run("a");
    let says = "0/2 nodes are available: 1 Insufficient cpu.";
    world.add_pod("dj-a", &unschedulable(says));
    world.settle();
    let told = "Waiting for node \"a\" (Unschedulable): pod \"dj-a-abcde\" is not scheduled: 0/2 nodes are available: 1 Insufficient cpu";
    assert!(world.said().ends_with(told), "{}", world.said());
    let blocked = &world.status().blocked_nodes[0];
    assert_eq!(
        (blocked.name.as_str(), blocked.reason.as_str()),
        ("a", "Unschedulable")
    );
    // Kubernetes deletes the pod at the deadline.
    world.time_out("a");
    world.pods.clear();
    world.settle();
    assert_eq!(
        world.status().failed_nodes[0].message,
        "Job was active longer than specified deadline; none of its pods ever ran: Unschedulable: pod \"dj-a-abcde\" is not scheduled: 0/2 nodes are available: 1 Insufficient cpu"
    );
    assert_eq!(world.running("b"), "dj-b");
}

#[test]
fn a_node_without_room_is_named_and_goes_on_when_there_is_some() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{parallelism: 1}");
    world.settle();
    world.add_pod("dj-a", &unschedulable("1 Insufficient cpu"));
    world.settle();
    world.now += 300;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "Unschedulable");
    let said = world.said();
    assert!(said.contains("2 waiting to start"), "{said}");
    assert!(
        said.contains("node \"a\"") && said.contains("Insufficient cpu"),
        "{said}"
    );
    world.run("a");
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "Running");
    assert_eq!(world.status().blocked_nodes, []);
    for node in ["a", "b", "c"] {
        world.succeed(node);
        world.settle();
    }
    assert_eq!(world.condition(READY).reason, "Succeeded");
}

#[test]
fn one_that_is_being_deleted_names_the_pod_and_the_dead_node_that_it_waits_for() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.run("a");
    world.set_ready("a", false);
    world.object.metadata.deletion_timestamp = Some(super::world::time(world.now));
    world.settle();
    assert_eq!(
        world.said(),
        "The DaemonJob and its Jobs are being deleted. Pod \"dj-a-abcde\" can't terminate: node \"a\" is not Ready"
    );
}

#[test]
fn only_failures_use_up_the_retries_and_each_is_reported_with_its_cause() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 1, backoffSeconds: 10}}");
    world.settle();
    for job in ["dj-a", "dj-a-2", "dj-a-3"] {
        world.delete_job(job, false);
        world.settle();
        world.wait(360);
        world.settle();
    }
    assert_eq!(world.names(), ["dj-a-4"]);
    world.events();
    let end = json!({"exitCode": 3, "reason": "Error"});
    let container = json!({"name": "main", "state": {"terminated": end}});
    let status = json!({"phase": "Failed", "reason": "Evicted", "message": "no disk", "containerStatuses": [container]});
    world.add_pod("dj-a-4", &status);
    world.fail("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    let told: Vec<_> = world
        .events
        .iter()
        .map(|event| event.message.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "Job \"dj-a-4\" failed: BackoffLimitExceeded: too many retries; pod \"dj-a-4-abcde\": Evicted: no disk; node \"a\" is retried"
        ]
    );
    // That the failed Job is deleted changes nothing.
    world.delete_job("dj-a-4", false);
    world.collect_garbage();
    world.settle();
    assert_eq!(world.made, 4, "the wait goes on");
    world.wait(10);
    world.settle();
    assert_eq!(world.job("dj-a-5").annotations()[keys::FAILURES], "1");
    world.fail("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Failed);
}

#[test]
fn a_user_who_asks_for_a_retry_grants_all_retries_again() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 1, backoffSeconds: 10}}");
    world.settle();
    for round in ["1", "2"] {
        for _ in 0..2 {
            assert_eq!(world.state(), FlowState::Running);
            world.fail("a");
            world.settle();
            world.wait(10);
            world.settle();
        }
        assert_eq!(world.state(), FlowState::Failed);
        world.retry(round);
        world.settle();
    }
    assert_eq!(world.running("a"), "dj-a-5");
}
