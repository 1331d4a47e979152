//! Steps that fail, and what that means for the others.

use std::time::Duration;

use operon_api::job_flow::Phase;
use serde_json::json;

use super::world::{START, World, ended, step, step_with};
use crate::driver::memory::Reconciles as _;

/// One that may be tried twice more.
fn flaky() -> serde_json::Value {
    step_with(
        "a",
        &[],
        json!({"retry": {"limit": 2, "backoffSeconds": 10}}),
    )
}

#[test]
fn a_failed_flow_is_observed_until_nothing_of_it_runs() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[]), step("c", &["b"])]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.state(), "Failed", "at once");
    assert_eq!(world.phases(), "a Failed, b Running, c Waiting");
    assert_eq!(world.standing()[1], ("Reconciling", "True", "StepFailed"));
    assert_eq!(world.status().completion_time, None);
    assert_eq!(world.end(), []);
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Succeeded, c Skipped");
    assert_eq!(world.reason("c"), "FlowFailed");
    assert_eq!(world.standing()[1], ("Stalled", "True", "StepFailed"));
    assert!(world.status().completion_time.is_some());
    assert_eq!(world.end(), [("Failed", "StepFailed")]);
    assert_eq!(world.status().progress.as_deref(), Some("1/3"));
    assert_eq!(
        world.events(),
        ["Created", "Created", "StepFailed", "Failed"]
    );
}

#[test]
fn a_step_is_skipped_when_what_it_depends_on_was_not_to_succeed() {
    let flows = json!([
        step("a", &[]),
        step("b", &["a"]),
        step("c", &["b"]),
        step("d", &[]),
        step("e", &["d"]),
    ]);
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": flows}));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(
        world.phases(),
        "a Failed, b Skipped, c Skipped, d Running, e Waiting"
    );
    assert_eq!(world.message("b"), "it depends on \"a\", which failed");
    assert_eq!(world.message("c"), "it depends on \"b\", which was skipped");
    world.succeed("flow-d");
    world.settle();
    world.succeed("flow-e");
    world.settle();
    assert_eq!((world.state(), world.made), ("Failed", 3));
}

#[test]
fn a_failure_says_how_in_words_that_outlive_the_pod() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    let pod = ended(START, "Failed", 3, "connecting\nno route to host");
    world.add_pod("flow-a", "pod", pod);
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.reason("a"), "BackoffLimitExceeded");
    let message = "Job \"flow-a\" failed: Job has reached the specified backoff limit; container \"main\" of pod \"pod\" exited with 3: no route to host";
    assert_eq!(world.message("a"), message);
    world.remove_pods("flow-a");
    world.delete_job("flow-a", false);
    world.settle();
    assert_eq!(world.message("a"), message);
    assert!(
        world
            .ready()
            .starts_with("step \"a\" failed: BackoffLimitExceeded")
    );
    assert!(world.ready().contains("operon.dev/retry"));
}

#[test]
fn a_failed_step_is_tried_again_with_backoff_under_names_of_its_own() {
    let mut world = World::of(json!([flaky(), step("b", &["a"])]));
    for (attempt, wait) in [(1, 10), (2, 20)] {
        world.settle();
        let name = if attempt == 1 {
            "flow-a".to_owned()
        } else {
            format!("flow-a-{attempt}")
        };
        assert_eq!(world.step("a").job_name.as_deref(), Some(name.as_str()));
        world.fail(&name);
        world.settle();
        assert_eq!(
            (world.phase("a"), world.reason("a")),
            (Phase::Running, "Retrying")
        );
        let conclusion = world.pass().expect("nobody dies");
        assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(wait)));
        world.now += i64::try_from(wait).expect("small") - 1;
        world.settle();
        assert_eq!(world.made, attempt);
        world.now += 1;
    }
    world.settle();
    assert_eq!(world.step("a").attempts, Some(3));
    world.fail("flow-a-3");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Skipped");
    assert_eq!((world.state(), world.made), ("Failed", 3));
}

