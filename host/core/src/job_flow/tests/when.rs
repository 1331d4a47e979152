//! Steps that run if something is so.

use operon_api::job_flow::Phase;
use serde_json::{Value, json};

use super::world::{World, running, step, step_with};

#[test]
fn a_when_is_asked_once_all_that_the_step_depends_on_is_over() {
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": [
        step("a", &[]),
        step("b", &[]),
        step_with("repair", &["a", "b"], json!({"when": "steps[\"a\"].phase == \"Failed\""})),
        step_with("report", &["repair"], json!({"when": "true"})),
    ]}));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phase("repair"), Phase::Waiting, "b runs");
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.phase("repair"), Phase::Running);
    world.succeed("flow-repair");
    world.settle();
    world.succeed("flow-report");
    world.settle();
    assert_eq!(world.state(), "Failed", "a failed");
}

#[test]
fn a_when_that_is_false_skips_the_step_and_what_depends_on_it() {
    let mut world = World::of(json!([
        step("a", &[]),
        step_with("b", &["a"], json!({"when": "steps.a.phase == 'Failed'"})),
        step("c", &["b"]),
        step_with(
            "d",
            &["b"],
            json!({"when": "steps.b.phase == 'Skipped' && steps.b.reason == 'WhenFalse'"})
        ),
    ]));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Succeeded, b Skipped, c Skipped, d Running"
    );
    assert_eq!(
        (world.reason("b"), world.reason("c")),
        ("WhenFalse", "DependencySkipped")
    );
    world.succeed("flow-d");
    world.settle();
    assert_eq!(world.state(), "Succeed");
    assert_eq!(world.status().progress.as_deref(), Some("4/4"));
    assert_eq!(world.ready(), "2 of 4 steps succeeded, 2 skipped");
}

#[test]
fn a_when_can_ask_for_outputs() {
    let when = "int(steps['test'].outputs['coverage']) >= 80";
    for (coverage, phase) in [("79", Phase::Skipped), ("80", Phase::Running)] {
        let mut world = World::of(json!([
            step_with("test", &[], json!({"outputs": ["coverage"]})),
            step("between", &["test"]),
            step_with("ship", &["between"], json!({"when": when})),
        ]));
        world.settle();
        world.say("flow-test", &json!({"coverage": coverage}).to_string());
        world.succeed("flow-test");
        world.settle();
        world.succeed("flow-between");
        world.settle();
        assert_eq!(world.phase("ship"), phase);
    }
}

#[test]
fn a_when_without_an_answer_fails_the_step() {
    for (when, why) in [
        ("steps.a.phase", "its type is string, not bool"),
        ("int(steps.a.phase) == 1", ""),
        ("1 / 0 == 1", ""),
    ] {
        let mut world = World::of(json!([
            step("a", &[]),
            step_with("b", &["a"], json!({"when": when})),
        ]));
        world.settle();
        world.succeed("flow-a");
        world.settle();
        assert_eq!(
            (world.phase("b"), world.reason("b")),
            (Phase::Failed, "WhenInvalid")
        );
        assert!(world.message("b").contains(why), "{}", world.message("b"));
        assert_eq!(world.state(), "Failed");
        assert!(world.status().completion_time.is_some());
    }
}

#[test]
fn a_when_over_an_output_that_a_skipped_step_did_not_leave_is_false_and_says_why() {
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": [
        step("test", &[]),
        step_with("build", &["test"], json!({"outputs": ["changed"], "when": "steps.test.phase == 'Failed'"})),
        step_with("ship", &["build"], json!({"when": "steps[\"build\"].outputs[\"changed\"] == \"true\""})),
        step_with("keep", &["build"], json!({"when": "!steps.exists(s, steps[s].outputs.changed == 'true')"})),
        step_with("tell", &["build"], json!({"when": "!has(steps.build.outputs.changed)"})),
    ]}));
    world.settle();
    world.succeed("flow-test");
    world.settle();
    let why =
        "its when is false: it needs the output \"changed\" of step \"build\", which was skipped";
    for step in ["ship", "keep"] {
        assert_eq!(
            (world.phase(step), world.reason(step)),
            (Phase::Skipped, "WhenFalse")
        );
        assert_eq!(world.message(step), why);
    }
    world.succeed("flow-tell");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

/// A test that may fail, what reacts to that, and what needs either.
fn reaction(policy: &str) -> Value {
    json!({"failurePolicy": policy, "onExit": "tidy", "flows": [
        step("test", &[]),
        step("long", &[]),
        step_with("undo", &["test"], json!({"when": "steps[\"test\"].phase == \"Failed\""})),
        step_with("tell", &["undo", "ship"], json!({"when": "steps.undo.phase == 'Succeeded'"})),
        step("ship", &["test", "long"]),
        step("proud", &["undo"]),
        step("tidy", &[]),
    ]})
}

