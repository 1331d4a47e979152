//! How many finished Jobs are kept besides the newest, and which of them the status lists.

use operon_api::reactive_job::{ConcurrencyPolicy, Outcome, State};

use crate::action::Failure;

use super::world::World;

/// Of runs with these outcomes, oldest first, the positions of those whose Jobs are left.
fn left(runs: &str, succeeded: Option<i32>, failed: Option<i32>) -> Vec<usize> {
    let mut world = World::new();
    world.object.spec.successful_history_limit = succeeded;
    world.object.spec.failed_history_limit = failed;
    let mut names = Vec::new();
    for (place, run) in runs.chars().enumerate() {
        world.now += 1;
        world.edit_digest(&place.to_string());
        world.settle();
        let newest = world.newest();
        match run {
            'S' => world.succeed(&newest),
            'F' => world.fail(&newest),
            _ => {}
        }
        world.settle();
        names.push(newest);
    }
    assert_eq!(world.made, names.len());
    let is_left = |place: &usize| world.jobs.contains_key(&names[*place]);
    (0..names.len()).filter(is_left).collect()
}

#[test]
fn so_many_finished_jobs_are_kept_as_the_limits_say() {
    let cases = [
        ("SSSS", None, None, vec![0, 1, 2, 3]),
        ("SSSS", Some(0), None, vec![3]),
        ("SSSS", Some(1), None, vec![2, 3]),
        ("SSSS", Some(9), None, vec![0, 1, 2, 3]),
        ("SSSS", None, Some(0), vec![0, 1, 2, 3]),
        ("SFSFS", Some(1), Some(1), vec![2, 3, 4]),
        ("SFSFS", Some(0), Some(1), vec![3, 4]),
        ("SFSFS", Some(1), Some(0), vec![2, 4]),
        ("SFSFS", None, Some(0), vec![0, 2, 4]),
        // The newest is none of them, however it went.
        ("F", Some(0), Some(0), vec![0]),
        ("SF", Some(0), Some(0), vec![1]),
        // A running Job does not belong to the history.
        ("S.S", Some(0), Some(0), vec![1, 2]),
        ("..F", Some(0), Some(0), vec![0, 1, 2]),
        // What no API server takes.
        ("SSS", Some(-1), Some(-1), vec![2]),
    ];
    for (runs, succeeded, failed, expected) in cases {
        let left = left(runs, succeeded, failed);
        assert_eq!(left, expected, "{runs} {succeeded:?} {failed:?}");
    }
}

#[test]
fn a_limit_that_is_set_later_counts_for_the_jobs_that_there_are() {
    let mut world = World::new();
    for digest in ["a", "b", "c"] {
        world.edit_digest(digest);
        world.settle();
        world.succeed(&world.newest());
        world.settle();
    }
    let newest = world.newest();
    world.edit_spec(|spec| spec.successful_history_limit = Some(0));
    world.settle();
    assert_eq!(world.names(), [newest]);
    assert_eq!(world.made, 3);
}

#[test]
fn a_job_that_finishes_beside_the_newest_becomes_history() {
    let mut world = World::new();
    world.object.spec.failed_history_limit = Some(0);
    world.settle();
    let first = world.newest();
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.jobs.len(), 2);
    world.fail(&first);
    world.settle();
    assert_eq!(world.names(), [world.newest()]);
    let failure = world.status().last_failure.as_ref().expect("a failure");
    assert_eq!(failure.job_name, first, "it is told");
    assert_eq!(world.status().runs[1].outcome, Some(Outcome::Failed));
}

#[test]
fn the_status_tells_of_the_last_five_runs_whether_their_jobs_are_left_or_not() {
    for limit in [None, Some(0), Some(2)] {
        let mut world = World::new();
        world.object.spec.successful_history_limit = limit;
        let mut names = Vec::new();
        for digest in ["a", "b", "c", "d", "e", "f", "g"] {
            world.now += 1;
            world.edit_digest(digest);
            world.settle();
            world.succeed(&world.newest());
            world.settle();
            names.insert(0, world.newest());
            let told = world.status().runs.iter().map(|run| &run.job_name);
            assert!(told.eq(names.iter().take(5)), "{limit:?}");
            let runs = &world.status().runs;
            assert!(
                runs.iter()
                    .all(|run| run.outcome == Some(Outcome::Succeeded))
            );
        }
        assert_eq!(world.status().runs[0].changes.len(), 1);
        // A dropped run does not return when a listed one is deleted.
        let last = names[1].clone();
        world.force_away(&last);
        world.settle();
        let told = world.status().runs.iter().map(|run| &run.job_name);
        assert!(told.eq(names.iter().take(5)), "{limit:?}");
    }
}

#[test]
fn a_failure_is_not_forgotten_for_one_before_it() {
    let mut world = World::failed();
    let first = world.newest();
    world.now += 10;
    world.edit_digest("next");
    world.settle();
    let second = world.newest();
    world.fail(&second);
    world.log = Some("of the second".to_owned());
    world.settle();
    world.edit_digest("last");
    world.settle();
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
    world.force_away(&second);
    world.settle();
    assert!(world.jobs.contains_key(&first));
    let failure = world.status().last_failure.as_ref().expect("a failure");
    assert_eq!(failure.job_name, second);
}

#[test]
fn with_queue_history_is_kept_while_the_next_waits() {
    let mut world = World::ready();
    world.edit_spec(|spec| {
        spec.successful_history_limit = Some(0);
        spec.concurrency_policy = Some(ConcurrencyPolicy::Queue);
    });
    world.edit_digest("b");
    world.settle();
    let second = world.newest();
    world.edit_digest("c");
    world.settle();
    assert_eq!(world.names(), [second.as_str()]);
    world.succeed(&second);
    world.settle();
    assert_eq!(world.names(), [world.newest()]);
    assert_eq!(world.made, 3);
    let run = &world.status().runs[0];
    assert_eq!(run.changes, ["metadata.annotations.digest: b → c"]);
}

#[test]
fn history_is_kept_while_the_next_job_is_refused() {
    let mut world = World::ready();
    let first = world.newest();
    world.edit_spec(|spec| spec.successful_history_limit = Some(0));
    world.refusal = Some(Failure::new("Forbidden", "exceeded quota"));
    world.edit_digest("next");
    world.settle_any();
    assert_eq!(world.names(), [first.as_str()]);
    world.refusal = None;
    world.settle();
    assert_eq!(world.names(), [world.newest()]);
    assert_ne!(world.newest(), first);
}
