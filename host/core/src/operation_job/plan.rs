//! What each target needs in this reconcile. Pure: it reads [`Observed`] and [`Availability`], and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};

use super::{
    ACTION_GRACE, ActionState, Observed, POD_GRACE, RELEASE_LIMIT,
    availability::{Availability, Operated},
    dry_run,
    failures::{
        action_not_found, canceled, deadline_exceeded, no_action_to_release, not_loaded_in_time,
        pod_not_found,
    },
    lifecycle,
    limits::{Limits, is_canceled},
    parameters::{self, Parameters},
    remaining, size, sooner, suspension,
};
use crate::action::{Effect, Failure};

/// The plan of a reconcile.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The job finished long enough ago: delete it.
    Expire,
    /// Everything else.
    Run(TargetPlans),
}

/// The plan for the targets.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetPlans {
    /// Every target: started targets first, then in the order of the spec.
    pub targets: Vec<TargetPlan>,
    /// Why targets do not start that may start otherwise: too few pods are available.
    pub held: Option<String>,
    /// When time alone changes the plan.
    pub requeue_after: Option<Duration>,
}

impl TargetPlans {
    /// The targets that start.
    pub(super) fn starts(&mut self) -> impl Iterator<Item = &mut TargetPlan> {
        let all = self.targets.iter_mut();
        all.filter(|target| matches!(target.step, TargetStep::Start { .. }))
    }

    /// The pods of the targets that start.
    pub fn starting(&self) -> impl Iterator<Item = Operated> {
        self.targets.iter().filter_map(|target| match &target.step {
            TargetStep::Start { uid } => Some(Operated {
                name: target.detail.name.clone(),
                uid: Some(uid.clone()),
            }),
            _ => None,
        })
    }
}

/// The plan for one target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetPlan {
    /// Its place in the job's targets.
    pub index: usize,
    /// Its entry in the status.
    pub detail: TargetDetail,
    /// What happens now.
    pub step: TargetStep,
    /// What is written on its pod first, as the PodOpsLifecycle controller.
    pub write: Option<Effect>,
}

/// What happens to a target.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetStep {
    /// Nothing: it is finished and clean, or its turn has not come.
    Keep,
    /// Record that it starts, on the pod of this uid. The next reconcile operates it.
    Start {
        /// The pod's uid.
        uid: String,
    },
    /// Call the action to operate it, then for its progress.
    Operate,
    /// Call the action to clean up after it.
    Release(Cause),
    /// It fails without asking the action.
    Fail(Failure),
    /// It waits for the action itself.
    Await(Failure),
    /// It waits until its pod is out of service, or back in service.
    Wait(Failure),
    /// It succeeds without calling the action again.
    Succeed,
}

/// What the action is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// To operate the target.
    Operate,
    /// To release it.
    Release,
}

impl TargetStep {
    /// What the action is called for, if it is called.
    pub fn question(&self) -> Option<Question> {
        match self {
            Self::Operate => Some(Question::Operate),
            Self::Release(_) => Some(Question::Release),
            Self::Keep
            | Self::Start { .. }
            | Self::Fail(_)
            | Self::Await(_)
            | Self::Wait(_)
            | Self::Succeed => None,
        }
    }
}

/// Why a target is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It took longer than `spec.activeDeadlineSeconds`.
    Deadline,
    /// More targets failed than `spec.maxFailures` allows, and `spec.onFailure` is Cancel.
    Canceled,
    /// The job is being deleted.
    Deleted,
    /// The same, and its releases have failed for [`RELEASE_LIMIT`]: this is the last call.
    Overdue,
    /// It failed before.
    Failed,
}

/// Decides what this reconcile does.
pub fn plan(observed: &Observed<'_>, availability: &Availability) -> Plan {
    match expiry(observed) {
        Expiry::Now => Plan::Expire,
        Expiry::In(ttl) => Plan::Run(run(observed, availability, ttl)),
    }
}

enum Expiry {
    Now,
    In(Option<Duration>),
}

/// `TTLSecondsAfterFinished`, counted from the job's end, independently of anything else. A negative value
/// means never.
fn expiry(observed: &Observed<'_>) -> Expiry {
    let job = observed.job;
    let end = job
        .status
        .as_ref()
        .and_then(|status| status.end_time.as_ref());
    let ttl = job.spec.ttl_seconds_after_finished;
    let ttl = ttl.filter(|ttl| *ttl >= 0).map(seconds);
    match (end, ttl) {
        (Some(end), Some(ttl)) if job.metadata.deletion_timestamp.is_none() => {
            match remaining(end.0, ttl, observed.now) {
                Some(left) => Expiry::In(Some(left)),
                None => Expiry::Now,
            }
        }
        _ => Expiry::In(None),
    }
}

