//! What happens to a Job that still runs when the next one is due.

use std::time::Duration;

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING, STALLED},
    reactive_job::{ConcurrencyPolicy, Outcome, RunReason, State},
};
use serde_json::json;

use super::world::{World, running};
use crate::driver::memory::Reconciles as _;

/// An object with a first Job that runs a pod.
pub(super) fn busy(policy: Option<ConcurrencyPolicy>) -> World {
    let mut world = World::new();
    world.object.spec.concurrency_policy = policy;
    world.settle();
    world.add_pod(&world.newest(), "pod-1", running());
    world.settle();
    world
}

/// The digest that a Job was created for.
fn digest(world: &World, job: &str) -> String {
    world.job(job).annotations()["digest"].clone()
}

/// The name and the outcome of every run, the newest first.
fn outcomes(world: &World) -> Vec<Option<Outcome>> {
    world.status().runs.iter().map(|run| run.outcome).collect()
}

#[test]
fn with_allow_the_old_job_runs_on_beside_the_new_one() {
    for policy in [None, Some(ConcurrencyPolicy::Allow)] {
        let mut world = busy(policy);
        let first = world.newest();
        world.now += 1;
        world.edit_digest("next");
        world.settle();
        let second = world.newest();
        assert_eq!(world.made, 2);
        assert!(world.job(&first).metadata.deletion_timestamp.is_none());
        assert_eq!(world.pods["job-1"].len(), 1);

        // The status is that of the newest, whatever comes of the old one.
        world.succeed(&second);
        assert_eq!(world.settle().state, Some(State::Ready));
        world.fail(&first);
        assert_eq!(world.settle().state, Some(State::Ready));
        assert_eq!(
            outcomes(&world),
            [Some(Outcome::Succeeded), Some(Outcome::Failed)]
        );
        let failure = world.status().last_failure.as_ref().expect("a failure");
        assert_eq!(failure.job_name, first);
    }
}

#[test]
fn with_replace_the_pods_of_the_old_job_are_gone_before_the_new_one_starts() {
    let mut world = busy(Some(ConcurrencyPolicy::Replace));
    let first = world.newest();
    world.now += 1;
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.made, 1);
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "Waiting")
        ]
    );
    let message =
        format!("waiting for Job {first:?} to be deleted (spec.concurrencyPolicy: Replace)");
    assert_eq!(world.condition(READY).message, message);
    assert_eq!(outcomes(&world), [Some(Outcome::Lost)]);

    // A pod that is stuck is waited for, and nothing is written meanwhile.
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.made, 1);

    world.remove_pods("job-1");
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.names(), [world.newest()]);
    assert_eq!(digest(&world, &world.newest()), "next");
    let run = &world.status().runs[0];
    assert_eq!(run.changes, ["metadata.annotations.digest: abc123 → next"]);
    assert_eq!(world.events(), ["RunStarted", "RunLost", "RunStarted"]);
}

#[test]
fn with_replace_only_the_last_of_several_changes_runs() {
    let mut world = busy(Some(ConcurrencyPolicy::Replace));
    for next in ["b", "c", "d"] {
        world.now += 1;
        world.edit_digest(next);
        world.settle();
    }
    world.remove_pods("job-1");
    world.settle();
    assert_eq!((world.made, world.jobs.len()), (2, 1));
    assert_eq!(digest(&world, &world.newest()), "d");
}

#[test]
fn with_replace_a_job_that_is_edited_back_too_late_runs_anew() {
    let mut world = busy(Some(ConcurrencyPolicy::Replace));
    world.edit_digest("next");
    world.settle();
    world.edit_digest("abc123");
    world.settle();
    world.remove_pods("job-1");
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.status().runs[0].reason, RunReason::JobLost);
    assert_eq!(digest(&world, &world.newest()), "abc123");
}

#[test]
fn with_replace_a_finished_job_is_left_where_it_is() {
    let mut world = busy(Some(ConcurrencyPolicy::Replace));
    let first = world.newest();
    world.remove_pods("job-1");
    world.add_pod(&first, "pod-2", json!({"phase": "Succeeded"}));
    world.succeed(&first);
    world.settle();
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.made, 2);
    assert!(world.job(&first).metadata.deletion_timestamp.is_none());
}

#[test]
fn with_replace_several_jobs_of_before_are_replaced() {
    let mut world = busy(None);
    world.edit_digest("second");
    world.settle();
    world.add_pod(&world.newest(), "pod-2", running());
    world.edit_spec(|spec| spec.concurrency_policy = Some(ConcurrencyPolicy::Replace));
    world.settle();
    assert_eq!(world.jobs.len(), 2, "nothing is due, so nothing is deleted");
    world.edit_digest("third");
    world.settle();
    world.remove_pods("job-2");
    world.settle();
    assert_eq!(world.made, 2, "the first still has a pod");
    world.remove_pods("job-1");
    world.settle();
    assert_eq!((world.made, world.jobs.len()), (3, 1));
}

