//! Steps that run if something is so.

use operon_api::job_flow::Phase;
use serde_json::json;

use super::world::{World, step, step_with};

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
    assert_eq!(world.ready(), "2 steps succeeded, 2 were skipped");
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
        ("steps.a.phase", "it is a string, and must be true or false"),
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
fn a_when_is_not_asked_after_a_failure_that_stops_the_flow() {
    let mut world = World::of(json!([
        step("a", &[]),
        step_with("b", &["a"], json!({"when": "true"})),
    ]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(
        (world.phase("b"), world.reason("b")),
        (Phase::Skipped, "FlowFailed")
    );
    assert_eq!(
        world.message("b"),
        "step \"a\" failed, so no further step started (spec.failurePolicy)"
    );
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
