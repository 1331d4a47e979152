//! The parameters of a job: checked before a target starts, and never others than the first.

use operon_api::operation_job::{MOST_PARAMETERS, Progress};
use serde_json::{Value, json};

use super::world::{World, pending, processing};
use crate::{
    action::{Failure, LoadError},
    operation_job::{
        parameters::{Parameters, to_check},
        plan::{Cause, TargetStep},
    },
};

fn with(world: &mut World, parameters: &Value) {
    world.job.spec.parameters = parameters.as_object().expect("an object").clone();
}

fn reason(step: &TargetStep) -> &str {
    match step {
        TargetStep::Fail(failure) | TargetStep::Await(failure) => &failure.reason,
        _ => "",
    }
}

#[test]
fn bad_parameters_fail_every_target_and_nothing_starts() {
    let mut world = World::new(&["a", "b"]);
    with(&mut world, &json!({"grace": "long"}));
    let refused = Failure::new("BadParameters", "spec.parameters.grace: it is no integer");
    world.parameters = Parameters::Refused(refused.clone());
    world.pass(&[]);
    for name in ["a", "b"] {
        let detail = world.detail(name);
        assert_eq!(detail.progress, Progress::Failed);
        assert_eq!(detail.start_time, None, "it never started");
        let error = detail.error.as_ref().map(|error| error.reason.as_str());
        assert_eq!(error, Some("BadParameters"));
    }
    assert_eq!(world.status().progress, Some(Progress::Failed));
    assert!(
        world.status().conditions[0]
            .message
            .contains(&refused.message)
    );
}

#[test]
fn parameters_that_could_not_be_checked_are_checked_again() {
    let mut world = World::new(&["a"]);
    world.parameters = Parameters::of(Err(LoadError {
        reason: "ParametersCheckFailed",
        message: "no process could be started".to_owned(),
        transient: true,
    }));
    assert_eq!(reason(&world.step()), "ParametersCheckFailed");
    assert_eq!(world.due(), Some(5));
    world.parameters = Parameters::Accepted;
    assert!(matches!(world.step(), TargetStep::Start { .. }));
}

#[test]
fn parameters_are_checked_until_a_target_has_started() {
    let mut world = World::with(&[pending("a"), pending("b")]);
    with(&mut world, &json!({"grace": 3}));
    assert_eq!(to_check(&world.job), Ok(Some(json!({"grace": 3}))));
    let mut world = World::with(&[processing("a"), pending("b")]);
    with(&mut world, &json!({"grace": 3}));
    assert_eq!(to_check(&world.job), Ok(None));
}

#[test]
fn parameters_of_a_job_that_has_finished_or_is_being_deleted_are_not_checked() {
    let mut world = World::new(&["a"]);
    with(&mut world, &json!({"text": "x".repeat(MOST_PARAMETERS)}));
    let failure = to_check(&world.job).expect_err("too many");
    world.parameters = Parameters::Refused(failure);
    world.pass(&[]);
    assert_eq!(world.status().progress, Some(Progress::Failed));
    assert_eq!(to_check(&world.job), Ok(None), "it has finished");
    let mut world = World::new(&["a"]);
    with(&mut world, &json!({"grace": 3}));
    world.delete_job();
    assert_eq!(to_check(&world.job), Ok(None), "it is being deleted");
}

#[test]
fn more_bytes_than_allowed_are_refused_without_asking_the_action() {
    let mut world = World::new(&["a"]);
    with(&mut world, &json!({"text": "x".repeat(MOST_PARAMETERS)}));
    let refused = to_check(&world.job).expect_err("too many");
    assert_eq!(refused.reason, "BadParameters");
    assert!(
        refused.message.contains("at most 8192 bytes"),
        "{refused:?}"
    );
    with(
        &mut world,
        &json!({"text": "x".repeat(MOST_PARAMETERS - 11)}),
    );
    assert!(to_check(&world.job).is_ok());
}

#[test]
fn the_action_is_not_called_with_other_parameters_than_the_first() {
    let mut world = World::new(&["a", "b"]);
    world.job.spec.partition = Some(1);
    with(&mut world, &json!({"grace": 3}));
    world.pass(&[]);
    assert_eq!(world.steps(), [TargetStep::Operate, TargetStep::Keep]);
    for changed in [json!({"grace": 4}), json!({})] {
        with(&mut world, &changed);
        assert_eq!(reason(&world.steps()[0]), "ParametersChanged");
        let stalled = world.conclude(&[]).status;
        assert_eq!(stalled.conditions[0].reason, "ParametersChanged");
    }
    with(&mut world, &json!({"grace": 3}));
    assert_eq!(world.steps()[0], TargetStep::Operate, "they were put back");
    with(&mut world, &json!({"grace": 4}));
    world.job.spec.partition = None;
    assert_eq!(reason(&world.steps()[1]), "ParametersChanged");
    world.delete_job();
    assert_eq!(world.steps()[0], TargetStep::Release(Cause::Deleted));
}

#[test]
fn a_job_of_an_earlier_version_without_parameters_goes_on() {
    let world = World::with(&[processing("a")]);
    assert_eq!(world.status().parameters_digest, None);
    assert_eq!(world.step(), TargetStep::Operate);
}
