//! The process may die after any write: another one continues, and nothing is done twice.

use k8s_openapi::api::batch::v1::Job;
use operon_api::job_flow::StepStatus;
use serde_json::{Value, json};

use super::world::{World, step, step_with};
use crate::jobs;

/// What a flow does in the end, whoever carried it out.
#[derive(Debug, PartialEq)]
struct End {
    state: &'static str,
    steps: Vec<StepStatus>,
    jobs: Vec<String>,
    made: usize,
}

/// Runs a flow until nothing of it runs, and then what failed once more. Jobs end one after the other;
/// those of steps with an `x` fail the first time. The process dies once, after so many writes.
fn run(spec: &Value, dies_after: Option<usize>) -> End {
    let mut world = World::with(spec.clone());
    world.dies_after = dies_after;
    for retry in ["1", "2"] {
        for _ in 0..60 {
            world.settle();
            let is_running = |job: &&Job| jobs::finish(job).is_none();
            let next = world.jobs.values().find(is_running);
            if let Some(name) = next.and_then(|job| job.metadata.name.clone()) {
                world.say(&name, r#"{"out": "1"}"#);
                if name.contains('x') && !name.ends_with("-2") {
                    world.fail(&name);
                } else {
                    world.succeed(&name);
                }
            } else if world.status().completion_time.is_none() {
                world.wait(10);
            } else {
                break;
            }
        }
        assert!(world.status().completion_time.is_some());
        world.retry(retry);
    }
    let is_left = world.dies_after.is_some();
    assert!(dies_after.is_none() || is_left || world.deaths == 1);
    let mut steps = world.status().steps.clone();
    for step in &mut steps {
        step.start_time = None;
        step.completion_time = None;
        step.job_uid = None;
        step.message = None;
    }
    End {
        state: world.state(),
        steps,
        jobs: world.names().into_iter().map(str::to_owned).collect(),
        made: world.made,
    }
}

#[test]
fn a_death_after_any_write_changes_nothing_in_the_end() {
    let ttl = json!({"jobTemplate": {"ttlSecondsAfterFinished": 0}});
    let specs = [
        json!({"flows": [
            step("a", &[]), step_with("b", &["a"], ttl.clone()), step_with("c", &["a", "b"], json!({"outputs": ["out"]})),
            step("d", &[]), step_with("e", &["d", "b"], ttl),
        ]}),
        json!({"onExit": "z", "flows": [
            step_with("ax", &[], json!({"retry": {"limit": 1}})), step("b", &["ax"]), step("z", &[]),
        ]}),
        json!({"failurePolicy": "Cancel", "onExit": "z", "flows": [
            step("ax", &[]), step("b", &[]), step("c", &["b"]), step("z", &[]),
        ]}),
        json!({"onExit": "z", "flows": [
            step("ax", &[]), step("b", &[]), step_with("c", &["ax"], json!({"when": "steps.ax.phase == 'Failed'"})),
            step("d", &["b", "c"]), step("z", &[]),
        ]}),
        json!({"failurePolicy": "Cancel", "flows": [
            step("ax", &[]), step("b", &[]), step_with("c", &["ax"], json!({"when": "steps.ax.phase == 'Failed'"})),
            step_with("d", &["b", "c"], json!({"when": "true"})),
        ]}),
        json!({"failurePolicy": "Continue", "parallelism": 2, "flows": [
            step("ax", &[]), step("b", &[]), step("c", &["b"]),
            step_with("d", &["ax"], json!({"when": "steps.ax.phase == 'Succeeded'"})),
        ]}),
    ];
    for spec in specs {
        let whole = run(&spec, None);
        assert!(whole.jobs.len() > 2 && whole.made > 2, "{whole:?}");
        for writes in 0..30 {
            let end = run(&spec, Some(writes));
            assert_eq!(end, whole, "dead after {writes} writes");
        }
    }
}
