//! Jobs that a user deletes. An unfinished Job is created again, once, under another name; a finished one
//! still counts.

use std::time::Duration;

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING},
    keys,
    reactive_job::{ConcurrencyPolicy, Outcome, Retry, RunReason, State},
};

use super::{
    concurrency::busy,
    world::{World, running},
};
use crate::driver::memory::Reconciles as _;

#[test]
fn a_job_deleted_while_it_runs_is_made_again() {
    for foreground in [false, true] {
        let mut world = busy(None);
        let first = world.newest();
        world.now += 1;
        world.delete_job(&first, foreground);
        world.settle();
        assert_eq!(world.made, 2);
        let second = world.newest();
        assert_ne!(first, second);
        let runs = &world.status().runs;
        assert_eq!(runs[0].reason, RunReason::JobLost);
        assert_eq!(runs[1].outcome, Some(Outcome::Lost));
        assert_eq!(world.events(), ["RunStarted", "RunLost", "RunStarted"]);

        // In the foreground the old one is there as long as its pods are.
        assert_eq!(world.jobs.contains_key(&first), foreground);
        world.remove_pods("job-1");
        assert_eq!(world.names(), [second.as_str()]);
        world.succeed(&second);
        assert_eq!(world.settle().state, Some(State::Ready));
        assert_eq!(world.made, 2, "once");
    }
}

#[test]
fn with_queue_and_replace_a_lost_jobs_pods_are_gone_before_it_is_made_again() {
    for policy in [ConcurrencyPolicy::Queue, ConcurrencyPolicy::Replace] {
        for foreground in [false, true] {
            let mut world = busy(Some(policy));
            let first = world.newest();
            world.delete_job(&first, foreground);
            world.settle();
            assert_eq!(world.made, 1, "{policy:?} {foreground}");
            // In the background its pods are only deleted after the Job.
            assert_eq!(world.jobs.contains_key(&first), foreground);
            world.remove_pods("job-1");
            world.settle();
            assert_eq!(world.made, 2, "{policy:?} {foreground}");
            assert_eq!(world.status().runs[0].reason, RunReason::JobLost);
            assert_eq!(world.names(), [world.newest()]);
            assert_ne!(world.newest(), first);
        }
    }
}

#[test]
fn a_job_forced_away_is_made_again_whether_it_was_finished_or_not() {
    for mut world in [busy(None), World::ready(), World::failed()] {
        let first = world.newest();
        world.force_away(&first);
        world.settle();
        assert_eq!(world.made, 2);
        assert_ne!(world.newest(), first);
        assert_eq!(world.status().runs[0].reason, RunReason::JobLost);
    }
}

#[test]
fn a_lost_job_is_made_again_although_one_before_it_was_made_from_the_same_template() {
    for policy in [
        ConcurrencyPolicy::Allow,
        ConcurrencyPolicy::Queue,
        ConcurrencyPolicy::Replace,
    ] {
        for forced in [false, true] {
            let mut world = World::new();
            world.object.spec.concurrency_policy = Some(policy);
            world.object.spec.failed_history_limit = Some(0);
            world.settle();
            world.succeed(&world.newest());
            world.settle();
            world.edit_digest("bad");
            world.settle();
            world.fail(&world.newest());
            world.settle();
            world.edit_digest("abc123");
            world.settle();
            let third = world.newest();
            world.add_pod(&third, "pod-3", running());
            assert_eq!(world.jobs.len(), 2, "that of the first template, and this");
            if forced {
                world.force_away(&third);
            } else {
                world.delete_job(&third, false);
            }
            world.settle();
            world.remove_pods("job-3");
            world.settle();
            assert_eq!(world.made, 4, "{policy:?} {forced}");
            let run = &world.status().runs[0];
            assert_eq!((&run.job_name, run.outcome), (&world.newest(), None));
            assert_eq!(run.reason, RunReason::JobLost);
            assert!(world.names().iter().all(|name| *name != third));
        }
    }
}

#[test]
fn a_job_lost_again_and_again_is_made_again_under_names_of_its_own() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for made in 1..=20 {
        world.settle();
        assert_eq!(world.made, made);
        assert!(!seen.contains(&world.newest()));
        seen.push(world.newest());
        world.force_away(&world.newest());
        world.settle();
        world.now += 360;
    }
    // Who looks from the same state gives the same name.
    assert_eq!(world.start().names, world.clone().start().names);
    assert_eq!(world.status().runs.len(), 5);
}

