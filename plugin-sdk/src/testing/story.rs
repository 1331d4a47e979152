//! The host's part of a story: a job with targets that the action is called for in each reconcile. As in
//! the host, all targets of a reconcile see the world as it was at its start; effects are performed after
//! all calls.

use std::{marker::PhantomData, time::Duration};

use serde_json::Value;

use super::{FakeCluster, job, target_without_pod};
use crate::action::{action, set_up};
use crate::{Action, ActionError, Failure, Job, Progress, Registration, Target};

/// A job of an action, with its targets.
pub struct FakeJob<A> {
    /// The argument of the calls; a test may change it, for example `ending`.
    pub job: Job,
    /// In the order of `spec.targets`.
    pub targets: Vec<FakeTarget>,
    action: PhantomData<fn() -> A>,
}

impl<A> Clone for FakeJob<A> {
    fn clone(&self) -> Self {
        Self {
            job: self.job.clone(),
            targets: self.targets.clone(),
            action: PhantomData,
        }
    }
}

impl<A> std::fmt::Debug for FakeJob<A> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            job,
            targets,
            action: PhantomData,
        } = self;
        let mut shown = formatter.debug_struct("FakeJob");
        shown.field("job", job).field("targets", targets).finish()
    }
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

impl<A: Action> FakeJob<A> {
    /// A job with this uid, over pods of these names, of an action without settings.
    pub fn new(uid: &str, targets: &[&str]) -> Self {
        let targets = targets.iter().map(|name| FakeTarget {
            name: (*name).to_owned(),
            ..FakeTarget::default()
        });
        Self {
            job: job(uid, 0, "{}"),
            targets: targets.collect(),
            action: PhantomData,
        }
    }

    /// The action has these settings. They are read and set up as when the host loads the component; only the host
    /// compares them with their schema.
    ///
    /// # Panics
    /// If the action refuses them. [`set_up`](Self::set_up) returns why.
    #[must_use]
    pub fn settings(mut self, settings: &Value) -> Self {
        Self::set_up(settings).expect("the action takes the settings");
        self.job.settings = settings.to_string();
        self
    }

    /// The job has these parameters. Only the host compares them with their schema.
    #[must_use]
    pub fn parameters(mut self, parameters: &Value) -> Self {
        self.job.parameters = parameters.to_string();
        self
    }

    /// What the host gets when it loads the component with these settings.
    ///
    /// # Errors
    /// The message of the ActionPlugin: the settings can't be read, or the action refuses.
    pub fn set_up(settings: &Value) -> Result<Registration, String> {
        set_up::<A>(&settings.to_string())
    }

    /// The action of a call.
    ///
    /// # Panics
    /// If it can't be set up: the test gave other settings than [`settings`](Self::settings) accepts.
    fn action(&self) -> A {
        set_up::<A>(&self.job.settings).expect("the action takes the settings");
        action(&self.job).expect("the action takes the settings")
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
    pub fn pass(&mut self, world: &mut FakeCluster) -> bool {
        let action = self.action();
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
    pub fn cancel(&mut self, world: &mut FakeCluster) {
        let action = self.action();
        for target in self.targets.iter_mut().filter(|target| !target.finished()) {
            if target.progress.is_some() {
                ask(&action, target, &self.job, world);
            }
            if !target.finished() {
                target.fail(Failure::new("Canceled", "the job was cancelled"));
            }
        }
        self.release(world);
    }

    /// Calls the action once to release every failed target.
    ///
    /// # Panics
    /// If the action errs or its effects are refused: no story here expects that.
    pub fn release(&mut self, world: &mut FakeCluster) {
        let action = self.action();
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
