//! What becomes of the targets of a job that is being deleted.

use std::time::Duration;

use operon_api::operation_job::{Progress, TargetDetail};

use super::world::{
    START, World, clean, events, failed, pending, plugin, processing, released, report, retry,
    said, succeeded,
};
use crate::{
    action::OpsProgress,
    operation_job::{
        ActionState,
        plan::{Cause, Step},
    },
};

fn deleted(details: &[TargetDetail]) -> World {
    let mut world = World::with(details);
    world.delete_job();
    world
}

#[test]
fn only_targets_that_started_and_are_not_clean_are_released() {
    let never_started = TargetDetail {
        start_time: None,
        ..failed("d", "PodNotFound")
    };
    // As the Go operator's oldest version left it.
    let unnoted = TargetDetail {
        start_time: None,
        pod_uid: None,
        ..processing("f")
    };
    let details = [
        succeeded("a"),
        failed("b", "X"),
        released("c", "X"),
        never_started,
        processing("e"),
        unnoted,
        pending("g"),
    ];
    let release = Step::Release(Cause::Deleted);
    let wanted = [
        Step::Keep,
        release.clone(),
        Step::Keep,
        Step::Keep,
        release.clone(),
        release,
        Step::Keep,
    ];
    assert_eq!(deleted(&details).steps(), wanted);
}

#[test]
fn a_job_of_which_nothing_started_goes_at_once_whatever_its_action() {
    for action in [
        ActionState::Loaded,
        ActionState::NotFound,
        ActionState::NotLoaded {
            message: String::new(),
        },
        ActionState::Unsupported {
            message: String::new(),
        },
    ] {
        let mut world = World::new(&["a", "b"]);
        world.pods.clear();
        world.action = action;
        world.delete_job();
        let conclusion = world.conclude(&[]);
        assert!(conclusion.released && !conclusion.retry);
        assert_eq!(conclusion.requeue_after, None);
        assert_eq!(conclusion.status.progress, Some(Progress::Pending));
    }
}

#[test]
fn a_target_is_canceled_unless_the_action_finds_it_done() {
    for (answer, progress, error) in [
        (clean(), Progress::Failed, Some("Canceled")),
        (
            report(OpsProgress::Succeeded, None),
            Progress::Succeeded,
            None,
        ),
    ] {
        let mut world = deleted(&[processing("a")]);
        let conclusion = world.pass(&[("a", answer)]);
        assert!(conclusion.released && !conclusion.retry);
        assert_eq!(
            conclusion.requeue_after, None,
            "nothing is left to wait for"
        );
        let detail = world.detail("a");
        assert_eq!(detail.progress, progress);
        assert_eq!(detail.error.as_ref().map(|e| e.reason.as_str()), error);
        assert_eq!(world.step(), Step::Keep, "it is released once");
    }
}

#[test]
fn a_release_that_fails_holds_the_job_until_the_limit() {
    let mut world = deleted(&[processing("a"), failed("b", "X")]);
    let conclusion = world.pass(&[("a", retry("the pod changed", None)), ("b", plugin("trap"))]);
    assert!(!conclusion.released && conclusion.retry);
    assert_eq!(
        conclusion.requeue_after.map(|after| after.as_secs()),
        Some(60)
    );
    assert_eq!(
        world.detail("a").error.as_ref().map(|e| e.reason.as_str()),
        Some("Canceled")
    );

    world.now = START + 59;
    let release = Step::Release(Cause::Deleted);
    assert_eq!(world.steps(), [release.clone(), release]);
    assert_eq!(world.due(), Some(1));

    world.now = START + 60;
    let conclusion = world.pass(&[]);
    assert!(conclusion.released && !conclusion.retry);
    for name in ["a", "b"] {
        let error = world.detail(name).error.clone().expect("an error");
        assert_eq!(error.reason, "ReleaseAbandoned");
        assert!(error.message.contains("60 s"), "{}", error.message);
    }
    let told: Vec<_> = events(&conclusion)
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    assert_eq!(told, ["ReleaseAbandoned", "ReleaseAbandoned"]);

    // A crash before the finalizer went: the next pass says the same and lets go.
    let again = world.conclude(&[]);
    assert!(again.released);
    assert_eq!((&again.status, again.events.len()), (world.status(), 0));
}

#[test]
fn an_action_that_is_gone_holds_nothing() {
    for action in [
        ActionState::NotFound,
        ActionState::Unsupported {
            message: String::new(),
        },
    ] {
        let mut world = deleted(&[processing("a"), released("b", "X")]);
        world.action = action;
        let conclusion = world.pass(&[]);
        assert!(conclusion.released);
        let error = world.detail("a").error.clone().expect("an error");
        assert_eq!(error.reason, "ReleaseAbandoned");
        assert_eq!(world.detail("b").error, Some(said("X", "it went wrong")));
    }
}

#[test]
fn an_action_that_is_not_loaded_is_waited_for() {
    let mut world = deleted(&[processing("a"), failed("b", "X")]);
    world.action = ActionState::NotLoaded {
        message: "no ConfigMap".to_owned(),
    };
    let conclusion = world.pass(&[]);
    assert!(!conclusion.released && conclusion.retry);
    assert_eq!(
        conclusion.requeue_after.map(|after| after.as_secs()),
        Some(60)
    );
    assert_eq!(
        world.detail("a").error,
        Some(said("ActionNotReady", "no ConfigMap"))
    );
    assert_eq!(world.detail("b").error, Some(said("X", "it went wrong")));
    world.action = ActionState::Loaded;
    assert!(world.pass(&[("a", clean()), ("b", clean())]).released);
}

#[test]
fn a_target_that_the_action_was_not_asked_about_holds_the_job() {
    let conclusion = deleted(&[processing("a"), processing("b")]).conclude(&[("a", clean())]);
    assert!(!conclusion.released && !conclusion.retry);
    assert_eq!(conclusion.requeue_after, Some(Duration::ZERO));
}

#[test]
fn a_clock_that_goes_backwards_does_not_abandon_a_target() {
    let mut world = deleted(&[processing("a")]);
    world.now = START - 5000;
    assert_eq!(
        (world.step(), world.due()),
        (Step::Release(Cause::Deleted), Some(60))
    );
}
