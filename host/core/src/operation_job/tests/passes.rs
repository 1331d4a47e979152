//! Passes in a row: steady states that write nothing, crashes between any two steps, edits meanwhile.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use operon_api::operation_job::{Progress, TargetDetail};

use super::world::{
    START, World, attributes, clean, failed, not_found, pending, plugin, processing, released,
    report, retry, succeeded, terminal, time,
};
use crate::{
    action::{Failure, OpsProgress},
    operation_job::{
        ActionState,
        conclude::Answer,
        plan::{Cause, Plan, TargetStep},
    },
};

fn going_on() -> Answer {
    report(
        OpsProgress::Processing,
        Some(Failure::new("WaitingForNewPod", "not ready")),
    )
}

#[test]
fn a_pass_that_learns_nothing_new_changes_nothing() {
    let long = "é".repeat(3000);
    let answers = [
        going_on(),
        report(OpsProgress::Processing, None),
        plugin("oops"),
        retry(&long, Some(1)),
        terminal(&long),
    ];
    let actions = [
        ActionState::Loaded,
        not_found(),
        ActionState::NotLoaded {
            message: "no ConfigMap".repeat(500),
            has_failed: true,
        },
    ];
    for action in &actions {
        for answer in &answers {
            for (partition, deleted) in [(None, false), (Some(1), false), (None, true)] {
                let details = [
                    succeeded("a"),
                    processing("b"),
                    failed("c", "Sick"),
                    released("d", "Late"),
                    pending("e"),
                ];
                let mut world = World::with(&details);
                world.action = action.clone();
                world.job.spec.partition = partition;
                if deleted {
                    world.delete_job();
                }
                let said = [
                    ("b", answer.clone()),
                    ("c", plugin("oops")),
                    ("e", answer.clone()),
                ];
                // Starting and failing take a reconcile each; then nothing changes any more.
                for _ in 0..3 {
                    world.pass(&said);
                }
                let before = world.status().clone();
                world.now += 1;
                let again = world.pass(&said);
                assert_eq!(
                    again.status, before,
                    "{action:?} {answer:?} {partition:?} {deleted}"
                );
                assert_eq!(again.events, []);
            }
        }
    }
}

#[test]
fn the_story_of_a_partition_that_is_raised() {
    let mut world = World::new(&["foo-jttd5", "foo-752sz"]);
    world.job.spec.partition = Some(1);
    world.job.spec.ttl_seconds_after_finished = Some(18_000);
    let done = || report(OpsProgress::Succeeded, None);

    world.pass(&[]);
    assert_eq!(world.steps(), [TargetStep::Operate, TargetStep::Keep]);
    world.pass(&[("foo-jttd5", going_on())]);
    world.pods.remove("foo-jttd5");
    world.pass(&[("foo-jttd5", done())]);
    assert_eq!(world.status().progress, Some(Progress::Processing));
    assert_eq!(
        world.detail("foo-jttd5").extra_info,
        attributes(&[("NewPod", "new")])
    );
    assert_eq!(world.detail("foo-752sz"), &pending("foo-752sz"));

    world.job.spec.partition = Some(2);
    world.job.metadata.generation = Some(2);
    world.now = START + 300;
    world.pass(&[]);
    assert_eq!(world.steps(), [TargetStep::Keep, TargetStep::Operate]);
    let conclusion = world.pass(&[("foo-752sz", done())]);
    assert_eq!(conclusion.status.progress, Some(Progress::Succeeded));
    assert_eq!(conclusion.status.observed_generation, Some(2));

    assert_eq!(world.due(), Some(18_000));
    world.now += 18_000;
    assert_eq!(world.plan(), Plan::Expire);
}

#[test]
fn a_crash_before_the_status_is_written_repeats_the_pass() {
    let mut world = World::new(&["a"]);
    // The start was decided, not written: it is decided again, for the pod that is there by then.
    let lost = world.conclude(&[]);
    assert_eq!(
        lost.status.target_details[0].pod_uid.as_deref(),
        Some("uid-a")
    );
    world.add_pod("a", "its-successor");
    world.pass(&[]);
    assert_eq!(world.detail("a").pod_uid.as_deref(), Some("its-successor"));
    // Operated, answered, not written: it is operated again.
    let lost = world.conclude(&[("a", report(OpsProgress::Succeeded, None))]);
    assert_eq!(lost.events.len(), 1);
    assert_eq!(world.step(), TargetStep::Operate);
    let told = world.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    assert_eq!(
        told.events.len(),
        1,
        "the transition is told when it is written"
    );
    assert_eq!(told.events, lost.events);
}

