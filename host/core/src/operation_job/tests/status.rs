//! The job's own part of the status, and the Events of its transitions.

use operon_api::operation_job::{OperationJobStatus, Progress, TargetDetail};

use super::world::{
    START, World, condition, end, events, failed, not_found, pending, processing, released, report,
    standing, succeeded, terminal, time,
};
use crate::{
    action::{Failure, OpsProgress, Severity},
    operation_job::ActionState,
};

const READY: &str = "Ready";
const RECONCILING: &str = "Reconciling";
const STALLED: &str = "Stalled";

fn going_on() -> crate::operation_job::conclude::Answer {
    report(OpsProgress::Processing, None)
}

#[test]
fn the_jobs_progress_and_counts_follow_from_its_targets() {
    // The targets; the job's progress, how many succeeded, how many failed.
    type Case<'a> = (&'a [&'a TargetDetail], Progress, Option<i32>, Option<i32>);
    use Progress::{Failed, Pending, Processing, Succeeded};
    let (p, r, s, f) = (
        pending("p"),
        processing("r"),
        succeeded("s"),
        released("f", "X"),
    );
    let table: &[Case<'_>] = &[
        (&[&p], Pending, None, None),
        (&[&r], Processing, None, None),
        (&[&s], Succeeded, Some(1), None),
        (&[&f], Failed, None, Some(1)),
        (&[&p, &r], Processing, None, None),
        (&[&p, &s], Processing, Some(1), None),
        (&[&p, &f], Processing, None, Some(1)),
        (&[&r, &s], Processing, Some(1), None),
        (&[&r, &f], Processing, None, Some(1)),
        (&[&s, &f], Failed, Some(1), Some(1)),
        (&[&p, &r, &s, &f], Processing, Some(1), Some(1)),
    ];
    for (details, progress, succeeded, failed) in table {
        let details: Vec<_> = details.iter().map(|detail| (*detail).clone()).collect();
        let mut world = World::with(&details);
        world.job.spec.partition = Some(0);
        let status = world.conclude(&[]).status;
        let names: Vec<_> = details.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(status.progress, Some(*progress), "{names:?}");
        assert_eq!(status.total_pod_count, i32::try_from(details.len()).ok());
        assert_eq!(
            (status.succeeded_pod_count, status.failed_pod_count),
            (*succeeded, *failed)
        );
        assert_eq!(status.end_time.is_some(), progress.is_finished());
    }
}

#[test]
fn targets_that_left_pending_come_first_then_the_order_of_the_spec() {
    let mut world = World::with(&[
        pending("a"),
        pending("b"),
        succeeded("c"),
        pending("d"),
        processing("e"),
    ]);
    world.job.spec.partition = Some(3);
    world.pass(&[("e", going_on())]);
    let names: Vec<_> = world
        .status()
        .target_details
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["a", "c", "e", "b", "d"]);
}

#[test]
fn a_job_is_seen_once_and_ends_once() {
    let mut world = World::new(&["a"]);
    world.pass(&[]);
    assert_eq!(
        (&world.status().start_time, &world.status().end_time),
        (&Some(time(START)), &None)
    );
    world.now = START + 10;
    world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    for later in [20, -500] {
        world.now = START + later;
        world.pass(&[]);
        let status = world.status();
        assert_eq!(status.start_time, Some(time(START)));
        assert_eq!(status.end_time, Some(time(START + 10)));
        assert_eq!(status.end_timestamp, status.end_time);
    }
}

#[test]
fn a_job_that_had_finished_before_it_said_so_by_a_condition_is_not_written_again() {
    let mut world = World::with(&[succeeded("a")]);
    let mut old = world.conclude(&[]).status;
    assert_eq!(end(&old), [("Complete", "Succeeded")]);
    old.conditions.retain(|condition| condition.type_ == READY);
    world.job.status = Some(old.clone());
    assert_eq!(world.conclude(&[]).status, old);
}

#[test]
fn the_status_that_the_crd_gives_a_new_job_says_nothing() {
    let without = World::new(&["a", "b"]);
    let mut with = World::new(&["a", "b"]);
    with.job.status = Some(OperationJobStatus {
        observed_generation: Some(-1),
        ..OperationJobStatus::default()
    });
    assert_eq!(with.conclude(&[]), without.conclude(&[]));
}

#[test]
fn an_end_under_its_first_name_is_the_end() {
    let mut world = World::with(&[succeeded("a")]);
    world.job.status.as_mut().expect("a status").end_timestamp = Some(time(START - 50));
    let status = world.conclude(&[]).status;
    assert_eq!(status.end_time, Some(time(START - 50)));
}

#[test]
fn the_status_is_about_the_generation_that_was_observed() {
    let mut world = World::with(&[succeeded("a")]);
    world.job.metadata.generation = Some(7);
    let status = world.conclude(&[]).status;
    assert_eq!(status.observed_generation, Some(7));
    let ready = condition(&status, READY).expect("a condition");
    assert_eq!(ready.observed_generation, Some(7));
}

