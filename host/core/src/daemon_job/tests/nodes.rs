//! Nodes that come, go, and are not fit.

use std::time::Duration;

use operon_api::{
    conditions::{COMPLETE, READY, RECONCILING},
    daemon_job::FlowState,
};
use serde_json::json;

use super::world::{START, World, time};

#[test]
fn nodes_that_are_not_fit_are_counted_and_not_waited_for() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.cordon("b", true);
    world.set_ready("c", false);
    world.taint("d", "gpu");
    world.settle();
    assert_eq!(world.names(), ["dj-a"]);
    assert_eq!(world.status().desired, Some(1));
    assert_eq!(world.status().skipped, Some(3));
    assert_eq!(
        world.said(),
        "0 of 1 node succeeded, 1 running. 3 nodes get no Job: 1 not Ready, 1 cordoned, 1 tainted. Waiting for node \"a\""
    );
    world.succeed("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);

    let mut world = World::new(&["a", "b", "c", "d"]);
    world.edit(|spec| spec["nodes"] = json!({"includeUnschedulable": true}));
    world.cordon("b", true);
    world.set_ready("c", false);
    world.taint("d", "gpu");
    world.settle();
    assert_eq!(world.made, 4);
    let pod = json!(world.job("dj-d").spec)["template"]["spec"].clone();
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
}

#[test]
fn a_node_that_is_not_ready_is_waited_for_if_that_is_asked_for() {
    for becomes_ready in [false, true] {
        let mut world = World::new(&["a", "b", "c"]);
        world.edit(|spec| spec["nodes"] = json!({"readyTimeoutSeconds": 60}));
        world.set_ready("b", false);
        world.cordon("c", true);
        world.settle();
        world.succeed("a");
        world.settle();
        assert_eq!(
            (world.state(), world.progress()),
            (FlowState::Running, "1/2")
        );
        assert_eq!(
            world.said(),
            "1 of 2 nodes succeeded, 1 unavailable. 1 node gets no Job: 1 cordoned. Waiting for node \"b\" (not Ready)"
        );
        world.now += 59;
        world.settle();
        assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(1)));
        if becomes_ready {
            world.set_ready("b", true);
            world.settle();
            world.succeed("b");
        }
        world.now += 1;
        world.settle();
        let expected = if becomes_ready { "2/2" } else { "1/1" };
        assert_eq!(
            (world.state(), world.progress()),
            (FlowState::Succeed, expected)
        );
        let skipped = if becomes_ready { 1 } else { 2 };
        assert_eq!(world.status().skipped, Some(skipped));
    }
}

#[test]
fn a_node_that_has_not_been_ready_for_long_is_not_waited_for_by_an_old_object() {
    let mut world = World::with_rollout(&["a"], "{completionPolicy: Never}");
    world.edit(|spec| spec["nodes"] = json!({"readyTimeoutSeconds": 60}));
    world.settle();
    world.now += 100;
    world.join("b");
    world.set_ready("b", false);
    // The clock of its kubelet is of no account.
    let status = world.node_mut("b").status.as_mut().expect("a status");
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(time(START - 100_000));
    }
    world.settle();
    world.now += 59;
    world.settle();
    assert_eq!(world.status().desired, Some(2));
    world.now += 1;
    world.settle();
    assert_eq!(world.status().desired, Some(1));
}

#[test]
fn without_a_node_it_is_pending_and_never_succeeds() {
    let mut world = World::new(&[]);
    world.settle();
    assert_eq!(world.state(), FlowState::Pending);
    assert_eq!(
        world.standing(),
        [
            (READY, "False", "NoEligibleNodes"),
            (RECONCILING, "True", "NoEligibleNodes")
        ]
    );
    assert_eq!(world.said(), "No node gets a Job");

    let mut world = World::new(&["a", "b", "c", "d"]);
    world.edit(|spec| spec["excludeNodeList"] = json!("d, x,y"));
    for node in ["a", "b", "c"] {
        world.cordon(node, true);
    }
    world.settle();
    assert_eq!(
        world.said(),
        "No node gets a Job. 4 nodes get no Job: 1 excluded, 3 cordoned. spec.excludeNodeList names nodes that do not exist: \"x\", \"y\""
    );
    assert_eq!(world.progress(), "0/0");
    world.cordon("a", false);
    world.settle();
    assert_eq!(world.busy(), ["a"]);
}

#[test]
fn when_it_is_finished_a_node_that_comes_gets_nothing() {
    let mut world = World::new(&["a"]);
    world.settle();
    world.succeed("a");
    world.settle();
    let before = world.status().clone();
    world.join("b");
    world.settle();
    world.leave("a");
    world.settle();
    assert_eq!((world.made, world.status()), (1, &before));
}

#[test]
fn a_node_that_comes_while_it_runs_is_served() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.succeed("a");
    world.join("c");
    world.settle();
    assert_eq!((world.busy(), world.progress()), (vec!["b", "c"], "1/3"));
}

