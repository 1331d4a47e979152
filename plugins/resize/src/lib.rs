//! The action Resize: CPU and memory of a pod's containers are changed in place, by the subresource `resize`.
//!
//! What the spec had is in the status before the first write (`record`). `plan` decides from one snapshot what to do
//! and how far the target is: the kubelet says in the status of the pod what the containers have (`seen`). `release`
//! puts back the others.

pub mod amounts;
pub mod parameters;
pub mod plan;
pub mod quantity;
pub mod record;
pub mod release;
pub mod seen;

use operon_sdk::prelude::*;

use crate::{
    parameters::Parameters,
    plan::Plan,
    record::{UNREPORTED, WRITTEN},
};

/// How soon the resources are written after the status remembers the previous ones.
const SOON: Duration = Duration::from_millis(100);

/// The action.
#[derive(Debug)]
pub struct Resize;

impl Action for Resize {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self
    }

    fn setup(&self) -> Result<Registration, String> {
        Ok(Registration::default()
            .parameters(&Parameters::schema())
            .done_in_one_step())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let operation = Operation::of(target);
        Ok(match plan::plan(target, job, cluster)? {
            Plan::Remember(record) => record.remembered(operation),
            Plan::Write(write) => operation
                .patch(write.patch)
                .event("ResizePod", write.event)
                .remember(WRITTEN, write.generation.to_string()),
            Plan::Wait(_) | Plan::Compare(..) | Plan::Done | Plan::Fail(_) => operation,
        })
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let report = ProgressReport::processing(target);
        Ok(match plan::plan(target, job, cluster)? {
            Plan::Done => ProgressReport::succeeded(target),
            Plan::Fail(failure) => ProgressReport::failed(target, failure),
            Plan::Remember(_) | Plan::Write(_) => {
                let message = format!("waiting for pod {:?} to be written", target.name);
                report
                    .waiting_for("ResizeRequested", message)
                    .recheck_after(SOON)
            }
            Plan::Wait(failure) => report
                .waiting_for(&failure.reason, failure.message)
                .forget(UNREPORTED),
            Plan::Compare(failure, left) => {
                let since = target.extra(UNREPORTED).map(str::to_owned);
                report
                    .waiting_for(&failure.reason, failure.message)
                    .remember(UNREPORTED, since.unwrap_or_else(|| job.now.to_string()))
                    .recheck_after(left)
            }
        })
    }

    fn release_target(
        &self,
        target: &Target,
        _job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let operation = Operation::of(target);
        Ok(match release::patch(target, cluster)? {
            Some(patch) => operation.patch(patch).event(
                "ResizeUndone",
                "putting back the resources of the containers that did not get the new ones",
            ),
            None => operation,
        })
    }
}

operon_sdk::register!(Resize);
