//! Which targets may start: `paused`, `maxConcurrent`, `onFailure` and `maxFailures`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operon_api::operation_job::{OnFailure, Progress};

use super::world::{
    World, clean, condition, events, failed, pending, plugin, processing, released, releasing,
    report, standing, succeeded, terminal, time,
};
use crate::{
    action::OpsProgress,
    operation_job::{
        ActionState,
        plan::{Cause, TargetStep},
    },
};

fn percent(text: &str) -> IntOrString {
    IntOrString::String(text.to_owned())
}

/// The names of the targets that start.
fn starting(world: &World) -> Vec<String> {
    world.run().starting().map(|pod| pod.name).collect()
}

#[test]
fn while_a_job_is_paused_no_target_starts_and_started_ones_continue() {
    let mut world = World::with(&[processing("a"), pending("b"), pending("gone")]);
    world.pods.remove("gone");
    world.job.spec.paused = Some(true);
    world.now += 3600;
    let steps = [TargetStep::Operate, TargetStep::Keep, TargetStep::Keep];
    assert_eq!(world.steps(), steps);
    let conclusion = world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    assert_eq!(standing(&conclusion.status), [("Reconciling", "Paused")]);
    let ready = condition(world.status(), "Ready").expect("a condition");
    assert_eq!(
        ready.message,
        "1 of 3 targets succeeded; spec.paused is true: no further target starts"
    );
    assert_eq!(conclusion.requeue_after, None);

    world.job.spec.paused = Some(false);
    assert_eq!(starting(&world), ["b"]);
}

#[test]
fn as_many_targets_are_in_progress_as_max_concurrent_allows() {
    let details = [
        succeeded("done"),
        processing("busy"),
        failed("unreleased", "X"),
        released("released", "X"),
        pending("p1"),
        pending("p2"),
        pending("p3"),
    ];
    // 2 of the 7 are under way.
    for (max, starts) in [
        (None, 3),
        (Some(IntOrString::Int(1)), 0),
        (Some(IntOrString::Int(2)), 0),
        (Some(IntOrString::Int(3)), 1),
        (Some(IntOrString::Int(4)), 2),
        (Some(IntOrString::Int(100)), 3),
        (Some(percent("1%")), 0),
        (Some(percent("29%")), 1),
        (Some(percent("100%")), 3),
    ] {
        let mut world = World::with(&details);
        world.job.spec.max_concurrent.clone_from(&max);
        assert_eq!(starting(&world).len(), starts, "{max:?}");
    }
    let mut world = World::with(&[pending("a"), pending("b")]);
    world.job.spec.max_concurrent = Some(percent("0%"));
    assert_eq!(starting(&world), ["a"], "one always may start");

    world.pass(&[]);
    world.pass(&[("a", report(OpsProgress::Processing, None))]);
    assert_eq!(standing(world.status()), [("Reconciling", "Processing")]);
    let ready = condition(world.status(), "Ready").expect("a condition");
    assert_eq!(
        ready.message,
        "0 of 2 targets succeeded; targets in progress: 1; spec.maxConcurrent allows no more"
    );
}

#[test]
fn failures_do_not_stop_a_job_unless_it_says_so() {
    let mut world = World::with(&[released("a", "X"), pending("b")]);
    assert_eq!(starting(&world), ["b"]);
    world.job.spec.max_failures = Some(IntOrString::Int(0));
    assert_eq!(starting(&world), ["b"]);
}

