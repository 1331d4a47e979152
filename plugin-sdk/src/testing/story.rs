//! The host's part of a story: a job with targets that the action is called for in each reconcile. As in
//! the host, all targets of a reconcile see the world as it was at its start; effects are performed after
//! all calls.

use std::time::Duration;

use super::{FakeCluster, job, target_without_pod};
use crate::{Action, ActionError, Failure, Job, Progress, Target};

/// A job with its targets.
#[derive(Debug, Clone)]
pub struct FakeJob {
    /// The argument of the calls; a test may change it, for example `ending`.
    pub job: Job,
    /// In the order of `spec.targets`.
    pub targets: Vec<FakeTarget>,
}

/// The host's state of one target.
#[derive(Debug, Clone, Default)]
pub struct FakeTarget {
    /// The pod's name.
    pub name: String,
    /// The containers of `spec.targets`; empty: all ordinary ones of the pod.
    pub containers: Vec<String>,
    /// The uid of the pod when the target started; none before, or without a pod.
    pub uid: Option<String>,
    /// When it started, in seconds since the Unix epoch.
    pub started_at: Option<i64>,
    /// None before the first reconcile.
    pub progress: Option<Progress>,
    /// Why it failed, or what it waits for.
    pub failure: Option<Failure>,
    /// The time after which the action requests another call.
    pub recheck_after: Option<Duration>,
    /// What its release waits for; none before, and once it is released.
    pub unfinished: Option<Failure>,
    /// What the action recorded.
    pub extra_info: Vec<(String, String)>,
}

impl FakeTarget {
    /// One entry of what the action recorded.
    pub fn extra(&self, key: &str) -> Option<&str> {
        let entry = self.extra_info.iter().find(|(name, _)| name == key);
        entry.map(|(_, value)| value.as_str())
    }

    /// The reason why it failed, or what it waits for.
    pub fn reason(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.reason.as_str())
    }

    fn finished(&self) -> bool {
        matches!(self.progress, Some(Progress::Succeeded | Progress::Failed))
    }

    fn as_seen(&self, world: &FakeCluster) -> Target {
        let mut pod = world.pod(&self.name);
        if let Some(uid) = &self.uid {
            pod = pod.filter(|pod| pod.uid == *uid);
        }
        let mut containers = self.containers.clone();
        if let (true, Some(pod)) = (containers.is_empty(), &pod) {
            let ordinary = pod.ordinary_containers();
            containers.extend(ordinary.map(|container| container.name.clone()));
        }
        Target {
            containers,
            uid: self.uid.clone(),
            pod,
            extra_info: self.extra_info.clone(),
            started_at: self.started_at,
            last_failure: self.failure.clone(),
            ..target_without_pod(&self.name, None)
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.progress = Some(Progress::Failed);
        self.failure = Some(failure);
    }
}

impl FakeJob {
    /// A job with this uid, over pods of these names.
    pub fn new(uid: &str, targets: &[&str]) -> Self {
        let targets = targets.iter().map(|name| FakeTarget {
            name: (*name).to_owned(),
            ..FakeTarget::default()
        });
        Self {
            job: job(uid, 0, "{}"),
            targets: targets.collect(),
        }
    }

    /// The target of this name.
    ///
    /// # Panics
    /// If there is none: the test is wrong.
    pub fn target(&self, name: &str) -> &FakeTarget {
        let mut targets = self.targets.iter();
        let found = targets.find(|target| target.name == name);
        found.expect("the test names a target of the job")
    }

    /// How far each target is.
    pub fn progress(&self) -> Vec<Option<Progress>> {
        self.targets.iter().map(|target| target.progress).collect()
    }

    /// One reconcile of all unfinished targets. Returns whether one failed; the test then decides when to
    /// [`release`](Self::release) it.
    pub fn pass<A: Action>(&mut self, world: &mut FakeCluster) -> bool {
        let action = A::default();
        world.add_job(&self.job.uid);
        let snapshot = world.clone();
        self.job.now = snapshot.now();
        for target in self.targets.iter_mut().filter(|target| !target.finished()) {
            if target.progress.is_none() {
                target.progress = Some(Progress::Processing);
                target.started_at = Some(snapshot.now());
                target.uid = snapshot.pod(&target.name).map(|pod| pod.uid);
            }
            operate(&action, target, &self.job, &snapshot, world);
            if !target.finished() {
                ask(&action, target, &self.job, &snapshot);
            }
        }
        let mut targets = self.targets.iter();
        targets.any(|target| target.progress == Some(Progress::Failed))
    }

    /// Ends the job early, as its deletion or a deadline does: progress is read once more, then
    /// unsuccessful targets are failed and released.
    pub fn cancel<A: Action>(&mut self, world: &mut FakeCluster) {
        let action = A::default();
        for target in self.targets.iter_mut().filter(|target| !target.finished()) {
            if target.progress.is_some() {
                ask(&action, target, &self.job, world);
            }
            if !target.finished() {
                target.fail(Failure::new("Canceled", "the job was cancelled"));
            }
        }
        self.release::<A>(world);
    }

    /// Calls the action once to release every failed target.
    ///
    /// # Panics
    /// If the action errs or its effects are refused: no story here expects that.
    pub fn release<A: Action>(&mut self, world: &mut FakeCluster) {
        let action = A::default();
        let failed = self.targets.iter_mut();
        for target in failed.filter(|target| target.progress == Some(Progress::Failed)) {
            let seen = target.as_seen(world);
            let released = action.release_target(&seen, &self.job, world);
            let operation = released.expect("the action releases its target");
            let performed = world.perform_operation(&operation);
            performed.expect("the effects of a release are not refused");
            target.extra_info = operation.extra_info;
            target.unfinished = operation.unfinished.map(|unfinished| unfinished.failure);
        }
    }
}

fn time(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}

fn operate<A: Action>(
    action: &A,
    target: &mut FakeTarget,
    job: &Job,
    snapshot: &FakeCluster,
    world: &mut FakeCluster,
) {
    match action.operate_target(&target.as_seen(snapshot), job, snapshot) {
        Ok(operation) => match world.perform_operation(&operation) {
            Ok(()) => target.extra_info = operation.extra_info,
            Err(refusal) => target.failure = Some(refusal),
        },
        Err(ActionError::Retry((failure, after))) => {
            target.failure = Some(failure);
            target.recheck_after = after.map(time);
        }
        Err(ActionError::Terminal(failure)) => target.fail(failure),
    }
}

fn ask<A: Action>(action: &A, target: &mut FakeTarget, job: &Job, seen: &FakeCluster) {
    match action.get_ops_progress(&target.as_seen(seen), job, seen) {
        Ok(report) => {
            target.progress = Some(report.progress);
            target.failure = report.failure;
            target.recheck_after = report.recheck_after.map(time);
            target.extra_info = report.extra_info;
        }
        Err(ActionError::Retry((failure, after))) => {
            target.failure = Some(failure);
            target.recheck_after = after.map(time);
        }
        Err(ActionError::Terminal(failure)) => target.fail(failure),
    }
}
