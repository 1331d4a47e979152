//! Nodes that fail: what it means for the others, and how they run again.

use std::time::Duration;

use kube::ResourceExt;
use operon_api::{
    conditions::{FAILED, READY, RECONCILING, STALLED},
    daemon_job::FlowState,
    keys,
};
use serde_json::json;

use super::world::World;
use crate::driver::memory::Reconciles as _;

#[test]
fn fail_fast_starts_nothing_more_and_what_runs_goes_on() {
    let mut world = World::with_rollout(&["a", "b", "c", "d"], "{parallelism: 2}");
    world.settle();
    world.fail("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Failed, "at once");
    assert_eq!(world.busy(), ["b"]);
    assert_eq!(world.status().completion_time, None, "b still runs");
    assert_eq!(world.end(), []);
    assert_eq!(
        world.standing(),
        [
            (READY, "False", "NodesFailed"),
            (STALLED, "True", "NodesFailed")
        ]
    );
    assert_eq!(
        world.said(),
        "0 of 4 nodes succeeded, 1 running, 1 failed. Waiting for node \"b\". More nodes failed than spec.rollout.maxFailures, which is 0. Failed: \"a\" (BackoffLimitExceeded: too many retries). Set the annotation operon.dev/retry to another value to run them again"
    );
    world.succeed("b");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Failed, "1/4")
    );
    assert!(world.status().completion_time.is_some());
    assert_eq!(world.end(), [(FAILED, "NodesFailed")]);
    assert_eq!(world.made, 2);
    assert_eq!(
        world.events(),
        ["Created", "Created", "NodeFailed", "Failed"]
    );
    world.join("e");
    world.settle();
    assert_eq!(world.made, 2, "it stays finished");
}

#[test]
fn continue_serves_every_node_and_fails_in_the_end() {
    let mut world = World::with_rollout(
        &["a", "b", "c"],
        "{parallelism: 1, failurePolicy: Continue}",
    );
    world.settle();
    world.fail("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    assert_eq!(world.condition(RECONCILING).reason, "Running");
    world.fail("b");
    world.settle();
    world.succeed("c");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Failed, "1/3")
    );
    assert!(
        world.said().contains("Failed: \"a\", \"b\" ("),
        "{}",
        world.said()
    );
}

#[test]
fn so_many_may_fail_and_a_part_is_rounded_down() {
    for (max_failures, fails, expected) in [
        ("0", 1, FlowState::Failed),
        ("1", 1, FlowState::Succeed),
        ("1", 2, FlowState::Failed),
        ("\"25%\"", 1, FlowState::Succeed),
        ("\"24%\"", 1, FlowState::Failed),
        ("\"100%\"", 4, FlowState::Succeed),
    ] {
        let nodes = ["a", "b", "c", "d"];
        let mut world = World::with_rollout(&nodes, &format!("{{maxFailures: {max_failures}}}"));
        world.settle();
        for (number, node) in nodes.into_iter().enumerate() {
            if number < fails {
                world.fail(node);
            } else {
                world.succeed(node);
            }
        }
        world.settle();
        assert_eq!(world.state(), expected, "{fails} of {max_failures}");
        assert!(world.status().completion_time.is_some());
    }
}

#[test]
fn pause_starts_nothing_more_until_failed_nodes_are_retried() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{parallelism: 1, failurePolicy: Pause}");
    world.settle();
    world.fail("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    assert_eq!(world.condition(STALLED).reason, "TooManyFailures");
    assert_eq!(world.status().completion_time, None);
    assert_eq!(world.events(), ["Created", "NodeFailed", "Stalled"]);
    world.retry("now");
    world.settle();
    assert_eq!(world.names(), ["dj-a", "dj-a-2"]);
    world.succeed("a");
    world.settle();
    assert_eq!(world.busy(), ["b"]);
    world.fail("b");
    world.settle();
    world.retry("again");
    world.settle();
    world.succeed("b");
    world.settle();
    world.succeed("c");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "3/3")
    );
    assert_eq!(world.made, 5);
}

