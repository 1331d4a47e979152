//! How many targets may start, and what too many failures mean. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operon_api::{OperationJob, operation_job::OnFailure};

use crate::{
    action::Failure,
    amount::{Amount, written},
};

/// The reason of a spec that cannot be read.
const INVALID_SPEC: &str = "InvalidSpec";

/// What limits the targets of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// How many targets may have started, counted from the first.
    pub(super) admitted: usize,
    /// How many targets may be in progress at the same time.
    concurrent: usize,
}

impl Limits {
    /// Those of a job of which so many targets have failed.
    ///
    /// # Errors
    /// The field of the spec that cannot be read.
    pub(super) fn of(job: &OperationJob, failed: usize) -> Result<Self, Failure> {
        unavailable(job)?;
        let is_held = job.spec.paused == Some(true) || too_many_failures(job, failed)?.is_some();
        Ok(Self {
            admitted: if is_held { 0 } else { partition(job) },
            concurrent: concurrent(job)?,
        })
    }
}

impl Limits {
    /// How many targets may be in progress at the same time, if another one may start.
    pub(super) fn concurrent(&self) -> usize {
        if self.admitted == 0 {
            0
        } else {
            self.concurrent
        }
    }
}

/// How many targets may have started, counted from the first.
fn partition(job: &OperationJob) -> usize {
    job.spec.partition.map_or(usize::MAX, |partition| {
        usize::try_from(partition).unwrap_or(0)
    })
}

/// How many targets may be in progress at the same time; at least one.
///
/// # Errors
/// `spec.maxConcurrent` cannot be read.
pub(super) fn concurrent(job: &OperationJob) -> Result<usize, Failure> {
    let Some(value) = &job.spec.max_concurrent else {
        return Ok(usize::MAX);
    };
    let amount = read("maxConcurrent", value)?;
    Ok(amount.rounded_up(job.targets().len()).max(1))
}

/// How many pods of each workload may be unavailable, if that is limited.
///
/// # Errors
/// `spec.maxUnavailable` cannot be read.
pub(super) fn unavailable(job: &OperationJob) -> Result<Option<Amount>, Failure> {
    let value = job.spec.max_unavailable.as_ref();
    value.map(|value| read("maxUnavailable", value)).transpose()
}

/// That more targets have failed than `spec.maxFailures` allows, and `spec.onFailure` is not Continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyFailures {
    /// What happens.
    pub(super) then: OnFailure,
    /// How many targets may fail.
    pub(super) allowed: usize,
}

/// Whether too many targets have failed.
///
/// # Errors
/// `spec.maxFailures` cannot be read.
pub(super) fn too_many_failures(
    job: &OperationJob,
    failed: usize,
) -> Result<Option<TooManyFailures>, Failure> {
    let then = job.spec.on_failure.unwrap_or_default();
    let allowed = match &job.spec.max_failures {
        Some(value) => read("maxFailures", value)?.rounded_down(job.targets().len()),
        None => 0,
    };
    let is_over = failed > allowed && then != OnFailure::Continue;
    Ok(is_over.then_some(TooManyFailures { then, allowed }))
}

/// Whether the job was canceled.
pub(super) fn is_canceled(job: &OperationJob) -> bool {
    let status = job.status.as_ref();
    status.is_some_and(|status| status.canceled_time.is_some())
}

fn read(field: &str, value: &IntOrString) -> Result<Amount, Failure> {
    Amount::read(value).ok_or_else(|| {
        let written = written(value);
        let message = format!(
            "spec.{field} must be a number, or a percentage such as \"10%\", not {written}"
        );
        Failure::new(INVALID_SPEC, message)
    })
}