#[test]
fn the_pods_of_a_job_that_is_gone_or_failed_are_waited_for() {
    for policy in [ConcurrencyPolicy::Replace, ConcurrencyPolicy::Queue] {
        for is_gone in [false, true] {
            let mut world = busy(Some(policy));
            let first = world.newest();
            if is_gone {
                world.force_away(&first);
            } else {
                // With a deadline, older versions of Kubernetes report the failure while the pods are still
                // terminating.
                world.end_job(&first, "Failed", "DeadlineExceeded", "too slow");
            }
            world.edit_digest("next");
            world.settle();
            assert_eq!(world.made, 1, "{policy:?} {is_gone}");
            assert_eq!(
                world.condition(RECONCILING).message,
                "waiting for the previous Job's pods to terminate"
            );
            let again = world.pass().expect("a conclusion").requeue_after;
            assert_eq!(again, Some(Duration::from_secs(2)), "nothing else tells");
            assert_eq!(world.jobs.len(), usize::from(!is_gone), "it is history");
            world.remove_pods("job-1");
            world.settle();
            assert_eq!(world.made, 2, "{policy:?} {is_gone}");
        }
    }
}

#[test]
fn with_queue_the_last_change_runs_when_the_old_job_is_finished() {
    let mut world = busy(Some(ConcurrencyPolicy::Queue));
    let first = world.newest();
    for next in ["b", "c", "d"] {
        world.now += 1;
        world.edit_digest(next);
        world.settle();
        let message =
            format!("waiting for Job {first:?} to finish (spec.concurrencyPolicy: Queue)");
        assert_eq!(world.condition(READY).message, message);
    }
    assert_eq!(world.made, 1);
    assert!(world.job(&first).metadata.deletion_timestamp.is_none());
    world.pods.clear();
    world.fail(&first);
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(digest(&world, &world.newest()), "d");
    assert_eq!(outcomes(&world), [None, Some(Outcome::Failed)]);
}

#[test]
fn with_queue_a_change_that_is_taken_back_runs_nothing() {
    let mut world = busy(Some(ConcurrencyPolicy::Queue));
    world.edit_digest("next");
    world.settle();
    world.edit_digest("abc123");
    world.settle();
    world.pods.clear();
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 1);
}

#[test]
fn with_queue_a_job_before_the_newest_is_waited_for_too() {
    let mut world = busy(None);
    let first = world.newest();
    world.edit_digest("second");
    world.settle();
    world.succeed(&world.newest());
    world.edit_spec(|spec| spec.concurrency_policy = Some(ConcurrencyPolicy::Queue));
    assert_eq!(world.settle().state, Some(State::Ready));
    world.edit_digest("third");
    world.settle();
    assert_eq!(world.made, 2);
    assert!(world.condition(READY).message.contains(&first));
    world.pods.clear();
    world.succeed(&first);
    world.settle();
    assert_eq!(world.made, 3);
}

#[test]
fn with_queue_a_job_that_is_suspended_is_waited_for_and_that_is_said() {
    let mut world = World::new();
    world.edit(|template| template["spec"]["suspend"] = json!(true));
    world.object.spec.concurrency_policy = Some(ConcurrencyPolicy::Queue);
    world.settle();
    let first = world.newest();
    world.edit_digest("next");
    world.settle();
    let message = format!(
        "waiting for Job {first:?} to finish, which is suspended by spec.jobTemplate.spec.suspend: resume or delete it (spec.concurrencyPolicy: Queue)"
    );
    assert_eq!(world.condition(RECONCILING).message, message);
    assert_eq!(world.made, 1);

    // Resumed by a user, or by a queue, it continues.
    let mut resumed = world.clone();
    let spec = resumed.job_mut(&first).spec.get_or_insert_default();
    spec.suspend = Some(false);
    resumed.settle();
    assert!(!resumed.condition(READY).message.contains("suspended"));
    resumed.succeed(&first);
    resumed.settle();
    assert_eq!(resumed.made, 2);

    // Deleted, it makes room.
    world.delete_job(&first, false);
    world.settle();
    assert_eq!((world.made, world.jobs.len()), (2, 1));
}

#[test]
fn with_queue_a_job_that_can_not_progress_stalls_the_queue() {
    let mut world = World::new();
    world.object.spec.concurrency_policy = Some(ConcurrencyPolicy::Queue);
    world.settle();
    let first = world.newest();
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "Waiting");
    world.now += 300;
    world.settle();
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (STALLED, "True", "NoPods")
        ]
    );
    let message = format!(
        "waiting for Job {first:?} to finish (spec.concurrencyPolicy: Queue); delete Job {first:?} to let the next one start; Job {first:?} can't progress: no pod of the Job has been created: no Warning Event about it was found"
    );
    assert_eq!(world.condition(STALLED).message, message);
    world.succeed(&first);
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn older_jobs_that_have_not_finished_are_named_beside_the_newest() {
    let mut world = World::new();
    world.settle();
    let first = world.newest();
    world.edit_digest("next");
    world.settle();
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
    let message = |world: &World| world.condition(READY).message.clone();
    assert!(
        message(&world).ends_with(&format!(
            "; older Jobs have not finished: {first:?}; delete those that are not needed"
        )),
        "{}",
        message(&world)
    );
    world.now += 300;
    world.settle();
    assert!(
        message(&world).contains(&format!("{first:?} (NoPods)")),
        "{}",
        message(&world)
    );
    assert_eq!(world.standing(), [(READY, "True", "Ready")]);
    world.delete_job(&first, false);
    world.settle();
    assert!(!message(&world).contains("older"));
}
