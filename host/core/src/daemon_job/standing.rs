//! The state of one node, from its Jobs and what the status remembers of them. Whether the node would get a
//! Job now is decided elsewhere.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::keys;

use super::{
    job,
    memory::Memory,
    on_node::{OfNode, Outdated},
    rollout::Rules,
    tries::{Since, Tries},
};
use crate::jobs::{
    self,
    time::{after, backoff, deleted_backoff, seconds},
};

/// How long after its deadline a Job has failed, even if Kubernetes does not say so.
const DEADLINE_GRACE: Duration = Duration::from_secs(10);

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    /// It has had no Job, or lost it unfinished.
    Due,
    /// It lost Jobs unfinished, more than one in a row; it gets another at this time.
    Lost(Timestamp),
    /// Its last Job failed; it runs again at this time.
    Again(Timestamp),
    /// A Job of an older revision, or a pod of one, is not deleted yet.
    Replacing,
    /// It has a Job that has not finished.
    Active,
    /// Its unfinished Job is being deleted, or pods of its last one have not terminated yet.
    Ending,
    /// Its Job succeeded.
    Succeeded,
    /// Its Job failed, and is not run again.
    Failed,
    /// It could not get a Job within the timeout, so the wait for it ended.
    Skipped,
}

impl NodeState {
    /// Whether the state is final.
    pub(super) fn is_over(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Skipped => true,
            Self::Due
            | Self::Lost(_)
            | Self::Again(_)
            | Self::Replacing
            | Self::Active
            | Self::Ending => false,
        }
    }

    /// Whether something runs.
    pub(super) fn is_active(self) -> bool {
        match self {
            Self::Active | Self::Ending => true,
            Self::Due
            | Self::Lost(_)
            | Self::Again(_)
            | Self::Replacing
            | Self::Succeeded
            | Self::Failed
            | Self::Skipped => false,
        }
    }

    /// When it may get a Job, as far as it is up to the node's own Jobs.
    pub(super) fn due_at(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Due => Some(now),
            Self::Lost(at) | Self::Again(at) => Some(at),
            Self::Replacing
            | Self::Active
            | Self::Ending
            | Self::Succeeded
            | Self::Failed
            | Self::Skipped => None,
        }
    }
}

/// The result of the last Job of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// There has been none.
    Nothing,
    Runs,
    /// It is being deleted.
    Ending,
    Failed,
    /// It was deleted before it finished.
    Lost,
}

/// The state of a node, and the Jobs that it has had.
pub(super) fn standing(
    memory: &Memory<'_>,
    rules: &Rules,
    digest: &str,
    jobs: &OfNode<'_>,
    now: Timestamp,
) -> (NodeState, Tries) {
    let ledger = &memory.ledger;
    let known = ledger.tries(digest);
    let mut tries = counted(known, jobs);
    if ledger.completed.contains(digest) || jobs.succeeded {
        return (NodeState::Succeeded, tries);
    }
    let last = jobs.last.filter(|job| job::attempt(job) >= tries.attempts);
    let course = course(last, tries, now);
    tries.since = since(course, last, tries, now);
    let is_forgiven = last.is_some_and(|job| is_forgiven(memory, job));
    if let Some(job) = last {
        tries.failures = failures(job, course, is_forgiven);
    }
    let has_failed = ledger.failed.get(digest) == Some(&tries.attempts);
    let standing = match course {
        _ if has_failed && !is_forgiven => NodeState::Failed,
        Course::Runs => NodeState::Active,
        Course::Ending => NodeState::Ending,
        Course::Nothing => NodeState::Due,
        Course::Failed => after_failure(rules, tries, is_forgiven, now),
        Course::Lost => after_loss(tries, now),
    };
    let is_outdated = jobs.outdated > Outdated::Nothing;
    if is_outdated && standing.due_at(now).is_some() {
        return (NodeState::Replacing, tries);
    }
    (standing, tries)
}

/// When Operon treats the deadline of a running Job as exceeded.
pub(super) fn deadline(job: &Job, tries: Tries) -> Option<Timestamp> {
    let Some(Since::Runs(at, start)) = tries.since else {
        return None;
    };
    let limit = started(job).filter(|(_, known)| *known == start)?.0;
    Some(after(at, limit + DEADLINE_GRACE))
}

