//! The three conditions that every kind of Operon carries, as kstatus reads them: `Ready`,
//! `Reconciling`, `Stalled`; and those of a kind that finishes, as a Job has them: `Complete`, `Failed`.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// The object does what it is for.
pub const READY: &str = "Ready";
/// Something is on its way; present only while it is.
pub const RECONCILING: &str = "Reconciling";
/// Nothing will happen until a change by a user; present only then.
pub const STALLED: &str = "Stalled";

/// Of a kind that finishes: the object has finished, with success; present only then.
pub const COMPLETE: &str = "Complete";
/// Of a kind that finishes: the object has finished, without success; present only then.
pub const FAILED: &str = "Failed";

/// Of an ActionPlugin: pods are marked for OperationJobs that do not exist any more; present only then.
pub const PODS_LEFT_BEHIND: &str = "PodsLeftBehind";

/// Of an ActionPlugin: its calls fault again and again, so its action is set aside; present only then.
pub const SUSPENDED: &str = "Suspended";

/// Of an ActionPlugin: the tag of its component names another artifact than the loaded one; present only then.
pub const TAG_MOVED: &str = "TagMoved";

/// Of a CollaSet: PodDecorations select its pods, and Operon does not apply them; present only then.
pub const POD_DECORATIONS_NOT_APPLIED: &str = "PodDecorationsNotApplied";

/// Of a CollaSet or an OperationJob: Operon's controller writes nothing, because KusionStack's controllers run in
/// the cluster; present only then.
pub const STANDING_DOWN: &str = "StandingDown";

/// The standing of an object; it decides all three conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ready.
    Ready,
    /// Not ready yet, but on the way.
    Reconciling,
    /// Not ready, and it will stay so until something is changed.
    Stalled,
}

/// How an object has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With success.
    Complete,
    /// Without success.
    Failed,
}

impl End {
    /// The condition that says so.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Complete => COMPLETE,
            Self::Failed => FAILED,
        }
    }
}

/// The conditions for this standing. A condition whose status did not change keeps its transition
/// time from `previous`, so that writing the same again is no change.
pub fn conditions(
    previous: &[Condition],
    standing: Standing,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let one = |type_: &str, status: bool| {
        let status = if status { "True" } else { "False" };
        condition(previous, type_, status, reason, message, generation, now)
    };
    let mut conditions = vec![one(READY, standing == Standing::Ready)];
    match standing {
        Standing::Ready => {}
        Standing::Reconciling => conditions.push(one(RECONCILING, true)),
        Standing::Stalled => conditions.push(one(STALLED, true)),
    }
    conditions
}

/// The [`conditions`] of an object of a kind that finishes, `standing`, and the one that says how it has finished, if it
/// has.
///
/// An object that `had_finished` before this condition existed keeps the conditions that it has, so that an upgrade
/// writes no status for it. It gets the condition when its other conditions change.
pub fn with_end(
    previous: &[Condition],
    standing: Vec<Condition>,
    end: Option<End>,
    had_finished: bool,
    now: Timestamp,
) -> Vec<Condition> {
    let (Some(end), Some(ready)) = (end, find(&standing, READY)) else {
        return standing;
    };
    if had_finished && previous == standing {
        return standing;
    }
    let Condition {
        reason,
        message,
        observed_generation,
        type_: _,
        status: _,
        last_transition_time: _,
    } = ready;
    let type_ = end.condition();
    let generation = *observed_generation;
    let end = condition(previous, type_, "True", reason, message, generation, now);
    standing.into_iter().chain([end]).collect()
}

/// One condition. It keeps its transition time from `previous` if its status did not change.
pub fn condition(
    previous: &[Condition],
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let since = find(previous, type_)
        .filter(|old| old.status == status)
        .map_or(Time(now), |old| old.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: generation,
    }
}

/// The condition of this type, if the object has one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
