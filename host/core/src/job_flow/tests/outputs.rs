//! What steps leave for others.

use std::time::Duration;

use operon_api::job_flow::Phase;
use serde_json::{Value, json};

use super::world::{START, World, ended, running, step, step_with};
use crate::driver::memory::Reconciles as _;

fn flow(outputs: &[&str]) -> Value {
    json!([
        step_with("a", &[], json!({"outputs": outputs})),
        step_with(
            "b",
            &["a"],
            json!({"inputs": [{"env": "X", "step": "a", "output": outputs[0]}]})
        ),
    ])
}

fn env(world: &World, step: &str) -> Value {
    world.start(step).body["spec"]["template"]["spec"]["containers"][0]["env"].clone()
}

#[test]
fn outputs_become_variables_of_those_that_asked() {
    let mut world = World::of(flow(&["x"]));
    world.settle();
    world.say("flow-a", r#"{"x": "41 $(HOME) $", "undeclared": "1"}"#);
    world.succeed("flow-a");
    world.settle();
    assert_eq!(json!(world.step("a").outputs), json!({"x": "41 $(HOME) $"}));
    let job = json!(world.job("flow-b"));
    let env = &job["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(
        *env,
        json!([{"name": "X", "value": "41 $$(HOME) $$"}]),
        "taken literally"
    );
}

#[test]
fn what_is_no_text_is_json() {
    for (written, text) in [
        ("\"text\"", "text"),
        ("true", "true"),
        ("null", "null"),
        ("12", "12"),
        ("1.5", "1.5"),
        ("[1, \"a\"]", "[1,\"a\"]"),
        ("{\"k\": {}}", "{\"k\":{}}"),
    ] {
        let mut world = World::of(flow(&["x"]));
        world.settle();
        world.say("flow-a", &format!("{{\"x\": {written}}}"));
        world.succeed("flow-a");
        world.settle();
        assert_eq!(world.step("a").outputs["x"], text);
    }
}

#[test]
fn outputs_that_are_not_what_was_declared_fail_the_step() {
    let long = format!("{{\"x\": \"{}\"}}", "a".repeat(4096));
    let cut = long[..4096].to_owned();
    for (message, why) in [
        ("hello", "is not valid JSON: "),
        ("[1]", "is an array, not a JSON object"),
        ("{}", "has no key \"x\"; it has nothing"),
        (r#"{"y": 1}"#, "has no key \"x\"; it has \"y\""),
        ("", "wrote no termination message"),
        (long.as_str(), "has 4105 bytes; at most 4096 are allowed"),
        (cut.as_str(), "Kubernetes truncated it to 4096 bytes"),
    ] {
        let mut world = World::of(flow(&["x"]));
        world.settle();
        world.say("flow-a", message);
        world.succeed("flow-a");
        world.settle();
        assert_eq!(world.phases(), "a Failed, b Skipped", "{why}");
        assert_eq!(world.reason("a"), "OutputInvalid");
        assert!(world.message("a").contains(why), "{}", world.message("a"));
        assert_eq!(world.state(), "Failed");
    }
}

#[test]
fn outputs_are_taken_as_soon_as_a_pod_has_succeeded() {
    let mut world = World::of(flow(&["x"]));
    world.settle();
    world.say("flow-a", r#"{"x": 1}"#);
    world.settle();
    assert_eq!(
        (world.phase("a"), world.step("a").outputs.len()),
        (Phase::Running, 1)
    );
    world.remove_pods("flow-a");
    world.settle();
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running");
}

#[test]
fn outputs_that_were_invalid_are_remembered_when_the_pod_is_gone() {
    let mut world = World::of(flow(&["x"]));
    world.settle();
    world.say("flow-a", "nonsense");
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Running, "OutputInvalid")
    );
    world.remove_pods("flow-a");
    world.succeed("flow-a");
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Failed, "OutputInvalid")
    );
}

#[test]
fn a_job_that_is_complete_without_a_pod_has_left_nothing() {
    let mut world = World::of(flow(&["x"]));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Running, "ReadingOutputs")
    );
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_mins(1)));
    world.now += 60;
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Failed, "OutputMissing")
    );
    assert_eq!(world.events(), ["Created", "StepFailed", "Failed"]);
}

#[test]
fn outputs_are_waited_for_a_minute_since_the_end_was_seen_whatever_the_clock_of_the_job_says() {
    for skew in [-600, 600] {
        let mut world = World::of(flow(&["x"]));
        world.settle();
        world.now += skew;
        world.succeed("flow-a");
        world.now -= skew;
        world.settle();
        world.now += 59;
        world.settle();
        assert_eq!(world.reason("a"), "ReadingOutputs");
        world.now += 1;
        world.settle();
        assert_eq!(world.reason("a"), "OutputMissing");
    }
}

#[test]
fn a_pod_that_is_shown_later_than_its_job_is_read() {
    for before in [None, Some(running())] {
        let mut world = World::of(flow(&["x"]));
        world.settle();
        if let Some(status) = before {
            world.add_pod("flow-a", "flow-a-pod", status);
        }
        world.succeed("flow-a");
        world.settle();
        assert_eq!(world.phases(), "a Running, b Waiting");
        world.now += 59;
        world.pods.clear();
        world.say("flow-a", r#"{"x": "late"}"#);
        world.settle();
        assert_eq!(world.phases(), "a Succeeded, b Running");
        assert_eq!(world.step("a").outputs["x"], "late");
    }
}

#[test]
fn a_job_that_succeeded_and_is_deleted_before_its_outputs_are_read_is_not_made_again() {
    let mut world = World::of(flow(&["x"]));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    world.delete_job("flow-a", false);
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a"), world.made),
        (Phase::Failed, "OutputMissing", 1)
    );
}

