//! Failed Jobs that are retried automatically, and Jobs that run again at a user's request.

use std::time::Duration;

use operon_api::{
    conditions::{READY, RECONCILING, STALLED},
    keys,
    reactive_job::{ConcurrencyPolicy, Retry, RunReason, State},
};

use super::world::{START, World, running};
use crate::driver::memory::Reconciles as _;

fn retrying(limit: i32, backoff_seconds: Option<i32>) -> World {
    let mut world = World::new();
    world.object.spec.retry = Some(Retry {
        limit,
        backoff_seconds,
    });
    world.settle();
    world
}

/// The newest Job fails; returns how many seconds later the next one is created, with reconciles only when
/// they were requested.
fn wait_for_retry(world: &mut World) -> Option<u64> {
    world.fail(&world.newest());
    let (made, failed) = (world.made, world.now);
    world.settle();
    let wait = world.pass()?.requeue_after?;
    world.now += i64::try_from(wait.as_secs()).expect("a time") - 1;
    world.settle();
    assert_eq!(world.made, made, "not a second too early");
    world.now += 1;
    world.settle();
    assert_eq!(world.made, made + 1);
    u64::try_from(world.now - failed).ok()
}

#[test]
fn a_failed_job_is_run_again_each_time_after_twice_as_long() {
    let mut world = retrying(4, None);
    for (attempt, wait) in [(2, 10), (3, 20), (4, 40), (5, 80)] {
        assert_eq!(wait_for_retry(&mut world), Some(wait));
        let run = &world.status().runs[0];
        assert_eq!(run.reason, RunReason::Retry);
        assert_eq!(run.attempt, Some(attempt));
        assert_eq!(run.changes, [] as [&str; 0]);
    }
    // Up to the limit, and then a user has to act.
    world.fail(&world.newest());
    assert_eq!(world.settle().state, Some(State::Error));
    assert_eq!(
        world.standing(),
        [(READY, "False", "Error"), (STALLED, "True", "JobFailed")]
    );
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.made, 5);
}

#[test]
fn a_retry_waits_from_when_the_failure_was_seen_whatever_the_clock_of_the_job_says() {
    for skew in [-3600, 3600] {
        let mut world = retrying(1, None);
        world.now += skew;
        world.fail(&world.newest());
        world.now -= skew;
        world.settle();
        world.now += 9;
        world.settle();
        assert_eq!(world.made, 1, "by a clock that is {skew} s ahead");
        world.now += 1;
        world.settle();
        assert_eq!(world.made, 2, "by a clock that is {skew} s ahead");
    }
}

#[test]
fn a_failure_noted_by_a_clock_that_was_ahead_counts_from_now() {
    let mut world = retrying(1, None);
    world.now += 3600;
    world.fail(&world.newest());
    world.settle();
    world.now -= 3600;
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn no_wait_is_longer_than_an_hour() {
    let mut world = retrying(100, Some(1000));
    for wait in [1000, 2000, 3600, 3600] {
        assert_eq!(wait_for_retry(&mut world), Some(wait));
    }
    world = retrying(100, Some(1));
    world.object.spec.failed_history_limit = Some(1);
    for attempt in 0..100 {
        let wait = wait_for_retry(&mut world);
        assert_eq!(wait, Some(2_u64.saturating_pow(attempt).min(3600)));
    }
    world.fail(&world.newest());
    assert_eq!(world.settle().state, Some(State::Error));
}

#[test]
fn until_a_retry_it_says_when_it_is() {
    let mut world = retrying(2, None);
    world.now += 5;
    world.fail(&world.newest());
    world.settle();
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "Retry")
        ]
    );
    let job = world.newest();
    assert_eq!(
        world.condition(RECONCILING).message,
        format!("Job {job:?} failed; retry 1 of 2 at 2023-11-14T22:13:35Z")
    );
    assert_eq!(world.now, START + 5);
    let failure = world.status().last_failure.as_ref().expect("a failure");
    assert_eq!(failure.job_name, job, "it is told while it is waited");
    let wait = world.pass().expect("a conclusion").requeue_after;
    assert_eq!(wait, Some(Duration::from_secs(10)));
}

