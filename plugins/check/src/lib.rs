//! The action Check: waits until the pod of a target has a condition, a label or a container in a state, as the
//! parameters of the job say. It changes nothing.
//!
//! `parameters` has what a job can wait for, and `missing` what a pod lacks of it. A change of the pod wakes the target.

mod missing;
mod parameters;

use operon_sdk::prelude::*;

use crate::{missing::Missing, parameters::Parameters};

/// The action.
#[derive(Debug)]
pub struct Check;

/// How far a target is.
enum Outcome {
    /// The pod is as the job wants it.
    Done,
    /// It is not yet.
    Wait(Failure),
    /// It never will be.
    Fail(Failure),
}

impl Action for Check {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self
    }

    fn setup(&self) -> Result<Registration, String> {
        Ok(Registration::default()
            .parameters(&parameters::schema())
            .done_in_one_step())
    }

    fn operate_target(
        &self,
        target: &Target,
        _job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        Ok(Operation::of(target))
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        Ok(match outcome(target, job, cluster)? {
            Outcome::Done => ProgressReport::succeeded(target),
            Outcome::Fail(failure) => ProgressReport::failed(target, failure),
            Outcome::Wait(Failure { reason, message }) => {
                ProgressReport::processing(target).waiting_for(&reason, message)
            }
        })
    }
}

/// Decides about a target.
///
/// Errors: the parameters or the pod cannot be read.
fn outcome(target: &Target, job: &Job, cluster: &dyn Cluster) -> Result<Outcome, ActionError> {
    let wanted: Parameters = job.parameters()?;
    let Some(pod) = &target.pod else {
        let message = format!(
            "pod {:?} was deleted before it was as the job wants it",
            target.name
        );
        return Ok(Outcome::Fail(Failure::new("PodNotFound", message)));
    };
    let missing = missing::missing(pod, &wanted, cluster)?;
    let mut reason = None;
    let mut messages = Vec::new();
    for one in missing {
        let failure = match one {
            Missing::Never(failure) => return Ok(Outcome::Fail(failure)),
            Missing::WhileItRuns(failure) if pod.ended() => {
                return Ok(Outcome::Fail(ended(pod, &failure)));
            }
            Missing::WhileItRuns(failure) | Missing::Later(failure) => failure,
        };
        reason.get_or_insert(failure.reason);
        messages.push(failure.message);
    }
    let Some(reason) = reason else {
        return Ok(Outcome::Done);
    };
    let deleting = if pod.deleting {
        "; the pod is being deleted"
    } else {
        ""
    };
    let message = format!("waiting: {}{deleting}", messages.join("; "));
    Ok(Outcome::Wait(Failure::new(&reason, message)))
}

/// The failure of a target with a pod that has ended.
fn ended(pod: &Pod, missing: &Failure) -> Failure {
    let message = format!(
        "pod {:?} has ended ({}): {}",
        pod.name, pod.phase, missing.message
    );
    Failure::new("PodEnded", message)
}

operon_sdk::register!(Check);