#[test]
fn a_failed_node_runs_again_after_a_wait_that_doubles() {
    let mut world = World::with_rollout(&["a", "b"], "{retry: {limit: 2, backoffSeconds: 30}}");
    world.settle();
    world.succeed("b");
    for (attempt, wait) in [(1, 30), (2, 60)] {
        world.fail("a");
        world.settle();
        assert_eq!(world.state(), FlowState::Running);
        assert_eq!(world.said(), "1 of 2 nodes succeeded, 1 to run again");
        assert_eq!(world.status().failed, Some(0));
        let after = world.plan().requeue_after;
        assert_eq!(after, Some(Duration::from_secs(wait)), "exactly then");
        world.now += i64::try_from(wait).expect("a number") - 1;
        world.settle();
        assert_eq!(world.names().len(), attempt + 1);
        world.now += 1;
        world.settle();
        assert_eq!(world.names().len(), attempt + 2);
    }
    world.fail("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Failed);
    let failed = &world.status().failed_nodes[0];
    assert_eq!(
        (failed.attempts, failed.job_name.as_deref()),
        (Some(3), Some("dj-a-3"))
    );
    assert_eq!(
        world.status().failed_node_digests[0]
            .split_once(':')
            .map(|(_, n)| n),
        Some("3")
    );
}

#[test]
fn a_retry_that_becomes_due_within_a_pass_is_not_lost() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 1}}");
    world.settle();
    world.fail("a");
    world.settle();
    world.now += 9;
    world.meanwhile = vec![|world| world.now += 1];
    let conclusion = world.pass().expect("a conclusion");
    assert_eq!(world.made, 1, "it was not due when the pass began");
    assert_eq!(conclusion.requeue_after, Some(Duration::ZERO));
    world.pass();
    assert_eq!(world.made, 2);
}

#[test]
fn a_wait_is_an_hour_at_most() {
    let mut world = World::with_rollout(&["a"], "{retry: {limit: 100, backoffSeconds: 3600}}");
    world.settle();
    for _ in 0..3 {
        world.fail("a");
        world.settle();
        assert_eq!(world.plan().requeue_after, Some(Duration::from_hours(1)));
        world.wait(3600);
        world.settle();
    }
    assert_eq!(world.running("a"), "dj-a-4");
}

#[test]
fn a_retry_runs_failed_nodes_again_after_it_was_finished_and_the_rest_goes_on() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{parallelism: 1}");
    world.settle();
    world.succeed("a");
    world.settle();
    world.fail("b");
    world.settle();
    assert!(world.status().completion_time.is_some());
    world.events();
    world.retry("1");
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    assert_eq!(world.status().completion_time, None);
    assert_eq!(world.status().retried.as_deref(), Some("1"));
    assert_eq!(world.busy(), ["b"]);
    assert_eq!(world.job("dj-b-2").annotations()[keys::RUN_ATTEMPT], "2");
    world.succeed("b");
    world.settle();
    world.succeed("c");
    world.settle();
    assert_eq!((world.state(), world.made), (FlowState::Succeed, 4));
    assert_eq!(world.events(), ["Created", "Created", "Succeed"]);

    world.retry("2");
    let completed = world.status().completion_time.clone();
    world.settle();
    assert_eq!(
        (world.state(), world.made),
        (FlowState::Succeed, 4),
        "nothing had failed"
    );
    assert_eq!(world.status().completion_time, completed);
    assert_eq!(world.status().retried.as_deref(), Some("2"));
}

