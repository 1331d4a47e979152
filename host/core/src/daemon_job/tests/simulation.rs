//! Whatever happens, in whatever order: no node has two Jobs, and the rollout comes to an end.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{conditions::STALLED, daemon_job::FlowState, keys};
use serde_json::json;

use super::world::{World, time};
use crate::{
    action::Failure,
    driver::memory::{
        Chance, Reconciles as _,
        simulation::{Simulated, assert_says_end, simulate},
    },
    jobs,
};

#[test]
fn daemon_job() {
    simulate::<World>(60);
}

impl Simulated for World {
    const KIND: &'static str = "daemonjob";

    fn any(chance: &mut Chance) -> Self {
        let mut world = Self::with_rollout(&["n1", "n2", "n3"], chance.pick(&ROLLOUTS));
        for node in ["n1", "n3"] {
            world.label(node, "zone", "1");
        }
        world
    }

    fn happen(&mut self, chance: &mut Chance) {
        let nodes: Vec<_> = self.nodes.keys().cloned().collect();
        let jobs: Vec<_> = self.jobs.keys().cloned().collect();
        let live = |job: &&Job| jobs::finish(job).is_none();
        let live: Vec<_> = self.jobs.values().filter(live).map(Job::name_any).collect();
        match chance.of(28) {
            0..=4 if !live.is_empty() => {
                let job = chance.pick(&live);
                self.end_job(&job, "Complete", "CompletionsReached", "well");
            }
            5 | 6 if !live.is_empty() => {
                let job = chance.pick(&live);
                self.end_job(&job, "Failed", "BackoffLimitExceeded", "badly");
            }
            7 | 18 if !live.is_empty() => {
                let job = chance.pick(&live);
                self.add_pod(&job, &json!({"phase": "Running"}));
            }
            8 if !jobs.is_empty() => {
                let job = chance.pick(&jobs);
                self.delete_job(&job, chance.once_in(2));
            }
            9 => {
                let name = chance.pick(&NAMES);
                self.join(name);
                self.label(name, "zone", chance.pick(&["1", "2", "3"]));
            }
            10 if nodes.len() > 1 => self.leave(&chance.pick(&nodes)),
            11 if !nodes.is_empty() => self.cordon(&chance.pick(&nodes), chance.once_in(2)),
            12 if !nodes.is_empty() => self.set_ready(&chance.pick(&nodes), !chance.once_in(3)),
            13 => self.set_rollout(chance.pick(&ROLLOUTS)),
            14 if chance.once_in(3) => self.edit_image(chance.pick(&["alpine:1", "alpine:2"])),
            15 => self.retry(chance.pick(&["1", "2", "3"])),
            16 => {
                let node = chance.pick(&NAMES);
                if self.refusals.remove(node).is_none() {
                    let refusal = Failure::new("Forbidden", "no quota");
                    self.refusals.insert(node.to_owned(), refusal);
                }
            }
            17 => self.collect_garbage(),
            19 => {
                let is_suspended = chance.once_in(2);
                self.edit(|spec| spec["suspend"] = json!(is_suspended));
            }
            // A queue holds a Job, or lets it go.
            20 | 21 if !live.is_empty() => {
                let job = self.jobs.get_mut(&chance.pick(&live)).expect("a Job");
                job.spec.get_or_insert_default().suspend = Some(chance.once_in(2));
            }
            22 if chance.once_in(3) => {
                let manager = chance.pick(&["", "operon.dev/operon", "example.com/other"]);
                self.edit(|spec| spec["managedBy"] = json!(manager));
            }
            // The Job controller starts a Job, or gives it up and waits for its pods: on a dead node for ever.
            24 if !live.is_empty() => {
                let job = chance.pick(&live);
                let at = time(self.now);
                let job = self.jobs.get_mut(&job).expect("a Job");
                job.status.get_or_insert_default().start_time = Some(at);
            }
            25 | 26 if !live.is_empty() => {
                let job = chance.pick(&live);
                let node = self.job(&job).annotations()[keys::NODE_NAME].clone();
                self.add_pod(&job, &json!({"phase": "Running"}));
                if self.nodes.contains_key(&node) {
                    self.set_ready(&node, false);
                }
                if chance.once_in(2) {
                    self.give_up(&job);
                }
            }
            // A node is cordoned for a moment.
            27 if !nodes.is_empty() => {
                let node = chance.pick(&nodes);
                self.cordon(&node, true);
                self.pass();
                let seconds = chance.seconds(400);
                self.wait(seconds);
                self.pass();
                if self.nodes.contains_key(&node) {
                    self.cordon(&node, false);
                }
            }
            23 => {
                let ttl = chance.seconds(100);
                self.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(ttl));
            }
            _ => {
                let seconds = chance.seconds(400);
                self.wait(seconds);
            }
        }
    }

    fn assert_promises(&self, before: &Self) {
        assert_sane(self, before);
    }

    fn assert_ends(mut self) {
        self.refusals.clear();
        let failing = self.jobs.values().filter(|job| jobs::is_failing(job));
        let failing = failing.filter(|job| jobs::finish(job).is_none());
        let failing: Vec<_> = failing.map(Job::name_any).collect();
        for job in failing {
            self.end_job(&job, "Failed", "DeadlineExceeded", "badly");
        }
        self.edit(|spec| {
            spec["suspend"] = json!(null);
            spec["managedBy"] = json!(null);
        });
        for job in self.jobs.values_mut() {
            job.spec.get_or_insert_default().suspend = Some(false);
        }
        self.set_rollout("{failurePolicy: Continue}");
        for name in NAMES {
            if self.nodes.contains_key(name) {
                self.set_ready(name, true);
                self.cordon(name, false);
            }
        }
        self.retry("the end");
        for _ in 0..10 {
            self.collect_garbage();
            self.wait(3600);
            self.settle();
            let live = self.jobs.values().filter(|job| jobs::finish(job).is_none());
            let live: Vec<_> = live.map(Job::name_any).collect();
            for job in live {
                self.end_job(&job, "Complete", "CompletionsReached", "well");
            }
            self.settle();
        }
        assert_eq!(self.state(), FlowState::Succeed, "{:#?}", self.status());
        let standing = self.standing();
        assert!(standing.iter().all(|(type_, _, _)| *type_ != STALLED));
    }
}

