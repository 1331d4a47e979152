//! The guarantees hold whatever happens, in any order.
//!
//! A schedule is a seed: edits, deletions, what Jobs and pods do, deaths of the process before any write,
//! requests that fail or whose answers are lost, statuses among them, caches that lag, and happenings while
//! writes are under way. `cargo xtask simulate` runs many of them; the tests run a bounded number.

use std::panic::{AssertUnwindSafe, catch_unwind};

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use operon_api::{
    conditions::{End, find},
    keys,
};

use super::{Chance, Cluster, Reconciles};
use crate::jobs;

/// How many things happen in one schedule.
const HAPPENINGS: usize = 40;

/// A world in which anything may happen.
pub(crate) trait Simulated: Reconciles {
    /// The kind, as `cargo xtask simulate --kind` names it.
    const KIND: &'static str;

    /// A world before its first reconcile.
    fn any(chance: &mut Chance) -> Self;

    /// One thing happens that users, nodes or Kubernetes do.
    fn happen(&mut self, chance: &mut Chance);

    /// The guarantees that hold at every moment.
    fn assert_promises(&self, before: &Self);

    /// From now on nothing goes wrong: whatever must come to an end comes to it.
    fn assert_ends(self);
}

/// The guarantee of every kind at every moment: a Job that a queue holds is not resumed.
fn assert_queues_hold<S>(before: &Cluster<S>, now: &Cluster<S>) {
    let is_held =
        |job: &&Job| jobs::is_suspended(job) && !job.annotations().contains_key(keys::SUSPENDED);
    for held in before.jobs.values().filter(is_held) {
        let is_same = |job: &&Job| job.metadata.uid == held.metadata.uid;
        let job = now.jobs.values().find(is_same);
        assert!(job.is_none_or(jobs::is_suspended), "a queue holds it");
    }
}

/// The guarantee of each kind that finishes: its status says by a condition that it has, and how.
pub(crate) fn assert_says_end(conditions: &[Condition], end: Option<End>) {
    for possible in [End::Complete, End::Failed] {
        let found = find(conditions, possible.condition());
        let is_said = found.is_some_and(|found| found.status == "True");
        assert_eq!(is_said, end == Some(possible), "{end:?}: {conditions:?}");
    }
}

/// What the schedules covered.
#[derive(Clone, Copy, Debug, Default)]
struct Coverage {
    schedules: usize,
    reconciles: usize,
    writes: usize,
    deaths: usize,
    failures: usize,
    lost_answers: usize,
    conflicts: usize,
}

/// Runs schedules: the number that the environment sets, or a bounded number.
pub(crate) fn simulate<W: Simulated>(bounded: u64) {
    let number = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("OPERON_SIMULATE_FIRST", 0);
    let seeds = number("OPERON_SIMULATE_SEEDS", bounded);
    let mut coverage = Coverage::default();
    for seed in first..first + seeds {
        let schedule = AssertUnwindSafe(|| run::<W>(seed, &mut coverage));
        if let Err(panic) = catch_unwind(schedule) {
            eprintln!(
                "seed {seed} fails: cargo xtask simulate --kind {} --first {seed} --seeds 1",
                W::KIND
            );
            std::panic::resume_unwind(panic);
        }
    }
    let Coverage {
        schedules,
        reconciles,
        writes,
        deaths,
        failures,
        lost_answers,
        conflicts,
    } = coverage;
    println!(
        "{}: {schedules} schedules, {reconciles} reconciles, {writes} write points, {deaths} deaths, \
         {failures} failed requests, {lost_answers} lost answers, {conflicts} refused statuses",
        W::KIND
    );
    assert!(
        deaths > 0 && failures > 0 && lost_answers > 0 && conflicts > 0,
        "all of it happened"
    );
}

fn run<W: Simulated>(seed: u64, coverage: &mut Coverage) {
    let chance = &mut Chance::new(seed);
    let mut world = W::any(chance);
    for _ in 0..HAPPENINGS {
        let before = world.clone();
        if chance.once_in(3) {
            world.cluster().fail_by(Some(Chance::new(chance.next())));
        }
        if chance.once_in(3) {
            world.cluster().lag();
        }
        if chance.once_in(4) {
            let writes = chance.of(4);
            world.cluster().dies_after = Some(writes);
        }
        for _ in 0..=chance.of(3) {
            world.pass();
            coverage.reconciles += 1;
            let changes = chance.of(4);
            world.cluster().deliver(changes);
            assert_queues_hold(before.view(), world.view());
            world.assert_promises(&before);
        }
        world.cluster().dies_after = None;
        world.happen(chance);
        if world.view().is_gone {
            break;
        }
        if chance.once_in(3) {
            world.cluster().catch_up();
        }
        if chance.once_in(2) {
            world.cluster().fail_by(None);
        }
    }
    world.cluster().fail_by(None);
    world.cluster().catch_up();
    let cluster = world.view();
    coverage.schedules += 1;
    coverage.writes += cluster.writes;
    coverage.deaths += cluster.deaths;
    coverage.failures += cluster.failures;
    coverage.lost_answers += cluster.lost_answers;
    coverage.conflicts += cluster.conflicts;
    if !cluster.is_gone {
        world.assert_ends();
    }
}
