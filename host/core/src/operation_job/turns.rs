//! Which target the action is called for next, and how long a target waits after a failed call. Pure. The
//! controller's memory for it is a cache: losing it costs calls, never correctness.

use std::time::Duration;

use super::{
    conclude::Answer,
    plan::{TargetPlan, TargetStep},
};
use crate::action::ActionError;

/// The first and the longest wait after a failed call.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// For how long changes of what several targets read are gathered before the action is called about these targets:
/// otherwise every change of one pod would cause a call about each of its siblings.
const GATHERED: Duration = Duration::from_millis(500);

/// How often the action is called about one of the targets that wait for the same limit of pods while there is no room: it
/// may see that those that take the room never leave it.
const PROBED: Duration = Duration::from_secs(5);

/// Why the action is called about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallCause {
    /// The step is a new one: the target starts, or is released.
    Step,
    /// The target is another one for the action: its pod, its extra-info or its last failure; or the job's spec or the
    /// version of the action changed.
    Target,
    /// Effects of the previous call were performed.
    Effect,
    /// The previous call failed.
    Failure,
    /// The action asked to be called at this time.
    Recheck,
    /// Something changed that this target alone read.
    Read,
    /// Something changed that other targets read as well.
    SharedRead,
    /// There is room below the limit of pods that the target waits for.
    Room,
    /// The previous answer holds for no time: that of a release, or one for which too much was read.
    Unsettled,
}

crate::words!(CallCause {
    Step => "step",
    Target => "target",
    Effect => "effect",
    Failure => "failure",
    Recheck => "recheck",
    Read => "read",
    SharedRead => "shared_read",
    Room => "room",
    Unsettled => "unsettled",
});

/// The order in which targets are called about; each comes with the number of its previous call, 0 if
/// there was none.
///
/// Targets with more progress come first, because finishing a target frees resources of the cluster and
/// starting one takes some. Every second place belongs to the target with the oldest previous call, so that
/// no target starves, however slow the calls for others are.
pub fn in_turn(mut targets: Vec<(u64, &TargetPlan)>) -> Vec<&TargetPlan> {
    targets.sort_by_key(|(_, t)| (t.detail.extra_info.is_empty(), t.detail.error.is_none()));
    let mut by_age: Vec<usize> = (0..targets.len()).collect();
    by_age.sort_by_key(|place| targets[*place].0);
    let alternating = by_age.into_iter().enumerate().flat_map(|(a, b)| [a, b]);
    let mut taken = vec![false; targets.len()];
    alternating
        .filter(|place| !std::mem::replace(&mut taken[*place], true))
        .map(|place| targets[place].1)
        .collect()
}

/// How long a target waits for its next call after this answer, the `failures`th in a row that failed.
/// None if it need not wait.
pub fn wait(answer: &Answer, failures: u32) -> Option<Duration> {
    match answer {
        Answer::Error { error, .. } => Some(match error {
            ActionError::Retry(_, Some(after)) => *after,
            ActionError::Retry(_, None) | ActionError::Terminal(_) | ActionError::Plugin(_) => {
                backoff(failures)
            }
        }),
        Answer::Report(_)
        | Answer::Acted { .. }
        | Answer::Operated { .. }
        | Answer::Tried { .. }
        | Answer::Released { .. }
        | Answer::Releasing { .. } => None,
    }
}

/// Whether the action would answer a question about a target again as long as nothing that it read changes, and after
/// what time nevertheless another answer is possible, if time alone may change it. None if it must be called again.
pub fn again(step: &TargetStep, answer: &Answer) -> Option<Option<Duration>> {
    match (step, answer) {
        (TargetStep::Operate, Answer::Report(report)) => Some(report.recheck_after),
        _ => None,
    }
}

/// The reason that the action reports, which the status then has as the target's last failure.
pub fn reported(answer: &Answer) -> Option<&str> {
    match answer {
        Answer::Report(report) => report
            .failure
            .as_ref()
            .map(|failure| failure.reason.as_str()),
        Answer::Acted { .. }
        | Answer::Operated { .. }
        | Answer::Tried { .. }
        | Answer::Released { .. }
        | Answer::Releasing { .. }
        | Answer::Error { .. } => None,
    }
}

/// Why the action is called again after an answer that does not hold until something changes.
pub fn unsettled(answer: &Answer) -> CallCause {
    match answer {
        Answer::Acted { .. } => CallCause::Effect,
        Answer::Error { .. } => CallCause::Failure,
        Answer::Report(_)
        | Answer::Operated { .. }
        | Answer::Tried { .. }
        | Answer::Released { .. }
        | Answer::Releasing { .. } => CallCause::Unsettled,
    }
}

/// How long a target waits for its next call if something that it read changed this long ago, and if others read the
/// same. None if it need not wait.
pub fn gathering(since: Duration) -> Option<Duration> {
    GATHERED.checked_sub(since).filter(|left| !left.is_zero())
}

/// How long the targets that wait for one limit of pods are left alone, this long after the last call about one of
/// them. None if one is called about now.
pub fn probing(since: Duration) -> Option<Duration> {
    PROBED.checked_sub(since).filter(|left| !left.is_zero())
}

/// How soon after a failed call a change of the target's dependencies may cause the next call. The first
/// failure is often a conflict that the change resolves; a repeated failure must not become a loop in which
/// a call causes the change that causes the next call.
pub fn soonest_after_change(failures: u32) -> Duration {
    if failures > 1 {
        BACKOFF.0
    } else {
        Duration::ZERO
    }
}

fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (BACKOFF.0 * 2_u32.pow(doublings)).min(BACKOFF.1)
}
