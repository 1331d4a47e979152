//! Nodes that could get a Job when the rollout began, and can't when their turn comes.

use std::time::Duration;

use operon_api::{
    conditions::{READY, RECONCILING, STALLED},
    daemon_job::FlowState,
};
use serde_json::json;

use super::world::World;
use crate::driver::memory::Reconciles as _;

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

fn serve(world: &mut World, nodes: &[&str]) {
    for node in nodes {
        world.succeed(node);
        world.settle();
    }
}

fn cordon(world: &mut World, nodes: &[&str], is_cordoned: bool) {
    for node in nodes {
        world.cordon(node, is_cordoned);
    }
}

/// Five nodes of which two are done, and the other three were cordoned.
fn cordoned() -> World {
    let mut world = World::with_rollout(&FIVE, "{parallelism: 1}");
    world.settle();
    serve(&mut world, &["a"]);
    cordon(&mut world, &["c", "d", "e"], true);
    serve(&mut world, &["b"]);
    world
}

#[test]
fn a_node_that_is_cordoned_for_a_moment_before_its_turn_is_waited_for() {
    let mut world = cordoned();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Running, "2/5")
    );
    assert_eq!(
        world.said(),
        "2 of 5 nodes succeeded, 3 unavailable. Waiting for nodes \"c\" (cordoned), \"d\" (cordoned), \"e\" (cordoned)"
    );
    world.wait(60);
    world.settle();
    cordon(&mut world, &["c", "d", "e"], false);
    world.settle();
    serve(&mut world, &["c", "d", "e"]);
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "5/5")
    );
    assert_eq!(world.status().waiting_node_digests, [""; 0]);
}

#[test]
fn nodes_that_are_waited_for_in_vain_are_named_and_it_fails() {
    let mut world = cordoned();
    assert_eq!(world.plan().requeue_after, Some(Duration::from_mins(10)));
    world.wait(599);
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    world.wait(1);
    world.settle();
    assert_eq!(world.state(), FlowState::Failed);
    assert_eq!(
        world.standing(),
        [
            (READY, "False", "NodesSkipped"),
            (STALLED, "True", "NodesSkipped")
        ]
    );
    assert_eq!(
        world.said(),
        "2 of 5 nodes succeeded, 3 skipped. These nodes did not become available within 600 s: \"c\" (cordoned), \"d\" (cordoned), \"e\" (cordoned). Set the annotation operon.dev/retry to another value to run them again"
    );
    assert_eq!(world.status().skipped, Some(3));
    assert_eq!(
        world.events.last().map(|event| event.reason),
        Some("Failed")
    );
    // It stays so, and a retry waits for them again.
    cordon(&mut world, &["c"], false);
    world.settle();
    assert_eq!(world.made, 2);
    world.retry("1");
    world.settle();
    serve(&mut world, &["c"]);
    assert_eq!(world.condition(RECONCILING).reason, "Running");
    cordon(&mut world, &["d", "e"], false);
    world.settle();
    serve(&mut world, &["d", "e"]);
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "5/5")
    );
}

#[test]
fn each_is_waited_for_from_its_own_turn_and_the_others_go_on_meanwhile() {
    let mut world = World::with_rollout(&["a", "b", "c", "d"], "{parallelism: 1}");
    world.settle();
    cordon(&mut world, &["b", "d"], true);
    world.wait(3600);
    world.settle();
    assert_eq!(world.state(), FlowState::Running, "it is not their turn");
    serve(&mut world, &["a"]);
    assert_eq!(world.busy(), ["c"]);
    world.wait(3600);
    world.settle();
    serve(&mut world, &["c"]);
    world.wait(599);
    world.settle();
    assert_eq!(world.state(), FlowState::Running, "now it is");
    cordon(&mut world, &["b"], false);
    world.settle();
    world.wait(1);
    world.settle();
    assert_eq!(
        (world.state(), world.busy()),
        (FlowState::Running, vec!["b"])
    );
    serve(&mut world, &["b"]);
    assert_eq!(world.condition(READY).reason, "NodesSkipped");
    assert!(
        world.said().contains("\"d\" (cordoned)"),
        "{}",
        world.said()
    );
}

