//! Random schedules of everybody who acts on a Deployment's pods, from fixed seeds, and what Replace promises
//! in each of them: whatever happens, no pod is lost, no trace stays, and every target ends.

use std::collections::BTreeSet;

use crate::common::*;
use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Pod, Progress, json};

const SCHEDULES: u64 = 200;
const STEPS: usize = 50;

#[test]
fn in_every_order_of_events_no_pod_is_lost_no_trace_stays_and_every_target_ends() {
    for seed in 1..=SCHEDULES {
        let mut schedule = Schedule::new(seed);
        for _ in 0..STEPS {
            schedule.step();
        }
        schedule.settle();
    }
}

/// A sequence of numbers that follows from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % limit.max(1)
    }

    fn one_of(&mut self, mut pods: Vec<Pod>) -> Option<Pod> {
        let index = self.below(pods.len());
        (index < pods.len()).then(|| pods.swap_remove(index))
    }
}

/// One schedule: the world, two jobs on its pods, and what happened so far.
struct Schedule {
    seed: u64,
    dice: Dice,
    world: FakeCluster,
    jobs: [FakeJob<Replace>; 2],
    /// The jobs that are being deleted, or whose finalizer was removed by force.
    ended: BTreeSet<String>,
    vanished: BTreeSet<String>,
    /// The pods that were there at the start, by uid.
    originals: BTreeSet<String>,
    /// Whether another client changed how many pods the `ReplicaSet` has to remove.
    scaled: bool,
    story: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let replicas = 1 + dice.below(3);
        let mut world = world(u32::try_from(replicas).unwrap_or(1));
        let min_ready = json!({"spec": {"minReadySeconds": dice.below(2) * 4}});
        world.change("apps/v1", "ReplicaSet", "foo", &min_ready);
        if dice.below(3) == 0 {
            let orphaned = json!({"metadata": {"ownerReferences": null}});
            world.change("apps/v1", "ReplicaSet", "foo", &orphaned);
        }
        let names = [FIRST, SECOND, THIRD];
        let mut job = |uid: &str| {
            let first = dice.below(replicas);
            let job = FakeJob::<Replace>::new(uid, &names[first..replicas]);
            let (most, removal) = (1 + dice.below(3), ["evict", "delete"][dice.below(2)]);
            job.settings(&json!({"maxReleased": most, "removal": removal}))
        };
        let jobs = [job("j1"), job("j2")];
        let originals = world.pods().into_iter().map(|pod| pod.uid).collect();
        Self {
            seed,
            dice,
            world,
            jobs,
            ended: BTreeSet::new(),
            vanished: BTreeSet::new(),
            originals,
            scaled: false,
            story: Vec::new(),
        }
    }

    fn check(&self, holds: bool, promise: &str) {
        assert!(holds, "seed {}: {promise}\n{}", self.seed, self.told());
    }

    fn told(&self) -> String {
        let pods = self.world.pods().into_iter().map(|pod| {
            let owner = pod.controller().map(|owner| owner.kind.clone());
            format!(
                "  {} {} ready={} deleting={} {} {owner:?} {:?} {:?}",
                pod.name, pod.uid, pod.ready, pod.deleting, pod.phase, pod.labels, pod.annotations
            )
        });
        let jobs = self.jobs.iter().map(|job| format!("  {:?}", job.targets));
        let story = self.story.iter().cloned();
        story.chain(pods).chain(jobs).collect::<Vec<_>>().join("\n")
    }

    /// One event.
    fn step(&mut self) {
        let live: Vec<Pod> = self.world.pods().into_iter().filter(Pod::live).collect();
        let pod = self.dice.one_of(live);
        let event = self.dice.below(40);
        let name = pod.as_ref().map(|pod| pod.name.clone()).unwrap_or_default();
        self.story.push(format!("{event} {name}"));
        match (event, pod) {
            (0..=13, _) => self.pass(event % 2),
            (14..=19, _) => self.replica_sets(),
            (20..=24, Some(pod)) => self.world.make_ready(&pod.name),
            (25..=27, _) => self.world.finish_deletions(),
            (28, Some(pod)) => self.world.make_unready(&pod.name),
            (29, Some(pod)) => self.world.start_deleting(&pod.name),
            (30, Some(pod)) => self.world.end_pod(&pod.name, "Failed"),
            (31, _) => self.scale(),
            (32, _) => self.cancel(0),
            (33, _) => self.vanish(1),
            (34, Some(pod)) if pod.label(keys::RELEASED_FROM).is_some() => {
                let label = json!({"metadata": {"labels": {keys::TEMPLATE_HASH: "h"}}});
                self.world.change_pod(&pod.name, &label);
                // Without a Deployment, the ReplicaSet adopts it before Replace can give up a new pod.
                self.scaled = true;
            }
            (35, _) => self.budget(
                self.world
                    .object("policy/v1", "PodDisruptionBudget", "b")
                    .is_none(),
            ),
            (36, _) => self.lose_a_pass(0),
            (37, _) => self.release(0),
            _ => {}
        }
        self.world.advance(1);
        for pod in self.world.pods() {
            self.check(!pod.owners.is_empty(), "a pod always has an owner");
        }
    }

    fn is_active(&self, index: usize) -> bool {
        !self.ended.contains(&self.jobs[index].job.uid)
    }

    fn scale(&mut self) {
        self.scaled = true;
        let replicas = self.dice.below(4);
        self.world
            .scale("foo", u32::try_from(replicas).unwrap_or(1));
    }

    fn budget(&mut self, strict: bool) {
        self.world.remove("policy/v1", "PodDisruptionBudget", "b");
        if strict {
            self.world.put(json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
                "spec": {"selector": {"matchLabels": {"app": "foo"}}}, "status": {"disruptionsAllowed": 0}
            }));
        }
    }

    /// A pass of a job, after which the targets that failed may be released.
    fn pass(&mut self, index: usize) {
        if !self.is_active(index) {
            return;
        }
        let (before, progress) = (self.world.clone(), self.jobs[index].progress());
        self.jobs[index].pass(&mut self.world);
        self.check_removals(&before);
        for (target, before) in self.jobs[index].targets.iter().zip(progress) {
            if target.progress == Some(Progress::Succeeded) && before != target.progress {
                self.check_success(target.uid.as_deref(), target.extra(keys::NEW_POD));
            }
        }
    }

    /// A reconcile whose status is never written: the host ended before.
    fn lose_a_pass(&mut self, index: usize) {
        let before = self.jobs[index].clone();
        self.pass(index);
        self.jobs[index] = before;
    }

    fn release(&mut self, index: usize) {
        if self.is_active(index) {
            let before = self.world.clone();
            self.jobs[index].release(&mut self.world);
            self.check_removals(&before);
        }
    }

    fn cancel(&mut self, index: usize) {
        if self.is_active(index) {
            let before = self.world.clone();
            self.jobs[index].job.ending = true;
            self.jobs[index].cancel(&mut self.world);
            self.check_removals(&before);
            self.end(index);
        }
    }

    fn vanish(&mut self, index: usize) {
        self.vanished.insert(self.jobs[index].job.uid.clone());
        self.end(index);
    }

    fn end(&mut self, index: usize) {
        let uid = self.jobs[index].job.uid.clone();
        self.world.remove_job(&uid);
        self.ended.insert(uid);
    }

    fn replica_sets(&mut self) {
        let before = self.world.clone();
        self.world.run_replica_sets();
        for pod in self.removed_since(&before) {
            let kept = self.originals.contains(&pod.uid) && pod.ready;
            let message = format!("without scaling, no old pod is scaled in: {}", pod.name);
            self.check(self.scaled || !kept, &message);
        }
    }

    fn removed_since(&self, before: &FakeCluster) -> Vec<Pod> {
        let live = before.pods().into_iter().filter(Pod::live);
        let gone = |pod: &Pod| self.world.pod(&pod.name).is_none_or(|now| now.deleting);
        live.filter(gone).collect()
    }

    /// Replace only removes an old pod whose new pod serves, or a new pod whose old pod is put back.
    fn check_removals(&self, before: &FakeCluster) {
        for pod in self.removed_since(before) {
            let released = pod.label(keys::RELEASED_FROM).is_some();
            let new_pod = before.pods().into_iter().find(|other| {
                other.live() && other.ready && other.label(keys::REPLACES) == Some(&pod.uid)
            });
            let by_hand = pod.label(keys::TEMPLATE_HASH).is_some() && released;
            let message = format!(
                "no serving pod is removed but for a ready new pod: {}",
                pod.name
            );
            self.check(!released || !pod.ready || new_pod.is_some(), &message);
            let message = format!(
                "a pod that was put back by hand is not removed: {}",
                pod.name
            );
            self.check(!by_hand || !pod.ready, &message);
            let message = format!("no old pod is removed that was not released: {}", pod.name);
            let original = self.originals.contains(&pod.uid);
            self.check(!original || released || !pod.ready, &message);
        }
    }

    fn check_success(&self, uid: Option<&str>, new_pod: Option<&str>) {
        let new_pod = new_pod.and_then(|name| self.world.pod(name));
        let message = format!("a target succeeds by a ready pod of its own: {new_pod:?}");
        let own = new_pod.filter(|pod| pod.ready && pod.label(keys::REPLACES) == uid);
        self.check(
            own.is_some_and(|pod| Some(pod.uid.as_str()) != uid),
            &message,
        );
        let old = self
            .world
            .pods()
            .into_iter()
            .find(|pod| Some(pod.uid.as_str()) == uid);
        self.check(
            old.is_none_or(|pod| pod.deleting),
            "the old pod of a success is gone",
        );
    }

    fn all_ended(&self) -> bool {
        let ended = |progress: &Option<Progress>| {
            matches!(progress, Some(Progress::Succeeded | Progress::Failed))
        };
        let mut active = (0..self.jobs.len()).filter(|index| self.is_active(*index));
        active.all(|index| self.jobs[index].progress().iter().all(ended))
    }

    /// The world is quiet and healthy from now on: every job ends, and nothing is left of it.
    fn settle(&mut self) {
        self.story.push("settle".to_owned());
        self.budget(false);
        for turn in 0..60 {
            if turn > 6 && self.all_ended() {
                break;
            }
            for index in 0..self.jobs.len() {
                self.pass(index);
                self.release(index);
            }
            self.replica_sets();
            self.world.finish_deletions();
            self.world.make_all_ready();
            self.world.advance(1);
        }
        self.check(self.all_ended(), "every target ends");
        let pods: Vec<Pod> = self.world.pods().into_iter().filter(Pod::live).collect();
        for pod in &pods {
            if pod
                .label(keys::JOB)
                .is_some_and(|job| self.vanished.contains(job))
            {
                continue;
            }
            let marks = [keys::RELEASED_FROM, keys::JOB].map(|key| pod.label(key));
            let notes = [keys::ORIGIN, keys::DELETION_COST].map(|key| pod.annotation(key));
            let clean = marks == [None; 2] && notes == [None; 2];
            let message = format!("no mark of a replacement stays: {}", pod.name);
            self.check(
                clean && pod.label(keys::TEMPLATE_HASH) == Some("h"),
                &message,
            );
            let origin = pods
                .iter()
                .find(|other| pod.label(keys::REPLACES) == Some(&other.uid));
            let unmarked = origin.is_none_or(|origin| origin.label(keys::RELEASED_FROM).is_some());
            let message = format!("no pod replaces one that stays: {}", pod.name);
            self.check(unmarked, &message);
            let kind = pod.controller().map(|owner| owner.kind.as_str());
            self.check(
                kind == Some("ReplicaSet"),
                "a pod that stays is its ReplicaSet's",
            );
        }
    }
}