#[test]
fn of_several_pods_the_first_that_succeeded_speaks() {
    let mut world = World::of(flow(&["x"]));
    world.settle();
    world.add_pod(
        "flow-a",
        "failed",
        ended(START, "Failed", 1, r#"{"x": "failed"}"#),
    );
    world.add_pod(
        "flow-a",
        "late",
        ended(START + 9, "Succeeded", 0, r#"{"x": "late"}"#),
    );
    world.add_pod(
        "flow-a",
        "early",
        ended(START + 5, "Succeeded", 0, r#"{"x": "early"}"#),
    );
    world.add_pod("flow-a", "running", running());
    world.settle();
    assert_eq!(world.step("a").outputs["x"], "early");
}

#[test]
fn a_new_attempt_leaves_its_own_outputs() {
    let mut flow = flow(&["x"]);
    flow[0]["retry"] = json!({"limit": 1});
    let mut world = World::of(flow);
    world.settle();
    world.say("flow-a", r#"{"x": "first"}"#);
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.step("a").outputs.len(), 0);
    world.say("flow-a-2", r#"{"x": "second"}"#);
    world.succeed("flow-a-2");
    world.settle();
    assert_eq!(world.step("a").outputs["x"], "second");
}

#[test]
fn an_output_that_was_never_left_is_no_variable() {
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": [
        step_with("a", &[], json!({"outputs": ["x"]})),
        step_with("b", &["a"], json!({
            "when": "true",
            "inputs": [{"env": "X", "step": "a", "output": "x"}],
        })),
    ]}));
    world.settle();
    world.fail("flow-a");
    assert_eq!(env(&world, "b"), Value::Null);
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Running");
}

#[test]
fn outputs_that_the_status_has_no_room_for_fail_their_step() {
    let declared: Vec<_> = (0..100)
        .map(|n| step_with(&format!("s{n:02}"), &[], json!({"outputs": ["x"]})))
        .collect();
    // Both take 4000 bytes in JSON.
    for value in ["a".repeat(4000), "\"".repeat(2000)] {
        let mut world = World::with(json!({"failurePolicy": "Continue", "flows": declared}));
        world.settle();
        let message = json!({"x": value}).to_string();
        for name in world.jobs.keys().cloned().collect::<Vec<_>>() {
            world.say(&name, &message);
            world.succeed(&name);
        }
        world.settle();
        let steps = world.status().steps.iter();
        let failed = steps.filter(|step| step.phase == Phase::Failed);
        assert_eq!(failed.count(), 35);
        assert!(json!(world.status()).to_string().len() < 400_000);
    }
}

#[test]
fn a_step_that_declares_nothing_may_say_anything() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.say("flow-a", "nonsense");
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

#[test]
fn of_two_inputs_under_one_name_the_one_that_ran_is_taken_and_the_last_of_several() {
    let branch = |when: &str| json!({"when": when, "outputs": ["x"]});
    for (fast, slow, expected) in [
        ("true", "false", "1"),
        ("false", "true", "2"),
        ("true", "true", "2"),
    ] {
        let mut world = World::of(json!([
            step_with("fast", &[], branch(fast)),
            step_with("slow", &[], branch(slow)),
            step_with(
                "join",
                &["fast", "slow"],
                json!({
                    "when": "true",
                    "inputs": [
                        {"env": "X", "step": "fast", "output": "x"},
                        {"env": "X", "step": "slow", "output": "x"},
                    ],
                })
            ),
        ]));
        world.settle();
        for (step, is_there, value) in [("fast", fast, "1"), ("slow", slow, "2")] {
            if is_there == "true" {
                let job = format!("flow-{step}");
                world.say(&job, &format!("{{\"x\": \"{value}\"}}"));
                world.succeed(&job);
            }
        }
        world.settle();
        let spec = json!(world.job("flow-join").spec);
        let env = &spec["template"]["spec"]["containers"][0]["env"];
        assert_eq!(*env, json!([{"name": "X", "value": expected}]));
    }
}

#[test]
fn a_step_may_join_all_others_and_take_an_output_of_each() {
    let names: Vec<_> = (0..999).map(|place| format!("s{place}")).collect();
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    let inputs = names.iter().enumerate();
    let inputs = inputs
        .map(|(place, name)| json!({"env": format!("E{place}"), "step": name, "output": "x"}));
    let inputs: Vec<_> = inputs.collect();
    let mut steps: Vec<_> = names
        .iter()
        .map(|name| step_with(name, &[], json!({"outputs": ["x"]})))
        .collect();
    steps.push(step_with("join", &all, json!({"inputs": inputs})));
    let mut world = World::of(json!(steps));
    world.settle();
    for name in &names {
        let job = format!("flow-{name}");
        world.say(&job, "{\"x\": \"1\"}");
        world.succeed(&job);
    }
    world.settle();
    let spec = json!(world.job("flow-join").spec);
    let env = spec["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .map(Vec::len);
    assert_eq!(env, Some(999));
}