/// The limit of a Job that has started and has one, and the last digits of when it did.
fn started(job: &Job) -> Option<(Duration, u16)> {
    let limit = job.spec.as_ref()?.active_deadline_seconds?;
    let start = job.status.as_ref()?.start_time.as_ref()?.0;
    if jobs::is_suspended(job) {
        return None;
    }
    let limit = seconds(i32::try_from(limit).unwrap_or(i32::MAX));
    let digits = u16::try_from(start.as_second().rem_euclid(10_000)).unwrap_or_default();
    Some((limit, digits))
}

/// The Jobs that a node has had. The previous Job is kept until the last one is in the status: if it does
/// not exist any more, a user deleted it.
fn counted(known: Tries, jobs: &OfNode<'_>) -> Tries {
    let attempts = jobs.last.map_or(0, |job| job::attempt(job));
    if attempts <= known.attempts {
        return known;
    }
    let has_ended = jobs.finished.contains(&known.attempts) || known.failed_at().is_some();
    let is_lost = known.attempts > 0 && !has_ended;
    Tries {
        attempts,
        failures: known.failures,
        losses: if is_lost { known.losses + 1 } else { 0 },
        since: None,
    }
}

fn course(last: Option<&Arc<Job>>, tries: Tries, now: Timestamp) -> Course {
    let Some(job) = last else {
        return match tries.attempts {
            0 => Course::Nothing,
            _ if tries.failed_at().is_some() => Course::Failed,
            _ => Course::Lost,
        };
    };
    let is_late = deadline(job, tries).is_some_and(|deadline| deadline <= now);
    // Kubernetes marks a Job as failed only when its pods have terminated, and on a dead node they never do.
    if jobs::finish(job).is_some() || jobs::is_failing(job) || is_late {
        Course::Failed
    } else if jobs::is_deleted(job) {
        Course::Ending
    } else {
        Course::Runs
    }
}

/// Since when that is known.
fn since(course: Course, last: Option<&Arc<Job>>, tries: Tries, now: Timestamp) -> Option<Since> {
    match course {
        Course::Nothing => None,
        Course::Failed => Some(Since::Failed(tries.failed_at().unwrap_or(now))),
        Course::Lost => Some(Since::Lost(tries.lost_at().unwrap_or(now))),
        Course::Runs | Course::Ending => {
            let (_, start) = started(last?)?;
            match tries.since {
                Some(Since::Runs(at, known)) if known == start => Some(Since::Runs(at, known)),
                Some(Since::Runs(..) | Since::Failed(_) | Since::Lost(_)) | None => {
                    Some(Since::Runs(now, start))
                }
            }
        }
    }
}

/// How many Jobs failed, the last one included. A retry by the user resets the count.
fn failures(job: &Job, course: Course, is_forgiven: bool) -> u32 {
    let before = jobs::failures_before(job, job::attempt(job).into());
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    match course {
        Course::Failed if is_forgiven => 0,
        Course::Failed => before.saturating_add(1),
        Course::Nothing | Course::Runs | Course::Ending | Course::Lost => before,
    }
}

/// Whether the user requested a retry since a Job was created.
fn is_forgiven(memory: &Memory<'_>, job: &Job) -> bool {
    let ran_for = job.annotations().get(keys::RETRY).map(String::as_str);
    memory.token.is_some() && memory.token != ran_for
}

/// Whether a node runs again whose Job failed, and when.
fn after_failure(rules: &Rules, tries: Tries, is_forgiven: bool, now: Timestamp) -> NodeState {
    let at = tries.failed_at().unwrap_or(now);
    if is_forgiven {
        return NodeState::Again(at);
    }
    let failures = i64::from(tries.failures);
    let retry = rules.retry.as_ref();
    let Some(retry) = retry.filter(|retry| failures <= i64::from(retry.limit)) else {
        return NodeState::Failed;
    };
    NodeState::Again(after(at, backoff(retry.backoff_seconds, failures)))
}

/// When a node gets another Job after its last one was deleted: immediately, unless an earlier Job was
/// deleted too.
fn after_loss(tries: Tries, now: Timestamp) -> NodeState {
    let wait = deleted_backoff(i64::from(tries.losses) + 1);
    if wait.is_zero() {
        return NodeState::Due;
    }
    NodeState::Lost(after(tries.lost_at().unwrap_or(now), wait))
}
