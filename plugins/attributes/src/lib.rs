//! What the actions Label and Annotate have in common: they change keys with values in the metadata of a pod.
//!
//! A job names keys to set and to remove (`parameters`); those that controllers depend on are refused (`reserved`).
//! The previous values are in the status of the job before the pod is changed (`changed`), so that a release can put
//! them back. All keys are written by one patch. `plan` decides from one snapshot what to do and how far the target is.

mod changed;
mod kind;
mod parameters;
mod plan;
mod reserved;

use std::marker::PhantomData;

use operon_sdk::prelude::*;

pub use changed::{CHANGED, WRITTEN};
pub use kind::{Annotations, Kind, Labels};
pub use parameters::key_schema;

use crate::{changed::Changed, plan::Plan};

/// The action that sets and removes attributes of one kind.
#[derive(Debug)]
pub struct Change<K>(PhantomData<K>);

impl<K: Kind> Action for Change<K> {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self(PhantomData)
    }

    fn setup(&self) -> Result<Registration, String> {
        Ok(Registration::default()
            .parameters(&parameters::schema::<K>())
            .done_in_one_step())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let operation = Operation::of(target);
        Ok(match plan::plan::<K>(target, job)? {
            Plan::Remember(changed) => operation.remember(CHANGED, changed),
            // The host keeps this only if the write succeeded.
            Plan::Write(edit) => operation.patch(*edit).remember(WRITTEN, "true"),
            Plan::Done => operation,
        })
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        match plan::plan::<K>(target, job)? {
            Plan::Done => Ok(ProgressReport::succeeded(target)
                .forget(CHANGED)
                .forget(WRITTEN)),
            Plan::Remember(_) | Plan::Write(_) => {
                let message = format!(
                    "waiting for the {}s of pod {:?} to be written",
                    K::NOUN,
                    target.name
                );
                // The status that has the previous values does not wake the target.
                Ok(ProgressReport::processing(target)
                    .waiting_for("WriteRequested", message)
                    .recheck_after(Duration::from_millis(100)))
            }
        }
    }

    fn release_target(
        &self,
        target: &Target,
        _job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let operation = Operation::of(target).forget(CHANGED).forget(WRITTEN);
        Ok(match Changed::of(target).undo::<K>(target) {
            Some(edit) => operation.patch(edit),
            None => operation,
        })
    }
}
