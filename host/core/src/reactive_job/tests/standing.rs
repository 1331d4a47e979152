//! What kstatus, and so Flux, Argo CD and `kubectl wait`, read of each state; and that
//! nothing is written while nothing happens.

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING, STALLED, find},
    keys,
    reactive_job::{ConcurrencyPolicy, Retry, State},
};

use super::{
    concurrency::busy,
    takeover::{HASH, add_sap},
    triggers::{known, looking, unwatched},
    world::World,
};
use crate::{action::Failure, driver::memory::Reconciles as _, reactive_job::conclude::Conclusion};

/// The result of kstatus for an object of a kind that it does not know.
fn kstatus(world: &World) -> &'static str {
    if world.object.metadata.deletion_timestamp.is_some() {
        return "Terminating";
    }
    let Some(status) = &world.object.status else {
        return "InProgress";
    };
    let is = |type_: &str| find(&status.conditions, type_).map(|c| c.status.as_str());
    let is = |type_: &str| is(type_) == Some("True");
    let is_seen = status.observed_generation == world.object.metadata.generation;
    match (is_seen && !is(RECONCILING), is(STALLED), is(READY)) {
        (true, true, _) => "Failed",
        (true, false, true) => "Current",
        (false, _, _) | (true, false, false) => "InProgress",
    }
}

fn suspended() -> World {
    let mut world = World::new();
    world.object.spec.suspend = Some(true);
    world
}

fn refused() -> World {
    let mut world = World::ready();
    world.refusal = Some(Failure::new("Forbidden", "no"));
    world.edit_digest("next");
    world
}

fn blocked(seconds: i64) -> World {
    let mut world = World::new();
    world.settle();
    world.now += seconds;
    world
}

fn waiting(policy: ConcurrencyPolicy) -> World {
    let mut world = busy(Some(policy));
    world.edit_digest("next");
    world
}

fn retrying(limit: i32) -> World {
    let mut world = World::failed();
    world.object.spec.retry = Some(Retry {
        limit,
        backoff_seconds: None,
    });
    world
}

fn debouncing() -> World {
    let mut world = looking(None);
    world.config = known(&[("a", "2"), ("b", "1")]);
    world
}

fn blind() -> World {
    let mut world = looking(None);
    world.config = unwatched(&[("a", "1")]);
    world
}

fn ending(finalizer: &str) -> World {
    let mut world = busy(None);
    world.object.finalizers_mut().push(finalizer.to_owned());
    world.delete();
    world
}

/// Worlds; and of each the state, the condition `Ready`, what kstatus reads, and why.
fn worlds() -> Vec<(World, &'static str)> {
    let ours = keys::REACTIVE_JOB_FINALIZER;
    let (queue, replace) = (ConcurrencyPolicy::Queue, ConcurrencyPolicy::Replace);
    vec![
        (suspended(), "New Unknown InProgress Suspended"),
        (blocked(299), "Processing Unknown InProgress JobRunning"),
        (blocked(300), "Processing Unknown Failed NoPods"),
        (busy(None), "Processing Unknown InProgress JobRunning"),
        (waiting(queue), "Processing Unknown InProgress Waiting"),
        (waiting(replace), "Processing Unknown InProgress Waiting"),
        (debouncing(), "Processing Unknown InProgress Debouncing"),
        (retrying(1), "Processing Unknown InProgress Retry"),
        (World::ready(), "Ready True Current "),
        (blind(), "Ready True Current "),
        (World::failed(), "Error False Failed JobFailed"),
        (retrying(0), "Error False Failed JobFailed"),
        (refused(), "Error False Failed Forbidden"),
        (ending(ours), "Deleting Unknown Terminating DeletingJobs"),
        (
            ending("example.com/x"),
            "DeletionBlocked Unknown Terminating ForeignFinalizers",
        ),
    ]
}

#[test]
fn each_state_is_read_for_what_it_is() {
    for (mut world, expected) in worlds() {
        let state = world.settle().state.map_or("", State::as_str);
        let ready = world.condition(READY);
        assert_eq!(ready.reason, state);
        let read = kstatus(&world);
        let others = &world.standing()[1..];
        let why = others.first().map_or("", |(_, _, reason)| *reason);
        assert_eq!(format!("{state} {} {read} {why}", ready.status), expected);

        // One of the others at most, and only while it is so.
        let type_ = [RECONCILING, STALLED][usize::from(read == "Failed")];
        assert!(others.len() <= 1);
        assert!(others.iter().all(|o| (o.0, o.1) == (type_, "True")));
        let generation = world.object.metadata.generation;
        assert_eq!(world.status().observed_generation, generation);
        for condition in &world.status().conditions {
            assert_eq!(condition.observed_generation, generation);
        }
    }
}

#[test]
fn an_edit_is_on_its_way_before_anybody_looked_at_it() {
    for mut world in [World::new(), World::ready(), World::failed()] {
        world.edit_digest("next");
        assert_eq!(kstatus(&world), "InProgress");
        world.pass();
        assert_eq!(kstatus(&world), "InProgress");
        world.succeed(&world.newest());
        world.settle();
        assert_eq!(kstatus(&world), "Current");
    }
}

#[test]
fn a_condition_keeps_the_time_since_which_it_is_so() {
    let mut world = World::ready();
    let since = world.condition(READY).last_transition_time.clone();
    world.now += 100;
    world.edit_spec(|spec| spec.failed_history_limit = Some(1));
    world.settle();
    assert_eq!(world.condition(READY).last_transition_time, since);
    world.edit_digest("next");
    world.settle();
    assert_ne!(world.condition(READY).last_transition_time, since);
}

#[test]
fn nothing_is_written_while_nothing_happens_not_even_in_a_year() {
    let mut adopted = World::new();
    add_sap(&mut adopted, "test-bcdfg", 1, HASH, 0);
    let adopted = (adopted, "Adopted");
    for (mut world, story) in worlds().into_iter().chain([adopted]) {
        world.settle();
        // What time alone changes happens first.
        let is_timed = |last: Conclusion| last.requeue_after.is_some();
        while world.pass().is_some_and(is_timed) {
            world.now += 100_000;
            world.settle();
        }
        let (writes, made) = (world.writes, world.made);
        for _ in 0..12 {
            world.now += 2_600_000;
            world.reversed = !world.reversed;
            world.pass();
        }
        assert_eq!(world.writes, writes, "{story}");
        assert_eq!(world.made, made, "{story}");
    }
}

#[test]
fn a_run_writes_the_status_three_times() {
    // Created, running, finished.
    assert_eq!(World::ready().status_writes, 3);
    assert_eq!(World::failed().status_writes, 3);
}

#[test]
fn what_is_not_in_the_template_runs_nothing() {
    let mut world = World::ready();
    for (key, value) in [("a", "b"), ("digest", "other"), ("a", "c")] {
        world.annotate(key, value);
        world.settle();
    }
    world.object.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    world.object.finalizers_mut().push("x/y".to_owned());
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 1);
}
