//! The annotation that runs again what failed.

use operon_api::job_flow::Phase;
use serde_json::json;

use super::world::{World, running, step, step_with};

#[test]
fn what_failed_and_what_was_skipped_because_of_it_runs_again() {
    let mut world = World::of(json!([
        step("a", &[]),
        step("b", &["a"]),
        step("c", &["b"]),
        step("d", &[]),
        step("e", &["d"]),
    ]));
    world.settle();
    world.succeed("flow-d");
    world.fail("flow-a");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Skipped, c Skipped, d Succeeded, e Skipped"
    );
    world.events();
    assert_eq!(world.end(), [("Failed", "StepFailed")]);
    world.retry("1");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Running, b Waiting, c Waiting, d Succeeded, e Running"
    );
    assert_eq!(world.state(), "Running");
    assert_eq!(world.status().completion_time, None);
    assert_eq!(world.end(), []);
    assert_eq!(world.status().retried.as_deref(), Some("1"));
    assert_eq!(world.step("a").attempts, Some(2));
    assert_eq!(world.names(), ["flow-a", "flow-a-2", "flow-d", "flow-e"]);
    for name in ["flow-a-2", "flow-b", "flow-c", "flow-e"] {
        world.succeed(name);
        world.settle();
    }
    assert_eq!(world.state(), "Succeed");
    assert_eq!(world.end(), [("Complete", "Succeed")]);
    let told = world.events();
    assert_eq!(
        told,
        ["Created", "Created", "Created", "Created", "Succeed"]
    );
}

#[test]
fn a_value_is_acted_upon_once_and_another_one_again() {
    let mut world = World::of(json!([step("a", &[])]));
    world.retry("1");
    world.settle();
    assert_eq!(
        world.status().retried.as_deref(),
        Some("1"),
        "nothing had failed"
    );
    world.fail("flow-a");
    world.settle();
    assert_eq!((world.state(), world.made), ("Failed", 1));
    for (value, made) in [("1", 1), ("2", 2), ("2", 2), ("3", 3)] {
        world.retry(value);
        world.settle();
        assert_eq!(world.made, made, "{value}");
        let job = world.step("a").job_name.clone().expect("a Job");
        if world.phase("a") == Phase::Running {
            world.fail(&job);
        }
        world.settle();
    }
    world.flow.metadata.annotations = None;
    world.settle();
    assert_eq!(
        (world.made, world.status().retried.as_deref()),
        (3, Some("3"))
    );
}

#[test]
fn what_failed_runs_again_while_other_branches_still_run() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[]), step("c", &["b"])]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.retry("now");
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running, c Waiting");
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.phase("c"), Phase::Running);
}

#[test]
fn what_was_cancelled_runs_again() {
    let mut world = World::with(json!({
        "failurePolicy": "Cancel",
        "flows": [step("a", &[]), step("b", &[]), step("c", &["b"])],
    }));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Cancelled, c Skipped");
    world.retry("1");
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running, c Waiting");
    assert_eq!(world.names(), ["flow-a", "flow-a-2", "flow-b-2"]);
}

#[test]
fn a_retry_in_the_middle_of_cancelling_makes_again_what_goes() {
    let mut world = World::with(json!({
        "failurePolicy": "Cancel",
        "flows": [step("a", &[]), step("b", &[])],
    }));
    world.settle();
    world.add_pod("flow-b", "pod", running());
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.reason("b"), "Cancelling");
    world.retry("1");
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running");
    assert_eq!(world.reason("b"), "JobDeleted");
    world.remove_pods("flow-b");
    world.settle();
    assert_eq!(world.names(), ["flow-a", "flow-a-2", "flow-b-2"]);
}

#[test]
fn what_runs_last_runs_again_and_is_not_disturbed() {
    let mut world = World::with(json!({
        "onExit": "tidy",
        "flows": [step("a", &[]), step("tidy", &[])],
    }));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, tidy Running");
    world.retry("1");
    world.settle();
    assert_eq!(world.phases(), "a Failed, tidy Running", "it is waited for");
    assert_eq!(world.status().retried, None);
    world.succeed("flow-tidy");
    world.settle();
    assert_eq!(world.phases(), "a Running, tidy Waiting");
    world.succeed("flow-a-2");
    world.settle();
    world.succeed("flow-tidy-2");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

#[test]
fn nothing_of_a_flow_that_succeeded_runs_again() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    let end = world.status().completion_time.clone();
    world.now += 100;
    world.retry("1");
    world.settle();
    assert_eq!((world.state(), world.made), ("Succeed", 1));
    assert_eq!(world.status().retried.as_deref(), Some("1"));
    assert_eq!(world.status().completion_time, end);
}

#[test]
fn a_failed_flow_of_the_old_operator_can_be_taken_up_again() {
    let mut world = World::of(json!([step("a", &[])]));
    let status = json!({"state": "Failed"});
    world.flow.status = Some(serde_json::from_value(status).expect("a status"));
    world.settle();
    world.retry("1");
    world.settle();
    assert_eq!(
        (world.state(), world.phases()),
        ("Running", "a Running".to_owned())
    );
}

#[test]
fn a_step_that_is_tried_again_may_have_been_edited_meanwhile() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.edit(|spec| spec["flows"][0]["timeoutSeconds"] = json!(77));
    world.retry("1");
    world.settle();
    let spec = world.job("flow-a-2").spec.as_ref().expect("a spec");
    assert_eq!(spec.active_deadline_seconds, Some(77));
}

#[test]
fn attempts_are_counted_on() {
    let mut world = World::of(json!([step_with("a", &[], json!({"retry": {"limit": 1}}))]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.now += 10;
    world.settle();
    world.fail("flow-a-2");
    world.settle();
    assert_eq!(world.state(), "Failed");
    world.retry("1");
    world.settle();
    world.fail("flow-a-3");
    world.settle();
    assert_eq!(
        (world.state(), world.step("a").attempts),
        ("Failed", Some(3))
    );
}