#[test]
fn a_crash_during_a_release_releases_again() {
    let mut world = World::with(&[processing("a")]);
    world.delete_job();
    world.conclude(&[("a", clean())]);
    assert_eq!(world.step(), TargetStep::Release(Cause::Deleted));
    world.pass(&[("a", clean())]);
    assert_eq!(world.step(), TargetStep::Keep);
}

#[test]
fn a_job_deleted_in_each_state_is_let_go_when_its_targets_are_clean() {
    for detail in [
        pending("a"),
        processing("a"),
        succeeded("a"),
        failed("a", "Sick"),
        released("a", "Sick"),
    ] {
        let mut world = World::with(std::slice::from_ref(&detail));
        world.delete_job();
        let conclusion = world.pass(&[("a", clean())]);
        assert!(conclusion.released && !conclusion.retry, "{detail:?}");
        assert_eq!(conclusion.requeue_after, None);
        assert!(world.conclude(&[]).released, "it stays so: {detail:?}");
    }
}

#[test]
fn a_job_deleted_after_its_target_was_recorded_releases_it_though_nothing_was_done_yet() {
    let mut world = World::new(&["a"]);
    world.pass(&[]);
    world.delete_job();
    assert_eq!(world.step(), TargetStep::Release(Cause::Deleted));
}

#[test]
fn the_successor_of_a_target_is_never_taken_for_it() {
    let mut world = World::new(&["web-0"]);
    world.pass(&[]);
    world.add_pod("web-0", "its-successor");
    world.pass(&[("web-0", going_on())]);
    assert_eq!(world.detail("web-0").pod_uid.as_deref(), Some("uid-web-0"));
    world.pass(&[("web-0", report(OpsProgress::Succeeded, None))]);
    assert_eq!(world.detail("web-0").pod_uid.as_deref(), Some("uid-web-0"));
}

#[test]
fn a_target_that_was_started_without_a_uid_is_the_first_pod_seen_and_no_later_one() {
    // When the pod was created, when the target started, and whether the pod is the target's.
    let table = [
        (START - 50, Some(START), true),
        (START, Some(START), true),
        (START + 1, Some(START), false),
        (START + 1, None, true),
    ];
    for (created, started, same) in table {
        for detail in [processing("web-0"), failed("web-0", "Sick")] {
            let mut world = World::with(&[TargetDetail {
                pod_uid: None,
                start_time: started.map(time),
                ..detail
            }]);
            if started.is_none() && world.detail("web-0").progress == Progress::Failed {
                continue; // It never started.
            }
            let mut pod = Pod::default();
            pod.metadata.uid = Some("uid".to_owned());
            pod.metadata.creation_timestamp = Some(time(created));
            world.pods.insert("web-0".to_owned(), Arc::new(pod));
            let expected = same.then_some("uid");
            let planned = world.run().targets.remove(0).detail.pod_uid;
            assert_eq!(planned.as_deref(), expected, "{created} {started:?}");
            world.pass(&[("web-0", going_on())]);
            assert_eq!(world.detail("web-0").pod_uid.as_deref(), expected);
            if same {
                world.add_pod("web-0", "its-successor");
                world.pass(&[("web-0", going_on())]);
                assert_eq!(world.detail("web-0").pod_uid.as_deref(), Some("uid"));
            }
        }
    }
}

#[test]
fn two_jobs_on_one_pod_both_record_it_and_end_apart() {
    let (mut one, mut other) = (World::new(&["a"]), World::new(&["a"]));
    for world in [&mut one, &mut other] {
        world.pass(&[]);
        assert_eq!(world.detail("a").pod_uid.as_deref(), Some("uid-a"));
    }
    one.delete_job();
    assert!(one.pass(&[("a", clean())]).released);
    other.pass(&[("a", report(OpsProgress::Succeeded, None))]);
    assert_eq!(other.status().progress, Some(Progress::Succeeded));
}

#[test]
fn a_deadline_while_the_action_is_away_is_released_when_it_returns() {
    let mut world = World::with(&[processing("a")]);
    world.job.spec.active_deadline_seconds = Some(10);
    world.action = ActionState::NotLoaded {
        message: String::new(),
        has_failed: true,
    };
    world.now = START + 10;
    world.pass(&[]);
    assert_eq!(world.detail("a").progress, Progress::Failed);
    assert_eq!(world.step(), TargetStep::Keep);
    world.action = ActionState::Loaded;
    assert_eq!(world.step(), TargetStep::Release(Cause::Failed));
    world.pass(&[("a", clean())]);
    assert_eq!(world.step(), TargetStep::Keep);
}
