//! What answers about operated targets mean.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use operon_api::operation_job::{Progress, TargetDetail};
use serde_json::json;

use super::world::{
    START, World, acted, attributes, failed, not_found, pending, plugin, processing, report, retry,
    said, terminal, time,
};
use crate::{
    action::{ActionError, Failure, OpsProgress, ProgressReport},
    operation_job::{ActionState, conclude::Answer, plan::TargetStep},
};

fn waits() -> Failure {
    Failure::new("WaitingForNewPod", "it is not ready")
}

#[test]
fn a_started_target_is_recorded_before_it_is_operated() {
    let mut world = World::new(&["a"]);
    let conclusion = world.pass(&[]);
    let wanted = TargetDetail {
        progress: Progress::Processing,
        pod_uid: Some("uid-a".to_owned()),
        start_time: Some(time(START)),
        ..pending("a")
    };
    assert_eq!(world.detail("a"), &wanted);
    assert!(
        !conclusion.retry && conclusion.requeue_after.is_none(),
        "the write itself wakes"
    );
    assert_eq!(world.step(), TargetStep::Operate);
}

#[test]
fn each_answer_about_an_operated_target_means_this() {
    let (busy, old) = (said("Busy", "later"), said("Old", "before"));
    let waiting = said("WaitingForNewPod", "it is not ready");
    let unexplained = said(
        "ActionFailed",
        "the action reported failure without a reason",
    );
    let (done, vain, on) = (Progress::Succeeded, Progress::Failed, Progress::Processing);
    // The answer; the target's progress and error, whether to retry, and in how many seconds.
    let table = [
        (report(OpsProgress::Processing, None), on, None, false, None),
        (
            report(OpsProgress::Processing, Some(waits())),
            on,
            Some(waiting.clone()),
            false,
            None,
        ),
        (
            report(OpsProgress::Succeeded, None),
            done,
            None,
            false,
            None,
        ),
        (
            report(OpsProgress::Succeeded, Some(waits())),
            done,
            None,
            false,
            None,
        ),
        (
            report(OpsProgress::Failed, Some(waits())),
            vain,
            Some(waiting),
            false,
            None,
        ),
        (
            report(OpsProgress::Failed, None),
            vain,
            Some(unexplained),
            false,
            None,
        ),
        // What it waits for is reported by the next call.
        (acted(), on, Some(old.clone()), false, None),
        (retry("later", None), on, Some(busy.clone()), true, None),
        (retry("later", Some(7)), on, Some(busy), false, Some(7)),
        (plugin("oops"), on, Some(said("Trap", "oops")), true, None),
        (
            terminal("no"),
            vain,
            Some(said("Forbidden", "no")),
            false,
            None,
        ),
    ];
    for (answer, progress, error, retry, after) in table {
        let before = TargetDetail {
            error: Some(old.clone()),
            ..processing("a")
        };
        let mut world = World::with(&[before]);
        world.now = START + 5;
        let conclusion = world.pass(&[("a", answer.clone())]);
        let detail = world.detail("a");
        assert_eq!(
            (detail.progress, &detail.error),
            (progress, &error),
            "{answer:?}"
        );
        assert_eq!(
            detail.end_time,
            progress.is_finished().then(|| time(START + 5)),
            "{answer:?}"
        );
        assert_eq!(detail.start_time, Some(time(START)));
        assert_eq!(conclusion.retry, retry, "{answer:?}");
        assert_eq!(
            conclusion.requeue_after,
            after.map(Duration::from_secs),
            "{answer:?}"
        );
    }
}

#[test]
fn without_an_answer_nothing_changes_and_its_turn_comes_at_once() {
    let world = World::with(&[processing("a")]);
    let conclusion = world.conclude(&[]);
    assert!(!conclusion.retry && !conclusion.released);
    assert_eq!(conclusion.requeue_after, Some(Duration::ZERO));
    assert_eq!(conclusion.status.target_details, [processing("a")]);
}