#[test]
fn a_step_that_succeeds_the_second_time_has_succeeded() {
    let mut world = World::of(json!([flaky()]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.state(), "Running");
    world.now += 10;
    world.settle();
    world.succeed("flow-a-2");
    world.settle();
    assert_eq!((world.state(), world.made), ("Succeed", 2));
    assert_eq!(
        world
            .step("a")
            .start_time
            .as_ref()
            .expect("one")
            .0
            .as_second(),
        START
    );
}

#[test]
fn a_step_that_waits_for_its_retry_keeps_its_place() {
    let mut world = World::with(json!({"parallelism": 1, "flows": [flaky(), step("b", &[])]}));
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Running, b Waiting");
    world.edit(|spec| spec["suspend"] = json!(true));
    world.now += 100;
    world.settle();
    assert_eq!((world.made, world.reason("a")), (1, "Suspended"));
}

#[test]
fn a_retry_waits_from_when_the_failure_was_seen_whatever_the_clock_of_the_job_says() {
    for skew in [-3600, 3600] {
        let mut world = World::of(json!([flaky()]));
        world.settle();
        world.now += skew;
        world.fail("flow-a");
        world.now -= skew;
        world.settle();
        world.now += 9;
        world.settle();
        assert_eq!(world.made, 1, "by a clock that is {skew} s ahead");
        world.now += 1;
        world.settle();
        assert_eq!(world.made, 2, "by a clock that is {skew} s ahead");
        assert_eq!(world.step("a").completion_time, None);
    }
}

#[test]
fn a_failure_noted_by_a_clock_that_was_ahead_counts_from_now() {
    let mut world = World::of(json!([flaky()]));
    world.settle();
    world.now += 3600;
    world.fail("flow-a");
    world.settle();
    world.now -= 3600;
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn the_ttl_of_an_attempt_that_was_followed_by_another_is_set() {
    let mut flaky = flaky();
    flaky["jobTemplate"]["ttlSecondsAfterFinished"] = json!(5);
    let mut world = World::of(json!([flaky]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.now += 10;
    world.settle();
    world.wait(10);
    assert_eq!(world.names(), ["flow-a-2"]);
}

#[test]
fn an_unfinished_job_that_was_deleted_is_made_again_as_a_new_attempt() {
    let mut world = World::of(json!([step("a", &[]), step("b", &["a"])]));
    world.settle();
    world.delete_job("flow-a", false);
    world.settle();
    assert_eq!(world.names(), ["flow-a-2"]);
    assert_eq!(world.step("a").attempts, Some(2));
    world.succeed("flow-a-2");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running");
}

#[test]
fn a_deleted_job_is_waited_for_until_it_and_its_pods_are_gone() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.add_pod("flow-a", "pod", super::world::running());
    world.job_mut("flow-a").metadata.finalizers = Some(vec!["foregroundDeletion".to_owned()]);
    world.delete_job("flow-a", false);
    world.settle();
    assert_eq!((world.reason("a"), world.made), ("JobDeleted", 1));
    world.jobs.clear();
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(2)));
    assert_eq!(world.made, 1);
    world.pods.clear();
    world.settle();
    assert_eq!(world.names(), ["flow-a-2"]);
}

#[test]
fn a_deleted_job_that_was_complete_counts_as_it_ended() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.job_mut("flow-a").metadata.finalizers = Some(vec!["foregroundDeletion".to_owned()]);
    world.add_pod("flow-a", "pod", super::world::running());
    world.delete_job("flow-a", false);
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

#[test]
fn what_runs_last_runs_after_a_failure_too_and_its_own_fails_the_flow() {
    let spec = |policy: &str| {
        json!({
            "failurePolicy": policy,
            "onExit": "tidy",
            "flows": [step("a", &[]), step("b", &["a"]), step("tidy", &[])],
        })
    };
    for policy in ["StopScheduling", "Continue", "Cancel"] {
        let mut world = World::with(spec(policy));
        world.settle();
        world.fail("flow-a");
        world.settle();
        assert_eq!(
            world.phases(),
            "a Failed, b Skipped, tidy Running",
            "{policy}"
        );
        assert_eq!(world.status().completion_time, None);
        world.succeed("flow-tidy");
        world.settle();
        assert_eq!(world.state(), "Failed");
        assert!(world.status().completion_time.is_some());
    }
    let mut world = World::with(spec("StopScheduling"));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    world.succeed("flow-b");
    world.settle();
    world.fail("flow-tidy");
    world.settle();
    assert_eq!(
        (world.state(), world.phase("tidy")),
        ("Failed", Phase::Failed)
    );
}

#[test]
fn a_retry_that_becomes_due_within_a_pass_is_not_lost() {
    let mut world = World::of(json!([flaky()]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.now += 9;
    world.takes = 1;
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(
        (world.made, conclusion.requeue_after),
        (1, Some(Duration::ZERO))
    );
    world.takes = 0;
    world.settle();
    assert_eq!(world.names(), ["flow-a", "flow-a-2"]);
}

#[test]
fn what_is_deleted_again_and_again_is_made_again_less_and_less_often() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.delete_job("flow-a", false);
    world.settle();
    assert_eq!(world.names(), ["flow-a-2"], "the first time at once");
    for (attempt, wait) in [(2, 10), (3, 20), (4, 40)] {
        world.delete_job(&format!("flow-a-{attempt}"), false);
        world.settle();
        assert_eq!(
            (world.phase("a"), world.reason("a")),
            (Phase::Running, "JobDeleted")
        );
        let conclusion = world.pass().expect("nobody dies");
        assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(wait)));
        world.now += i64::try_from(wait).expect("small") - 1;
        world.settle();
        assert_eq!(world.made, attempt, "{}", world.message("a"));
        world.now += 1;
        world.settle();
        assert_eq!(world.made, attempt + 1);
    }
    world.events.clear();
    world.succeed("flow-a-5");
    world.settle();
    assert_eq!((world.state(), world.made), ("Succeed", 5));
    assert_eq!(world.step("a").deletions, None);
}