fn run(observed: &Observed<'_>, availability: &Availability, ttl: Option<Duration>) -> TargetPlans {
    let mut requeue_after = ttl;
    let targets = in_order(observed.job);
    let failed = failed(&targets);
    let limits = Limits::of(observed.job, failed);
    let targets: Vec<_> = targets
        .into_iter()
        .enumerate()
        .map(|(rank, (index, mut detail))| {
            identify(observed, &mut detail);
            let (mut step, due) = step(observed, &limits, rank, &detail);
            let mut write = None;
            if observed.job.spec.dry_run {
                step = dry_run::without_release(observed, step);
            } else {
                write = lifecycle::write(observed, &detail, &step);
            }
            requeue_after = sooner(requeue_after, due);
            TargetPlan {
                index,
                detail,
                step,
                write,
            }
        })
        .collect();
    let failing = targets
        .iter()
        .filter(|target| matches!(target.step, TargetStep::Fail(_)))
        .filter(|target| target.detail.progress != Progress::Failed)
        .count();
    let limits = match failing {
        0 => limits,
        failing => Limits::of(observed.job, failed + failing),
    };
    let mut run = TargetPlans {
        targets,
        held: None,
        requeue_after,
    };
    if run.starts().next().is_some() {
        suspension::hold(observed, &mut run);
        within_availability(availability, &mut run);
        within_window(observed.job, &limits, &mut run);
    }
    run
}

/// How many targets have failed.
fn failed(targets: &[(usize, TargetDetail)]) -> usize {
    let failed = targets
        .iter()
        .filter(|(_, detail)| detail.progress == Progress::Failed);
    failed.count()
}

/// Records the pod of a target that the Go operator started, which knew pods by their names. A pod created
/// after the target started is another one.
fn identify(observed: &Observed<'_>, detail: &mut TargetDetail) {
    if detail.pod_uid.is_some() || !size::is_under_way(detail) {
        return;
    }
    let pod = observed.pods.get(&detail.name);
    let created = pod
        .as_ref()
        .and_then(|pod| pod.metadata.creation_timestamp.as_ref());
    let started = detail.start_time.as_ref();
    let later = created
        .zip(started)
        .is_some_and(|(created, started)| created.0 > started.0);
    detail.pod_uid = pod
        .filter(|_| !later)
        .and_then(|pod| pod.metadata.uid.clone());
}

/// Holds back targets with a pod that cannot be spared.
fn within_availability(availability: &Availability, run: &mut TargetPlans) {
    let mut allowance = match availability {
        Availability::Unlimited => return,
        Availability::Unknown(why) => Err(why.clone()),
        Availability::Limited(allowance) => Ok(allowance.clone()),
    };
    let mut held = 0;
    let mut reasons = BTreeSet::new();
    for target in run.starts() {
        let started = match &mut allowance {
            Ok(allowance) => allowance.start(&target.detail.name),
            Err(why) => Err(why.clone()),
        };
        if let Err(why) = started {
            held += 1;
            if reasons.len() < REASONS {
                reasons.insert(why);
            }
            target.step = TargetStep::Keep;
        }
    }
    if held > 0 {
        let reasons: Vec<_> = reasons.into_iter().collect();
        run.held = Some(format!("targets that wait: {held}; {}", reasons.join("; ")));
        run.requeue_after = sooner(run.requeue_after, Some(CHECK_AGAIN));
    }
}

/// Holds back targets that `spec.maxConcurrent` does not allow or that the status has no room for: they start
/// when others have finished.
fn within_window(job: &OperationJob, limits: &Result<Limits, Failure>, run: &mut TargetPlans) {
    let details = run.targets.iter().map(|target| &target.detail);
    let under_way = details.filter(|detail| size::is_under_way(detail));
    let most = limits.as_ref().map_or(0, Limits::concurrent);
    let free = most.saturating_sub(under_way.clone().count());
    let window = size::window(job, under_way).map(|window| window.min(free));
    for (rank, target) in run.starts().enumerate() {
        match &window {
            Ok(free) if rank < *free => {}
            Ok(_) => target.step = TargetStep::Keep,
            Err(too_large) => target.step = TargetStep::Await(too_large.clone()),
        }
    }
}