#[test]
fn a_when_reacts_to_a_failure_that_stops_the_flow() {
    let mut world = World::with(reaction("StopScheduling"));
    world.settle();
    world.fail("flow-test");
    world.settle();
    assert_eq!(
        world.phases(),
        "test Failed, long Running, undo Running, tell Waiting, ship Skipped, proud Waiting, tidy Waiting"
    );
    world.succeed("flow-long");
    world.succeed("flow-undo");
    world.settle();
    assert_eq!(
        world.phases(),
        "test Failed, long Succeeded, undo Succeeded, tell Running, ship Skipped, proud Waiting, tidy Waiting"
    );
    assert_eq!(world.status().completion_time, None);
    world.succeed("flow-tell");
    world.settle();
    assert_eq!(
        world.phases(),
        "test Failed, long Succeeded, undo Succeeded, tell Succeeded, ship Skipped, proud Skipped, tidy Running"
    );
    assert_eq!(world.reason("proud"), "FlowFailed");
    world.succeed("flow-tidy");
    world.settle();
    assert_eq!(world.state(), "Failed");
    assert!(world.status().completion_time.is_some());
}

#[test]
fn a_when_reacts_to_a_failure_that_cancels_what_runs() {
    let mut world = World::with(reaction("Cancel"));
    world.settle();
    world.add_pod("flow-long", "pod", running());
    world.fail("flow-test");
    world.settle();
    assert_eq!(world.reason("long"), "Cancelling");
    assert_eq!(world.phase("undo"), Phase::Running);
    assert_eq!(world.job("flow-undo").metadata.deletion_timestamp, None);
    world.delete_job("flow-undo", false);
    world.settle();
    assert_eq!(world.step("undo").job_name.as_deref(), Some("flow-undo-2"));
    world.remove_pods("flow-long");
    world.succeed("flow-undo-2");
    world.settle();
    world.succeed("flow-tell");
    world.settle();
    assert_eq!(
        world.phases(),
        "test Failed, long Cancelled, undo Succeeded, tell Succeeded, ship Skipped, proud Skipped, tidy Running"
    );
}

#[test]
fn a_when_that_ran_before_the_failure_is_cancelled() {
    let mut world = World::with(json!({"failurePolicy": "Cancel", "flows": [
        step("a", &[]),
        step_with("b", &[], json!({"when": "true"})),
    ]}));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Cancelled");
}

#[test]
fn a_when_has_its_turn_after_what_a_failure_keeps_from_running() {
    let mut world = World::of(json!([
        step("a", &[]),
        step("b", &[]),
        step("c", &["b"]),
        step_with(
            "d",
            &["c"],
            json!({"when": "steps.c.reason == 'FlowFailed'"})
        ),
        step_with("e", &["c"], json!({"when": "steps.c.phase == 'Succeeded'"})),
        step_with("f", &["e"], json!({"when": "true"})),
        step("g", &["d"]),
    ]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phase("d"), Phase::Waiting, "b runs");
    world.succeed("flow-b");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Succeeded, c Skipped, d Running, e Skipped, f Running, g Skipped"
    );
    assert_eq!(
        world.message("c"),
        "step \"a\" failed, so no further step started (spec.failurePolicy)"
    );
    world.succeed("flow-d");
    world.succeed("flow-f");
    world.settle();
    assert!(world.status().completion_time.is_some());
}

#[test]
fn a_skip_that_a_retry_may_change_is_decided_again() {
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": [
        step("a", &[]),
        step_with("b", &["a"], json!({"when": "steps.a.phase == 'Succeeded'"})),
    ]}));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Skipped");
    world.retry("1");
    world.settle();
    world.succeed("flow-a-2");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running");
}

#[test]
fn what_runs_last_may_ask_about_every_step() {
    let mut world = World::with(json!({"onExit": "alarm", "flows": [
        step("a", &[]),
        step("b", &["a"]),
        step_with("alarm", &[], json!({"when": "steps.exists(s, steps[s].phase == 'Failed')"})),
    ]}));
    world.settle();
    let mut bad = world.clone();
    bad.fail("flow-a");
    bad.settle();
    assert_eq!(bad.phases(), "a Failed, b Skipped, alarm Running");
    world.succeed("flow-a");
    world.settle();
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Succeeded, alarm Skipped");
    assert_eq!(world.state(), "Succeed");
}
