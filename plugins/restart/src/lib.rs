//! The action Restart: the containers of a target are restarted one after the other, and the pod stays.
//!
//! The kubelet restarts a container alone when its image changes. So the image is changed to another reference
//! of the digest that already runs (`image`), and the pod keeps what it was (`mark`). A container has restarted
//! when another instance of it is ready. `plan` decides from one snapshot what to do and how far the target is.

pub mod image;
pub mod mark;
pub mod plan;

use operon_sdk::prelude::*;

use crate::plan::Plan;

/// The action.
#[derive(Debug)]
pub struct Restart;

impl Action for Restart {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        match plan::plan(target, job, cluster)? {
            Plan::Restart(restart) => Ok(Operation::of(target)
                .patch(restart.patch)
                .event("RestartContainer", restart.event)),
            Plan::Fail(failure) => Err(ActionError::Terminal(failure)),
            Plan::Wait(..) | Plan::Done => Ok(Operation::of(target)),
        }
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let (failure, again) = match plan::plan(target, job, cluster)? {
            Plan::Done => return Ok(ProgressReport::succeeded(target)),
            Plan::Fail(failure) => return Ok(ProgressReport::failed(target, failure)),
            Plan::Restart(restart) => (restart.waits, None),
            Plan::Wait(failure, again) => (failure, again),
        };
        let report =
            ProgressReport::processing(target).waiting_for(&failure.reason, failure.message);
        Ok(match again {
            Some(after) => report.recheck_after(after),
            None => report,
        })
    }
}

operon_sdk::register!(Restart);
