//! Targets do not start while their action is set aside because its calls fault: they would only use up their deadline
//! and a place of `spec.maxConcurrent`. One target of a job starts when it is time to try the action. Pure.

use std::time::Duration;

use operon_api::operation_job::Progress;

use super::{
    Observed,
    plan::{TargetPlan, TargetPlans, TargetStep},
    sooner,
};
use crate::{
    action::Failure,
    action_plugin::breaker::{ACTION_SUSPENDED, suspended},
};

/// That the action of a job is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspended {
    /// The name of its ActionPlugin.
    pub plugin: String,
    /// The last fault before it was.
    pub fault: Failure,
    /// How long a call that tries it would have to wait now.
    pub wait: Duration,
}

/// Holds back the targets that would start, except the first one if it is time to try the action and no target that
/// has started will.
pub(super) fn hold(observed: &Observed<'_>, run: &mut TargetPlans) {
    let Some(Suspended {
        plugin,
        fault,
        wait,
    }) = observed.suspended
    else {
        return;
    };
    let is_due = wait.is_zero();
    let has_trial = run.targets.iter().any(|target| is_trial(target, fault));
    let first = usize::from(is_due && !has_trial);
    let why = suspended(plugin, fault, None);
    for target in run.starts().skip(first) {
        target.step = TargetStep::Await(why.clone());
    }
    if !is_due {
        run.requeue_after = sooner(run.requeue_after, Some(*wait));
    }
}

/// Whether a call about this target tries the action: its last one ended in such a fault, or was held back.
fn is_trial(target: &TargetPlan, fault: &Failure) -> bool {
    let error = target.detail.error.as_ref();
    let is_operated = target.step == TargetStep::Operate;
    let tried = |reason: &str| reason == ACTION_SUSPENDED || reason == fault.reason;
    is_operated
        && target.detail.progress == Progress::Processing
        && error.is_some_and(|error| tried(&error.reason))
}