#[test]
fn one_that_never_finishes_serves_each_node_that_comes() {
    let mut world = World::with_rollout(&["a"], "{completionPolicy: Never}");
    world.settle();
    world.succeed("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);
    assert_eq!(world.condition(READY).status, "True");
    assert_eq!(world.status().completion_time, None);
    assert_eq!(world.end(), [], "it never finishes");
    world.events();

    world.join("b");
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    assert_eq!(world.condition(READY).status, "False");
    world.succeed("b");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "2/2")
    );
    assert_eq!(world.events(), ["Created", "Succeed"]);

    world.leave("a");
    world.settle();
    assert_eq!(world.progress(), "1/1");
    assert_eq!(world.status().completed_nodes.len(), 1);
}

#[test]
fn one_that_is_to_go_on_after_all_does_and_one_that_is_to_finish_does() {
    let mut world = World::new(&["a"]);
    world.settle();
    world.succeed("a");
    world.settle();
    world.join("b");
    world.settle();
    assert_eq!(world.end(), [(COMPLETE, "Succeeded")]);
    world.set_rollout("{completionPolicy: Never}");
    world.settle();
    assert_eq!((world.busy(), world.progress()), (vec!["b"], "1/2"));
    assert_eq!(world.end(), []);
    world.succeed("b");
    world.settle();
    world.set_rollout("{completionPolicy: Always}");
    world.settle();
    assert!(world.status().completion_time.is_some());
    assert_eq!(world.made, 2);
}

#[test]
fn a_node_that_comes_again_under_its_name_is_another_node() {
    let mut world = World::with_rollout(
        &["a", "b"],
        "{failurePolicy: Continue, completionPolicy: Never}",
    );
    world.settle();
    world.succeed("a");
    world.fail("b");
    world.settle();
    assert_eq!(world.state(), FlowState::Failed);
    for node in ["a", "b"] {
        world.leave(node);
        world.join(node);
    }
    world.settle();
    assert_eq!((world.made, world.progress()), (4, "0/2"));
    assert_eq!(world.status().failed_nodes, []);
    assert_eq!(world.busy(), ["a", "b"]);
    for node in ["a", "b"] {
        world.succeed(node);
    }
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);
}

#[test]
fn the_unfinished_job_of_a_node_that_left_is_deleted_and_not_counted() {
    let mut world = World::new(&["a", "b", "c"]);
    world.settle();
    world.succeed("a");
    world.settle();
    world.leave("a");
    world.leave("b");
    world.settle();
    assert_eq!(world.names(), ["dj-a", "dj-c"], "a result is kept");
    assert_eq!(world.progress(), "0/1");
    world.succeed("c");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "1/1")
    );
}

#[test]
fn the_finished_job_of_a_node_that_left_goes_when_its_time_is_over() {
    let mut world = World::new(&["a", "b"]);
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(5));
    world.settle();
    world.fail("a");
    world.leave("a");
    world.settle();
    world.wait(5);
    assert_eq!(world.names(), ["dj-b"]);
    assert_eq!(world.settle().failed, Some(0));
}

#[test]
fn that_all_nodes_are_gone_is_not_believed() {
    let mut world = World::with_rollout(&["a", "b"], "{completionPolicy: Never}");
    world.settle();
    world.succeed("a");
    world.settle();
    let nodes = std::mem::take(&mut world.nodes);
    world.settle();
    assert_eq!(world.names(), ["dj-a", "dj-b"]);
    world.nodes = nodes;
    world.delete_job("dj-a", false);
    world.settle();
    assert_eq!((world.progress(), world.made), ("1/2", 2));
}

#[test]
fn a_node_that_is_no_longer_fit_keeps_its_job_and_its_result() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{failurePolicy: Continue}");
    world.settle();
    world.succeed("a");
    world.fail("b");
    world.settle();
    for node in ["a", "b", "c"] {
        world.set_ready(node, false);
        world.cordon(node, true);
    }
    world.settle();
    let status = world.status();
    assert_eq!(status.desired, Some(3));
    assert_eq!(
        (status.succeeded, status.failed, status.active),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(status.skipped, Some(0));
    world.succeed("c");
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Failed, "2/3")
    );
    assert_eq!(world.made, 3);
}

#[test]
fn a_node_that_loses_its_job_while_it_is_not_fit_is_waited_for() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.cordon("a", true);
    world.delete_job("dj-a", false);
    world.settle();
    assert_eq!((world.progress(), world.made), ("0/2", 2));
    assert!(
        world.said().contains("\"a\" (cordoned)"),
        "{}",
        world.said()
    );
    world.cordon("a", false);
    world.settle();
    assert_eq!(
        world.names(),
        ["dj-a-2", "dj-b"],
        "its number is remembered"
    );
}

#[test]
fn a_node_of_nonsense_is_no_panic() {
    let mut world = World::new(&["a", "b"]);
    let node = world.node_mut("a");
    (node.metadata.uid, node.spec, node.status) = (None, None, None);
    let node = world.node_mut("b");
    node.metadata.name = None;
    world.settle();
    assert_eq!(world.made, 1);
}