#[test]
fn the_newest_finished_job_that_the_ttl_deletes_stays_and_still_counts() {
    for (mut world, state) in [
        (World::ready(), State::Ready),
        (World::failed(), State::Error),
    ] {
        world.wait(121);
        let newest = world.newest();
        let job = world.job(&newest);
        assert!(job.metadata.deletion_timestamp.is_some());
        assert_eq!(job.finalizers(), [keys::REACTIVE_JOB_FINALIZER]);
        assert_eq!(world.settle().state, Some(state));
        world.wait(1_000_000);
        assert_eq!(world.settle().state, Some(state));
        assert_eq!(world.made, 1);

        // The next one releases it.
        world.edit_digest("next");
        world.settle();
        assert_eq!(world.names(), [world.newest()]);
        assert_ne!(world.newest(), newest);
        assert_eq!(world.status().runs[0].changes.len(), 1);
    }
}

#[test]
fn a_job_deleted_while_nothing_may_start_is_let_go_and_made_again_later() {
    for foreground in [false, true] {
        let mut world = busy(None);
        let first = world.newest();
        world.edit_spec(|spec| spec.suspend = Some(true));
        world.settle();
        world.delete_job(&first, foreground);
        world.settle();
        world.remove_pods("job-1");
        world.settle();
        assert_eq!(world.names(), [] as [&str; 0]);
        assert_eq!(
            world.standing(),
            [
                (READY, "Unknown", "New"),
                (RECONCILING, "True", "Suspended")
            ]
        );
        world.edit_spec(|spec| spec.suspend = None);
        world.settle();
        assert_eq!(world.made, 2);
        assert_eq!(world.status().runs[0].reason, RunReason::JobLost);
        assert_ne!(world.newest(), first);
    }
}

#[test]
fn a_job_that_was_edited_while_it_was_lost_is_made_from_the_new_template_once() {
    let mut world = busy(Some(ConcurrencyPolicy::Replace));
    let newest = world.newest();
    world.delete_job(&newest, true);
    world.settle();
    world.edit_digest("next");
    world.settle();
    world.remove_pods("job-1");
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.status().runs[0].reason, RunReason::TemplateChanged);
    assert_eq!(
        world.job(&world.newest()).annotations().get("digest"),
        Some(&"next".to_owned())
    );
}

#[test]
fn deleted_jobs_are_made_again_ever_later_up_to_six_minutes() {
    for forced in [false, true] {
        let mut world = World::new();
        world.settle();
        let waits = [0, 10, 20, 40, 80, 160, 320, 360, 360];
        for (made, wait) in (1..).zip(waits) {
            let newest = world.newest();
            if forced {
                world.force_away(&newest);
            } else {
                world.delete_job(&newest, false);
            }
            world.settle();
            if wait > 0 {
                assert_eq!(world.made, made, "{wait}");
                assert_eq!(world.names(), [""; 0], "it is let go, so that its pods go");
                assert_eq!(world.condition(RECONCILING).reason, "JobDeleted");
                let conclusion = world.pass().expect("nobody dies");
                let wait = Duration::from_secs(u64::try_from(wait).expect("small"));
                assert_eq!(conclusion.requeue_after, Some(wait));
            }
            world.now += wait;
            world.settle();
            assert_eq!(world.made, made + 1, "{wait}");
        }
        let newest = world.newest();
        world.succeed(&newest);
        world.settle();
        assert_eq!(world.status().deletions, None);
    }
}

#[test]
fn a_change_does_not_wait_because_jobs_were_deleted() {
    let mut world = World::new();
    world.settle();
    for _ in 0..2 {
        let newest = world.newest();
        world.delete_job(&newest, false);
        world.settle();
    }
    assert_eq!(world.made, 2);
    assert_eq!(
        world.condition(READY).message,
        "the last 2 Jobs in a row were deleted before they finished; the next one is created at 2023-11-14T22:13:30Z"
    );
    world.edit_digest("next");
    world.settle();
    assert_eq!((world.made, world.status().deletions.as_ref()), (3, None));
}

#[test]
fn deleted_jobs_neither_use_up_the_retries_nor_reset_them() {
    for forced in [false, true] {
        let mut world = World::new();
        world.object.spec.retry = Some(Retry {
            limit: 1,
            backoff_seconds: None,
        });
        world.settle();
        let lose = |world: &mut World, made: usize| {
            let newest = world.newest();
            if forced {
                world.force_away(&newest);
            } else {
                world.delete_job(&newest, false);
            }
            world.settle();
            world.now += 20;
            world.settle();
            assert_eq!(world.made, made);
        };
        lose(&mut world, 2);
        lose(&mut world, 3);
        world.fail(&world.newest());
        world.settle();
        assert_eq!(world.condition(RECONCILING).reason, "Retry");
        world.now += 10;
        world.settle();
        assert_eq!(world.made, 4);
        lose(&mut world, 5);
        assert_eq!(world.status().runs[0].attempt, Some(2));
        world.fail(&world.newest());
        assert_eq!(world.settle().state, Some(State::Error));
        world.now += 1_000_000;
        world.settle();
        assert_eq!(world.made, 5);
    }
}