/// Every target with its entry in the status: targets that left Pending come first, and so keep their place
/// in the partition.
fn in_order(job: &OperationJob) -> Vec<(usize, TargetDetail)> {
    let details = job
        .status
        .as_ref()
        .map(|s| s.target_details.as_slice())
        .unwrap_or_default();
    let known: HashMap<&str, &TargetDetail> = details
        .iter()
        .map(|detail| (detail.name.as_str(), detail))
        .collect();
    let mut targets: Vec<_> = job
        .targets()
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let detail = known.get(target.name.as_str()).map_or_else(
                || TargetDetail {
                    name: target.name.clone(),
                    ..TargetDetail::default()
                },
                |detail| (*detail).clone(),
            );
            (index, detail)
        })
        .collect();
    targets.sort_by_key(|(index, detail)| (detail.progress == Progress::Pending, *index));
    targets
}

/// The step of one target, and when time alone may change it.
fn step(
    observed: &Observed<'_>,
    limits: &Result<Limits, Failure>,
    rank: usize,
    detail: &TargetDetail,
) -> (TargetStep, Option<Duration>) {
    let job = observed.job;
    if job.metadata.deletion_timestamp.is_some() && job.spec.dry_run {
        return (dry_run::step_of_deleted(detail), None);
    }
    if job.metadata.deletion_timestamp.is_some() {
        return step_of_deleted(observed, detail);
    }
    match detail.progress {
        Progress::Succeeded => (TargetStep::Keep, None),
        Progress::Failed => (step_of_failed(observed, detail), None),
        Progress::Pending if is_canceled(job) => (TargetStep::Fail(canceled(job)), None),
        Progress::Processing if is_canceled(job) && !lifecycle::is_operated(detail) => {
            (step_of_canceled(observed), None)
        }
        Progress::Pending => match limits {
            Err(invalid) => (TargetStep::Await(invalid.clone()), None),
            Ok(limits) if rank >= limits.admitted => (TargetStep::Keep, None),
            Ok(_) => step_of_pending(observed, detail),
        },
        Progress::Processing => step_of_processing(observed, detail),
    }
}

/// Only a started target can have left something behind.
///
/// A release is given up only after a call that failed: the limit counts from the first failure, which the
/// status keeps, so neither an outage of the host nor a clock that differs from the API server's shortens
/// it, and a restart of the host does not reset it. An action that could not be loaded is waited for as long as
/// this process has found it so: a process that has just started can't have loaded it, and one that still loads it may
/// load others first.
fn step_of_deleted(
    observed: &Observed<'_>,
    detail: &TargetDetail,
) -> (TargetStep, Option<Duration>) {
    if !size::is_under_way(detail) {
        return (TargetStep::Keep, None);
    }
    if lifecycle::is_operated(detail) {
        return (TargetStep::Succeed, None);
    }
    match observed.action {
        ActionState::Loaded => {
            let failed = release_failed(observed);
            let left = failed.map(|since| remaining(since, RELEASE_LIMIT, observed.now));
            match left {
                Some(None) => (TargetStep::Release(Cause::Overdue), None),
                None | Some(Some(_)) => (TargetStep::Release(Cause::Deleted), left.flatten()),
            }
        }
        ActionState::NotLoaded {
            message,
            has_failed: _,
        } => match RELEASE_LIMIT.checked_sub(observed.blocked) {
            Some(left) if !left.is_zero() => {
                let waits = Failure::new("ActionNotReady", message);
                (TargetStep::Await(waits), Some(left))
            }
            Some(_) | None => (TargetStep::Fail(not_loaded_in_time()), None),
        },
        // An ActionPlugin that was just deleted may be created again.
        ActionState::NotFound { since } => match remaining(*since, ACTION_GRACE, observed.now) {
            Some(left) => (
                TargetStep::Await(action_not_found(observed.job)),
                Some(left),
            ),
            None => (TargetStep::Fail(no_action_to_release(observed.job)), None),
        },
    }
}

/// When a release of the deleted job first failed. A time in the future is that of another clock and
/// counts as now.
pub(super) fn release_failed(observed: &Observed<'_>) -> Option<k8s_openapi::jiff::Timestamp> {
    let status = observed.job.status.as_ref()?;
    let failed = status.release_failed_time.as_ref()?;
    Some(failed.0.min(observed.now))
}

/// A target in progress is released when its job is canceled. One whose action can't be called fails, and is
/// released when the action can be called.
fn step_of_canceled(observed: &Observed<'_>) -> TargetStep {
    match observed.action {
        ActionState::Loaded => TargetStep::Release(Cause::Canceled),
        ActionState::NotLoaded { .. } | ActionState::NotFound { .. } => {
            TargetStep::Fail(canceled(observed.job))
        }
    }
}

/// A failed target is released once, if it ever started.
fn step_of_failed(observed: &Observed<'_>, detail: &TargetDetail) -> TargetStep {
    match observed.action {
        ActionState::Loaded if !size::is_clean(detail) => TargetStep::Release(Cause::Failed),
        _ => TargetStep::Keep,
    }
}