#[test]
fn each_standing_has_its_condition_reason_and_message() {
    let all = || {
        vec![
            pending("p"),
            processing("r"),
            succeeded("s"),
            released("f", "Sick"),
        ]
    };
    let done = || vec![succeeded("s"), succeeded("t")];
    let vain = || vec![succeeded("s"), released("f", "Sick"), released("g", "Late")];
    let some = || vec![succeeded("s"), pending("p"), pending("q")];
    let none = || vec![pending("p"), pending("q")];
    // The targets, the partition; the condition, its reason, the message.
    let table = [
        (
            all(),
            Some(0),
            RECONCILING,
            "Processing",
            "1 of 4 targets succeeded, 1 failed",
        ),
        (done(), None, READY, "Succeeded", "2 of 2 targets succeeded"),
        (
            vain(),
            None,
            STALLED,
            "Sick",
            "1 of 3 targets succeeded, 2 failed; f: Sick: it went wrong",
        ),
        (
            some(),
            Some(1),
            RECONCILING,
            "WaitingForPartition",
            "1 of 3 targets succeeded; partition 1 holds back the remaining targets",
        ),
        (
            some(),
            Some(0),
            RECONCILING,
            "WaitingForPartition",
            "1 of 3 targets succeeded; partition 0 holds back the remaining targets",
        ),
        (
            none(),
            Some(0),
            RECONCILING,
            "WaitingForPartition",
            "0 of 2 targets succeeded; partition 0 holds back the remaining targets",
        ),
        (
            none(),
            Some(-1),
            RECONCILING,
            "WaitingForPartition",
            "0 of 2 targets succeeded; partition -1 holds back the remaining targets",
        ),
        (
            none(),
            None,
            RECONCILING,
            "Processing",
            "0 of 2 targets succeeded",
        ),
    ];
    for (details, partition, type_, reason, message) in table {
        let mut world = World::with(&details);
        world.job.spec.partition = partition;
        let status = world
            .conclude(&[("r", going_on())][..usize::from(details.len() == 4)])
            .status;
        assert_eq!(standing(&status), [(type_, reason)]);
        let has_ended = match type_ {
            READY => vec![("Complete", reason)],
            STALLED => vec![("Failed", reason)],
            _ => Vec::new(),
        };
        assert_eq!(end(&status), has_ended);
        assert!(
            status.conditions.iter().all(|c| c.message == message),
            "{:?}",
            status.conditions
        );
        assert!(condition(&status, READY).is_some(), "Ready is always there");
    }
}

#[test]
fn a_job_that_waits_for_a_pod_within_its_partition_does_not_wait_for_the_partition() {
    let mut world = World::with(&[succeeded("a"), pending("b"), pending("c")]);
    world.job.spec.partition = Some(2);
    world.pods.remove("b");
    assert_eq!(
        standing(&world.conclude(&[]).status),
        [(RECONCILING, "Processing")]
    );
}

#[test]
fn a_job_whose_action_can_not_be_asked_says_why() {
    let message = || "no ConfigMap".to_owned();
    let (new, running) = (pending("a"), processing("a"));
    let table = [
        (not_found(), &new, RECONCILING, "ActionNotFound"),
        (not_found(), &running, STALLED, "ActionNotFound"),
        (
            ActionState::NotLoaded {
                message: message(),
                has_failed: true,
            },
            &new,
            STALLED,
            "ActionNotReady",
        ),
        (
            ActionState::NotLoaded {
                message: message(),
                has_failed: true,
            },
            &running,
            STALLED,
            "ActionNotReady",
        ),
    ];
    for (action, detail, type_, reason) in table {
        let mut world = World::with(std::slice::from_ref(detail));
        world.action = action.clone();
        let status = world.conclude(&[]).status;
        assert_eq!(
            standing(&status),
            [(type_, reason)],
            "{action:?} {:?}",
            detail.progress
        );
    }
}

#[test]
fn a_transition_time_moves_with_the_condition_only() {
    let mut world = World::new(&["a", "b"]);
    world.job.spec.partition = Some(1);
    world.pass(&[]);
    world.now = START + 10;
    world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    let status = world.status();
    assert_eq!(standing(status), [(RECONCILING, "WaitingForPartition")]);
    let since = |type_| condition(status, type_).map(|c| c.last_transition_time.clone());
    assert_eq!(
        (since(READY), since(RECONCILING)),
        (Some(time(START)), Some(time(START)))
    );
}

