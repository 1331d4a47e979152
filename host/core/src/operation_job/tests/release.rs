//! What answers about released targets mean.

use std::time::Duration;

use operon_api::operation_job::{Progress, TargetDetail};

use super::world::{
    START, World, attributes, clean, failed, not_found, plugin, processing, report, retry, said,
    terminal, time,
};
use crate::{
    action::OpsProgress,
    operation_job::{
        ActionState,
        conclude::Answer,
        plan::{Cause, TargetStep},
    },
};

/// A target that took too long just now.
fn overdue() -> World {
    let mut world = World::with(&[processing("a")]);
    world.job.spec.active_deadline_seconds = Some(100);
    world.now = START + 100;
    world
}

fn message(world: &World) -> &str {
    world
        .detail("a")
        .error
        .as_ref()
        .map_or("", |error| error.message.as_str())
}

const TOO_LONG: &str =
    "the target did not finish within 100 s of its start (spec.activeDeadlineSeconds)";

#[test]
fn a_target_that_took_too_long_is_released_in_the_same_pass() {
    let mut world = overdue();
    let conclusion = world.pass(&[("a", clean())]);
    let detail = world.detail("a");
    assert_eq!(detail.progress, Progress::Failed);
    assert_eq!(detail.error, Some(said("DeadlineExceeded", TOO_LONG)));
    assert_eq!(detail.end_time, Some(time(START + 100)));
    assert_eq!(
        detail.extra_info,
        attributes(&[("NewPod", "new"), ("Released", "true")])
    );
    assert!(!conclusion.retry && conclusion.requeue_after.is_none());
    assert_eq!(world.step(), TargetStep::Keep);
}

#[test]
fn a_target_that_is_given_up_keeps_what_it_waited_for_last() {
    let waiting = TargetDetail {
        error: Some(said("Forbidden", "may not patch pods")),
        ..processing("a")
    };
    let last = "; last error: Forbidden: may not patch pods";
    for deleted in [false, true] {
        for action in [ActionState::Loaded, not_found()] {
            let mut world = World::with(std::slice::from_ref(&waiting));
            world.job.spec.active_deadline_seconds = Some(100);
            world.now = START + 100;
            world.action = action;
            if deleted {
                world.delete_job();
            }
            for _ in 0..2 {
                world.pass(&[("a", clean())]);
                assert!(message(&world).ends_with(last), "{}", message(&world));
                assert_eq!(message(&world).matches("; last error: ").count(), 1);
            }
        }
    }
}

#[test]
fn a_target_that_is_done_at_its_deadline_succeeded() {
    let mut world = overdue();
    world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    let detail = world.detail("a");
    assert_eq!(
        (detail.progress, &detail.error),
        (Progress::Succeeded, &None)
    );
    assert_eq!(detail.extra_info, attributes(&[("NewPod", "new")]));
}

#[test]
fn each_answer_to_a_release_that_fails_means_this() {
    for (answer, retried, after) in [
        (plugin("oops"), true, None),
        (terminal("oops"), true, None),
        (retry("oops", None), true, None),
        (retry("oops", Some(7)), false, Some(7)),
    ] {
        let mut world = overdue();
        let conclusion = world.pass(&[("a", answer)]);
        let wanted = said(
            "DeadlineExceeded",
            &format!("{TOO_LONG}; release failed: oops"),
        );
        assert_eq!(world.detail("a").error, Some(wanted));
        assert_eq!(world.detail("a").progress, Progress::Failed);
        assert_eq!(conclusion.retry, retried);
        assert_eq!(conclusion.requeue_after, after.map(Duration::from_secs));
        assert!(!conclusion.released);
        assert_eq!(
            world.step(),
            TargetStep::Release(Cause::Failed),
            "it is tried again"
        );
    }
}

#[test]
fn what_keeps_a_target_from_being_released_is_told_once_and_goes_when_it_is() {
    let mut world = overdue();
    for (answer, wanted) in [
        (plugin("one"), format!("{TOO_LONG}; release failed: one")),
        (plugin("one"), format!("{TOO_LONG}; release failed: one")),
        (plugin("two"), format!("{TOO_LONG}; release failed: two")),
        (clean(), TOO_LONG.to_owned()),
    ] {
        world.pass(&[("a", answer)]);
        assert_eq!(message(&world), wanted);
    }
    assert_eq!(world.step(), TargetStep::Keep);
}

#[test]
fn a_long_reason_of_failure_leaves_room_for_what_keeps_the_release() {
    let long = TargetDetail {
        error: Some(said("X", &"é".repeat(5000))),
        ..failed("a", "X")
    };
    let mut world = World::with(&[long]);
    for _ in 0..3 {
        world.pass(&[("a", plugin("oops"))]);
        assert!(
            message(&world).ends_with("é; release failed: oops"),
            "{}",
            message(&world)
        );
        assert!(message(&world).len() <= 1024);
    }
}

#[test]
fn a_release_keeps_why_and_when_the_target_failed() {
    let mut world = World::with(&[failed("a", "NewPodFailed")]);
    world.now = START + 30;
    world.pass(&[("a", clean())]);
    let detail = world.detail("a");
    assert_eq!(detail.error, Some(said("NewPodFailed", "it went wrong")));
    assert_eq!(detail.end_time, Some(time(START)));
}

#[test]
fn a_release_that_is_not_answered_with_a_release_is_tried_again() {
    for answer in [
        report(OpsProgress::Processing, None),
        report(OpsProgress::Failed, None),
    ] {
        let mut world = overdue();
        let conclusion = world.pass(&[("a", answer)]);
        assert!(conclusion.retry && !conclusion.released);
        assert_eq!(world.detail("a").progress, Progress::Failed);
        assert_eq!(world.step(), TargetStep::Release(Cause::Failed));
    }
}

#[test]
fn an_unasked_release_changes_nothing() {
    let world = overdue();
    let conclusion = world.conclude(&[]);
    assert!(!conclusion.released);
    assert_eq!(conclusion.requeue_after, Some(Duration::ZERO));
    assert_eq!(conclusion.status.target_details, [processing("a")]);
}

#[test]
fn the_mark_of_a_released_target_is_not_the_actions_to_give() {
    let mut world = World::with(&[failed("a", "X")]);
    let empty = Answer::Released {
        extra_info: attributes(&[]),
    };
    world.pass(&[("a", empty)]);
    assert_eq!(
        world.detail("a").extra_info,
        attributes(&[("Released", "true")])
    );
}