#[test]
fn a_job_pauses_when_more_targets_failed_than_allowed() {
    // How many fail of 5, maxFailures; whether the others are held back.
    for (failures, max, held) in [
        (0, None, false),
        (1, None, true),
        (1, Some(IntOrString::Int(1)), false),
        (2, Some(IntOrString::Int(1)), true),
        (1, Some(percent("20%")), false),
        (2, Some(percent("39%")), true),
        (2, Some(percent("40%")), false),
    ] {
        let details: Vec<_> = (0..5)
            .map(|n| {
                let name = format!("t{n}");
                if n < failures {
                    released(&name, "X")
                } else {
                    pending(&name)
                }
            })
            .collect();
        let mut world = World::with(&details);
        world.job.spec.on_failure = Some(OnFailure::Pause);
        world.job.spec.max_failures.clone_from(&max);
        assert_eq!(starting(&world).is_empty(), held, "{failures}, {max:?}");
    }

    let mut world = World::with(&[processing("a"), processing("b"), pending("c")]);
    world.job.spec.on_failure = Some(OnFailure::Pause);
    world.job.spec.partition = Some(2);
    let conclusion = world.pass(&[("a", terminal("no"))]);
    assert_eq!(
        standing(&conclusion.status),
        [("Stalled", "TooManyFailures")]
    );
    let reasons: Vec<_> = conclusion.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["TargetFailed", "Blocked"]);
    let ready = condition(world.status(), "Ready").expect("a condition");
    assert_eq!(
        ready.message,
        "0 of 3 targets succeeded, 1 failed; spec.maxFailures allows 0, so no further target starts; raise \
         spec.maxFailures, or set spec.onFailure to Continue, to go on"
    );
    world.job.spec.partition = None;
    world.pass(&[("a", clean()), ("b", report(OpsProgress::Succeeded, None))]);
    assert_eq!(
        world.steps(),
        [TargetStep::Keep, TargetStep::Keep, TargetStep::Keep]
    );
    assert!(world.status().canceled_time.is_none());

    world.job.spec.max_failures = Some(IntOrString::Int(1));
    assert_eq!(starting(&world), ["c"]);
    world.job.spec.max_failures = None;
    world.job.spec.on_failure = Some(OnFailure::Continue);
    assert_eq!(starting(&world), ["c"]);
}

#[test]
fn a_target_does_not_start_in_the_pass_in_which_another_fails_too_many() {
    let mut world = World::with(&[pending("gone"), pending("b")]);
    world.pods.remove("gone");
    world.now += 60;
    assert_eq!(starting(&world), ["b"]);
    world.job.spec.on_failure = Some(OnFailure::Pause);
    assert_eq!(starting(&world), Vec::<String>::new());
    world.pass(&[]);
    assert_eq!(standing(world.status()), [("Stalled", "TooManyFailures")]);
    world.job.spec.max_failures = Some(IntOrString::Int(1));
    assert_eq!(starting(&world), ["b"]);
}

#[test]
fn a_failed_target_that_cannot_be_released_holds_its_place_and_says_so() {
    let mut world = World::with(&[failed("bad", "X"), pending("b")]);
    world.job.spec.max_concurrent = Some(IntOrString::Int(1));
    world.pass(&[("bad", plugin("trap"))]);
    let ready = condition(world.status(), "Ready").expect("a condition");
    assert_eq!(
        ready.message,
        "0 of 2 targets succeeded, 1 failed; targets in progress: 1, 1 of them failed and not released yet; \
         spec.maxConcurrent allows no more"
    );
}

/// A job that is canceled if one of its targets fails, of which one has failed.
fn canceled() -> World {
    let mut world = World::with(&[
        processing("bad"),
        processing("busy"),
        pending("waiting"),
        pending("later"),
    ]);
    world.job.spec.on_failure = Some(OnFailure::Cancel);
    world.job.spec.partition = Some(2);
    let conclusion = world.pass(&[
        ("bad", terminal("no")),
        ("busy", report(OpsProgress::Processing, None)),
    ]);
    let reasons: Vec<_> = conclusion.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["TargetFailed", "Canceled"]);
    world
}

