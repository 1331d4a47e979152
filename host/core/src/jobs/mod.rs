//! What is known of any Job, whatever it was created for: its outcome, what it waits for, how it failed,
//! and how a Job is rendered from a user's spec.

pub mod blocked;
pub(crate) mod explain;
pub mod failure;
pub mod held;
pub(crate) mod name;
pub mod owned;
pub(crate) mod refused;
pub(crate) mod render;
pub(crate) mod stored;
pub(crate) mod text;
pub(crate) mod time;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::batch::v1::{Job, JobCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{keys, reactive_job::Outcome};
use serde_json::{Value, json};

use crate::{
    action::{Failure, ObjectReference},
    driver::{self, Done},
};

/// How a Job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// Succeeded or Failed.
    pub outcome: Outcome,
    /// `CompletionsReached`, `BackoffLimitExceeded`, …
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When.
    pub time: Option<Time>,
}

/// How a Job ended, if it did, by the first of its final conditions.
pub fn finish(job: &Job) -> Option<Finish> {
    conditions(job).find_map(|condition| {
        let outcome = match condition.type_.as_str() {
            "Failed" => Outcome::Failed,
            "Complete" => Outcome::Succeeded,
            _ => return None,
        };
        Some(Finish {
            outcome,
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
            time: condition.last_transition_time.clone(),
        })
    })
}

/// Whether a Job is going to be Failed, or is: its pods may go any moment.
pub(crate) fn is_failing(job: &Job) -> bool {
    conditions(job).any(is_failure)
}

/// How a Job will end that is going to be Failed as soon as its pods have terminated.
pub(crate) fn failure_target(job: &Job) -> Option<Finish> {
    let mut target = conditions(job).filter(|condition| is_failure(condition));
    let condition = target.next()?;
    Some(Finish {
        outcome: Outcome::Failed,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        time: condition.last_transition_time.clone(),
    })
}

/// When a Job failed, or was going to.
pub(crate) fn failed_at(job: &Job) -> Option<Timestamp> {
    let mut failed = conditions(job).filter(|condition| is_failure(condition));
    Some(failed.next()?.last_transition_time.as_ref()?.0)
}

fn is_failure(condition: &JobCondition) -> bool {
    matches!(condition.type_.as_str(), "FailureTarget" | "Failed")
}

/// Whether a Job is suspended by its own spec.
pub(crate) fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

fn conditions(job: &Job) -> impl Iterator<Item = &JobCondition> {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    conditions
        .flatten()
        .filter(|condition| condition.status == "True")
}

/// Whether a Job is being deleted.
pub(crate) fn is_deleted(job: &Job) -> bool {
    job.metadata.deletion_timestamp.is_some()
}

/// A number in an annotation.
pub(crate) fn number(job: &Job, key: &str) -> Option<i64> {
    job.annotations().get(key)?.parse().ok()
}

/// How many Jobs failed before this one, of `attempt` Jobs in all. Only failures use up the limit of retries:
/// a Job that was deleted before it finished has not failed.
pub(crate) fn failures_before(job: &Job, attempt: i64) -> i64 {
    let most = attempt.saturating_sub(1).max(0);
    number(job, keys::FAILURES).map_or(most, |failures| failures.clamp(0, most))
}

/// The merge patch that gives a finished Job the `ttlSecondsAfterFinished` that was held back: until its
/// result is recorded it must not be deleted.
pub(crate) fn ttl_patch(job: &Job) -> Option<Value> {
    let has_one = job.spec.as_ref()?.ttl_seconds_after_finished.is_some();
    if has_one || is_deleted(job) || finish(job).is_none() {
        return None;
    }
    let ttl = i32::try_from(number(job, keys::TTL)?).ok()?;
    (ttl >= 0).then(|| json!({"spec": {"ttlSecondsAfterFinished": ttl}}))
}

/// A reference to the Job of this name.
pub(crate) fn reference(name: impl Into<String>) -> ObjectReference {
    ObjectReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: name.into(),
    }
}

/// A Job as the API server returned it. A Job that cannot be read is not ours.
pub(crate) fn job_of(found: &Value) -> Option<Job> {
    serde_json::from_value(found.clone()).ok()
}

/// The results of creating Jobs.
pub(crate) fn all_made(done: &Done) -> MadeJobs {
    let made = done.made.iter().filter_map(|(subject, made)| {
        let made = match made {
            driver::Made::There(job) => MadeJob::Job(Arc::new(job_of(job)?)),
            driver::Made::Refused(refusal) => MadeJob::Refused(refusal.into()),
            driver::Made::Leaving => MadeJob::Leaving,
        };
        Some((subject.clone(), made))
    });
    made.collect()
}

/// What came of making a Job.
#[derive(Clone, Debug, PartialEq)]
pub enum MadeJob {
    /// It is there.
    Job(Arc<Job>),
    /// The API server refused it.
    Refused(Failure),
    /// Its name is still that of a [leaving](Claim::Leaving) Job.
    Leaving,
}

/// The results of creating Jobs, by what the Jobs are for.
pub type MadeJobs = HashMap<String, MadeJob>;