#[test]
fn for_how_long_is_a_setting_and_time_that_somebody_stops_does_not_count() {
    let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1}");
    world.edit(|spec| spec["nodes"] = json!({"unavailableTimeoutSeconds": 60}));
    world.settle();
    world.set_ready("b", false);
    serve(&mut world, &["a"]);
    for (key, held, free) in [
        ("suspend", json!(true), json!(false)),
        ("rollout", json!({"paused": true}), json!({})),
    ] {
        world.wait(59);
        world.settle();
        world.edit(|spec| spec[key] = held);
        world.settle();
        world.wait(10_000);
        world.settle();
        assert_eq!(world.state(), FlowState::Running, "{key}");
        world.edit(|spec| spec[key] = free);
        world.settle();
    }
    world.wait(60);
    world.settle();
    assert_eq!(world.condition(READY).reason, "NodesSkipped");
}

#[test]
fn what_joins_later_or_is_left_out_on_purpose_is_not_waited_for() {
    let mut world = World::with_rollout(&["a", "b", "c", "d"], "{parallelism: 1}");
    world.settle();
    world.join("e");
    cordon(&mut world, &["b", "d", "e"], true);
    world.edit(|spec| spec["excludeNodeList"] = json!("b"));
    world.settle();
    world.leave("d");
    serve(&mut world, &["a", "c"]);
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "2/2")
    );
}

#[test]
fn what_was_unavailable_when_the_rollout_began_is_not_waited_for() {
    let mut world = World::with_rollout(&["a", "b"], "{paused: true}");
    world.settle();
    world.cordon("b", true);
    world.set_rollout("{}");
    world.settle();
    serve(&mut world, &["a"]);
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "1/1"),
        "nothing had begun before"
    );
}

#[test]
fn a_wave_waits_for_its_nodes_and_nothing_goes_past_a_canary() {
    for (rollout, label, goes_on) in [
        ("{topologyKey: zone}", true, true),
        ("{canary: {count: 2}, parallelism: 1}", false, false),
        (
            "{canary: {count: 2}, parallelism: 1, failurePolicy: Pause}",
            false,
            false,
        ),
    ] {
        let mut world = World::with_rollout(&["a", "b", "c"], rollout);
        if label {
            for (node, zone) in [("a", "1"), ("b", "1"), ("c", "2")] {
                world.label(node, "zone", zone);
            }
            world.set_rollout("{topologyKey: zone, parallelism: 1}");
        }
        world.settle();
        world.cordon("b", true);
        serve(&mut world, &["a"]);
        world.wait(599);
        world.settle();
        assert_eq!(world.busy(), [""; 0], "{rollout}");
        world.wait(1);
        world.settle();
        let expected = if goes_on { vec!["c"] } else { vec![] };
        assert_eq!(world.busy(), expected, "{rollout}");
        if goes_on {
            serve(&mut world, &["c"]);
        }
        assert_eq!(world.condition(READY).reason, "NodesSkipped", "{rollout}");
    }
}

#[test]
fn one_that_never_finishes_serves_a_node_whenever_it_is_available_again() {
    let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1, completionPolicy: Never}");
    world.settle();
    world.cordon("b", true);
    serve(&mut world, &["a"]);
    assert_eq!(world.state(), FlowState::Running);
    world.wait(600);
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "1/1")
    );
    world.cordon("b", false);
    world.settle();
    serve(&mut world, &["b"]);
    assert_eq!(world.progress(), "2/2");
}

#[test]
fn what_is_waited_for_outlives_the_process() {
    let mut world = cordoned();
    world.wait(500);
    world.die_after(0);
    world.settle();
    world.wait(99);
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
    world.wait(1);
    world.settle();
    assert_eq!(world.state(), FlowState::Failed);
}
