//! Thousands of nodes.

use std::time::Duration;

use operon_api::daemon_job::FlowState;
use serde_json::json;

use super::world::World;
use crate::driver::memory::Reconciles as _;

/// How large a status may be, in bytes.
const LIMIT: usize = 200 * 1024;

fn size(world: &World) -> usize {
    json!(world.status()).to_string().len()
}

#[test]
fn the_status_of_five_thousand_nodes_stays_small_and_they_are_served_in_portions() {
    let names: Vec<_> = (0..5000)
        .map(|number| format!("ip-10-{number}.some-region.compute.internal"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::with_rollout(&names, "{failurePolicy: Continue}");
    let mut made = Vec::new();
    loop {
        let conclusion = world.pass().expect("a conclusion");
        made.push(world.made);
        if conclusion.requeue_after != Some(Duration::ZERO) {
            break;
        }
    }
    let portions: Vec<_> = (1..=10).map(|portion| portion * 500).collect();
    assert_eq!(made, portions);
    world.pass();
    assert_eq!((world.made, world.status_writes), (5000, 10));
    assert_eq!(world.status().active, Some(5000));
    assert!(size(&world) < LIMIT, "{}", size(&world));
    assert!(world.status().job_status_list.is_empty());
    let all: Vec<_> = world.names().into_iter().map(str::to_owned).collect();
    for (number, job) in all.iter().enumerate() {
        let type_ = if number % 2 == 0 {
            "Failed"
        } else {
            "Complete"
        };
        world.end_job(job, type_, "Reason", &"message ".repeat(200));
    }
    world.pass();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Failed, "2500/5000")
    );
    assert!(size(&world) < LIMIT, "{}", size(&world));
    assert_eq!(world.status().failed_nodes.len(), 20);
}

#[test]
fn what_is_remembered_of_thousands_of_nodes_that_wait_or_run_stays_small() {
    let names: Vec<_> = (0..5000).map(|number| format!("n{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::with_rollout(&names, "{parallelism: 1, timeoutSeconds: 60}");
    world.pass();
    assert_eq!(world.status().waiting_node_digests.len(), 4999);
    assert!(size(&world) < LIMIT, "{}", size(&world));
    world.run("n0");
    world.pass();
    let run = &world.status().started_node_digests[0];
    assert!(run.len() * 5000 < LIMIT, "{run}");
}

#[test]
fn the_status_of_each_job_is_kept_while_they_are_few() {
    for (count, expected) in [(100, 100), (101, 0)] {
        let names: Vec<_> = (0..count).map(|number| format!("n{number:03}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut world = World::new(&names);
        world.settle();
        assert_eq!(world.status().job_status_list.len(), expected);
    }
    let mut world = World::new(&["a"]);
    world.settle();
    let job = world.jobs.get_mut("dj-a").expect("a Job");
    let status = job.status.get_or_insert_default();
    status.completed_indexes = Some("1,3,".repeat(20_000));
    world.settle();
    assert!(world.status().job_status_list.is_empty(), "it is too large");
}