fn step_of_pending(
    observed: &Observed<'_>,
    detail: &TargetDetail,
) -> (TargetStep, Option<Duration>) {
    if let Some(lacking) = observed.lacking {
        return (TargetStep::Await(lacking.clone()), Some(CHECK_AGAIN));
    }
    if let Some(blocked) = blocked_by_action(observed) {
        return blocked;
    }
    if let Some(blocked) = blocked_by_parameters(observed) {
        return blocked;
    }
    if let Some(uid) = observed.pods.uid(&detail.name) {
        return match lifecycle::before_start(observed, detail) {
            Some(waits) => (TargetStep::Wait(waits), None),
            None => (TargetStep::Start { uid }, None),
        };
    }
    match remaining(started(observed), POD_GRACE, observed.now) {
        Some(left) => (TargetStep::Keep, Some(left)),
        None => (
            TargetStep::Fail(pod_not_found(observed.job, &detail.name)),
            None,
        ),
    }
}

/// The progress of a target that has not started while its action can't be called.
fn blocked_by_action(observed: &Observed<'_>) -> Option<(TargetStep, Option<Duration>)> {
    match observed.action {
        ActionState::Loaded => {
            lifecycle::disabled(observed).map(|waits| (TargetStep::Await(waits), None))
        }
        ActionState::NotLoaded {
            message,
            has_failed: _,
        } => Some((
            TargetStep::Await(Failure::new("ActionNotReady", message)),
            None,
        )),
        ActionState::NotFound { since } => {
            let failure = action_not_found(observed.job);
            let since = started(observed).max(*since);
            Some(match remaining(since, ACTION_GRACE, observed.now) {
                Some(left) => (TargetStep::Await(failure), Some(left)),
                None => (TargetStep::Fail(failure), None),
            })
        }
    }
}

/// How many reasons a message has at most why targets wait.
const REASONS: usize = 3;

/// How soon is checked again what could not be checked, or what no watch reports.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

/// The progress of a target that has not started while its action does not accept the parameters of the job.
fn blocked_by_parameters(observed: &Observed<'_>) -> Option<(TargetStep, Option<Duration>)> {
    if let Some(changed) = parameters::changed(observed) {
        return Some((TargetStep::Await(changed), None));
    }
    match observed.parameters {
        Parameters::Accepted => None,
        Parameters::Refused(failure) => Some((TargetStep::Fail(failure.clone()), None)),
        Parameters::Unchecked(failure) => {
            Some((TargetStep::Await(failure.clone()), Some(CHECK_AGAIN)))
        }
    }
}

fn step_of_processing(
    observed: &Observed<'_>,
    detail: &TargetDetail,
) -> (TargetStep, Option<Duration>) {
    let deadline = observed.job.spec.active_deadline_seconds.map(seconds);
    let left = match (deadline, detail.start_time.as_ref()) {
        (Some(deadline), Some(start)) => remaining(start.0, deadline, observed.now),
        _ => Some(Duration::MAX),
    };
    let due = left.filter(|left| *left != Duration::MAX);
    if lifecycle::is_operated(detail) {
        let step = match left {
            Some(_) => lifecycle::step_of_operated(observed, detail),
            None => TargetStep::Fail(deadline_exceeded(observed.job)),
        };
        return (step, due);
    }
    let step = match (observed.action, left) {
        (ActionState::Loaded, Some(_)) => {
            if let Some(lacking) = observed.lacking {
                return (
                    TargetStep::Await(lacking.clone()),
                    sooner(due, Some(CHECK_AGAIN)),
                );
            }
            if let Some(changed) = parameters::changed(observed) {
                return (TargetStep::Await(changed), due);
            }
            let (step, again) = lifecycle::step_of_started(observed, detail);
            return (step, sooner(due, again));
        }
        (ActionState::Loaded, None) => TargetStep::Release(Cause::Deadline),
        (
            ActionState::NotLoaded {
                message,
                has_failed: _,
            },
            Some(_),
        ) => TargetStep::Await(Failure::new("ActionNotReady", message)),
        (ActionState::NotFound { .. }, Some(_)) => {
            TargetStep::Await(action_not_found(observed.job))
        }
        (_, None) => TargetStep::Fail(deadline_exceeded(observed.job)),
    };
    (step, due)
}

/// When the job was first seen; now, if this is the first time.
fn started(observed: &Observed<'_>) -> k8s_openapi::jiff::Timestamp {
    let status = observed.job.status.as_ref();
    status
        .and_then(|s| s.start_time.as_ref())
        .map_or(observed.now, |time| time.0)
}

fn seconds(value: i32) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}