#[test]
fn a_change_does_not_wait_for_the_retry_and_counts_anew() {
    let mut world = retrying(1, None);
    assert_eq!(wait_for_retry(&mut world), Some(10));
    world.fail(&world.newest());
    assert_eq!(world.settle().state, Some(State::Error));
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.made, 3);
    assert_eq!(world.status().runs[0].attempt, Some(1));
    assert_eq!(wait_for_retry(&mut world), Some(10));

    let mut world = retrying(1, None);
    world.fail(&world.newest());
    world.settle();
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.made, 2, "at once");
    assert_eq!(world.status().runs[0].reason, RunReason::TemplateChanged);
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.made, 2, "that of the old template is not run again");
}

#[test]
fn a_limit_that_is_raised_or_set_later_counts_for_the_failed_job_too() {
    let mut world = World::failed();
    world.now += 60;
    world.edit_spec(|spec| {
        spec.retry = Some(Retry {
            limit: 1,
            backoff_seconds: None,
        });
    });
    world.settle();
    assert_eq!(world.made, 2);
    world.fail(&world.newest());
    assert_eq!(world.settle().state, Some(State::Error));
    world.edit_spec(|spec| spec.retry = None);
    assert_eq!(world.settle().state, Some(State::Error));
    assert_eq!(world.made, 2);
}

#[test]
fn with_queue_a_retry_waits_for_the_pods_of_the_failed_job() {
    let mut world = retrying(1, None);
    world.object.spec.concurrency_policy = Some(ConcurrencyPolicy::Queue);
    world.add_pod(&world.newest(), "pod-1", running());
    world.fail(&world.newest());
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 1);
    world.remove_pods("job-1");
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn each_value_of_the_rerun_annotation_runs_the_job_once() {
    for mut world in [World::ready(), World::failed()] {
        world.annotate(keys::RERUN, "one");
        world.settle();
        assert_eq!(world.made, 2);
        let run = &world.status().runs[0];
        assert_eq!(run.reason, RunReason::RerunRequested);
        assert_eq!(run.changes, [] as [&str; 0]);
        world.succeed(&world.newest());
        assert_eq!(world.settle().state, Some(State::Ready));

        // Neither the same value nor none is another one.
        world.annotate(keys::RERUN, "one");
        world.settle();
        world.object.metadata.annotations = None;
        world.settle();
        world.annotate(keys::RERUN, "one");
        world.settle();
        assert_eq!(world.made, 2);

        world.annotate(keys::RERUN, "two");
        world.settle();
        world.annotate(keys::RERUN, "three");
        world.settle();
        assert_eq!(world.made, 4, "while one runs, too");
        world.edit_digest("next");
        world.settle();
        assert_eq!(world.made, 5, "a run for a change is one for the value too");
    }
}

#[test]
fn the_status_names_the_value_that_it_considers() {
    let mut world = World::ready();
    assert_eq!(world.status().observed_rerun, None);
    world.annotate(keys::RERUN, "one");
    let status = world.settle();
    assert_eq!(status.observed_rerun.as_deref(), Some("one"));
    assert_eq!(status.state, Some(State::Processing));
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));

    // A run that is due and cannot start is in progress, or has failed.
    world.edit_spec(|spec| spec.suspend = Some(true));
    world.annotate(keys::RERUN, "two");
    let status = world.settle();
    assert_eq!(status.observed_rerun.as_deref(), Some("two"));
    assert_eq!(status.state, Some(State::Processing));
    world.object.metadata.annotations = None;
    assert_eq!(world.settle().observed_rerun, None);
}

#[test]
fn a_value_that_is_there_from_the_beginning_asks_for_nothing_more() {
    let mut world = World::new();
    world.annotate(keys::RERUN, "one");
    world.settle();
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 1);
    assert_eq!(world.status().runs[0].reason, RunReason::Created);
}

#[test]
fn a_rerun_while_the_job_runs_follows_the_policy() {
    let mut world = super::concurrency::busy(Some(ConcurrencyPolicy::Queue));
    for value in ["one", "two"] {
        world.annotate(keys::RERUN, value);
        world.settle();
    }
    assert_eq!(world.made, 1);
    world.pods.clear();
    world.succeed(&world.newest());
    world.settle();
    assert_eq!(world.made, 2, "for the last value alone");
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 2);
}