#[test]
fn a_target_whose_turn_did_not_come_does_not_wait_for_one_that_backs_off() {
    let world = World::with(&[processing("a"), processing("b")]);
    let conclusion = world.conclude(&[("a", plugin("oops"))]);
    assert!(conclusion.retry);
    assert_eq!(conclusion.requeue_after, Some(Duration::ZERO));
}

#[test]
fn a_target_that_is_answered_later_changes_nothing_and_asks_for_no_pass() {
    let before = TargetDetail {
        error: Some(said("Trap", "oops")),
        extra_info: attributes(&[("NewPod", "new")]),
        ..processing("a")
    };
    for deleted in [false, true] {
        let mut world = World::with(std::slice::from_ref(&before));
        if deleted {
            world.delete_job();
        }
        let conclusion = world.conclude_with(&[], &["a"]);
        assert_eq!(
            conclusion.status.target_details,
            std::slice::from_ref(&before)
        );
        assert!(!conclusion.retry && !conclusion.released);
        assert_eq!(conclusion.requeue_after, world.run().requeue_after);
    }
}

#[test]
fn extra_info_is_replaced_whole_by_what_the_action_says_and_kept_if_it_says_nothing() {
    let error = || ActionError::Plugin(Failure::new("Trap", "oops"));
    let wrote = attributes(&[("NewPod", "new"), ("Released", "true")]);
    let told = Answer::Error {
        error: error(),
        extra_info: Some(wrote),
    };
    for (answer, wanted) in [
        (
            report(OpsProgress::Processing, None),
            attributes(&[("NewPod", "new")]),
        ),
        (told, attributes(&[("NewPod", "new")])),
        (acted(), attributes(&[("NewPod", "new")])),
        (
            Answer::Error {
                error: error(),
                extra_info: None,
            },
            attributes(&[("Old", "1")]),
        ),
    ] {
        let before = TargetDetail {
            extra_info: attributes(&[("Old", "1")]),
            ..processing("a")
        };
        let mut world = World::with(&[before]);
        world.pass(&[("a", answer)]);
        assert_eq!(world.detail("a").extra_info, wanted);
    }
}

#[test]
fn the_soonest_of_all_moments_asks_for_the_next_pass() {
    let recheck = |seconds| {
        Answer::Report(ProgressReport {
            progress: OpsProgress::Processing,
            failure: None,
            extra_info: attributes(&[]),
            recheck_after: Some(Duration::from_secs(seconds)),
        })
    };
    for (deadline, a, b, wanted) in [
        (None, 20, 10, 10),
        (None, 10, 20, 10),
        (Some(5), 20, 10, 5),
        (Some(3600), 20, 10, 10),
    ] {
        let mut world = World::with(&[processing("a"), processing("b")]);
        world.job.spec.active_deadline_seconds = deadline;
        let conclusion = world.conclude(&[("a", recheck(a)), ("b", recheck(b))]);
        assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(wanted)));
        assert!(!conclusion.retry);
    }
}

#[test]
fn one_target_that_fails_to_answer_does_not_touch_the_others() {
    let mut world = World::with(&[processing("a"), processing("b"), processing("c")]);
    let done = report(OpsProgress::Succeeded, None);
    let conclusion = world.pass(&[
        ("a", plugin("oops")),
        ("b", done),
        ("c", retry("x", Some(9))),
    ]);
    assert!(conclusion.retry);
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(9)));
    let progress = |name| world.detail(name).progress;
    assert_eq!(progress("a"), Progress::Processing);
    assert_eq!(progress("b"), Progress::Succeeded);
    assert_eq!(progress("c"), Progress::Processing);
}

#[test]
fn a_target_says_what_its_action_lacks_until_the_action_is_there() {
    let mut world = World::with(&[processing("a"), pending("b")]);
    world.action = ActionState::NotLoaded {
        message: "no ConfigMap".to_owned(),
        has_failed: true,
    };
    let conclusion = world.pass(&[]);
    assert_eq!(
        world.detail("a").error,
        Some(said("ActionNotReady", "no ConfigMap"))
    );
    assert_eq!(
        world.detail("b").error,
        Some(said("ActionNotReady", "no ConfigMap"))
    );
    assert!(!conclusion.retry, "the action's arrival wakes the job");
    world.action = ActionState::Loaded;
    world.pass(&[("a", report(OpsProgress::Processing, None))]);
    for name in ["a", "b"] {
        assert_eq!(world.detail(name).error, None);
    }
}

