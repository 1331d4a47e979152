//! What becomes of the targets of a job that is being deleted.

use std::time::Duration;

use operon_api::operation_job::{Progress, TargetDetail};

use super::world::{
    START, World, clean, deleted_at, events, failed, not_found, pending, plugin, processing,
    released, releasing, report, retry, said, succeeded, time,
};
use crate::{
    action::{OpsProgress, Severity},
    operation_job::{
        ActionState,
        plan::{Cause, TargetStep},
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
    let release = TargetStep::Release(Cause::Deleted);
    let wanted = [
        TargetStep::Keep,
        release.clone(),
        TargetStep::Keep,
        TargetStep::Keep,
        release.clone(),
        release,
        TargetStep::Keep,
    ];
    assert_eq!(deleted(&details).steps(), wanted);
}

#[test]
fn a_job_of_which_nothing_started_goes_at_once_whatever_its_action() {
    for action in [
        ActionState::Loaded,
        not_found(),
        ActionState::NotLoaded {
            message: String::new(),
            has_failed: true,
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
        assert!(
            conclusion
                .events
                .iter()
                .all(|e| e.severity == Severity::Normal)
        );
        assert_eq!(world.step(), TargetStep::Keep, "it is released once");
    }
}

#[test]
fn a_target_that_failed_stays_so_though_a_late_answer_finds_it_done() {
    let mut world = deleted(&[failed("a", "Canceled")]);
    let conclusion = world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    assert_eq!(world.detail("a").progress, Progress::Failed);
    assert!(!conclusion.released, "it is still to be released");
}

#[test]
fn a_release_that_fails_holds_the_job_for_a_minute_from_its_first_failure() {
    let fails = [("a", retry("the pod changed", None)), ("b", plugin("trap"))];
    let mut world = deleted(&[processing("a"), failed("b", "X")]);
    world.now = START + 3600;
    let conclusion = world.pass(&fails);
    assert!(!conclusion.released && conclusion.retry);
    assert_eq!(world.status().release_failed_time, Some(time(START + 3600)));
    assert_eq!(
        world.detail("a").error.as_ref().map(|e| e.reason.as_str()),
        Some("Canceled")
    );

    world.now = START + 3659;
    let release = TargetStep::Release(Cause::Deleted);
    assert_eq!(world.steps(), [release.clone(), release]);
    assert_eq!(world.due(), Some(1));
    assert!(!world.pass(&fails).released);
    assert_eq!(world.status().release_failed_time, Some(time(START + 3600)));

    world.now = START + 3660;
    let last = TargetStep::Release(Cause::Overdue);
    assert_eq!(world.steps(), [last.clone(), last]);
    assert!(!world.conclude(&[]).released, "it is called once more");
    let conclusion = world.pass(&fails);
    assert!(conclusion.released && !conclusion.retry);
    for (name, cause) in [("a", "Busy: the pod changed"), ("b", "Trap: trap")] {
        let error = world.detail(name).error.clone().expect("an error");
        assert_eq!(error.reason, "ReleaseAbandoned");
        assert!(error.message.contains("60 s"), "{}", error.message);
        let last = format!("; last error: {cause}");
        assert!(error.message.ends_with(&last), "{}", error.message);
    }
    let told = events(&conclusion);
    assert_eq!(told.len(), 1);
    let (reason, message) = told[0];
    assert_eq!(reason, "ReleaseAbandoned");
    assert!(message.starts_with("2 targets: a, b; a: "), "{message}");

    // A crash before the finalizer was removed: the next reconcile calls once more, reports the same and
    // removes the finalizer.
    let again = world.conclude(&fails);
    assert!(again.released);
    assert_eq!((&again.status, again.events.len()), (world.status(), 0));
}

#[test]
fn a_job_deleted_while_no_host_ran_is_released_by_the_first_call() {
    for (away, clock) in [(0, 0), (80, 0), (86_400, 0), (80, 7200), (80, -7200)] {
        let mut world = deleted(&[processing("a")]);
        world.now = START + away + clock;
        assert_eq!(
            world.step(),
            TargetStep::Release(Cause::Deleted),
            "{away} {clock}"
        );
        assert!(world.pass(&[("a", clean())]).released);
        let error = world.detail("a").error.clone().expect("an error");
        assert_eq!(error.reason, "Canceled");
    }
}

#[test]
fn a_host_that_restarts_calls_once_more_and_does_not_begin_the_minute_anew() {
    let mut world = deleted(&[processing("a")]);
    world.pass(&[("a", plugin("trap"))]);
    // The host is away, whatever its clock and its action do when it is back.
    world.now = START + 5000;
    world.action = ActionState::NotLoaded {
        message: "it is being loaded".to_owned(),
        has_failed: true,
    };
    assert!(!world.pass(&[]).released, "it waits for the action");
    world.action = ActionState::Loaded;
    assert_eq!(world.step(), TargetStep::Release(Cause::Overdue));
    assert!(world.conclude(&[("a", clean())]).released);
    assert!(world.conclude(&[("a", plugin("trap"))]).released);
}

#[test]
fn a_failure_noted_by_a_clock_that_was_ahead_counts_from_now() {
    let mut world = deleted(&[processing("a")]);
    world.now = START + 7200;
    world.pass(&[("a", plugin("trap"))]);
    world.now = START;
    assert_eq!(world.step(), TargetStep::Release(Cause::Deleted));
    world.pass(&[("a", plugin("trap"))]);
    assert_eq!(world.status().release_failed_time, Some(time(START)));
    world.now = START + 60;
    assert_eq!(world.step(), TargetStep::Release(Cause::Overdue));
}

#[test]
fn an_action_that_is_not_loaded_in_time_ends_the_deletion() {
    let mut world = deleted(&[processing("a"), failed("b", "X")]);
    world.action = ActionState::NotLoaded {
        message: "no ConfigMap".to_owned(),
        has_failed: true,
    };
    world.pass(&[]);
    for (blocked, released) in [(0, false), (59, false), (60, true), (3600, true)] {
        world.blocked = blocked;
        let conclusion = world.conclude(&[]);
        assert_eq!(conclusion.released, released, "after {blocked} s");
    }
    for _ in 0..2 {
        world.pass(&[]);
        let error = world.detail("a").error.clone().expect("an error");
        assert_eq!(error.reason, "ReleaseAbandoned");
        let last = "; last error: ActionNotReady: no ConfigMap";
        assert!(error.message.ends_with(last), "{}", error.message);
    }
    assert_eq!(world.status().release_failed_time, None);
}

#[test]
fn an_action_that_is_gone_holds_nothing() {
    let mut world = deleted(&[processing("a"), released("b", "X")]);
    world.action = not_found();
    let conclusion = world.pass(&[]);
    assert!(conclusion.released);
    let error = world.detail("a").error.clone().expect("an error");
    assert_eq!(error.reason, "ReleaseAbandoned");
    assert_eq!(world.detail("b").error, Some(said("X", "it went wrong")));
}

#[test]
fn a_plugin_that_is_created_again_still_releases_the_targets_of_a_deleted_job() {
    let mut world = deleted(&[processing("a")]);
    world.now = START + 900;
    world.action = deleted_at(START + 890);
    let conclusion = world.pass(&[]);
    assert!(!conclusion.released);
    let due = conclusion.requeue_after.map(|after| after.as_secs());
    assert_eq!(due, Some(20), "then it is abandoned");
    let error = world.detail("a").error.clone().expect("an error");
    assert_eq!(error.reason, "ActionNotFound");
    world.action = ActionState::Loaded;
    world.now = START + 30;
    assert!(world.pass(&[("a", clean())]).released);
}

#[test]
fn an_action_that_is_not_loaded_is_waited_for() {
    let mut world = deleted(&[processing("a"), failed("b", "X")]);
    world.action = ActionState::NotLoaded {
        message: "no ConfigMap".to_owned(),
        has_failed: true,
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
    world.pass(&[("a", plugin("trap"))]);
    world.now = START - 5000;
    assert_eq!(
        (world.step(), world.due()),
        (TargetStep::Release(Cause::Deleted), Some(60))
    );
}

#[test]
fn a_release_that_takes_more_calls_is_no_failure_however_long_it_takes() {
    let mut world = deleted(&[processing("a")]);
    for later in [0, 59, 61, 86_400] {
        world.now = START + later;
        assert_eq!(world.step(), TargetStep::Release(Cause::Deleted));
        let conclusion = world.pass(&[("a", releasing("the new pod serves", 5))]);
        assert!(!conclusion.released && !conclusion.retry);
        assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(5)));
        assert_eq!(world.status().release_failed_time, None);
        let error = world.detail("a").error.clone().expect("an error");
        assert_eq!(error.reason, "Canceled");
        let waits = "; being released: the new pod serves";
        assert!(error.message.ends_with(waits), "{}", error.message);
        assert_eq!(error.message.matches("; ").count(), 1);
    }
    assert!(world.pass(&[("a", clean())]).released);
    let error = world.detail("a").error.clone().expect("an error");
    assert!(!error.message.contains("released:"), "{}", error.message);
}

#[test]
fn a_release_that_goes_on_after_a_failure_ends_the_minute() {
    let goes_on = ("a", releasing("the new pod serves", 5));
    let mut world = deleted(&[processing("a"), processing("b")]);
    world.pass(&[("a", retry("the pod changed", None)), ("b", clean())]);
    assert_eq!(world.status().release_failed_time, Some(time(START)));
    world.now = START + 70;
    assert_eq!(world.step(), TargetStep::Release(Cause::Overdue));
    assert!(!world.pass(std::slice::from_ref(&goes_on)).released);
    assert_eq!(world.status().release_failed_time, None);

    // Another target whose failed release waits for its next call still counts.
    let mut world = deleted(&[processing("a"), processing("b")]);
    world.pass(&[goes_on.clone(), ("b", plugin("trap"))]);
    let conclusion = world.conclude_with(&[goes_on], &["b"]);
    assert_eq!(conclusion.status.release_failed_time, Some(time(START)));
}