/// The status names the cancellation before anything follows from it, so that no change of the spec and no crash
/// of the host leaves a target that was released and is operated again.
#[test]
fn a_job_is_canceled_for_good_when_more_targets_failed_than_allowed() {
    let mut world = canceled();
    assert_eq!(world.status().canceled_time, Some(time(world.now)));
    assert_eq!(standing(world.status()), [("Reconciling", "Canceled")]);

    world.job.spec.max_failures = Some(IntOrString::Int(4));
    world.job.spec.on_failure = None;
    world.job.spec.paused = Some(true);
    world.job.spec.partition = None;
    let steps = world.steps();
    assert_eq!(steps[0], TargetStep::Release(Cause::Failed));
    assert_eq!(steps[1], TargetStep::Release(Cause::Canceled));
    for step in &steps[2..] {
        let TargetStep::Fail(failure) = step else {
            unreachable!("{step:?}");
        };
        assert_eq!(failure.reason, "Canceled");
    }
    let conclusion = world.pass(&[("bad", clean()), ("busy", releasing("slow", 5))]);
    assert!(
        events(&conclusion)
            .iter()
            .all(|(reason, _)| *reason != "Blocked")
    );
    assert_eq!(world.status().progress, Some(Progress::Failed));
    assert_eq!(standing(world.status()), [("Stalled", "Forbidden")]);
    let ready = condition(world.status(), "Ready").expect("a condition");
    assert_eq!(
        ready.message,
        "0 of 4 targets succeeded, 4 failed; bad: Forbidden: no"
    );
    assert_eq!(world.steps()[1], TargetStep::Release(Cause::Failed));
    world.pass(&[("busy", clean())]);
    assert!(world.steps().iter().all(|step| *step == TargetStep::Keep));
}

#[test]
fn a_target_of_a_canceled_job_that_has_succeeded_after_all_has() {
    let mut world = canceled();
    world.pass(&[
        ("bad", clean()),
        ("busy", report(OpsProgress::Succeeded, None)),
    ]);
    assert_eq!(world.detail("busy").progress, Progress::Succeeded);
}

#[test]
fn a_target_of_a_canceled_job_is_released_when_its_action_can_be_called() {
    let mut world = canceled();
    world.action = ActionState::NotLoaded {
        message: "no".to_owned(),
        has_failed: true,
    };
    world.pass(&[]);
    assert_eq!(world.detail("busy").progress, Progress::Failed);
    let error = world.detail("busy").error.clone().expect("an error");
    assert_eq!(error.reason, "Canceled");
    world.action = ActionState::Loaded;
    assert_eq!(world.steps()[1], TargetStep::Release(Cause::Failed));
    world.pass(&[("busy", plugin("trap"))]);
    assert_eq!(world.steps()[1], TargetStep::Release(Cause::Failed));
}

#[test]
fn a_job_is_not_canceled_by_its_last_target() {
    let mut world = World::with(&[succeeded("a"), processing("b")]);
    world.job.spec.on_failure = Some(OnFailure::Cancel);
    world.pass(&[("b", terminal("no"))]);
    assert!(world.status().canceled_time.is_none());
    assert_eq!(world.status().progress, Some(Progress::Failed));
}

/// The API server refuses these, unless its CRD is another one.
#[test]
fn a_limit_that_cannot_be_read_starts_nothing() {
    for field in ["maxConcurrent", "maxFailures"] {
        let mut world = World::with(&[processing("a"), pending("b")]);
        let spec = &mut world.job.spec;
        match field {
            "maxConcurrent" => spec.max_concurrent = Some(percent("many")),
            _ => spec.max_failures = Some(percent("many")),
        }
        assert_eq!(world.steps()[0], TargetStep::Operate);
        assert_eq!(starting(&world), Vec::<String>::new());
        world.pass(&[("a", report(OpsProgress::Processing, None))]);
        assert_eq!(standing(world.status()), [("Stalled", "InvalidSpec")]);
        let ready = condition(world.status(), "Ready").expect("a condition");
        assert!(
            ready.message.ends_with(&format!(
                "spec.{field} must be a number, or a percentage such as \"10%\", not \"many\""
            )),
            "{}",
            ready.message
        );
    }
}
