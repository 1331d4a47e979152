//! The process dies after any write, and another one takes over: it ends as if nothing had been.

use std::collections::BTreeSet;

use operon_api::daemon_job::FlowState;
use serde_json::json;

use super::world::World;
use crate::driver::memory::Reconciles as _;

/// A story in steps; after each of them the world settles.
type Story = [fn(&mut World)];

/// Runs a story, with a death after this number of writes of this step.
fn tell(mut world: World, story: &Story, death: Option<(usize, usize)>) -> World {
    for (number, step) in story.iter().enumerate() {
        step(&mut world);
        if let Some((_, writes)) = death.filter(|(step, _)| *step == number) {
            world.die_after(writes);
        }
        world.settle();
    }
    world
}

fn survives_any_death(world: &World, story: &Story) {
    let expected = tell(world.clone(), story, None);
    let told = |world: &World| {
        world
            .events
            .iter()
            .map(|e| e.message.clone())
            .collect::<BTreeSet<_>>()
    };
    for step in 0..story.len() {
        for writes in 0..12 {
            let ended = tell(world.clone(), story, Some((step, writes)));
            let at = format!("step {step}, {writes} writes");
            assert_eq!(ended.names(), expected.names(), "{at}");
            assert_eq!(ended.made, expected.made, "{at}");
            assert_eq!(ended.progress(), expected.progress(), "{at}");
            assert_eq!(ended.state(), expected.state(), "{at}");
            assert_eq!(
                ended.status().failed_nodes,
                expected.status().failed_nodes,
                "{at}"
            );
            assert_eq!(told(&ended), told(&expected), "{at}");
        }
    }
}

#[test]
fn each_node_gets_one_job_whenever_the_host_dies() {
    survives_any_death(
        &World::with_rollout(&["a", "b", "c", "d"], "{parallelism: 2}"),
        &[
            |_| {},
            |world| world.succeed("a"),
            |world| world.succeed("b"),
            |world| {
                world.succeed("c");
                world.succeed("d");
            },
        ],
    );
}

#[test]
fn waves_retries_and_time_to_live_survive_as_well() {
    let rollout = "{canary: {}, pauseSeconds: 30, retry: {limit: 1}, failurePolicy: Continue}";
    let mut world = World::with_rollout(&["a", "b", "c"], rollout);
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(100));
    survives_any_death(
        &world,
        &[
            |_| {},
            |world| world.fail("a"),
            |world| world.wait(10),
            |world| world.succeed("a"),
            |world| world.wait(30),
            |world| {
                world.fail("b");
                world.succeed("c");
            },
            |world| world.wait(10),
            |world| world.fail("b"),
            |world| world.wait(100),
            |world| world.retry("1"),
            |world| world.succeed("b"),
        ],
    );
}

#[test]
fn an_edit_and_a_node_that_is_replaced_survive_as_well() {
    survives_any_death(
        &World::with_rollout(&["a", "b", "c"], "{failurePolicy: Continue}"),
        &[
            |_| {},
            |world| {
                world.succeed("a");
                world.fail("b");
            },
            |world| world.edit_image("alpine:2"),
            |world| {
                world.leave("a");
                world.join("a");
            },
            |world| world.succeed("b"),
            |world| world.retry("1"),
            |world| {
                world.succeed("a");
                world.succeed("c");
            },
        ],
    );
}

#[test]
fn jobs_that_are_deleted_and_pods_that_go_on_survive_as_well() {
    survives_any_death(
        &World::with_rollout(&["a", "b"], "{retry: {limit: 0, backoffSeconds: 20}}"),
        &[
            |_| {},
            |world| {
                world.add_pod("dj-a", &json!({"phase": "Running"}));
                world.delete_job("dj-a", false);
            },
            World::collect_garbage,
            |world| world.delete_job("dj-a-2", false),
            |world| world.wait(20),
            |world| world.delete_job("dj-a-3", true),
            |world| world.wait(39),
            |world| world.wait(1),
            |world| {
                world.succeed("a");
                world.succeed("b");
            },
        ],
    );
}

#[test]
fn a_story_ends_as_it_should() {
    let mut world = World::new(&["a", "b"]);
    world.die_after(1);
    assert_eq!(
        (world.names(), world.object.status.is_some()),
        (vec!["dj-a"], false)
    );
    world.settle();
    world.succeed("a");
    world.succeed("b");
    world.settle();
    assert_eq!((world.state(), world.made), (FlowState::Succeed, 2));
    assert_eq!(world.events(), ["Created", "Created", "Succeed"]);
}
