//! The action Restart: the containers of a target are restarted one after the other, and the pod stays.
//!
//! The kubelet restarts a container alone when its image changes. So the image is changed to another reference
//! of the digest that already runs (`image`), and the pod keeps what it was (`mark`). A container has restarted
//! when another instance of it is ready. `plan` decides from one snapshot what to do and how far the target is.

pub mod image;
pub mod mark;
pub mod plan;

use operon_sdk::prelude::*;

use crate::plan::{ANOTHER_IMAGE, Plan};

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
            Plan::Wait(..) | Plan::WaitForImage(..) | Plan::Done => Ok(Operation::of(target)),
        }
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let report = ProgressReport::processing(target).forget(ANOTHER_IMAGE);
        let waiting_for = |failure: Failure| report.waiting_for(&failure.reason, failure.message);
        Ok(match plan::plan(target, job, cluster)? {
            Plan::Done => ProgressReport::succeeded(target).forget(ANOTHER_IMAGE),
            Plan::Fail(failure) => ProgressReport::failed(target, failure),
            Plan::Restart(restart) => waiting_for(restart.waits),
            Plan::Wait(failure, None) => waiting_for(failure),
            Plan::Wait(failure, Some(after)) => waiting_for(failure).recheck_after(after),
            Plan::WaitForImage(failure, since, left) => waiting_for(failure)
                .remember(ANOTHER_IMAGE, since.to_string())
                .recheck_after(left),
        })
    }
}

operon_sdk::register!(Restart);