#[test]
fn deleted_jobs_do_not_use_up_the_retries_of_a_step() {
    let mut world = World::of(json!([step_with("a", &[], json!({"retry": {"limit": 1}}))]));
    world.settle();
    for deleted in ["flow-a", "flow-a-2"] {
        world.delete_job(deleted, false);
        world.settle();
        world.now += 10;
        world.settle();
    }
    assert_eq!(world.step("a").failures, None);
    world.fail("flow-a-3");
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Running, "Retrying")
    );
    assert!(
        world
            .message("a")
            .ends_with("; retry 1 of 1 starts at 2023-11-14T22:13:50Z"),
        "the first wait: {}",
        world.message("a")
    );
    world.now += 10;
    world.settle();
    world.delete_job("flow-a-4", false);
    world.settle();
    assert_eq!(world.step("a").failures, Some(1), "it is remembered");
    world.fail("flow-a-5");
    world.settle();
    assert_eq!((world.phase("a"), world.made), (Phase::Failed, 5));
    assert_eq!(world.step("a").failures, Some(2));
}

#[test]
fn a_failure_that_is_retried_gets_an_event_with_its_cause() {
    let mut world = World::of(json!([flaky()]));
    world.settle();
    world.events();
    let pod = ended(START, "Failed", 3, "");
    world.add_pod("flow-a", "pod", pod);
    world.fail("flow-a");
    world.settle();
    world.settle();
    let events = std::mem::take(&mut world.events);
    let events: Vec<_> = events
        .iter()
        .map(|e| (e.reason, e.message.as_str()))
        .collect();
    assert_eq!(
        events,
        [(
            "JobFailed",
            "step \"a\": Retrying: Job \"flow-a\" failed: BackoffLimitExceeded: Job has reached the specified backoff limit; container \"main\" of pod \"pod\" exited with 3; retry 1 of 2 starts at 2023-11-14T22:13:30Z"
        )]
    );
}

#[test]
fn deleted_jobs_wait_as_long_whatever_the_retries_wait() {
    let retry = json!({"retry": {"limit": 5, "backoffSeconds": 3600}});
    let mut world = World::of(json!([step_with("a", &[], retry)]));
    world.settle();
    for (attempt, wait) in [
        (1, 0),
        (2, 10),
        (3, 20),
        (4, 40),
        (5, 80),
        (6, 160),
        (7, 320),
        (8, 360),
        (9, 360),
    ] {
        let name = match attempt {
            1 => "flow-a".to_owned(),
            _ => format!("flow-a-{attempt}"),
        };
        world.delete_job(&name, false);
        world.settle();
        world.now += wait;
        world.settle();
        assert_eq!(world.made, attempt + 1, "{}", world.message("a"));
    }
}

#[test]
fn only_deletions_in_a_row_are_waited_for() {
    let mut world = World::of(json!([flaky()]));
    world.settle();
    world.delete_job("flow-a", false);
    world.settle();
    world.fail("flow-a-2");
    world.settle();
    world.now += 20;
    world.settle();
    world.delete_job("flow-a-3", false);
    world.settle();
    assert_eq!(world.names(), ["flow-a-2", "flow-a-4"]);
    assert_eq!(world.events()[..3], ["Created", "JobDeleted", "Created"]);
}