#[test]
fn events_tell_each_transition_once() {
    let mut world = World::new(&["a", "b", "c"]);
    assert_eq!(events(&world.pass(&[])), [], "a start is no news");
    world.job.spec.active_deadline_seconds = Some(100);
    let failure = Some(Failure::new("Sick", "it is sick"));
    let told = world.pass(&[
        ("a", report(OpsProgress::Failed, failure)),
        ("b", terminal("no")),
        ("c", going_on()),
    ]);
    let wanted = "2 targets: a, b; a: Sick: it is sick";
    assert_eq!(events(&told), [("TargetFailed", wanted)]);
    assert!(
        told.events
            .iter()
            .all(|event| event.severity == Severity::Warning)
    );
    let clean = super::world::clean;
    assert_eq!(
        events(&world.pass(&[("a", clean()), ("b", clean()), ("c", going_on())])),
        []
    );
    world.now = START + 100;
    let told = world.pass(&[("c", clean())]);
    assert_eq!(
        told.events.iter().map(|e| e.reason).collect::<Vec<_>>(),
        ["Timeout", "Failed"]
    );
    assert!(
        told.events[1]
            .message
            .starts_with("0 of 3 targets succeeded, 3 failed; a: Sick: it is sick")
    );
    assert_eq!(events(&world.pass(&[])), []);
}

#[test]
fn an_event_about_a_target_names_its_pod_once() {
    for (message, wanted) in [
        ("it is sick", "web-0: Sick: it is sick"),
        ("Pod shop/web-0: no", "Sick: Pod shop/web-0: no"),
        (
            "there is no pod \"web-0\".",
            "Sick: there is no pod \"web-0\".",
        ),
        ("ask web-0.", "Sick: ask web-0."),
        ("web-01 is sick", "web-0: Sick: web-01 is sick"),
        ("", "web-0: Sick"),
    ] {
        let failure = Some(Failure::new("Sick", message));
        let mut world = World::with(&[processing("web-0")]);
        let told = world.pass(&[("web-0", report(OpsProgress::Failed, failure))]);
        let job = format!("0 of 1 targets succeeded, 1 failed; {wanted}");
        let wanted = [("TargetFailed", wanted), ("Failed", job.as_str())];
        assert_eq!(events(&told), wanted);
    }
}

#[test]
fn deleting_a_job_is_told_as_a_normal_event() {
    let mut world = World::with(&[processing("a"), succeeded("b")]);
    world.delete_job();
    let told = world.pass(&[("a", super::world::clean())]);
    let reasons: Vec<_> = told.events.iter().map(|e| (e.severity, e.reason)).collect();
    let canceled = (Severity::Normal, "Canceled");
    assert_eq!(reasons, [canceled, canceled]);
}

#[test]
fn a_job_that_succeeds_says_so_once() {
    let mut world = World::with(&[processing("a")]);
    let told = world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    assert_eq!(events(&told), [("Succeeded", "1 of 1 targets succeeded")]);
    assert_eq!(told.events[0].severity, Severity::Normal);
    assert_eq!(events(&world.pass(&[])), []);
}

#[test]
fn a_job_that_can_not_go_on_says_so_once_per_reason() {
    let mut world = World::with(&[processing("a")]);
    for (action, wanted) in [
        (not_found(), 1),
        (not_found(), 0),
        (
            ActionState::NotLoaded {
                message: "one".to_owned(),
                has_failed: true,
            },
            1,
        ),
        (
            ActionState::NotLoaded {
                message: "two".to_owned(),
                has_failed: true,
            },
            0,
        ),
        (ActionState::Loaded, 0),
        (not_found(), 1),
    ] {
        world.action = action;
        let told = world.pass(&[("a", going_on())]);
        let reasons: Vec<_> = told.events.iter().map(|event| event.reason).collect();
        assert_eq!(reasons, vec!["Blocked"; wanted], "{:?}", world.action);
    }
}

#[test]
fn a_job_applied_a_moment_before_its_plugin_is_not_called_blocked() {
    let mut world = World::new(&["a"]);
    world.action = not_found();
    let told = world.pass(&[]);
    assert_eq!(
        (events(&told), told.requeue_after.map(|t| t.as_secs())),
        (vec![], Some(30))
    );
}

#[test]
fn a_pass_has_one_event_of_each_reason() {
    let names: Vec<String> = (0..300).map(|number| format!("pod-{number}")).collect();
    let details: Vec<_> = names.iter().map(|name| processing(name)).collect();
    let answers: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), terminal("no")))
        .collect();
    let told = World::with(&details).pass(&answers);
    let reasons: Vec<_> = told.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["TargetFailed", "Failed"]);
    let message = told.events[0].message.as_str();
    assert!(
        message.starts_with("300 targets: pod-0, pod-1, "),
        "{message}"
    );
}

#[test]
fn the_first_failure_of_the_spec_explains_the_job() {
    let world = World::with(&[succeeded("a"), released("b", "Sick"), failed("c", "Late")]);
    let status = world.conclude(&[("c", super::world::clean())]).status;
    assert_eq!(standing(&status), [(STALLED, "Sick")]);
}