const ROLLOUTS: [&str; 11] = [
    "{parallelism: 1, failurePolicy: Continue, maxFailures: 1, timeoutSeconds: 20}",
    "{parallelism: 1, timeoutSeconds: 20, retry: {limit: 1}, maxFailures: 2}",
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

/// What must never be done to an object that is suspended, or run by another controller.
fn assert_held(world: &World, before: &World) {
    let spec = &world.object.spec.job.0;
    if spec.get("managedBy") == Some(&json!("example.com/other")) {
        assert_eq!(world.writes, before.writes, "it is not ours");
    }
    if spec.get("suspend") == Some(&json!(true)) {
        assert_eq!(world.made, before.made, "it is suspended");
    }
}

/// What must never be.
fn assert_sane(world: &World, before: &World) {
    assert_held(world, before);
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
    let Some(status) = &world.object.status else {
        return;
    };
    let end = status.state.and_then(FlowState::end);
    let end = end.filter(|_| status.completion_time.is_some());
    assert_says_end(&status.conditions, end);
    let count = |number: Option<i32>| number.unwrap_or_default();
    let over = count(status.succeeded) + count(status.failed);
    assert!(
        over + count(status.active) <= count(status.desired),
        "{status:#?}"
    );
    if status.state == Some(FlowState::Succeed) {
        assert_eq!(over, count(status.desired));
        assert!(over > 0);
        if status.completion_time.is_some() {
            let waiting = &status.waiting_node_digests;
            assert!(waiting.is_empty(), "nodes were forgotten: {waiting:?}");
        }
    }
    if status.completion_time.is_some() {
        assert_eq!(count(status.active), 0);
    }
}