#[test]
fn a_target_without_a_pod_no_longer_waits_for_its_action() {
    let mut world = World::new(&["a"]);
    world.action = not_found();
    world.pass(&[]);
    let error = world.detail("a").error.clone().expect("an error");
    assert_eq!(error.reason, "ActionNotFound");
    world.action = ActionState::Loaded;
    world.pods.clear();
    world.pass(&[]);
    assert_eq!(world.detail("a").error, None);
}

#[test]
fn a_target_that_fails_without_having_started_has_no_start() {
    let mut world = World::with(&[pending("a")]);
    world.pods.clear();
    world.now = START + 60;
    world.pass(&[]);
    let detail = world.detail("a");
    assert_eq!(
        (detail.progress, &detail.start_time),
        (Progress::Failed, &None)
    );
    assert_eq!(detail.end_time, Some(time(START + 60)));
    assert_eq!(world.step(), TargetStep::Keep, "nothing is left to release");
}

#[test]
fn a_target_whose_start_was_never_noted_starts_when_it_is_first_operated() {
    let unnoted = TargetDetail {
        start_time: None,
        ..processing("a")
    };
    let mut world = World::with(&[unnoted]);
    world.now = START + 5;
    world.pass(&[("a", report(OpsProgress::Processing, None))]);
    assert_eq!(world.detail("a").start_time, Some(time(START + 5)));
}

#[test]
fn a_job_that_is_not_deleted_is_held_by_targets_without_a_good_answer() {
    let wait = || report(OpsProgress::Processing, None);
    for (answer, released) in [
        (wait(), true),
        (plugin("x"), false),
        (retry("x", None), false),
        (terminal("x"), false),
    ] {
        let world = World::with(&[processing("a"), processing("b")]);
        assert_eq!(
            world.conclude(&[("a", answer), ("b", wait())]).released,
            released
        );
    }
    assert!(!World::with(&[failed("a", "X")]).conclude(&[]).released);
}

#[test]
fn a_target_that_waits_says_that_the_node_of_its_pod_is_not_ready() {
    let mut world = World::with(&[processing("a"), processing("b")]);
    for name in ["a", "b"] {
        let pod = json!({"metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"nodeName": format!("node-{name}"), "containers": []}});
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        world.pods.insert(name.to_owned(), Arc::new(pod));
    }
    let trouble = "node \"node-a\" is not Ready";
    world
        .unready_nodes
        .insert("node-a".to_owned(), trouble.to_owned());
    let waits = report(OpsProgress::Processing, Some(waits()));
    for _ in 0..2 {
        world.pass(&[("a", waits.clone()), ("b", waits.clone())]);
        let said = |name: &str| world.detail(name).error.clone().expect("it waits").message;
        assert_eq!(said("a"), format!("it is not ready; {trouble}"));
        assert_eq!(said("b"), "it is not ready");
    }
    let reason = |world: &World| world.detail("a").error.clone().expect("it waits").reason;
    let usual = reason(&world);
    let mut leaving = Pod::clone(&world.pods["a"]);
    let gone = serde_json::from_value(json!("2026-01-01T00:00:00Z"));
    leaving.metadata.deletion_timestamp = gone.expect("a time");
    world.pods.insert("a".to_owned(), Arc::new(leaving));
    world.pass(&[("a", waits.clone())]);
    assert_eq!(reason(&world), "NodeLost");
    world.unready_nodes.clear();
    world.pass(&[("a", waits.clone())]);
    let said = world.detail("a").error.as_ref().map(|e| e.message.as_str());
    assert_eq!(said, Some("it is not ready"));
    assert_eq!(reason(&world), usual);
}
