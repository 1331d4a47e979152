//! Whatever happens, in whatever order: what must never be is not, and what has come to rest stays.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{conditions::STALLED, daemon_job::FlowState, keys};

use super::world::World;
use crate::driver::memory::Reconciles as _;
use crate::{action::Failure, jobs};

/// Numbers that look random, the same ones every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % 1_000_003).unwrap_or(0) % sides
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
}

const ROLLOUTS: [&str; 9] = [
    "{}",
    "{parallelism: 1}",
    "{parallelism: 2, failurePolicy: Continue}",
    "{parallelism: 2, failurePolicy: Pause, maxFailures: 1}",
    "{retry: {limit: 2}, failurePolicy: Continue, completionPolicy: Never}",
    "{retry: {limit: 1, backoffSeconds: 60}, canary: {}, pauseSeconds: 20}",
    "{topologyKey: zone, maxFailures: \"50%\", parallelism: \"50%\"}",
    "{topologyKey: zone, canary: {selector: {matchLabels: {zone: \"1\"}}, count: 1}, failurePolicy: Pause}",
    "{paused: true}",
];

const NAMES: [&str; 5] = ["n1", "n2", "n3", "n1-2", "n4"];

/// Something happens.
fn happen(world: &mut World, dice: &mut Dice) {
    let nodes: Vec<_> = world.nodes.keys().cloned().collect();
    let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
    let jobs: Vec<_> = world.names().into_iter().map(str::to_owned).collect();
    let jobs: Vec<_> = jobs.iter().map(String::as_str).collect();
    let running: Vec<_> = jobs
        .iter()
        .copied()
        .filter(|name| jobs::finish(world.job(name)).is_none())
        .collect();
    match dice.roll(20) {
        0..=4 if !running.is_empty() => {
            world.end_job(
                dice.one_of(&running),
                "Complete",
                "CompletionsReached",
                "well",
            );
        }
        5 | 6 if !running.is_empty() => {
            world.end_job(
                dice.one_of(&running),
                "Failed",
                "BackoffLimitExceeded",
                "badly",
            );
        }
        7 | 18 if !running.is_empty() => {
            let job = dice.one_of(&running);
            world.add_pod(job, &serde_json::json!({"phase": "Running"}));
        }
        8 if !jobs.is_empty() => world.delete_job(dice.one_of(&jobs), dice.roll(2) == 0),
        9 => {
            let name = dice.one_of(&NAMES);
            world.join(name);
            let zone = dice.one_of(&["1", "2", "3"]);
            world.label(name, "zone", zone);
        }
        10 if nodes.len() > 1 => world.leave(dice.one_of(&nodes)),
        11 if !nodes.is_empty() => world.cordon(dice.one_of(&nodes), dice.roll(2) == 0),
        12 if !nodes.is_empty() => world.set_ready(dice.one_of(&nodes), dice.roll(3) > 0),
        13 => world.set_rollout(dice.one_of(&ROLLOUTS)),
        14 if dice.roll(3) == 0 => world.edit_image(dice.one_of(&["alpine:1", "alpine:2"])),
        15 => world.retry(dice.one_of(&["1", "2", "3"])),
        16 => {
            let node = dice.one_of(&NAMES);
            if world.refusals.remove(node).is_none() {
                let refusal = Failure::new("Forbidden", "no quota");
                world.refusals.insert(node.to_owned(), refusal);
            }
        }
        17 => world.collect_garbage(),
        _ => world.wait(i64::try_from(dice.roll(400)).unwrap_or(0)),
    }
}

/// What must never be.
fn assert_sane(world: &World, before: &World) {
    let revision = |job: &Job| job.annotations()[keys::REVISION].clone();
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    for job in world.jobs.values() {
        if jobs::finish(job).is_none() && !jobs::is_deleted(job) {
            *running
                .entry(job.labels()[keys::NODE_UID].as_str())
                .or_default() += 1;
        }
    }
    assert!(
        running.values().all(|count| *count == 1),
        "two Jobs on a node: {running:?}"
    );
    for pod in world.pods.values().flatten() {
        let goes_on = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let is_beside = |job: &&Job| {
            job.labels()[keys::NODE_UID] == pod.labels()[keys::NODE_UID]
                && jobs::finish(job).is_none()
                && Some(&pod.owner_references()[0].uid) != job.metadata.uid.as_ref()
        };
        let beside = world.jobs.values().find(is_beside);
        assert!(!goes_on || beside.is_none(), "two pods on a node");
    }
    // A Job that is new now is for a node that had not succeeded.
    for (name, job) in &world.jobs {
        let is_new = before
            .jobs
            .get(name)
            .is_none_or(|old| old.metadata.uid != job.metadata.uid);
        let node = &job.labels()[keys::NODE_UID];
        let has_succeeded = |old: &&Job| {
            old.labels()[keys::NODE_UID] == *node
                && revision(old) == revision(job)
                && jobs::finish(old).is_some_and(|f| f.reason == "CompletionsReached")
        };
        assert!(
            !is_new || !before.jobs.values().any(|old| has_succeeded(&old)),
            "{name} again"
        );
    }
    let status = world.status();
    let count = |number: Option<i32>| number.unwrap_or_default();
    let over = count(status.succeeded) + count(status.failed);
    assert!(
        over + count(status.active) <= count(status.desired),
        "{status:#?}"
    );
    if status.state == Some(FlowState::Succeed) {
        assert_eq!(over, count(status.desired));
        assert!(over > 0);
    }
    if status.completion_time.is_some() {
        assert_eq!(count(status.active), 0);
    }
}

/// With everything fit and nothing in the way, it comes to an end.
fn assert_ends(mut world: World) {
    world.refusals.clear();
    world.set_rollout("{failurePolicy: Continue}");
    for name in NAMES {
        if world.nodes.contains_key(name) {
            world.set_ready(name, true);
            world.cordon(name, false);
        }
    }
    world.retry("the end");
    for _ in 0..10 {
        world.collect_garbage();
        world.wait(3600);
        world.settle();
        let running: Vec<_> = world.names().into_iter().map(str::to_owned).collect();
        for job in running {
            if jobs::finish(world.job(&job)).is_none() {
                world.end_job(&job, "Complete", "CompletionsReached", "well");
            }
        }
        world.settle();
    }
    assert_eq!(world.state(), FlowState::Succeed, "{:#?}", world.status());
    assert!(
        world
            .standing()
            .iter()
            .all(|(type_, _, _)| *type_ != STALLED)
    );
}

#[test]
fn whatever_happens_no_node_has_two_jobs_and_it_comes_to_an_end() {
    for seed in 1..=60 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut world = World::with_rollout(&["n1", "n2", "n3"], dice.one_of(&ROLLOUTS));
        for node in ["n1", "n3"] {
            world.label(node, "zone", "1");
        }
        for _ in 0..60 {
            let before = world.clone();
            if dice.roll(4) == 0 {
                world.die_after(dice.roll(4));
            }
            world.settle();
            assert_sane(&world, &before);
            happen(&mut world, &mut dice);
        }
        assert_ends(world);
    }
}