#[test]
fn a_retry_of_many_nodes_takes_them_in_turn() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{failurePolicy: Continue}");
    world.settle();
    for node in ["a", "b", "c"] {
        world.fail(node);
    }
    world.settle();
    world.set_rollout("{failurePolicy: Continue, parallelism: 1}");
    world.retry("1");
    world.settle();
    for node in ["a", "b", "c"] {
        assert_eq!(world.busy(), [node]);
        world.fail(node);
        world.settle();
    }
    assert_eq!((world.state(), world.made), (FlowState::Failed, 6));
    let attempts = world
        .status()
        .failed_nodes
        .iter()
        .map(|failed| failed.attempts);
    assert_eq!(attempts.collect::<Vec<_>>(), [Some(2); 3]);
}

#[test]
fn an_annotation_that_is_there_from_the_start_or_taken_off_retries_nothing() {
    let mut world = World::new(&["a"]);
    world.retry("1");
    world.settle();
    assert_eq!(world.status().retried.as_deref(), Some("1"));
    world.fail("a");
    world.settle();
    world.object.metadata.annotations = None;
    world.settle();
    assert_eq!((world.made, world.state()), (1, FlowState::Failed));
    world.retry("1");
    world.settle();
    assert_eq!(world.made, 1);
    world.retry("2");
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn a_retry_runs_a_node_again_whose_job_is_gone() {
    let mut world = World::new(&["a"]);
    world.settle();
    world.fail("a");
    world.settle();
    world.delete_job("dj-a", false);
    world.settle();
    world.retry("1");
    world.settle();
    assert_eq!(world.names(), ["dj-a-2"]);
}

#[test]
fn a_node_that_is_to_run_again_and_is_not_fit_is_waited_for_a_while() {
    let mut world = World::with_rollout(&["a", "b"], "{retry: {limit: 1}, parallelism: 1}");
    world.settle();
    world.fail("a");
    world.set_ready("a", false);
    world.settle();
    assert_eq!(world.status().desired, Some(2));
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(10)));
    assert_eq!(world.busy(), ["b"]);
    world.now += 100;
    world.set_ready("a", true);
    world.succeed("b");
    world.settle();
    assert_eq!(world.busy(), ["a"]);

    let mut world = World::with_rollout(&["a", "b"], "{retry: {limit: 1}}");
    world.settle();
    world.fail("a");
    world.cordon("a", true);
    world.settle();
    world.succeed("b");
    world.now += 10;
    world.settle();
    world.now += 599;
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    assert!(
        world.said().contains("\"a\" (cordoned)"),
        "{}",
        world.said()
    );
    world.now += 1;
    world.settle();
    assert_eq!(
        (world.state(), world.status().failed),
        (FlowState::Failed, Some(1))
    );
    assert_eq!(world.condition(READY).reason, "NodesFailed");
    assert_eq!(world.made, 2);
}

#[test]
fn the_status_tells_of_twenty_failed_nodes_with_reason_and_exit_code() {
    let names: Vec<_> = (0..30).map(|number| format!("n{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::with_rollout(&names, "{failurePolicy: Continue}");
    world.settle();
    for name in &names[5..30] {
        let job = format!("dj-{name}");
        let end = json!({"exitCode": 3, "reason": "Error", "message": "no disk"});
        let container = json!({"name": "main", "state": {"terminated": end}});
        world.add_pod(
            &job,
            &json!({"phase": "Failed", "containerStatuses": [container]}),
        );
        world.fail(name);
    }
    world.settle();
    let told = world.status().failed_nodes.clone();
    assert_eq!(told.len(), 20);
    assert_eq!(told[0].name, "n05");
    assert_eq!(told[0].exit_code, Some(3));
    assert_eq!(
        told[0].message,
        "too many retries; container \"main\" of pod \"dj-n05-abcde\" exited with 3: no disk"
    );
    // The pods terminate, and others fail: the report stays.
    world.pods.clear();
    for name in &names[0..5] {
        world.fail(name);
    }
    world.settle();
    assert_eq!(world.status().failed_nodes, told);
    assert_eq!(world.status().failed, Some(30));
    assert!(world.said().contains("and 15 more"), "{}", world.said());
}
