//! `failurePolicy: Cancel`.

use serde_json::{Value, json};

use super::world::{World, running, step, step_with};
use crate::driver::memory::Reconciles as _;

fn spec() -> Value {
    json!({
        "failurePolicy": "Cancel",
        "onExit": "tidy",
        "flows": [step("a", &[]), step("b", &[]), step("c", &["b"]), step("tidy", &[])],
    })
}

#[test]
fn what_runs_is_deleted_in_the_foreground_and_waited_for() {
    let mut world = World::with(spec());
    world.settle();
    world.add_pod("flow-b", "pod", running());
    world.fail("flow-a");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Running, c Waiting, tidy Waiting"
    );
    assert_eq!(world.reason("b"), "Cancelling");
    assert!(world.job("flow-b").metadata.deletion_timestamp.is_some());
    world.remove_pods("flow-b");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Cancelled, c Skipped, tidy Running"
    );
    assert_eq!(
        world.message("b"),
        "Job \"flow-b\" was deleted because step \"a\" failed (spec.failurePolicy: Cancel)"
    );
    world.succeed("flow-tidy");
    world.settle();
    assert_eq!(world.state(), "Failed");
    assert_eq!(world.made, 3);
}

#[test]
fn what_succeeds_while_it_is_deleted_has_succeeded() {
    let mut world = World::with(spec());
    world.settle();
    world.add_pod("flow-b", "pod", running());
    world.fail("flow-a");
    world.settle();
    world.succeed("flow-b");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Succeeded, c Skipped, tidy Running"
    );
}

#[test]
fn nothing_is_deleted_before_the_failure_is_written_down() {
    let mut world = World::with(spec());
    world.settle();
    world.fail("flow-a");
    assert_eq!(world.plan().delete, []);
    world.pass();
    assert_eq!(world.plan().delete.len(), 1);
}

#[test]
fn a_step_that_waits_for_its_retry_is_not_tried_again() {
    let mut world = World::with(json!({
        "failurePolicy": "Cancel",
        "flows": [step("a", &[]), step_with("b", &[], json!({"retry": {"limit": 5}}))],
    }));
    world.settle();
    world.fail("flow-b");
    world.settle();
    assert_eq!(world.reason("b"), "Retrying");
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Failed");
    world.now += 1000;
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn what_runs_last_is_not_cancelled_and_may_be_tried_again() {
    let mut spec = spec();
    spec["flows"][3]["retry"] = json!({"limit": 1});
    let mut world = World::with(spec);
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.fail("flow-tidy");
    world.settle();
    world.now += 10;
    world.settle();
    assert!(world.names().contains(&"flow-tidy-2"));
    world.delete_job("flow-tidy-2", false);
    world.settle();
    assert!(
        world.names().contains(&"flow-tidy-3"),
        "it was deleted by somebody"
    );
}

#[test]
fn a_policy_may_be_changed_after_the_failure() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Running");
    world.edit(|spec| spec["failurePolicy"] = json!("Cancel"));
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Cancelled");
}

#[test]
fn a_flow_with_cancelled_steps_has_failed_even_if_what_failed_is_taken_out() {
    let mut world = World::with(spec());
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Cancelled, c Skipped, tidy Running"
    );
    world.edit(|spec| spec["flows"] = json!([step("b", &[]), step("tidy", &[])]));
    world.settle();
    assert_eq!(world.phases(), "b Cancelled, tidy Running, a Failed");
    world.succeed("flow-tidy");
    world.settle();
    assert_eq!(world.state(), "Failed");
    assert!(world.ready().starts_with("step \"b\" was cancelled"));
}
