//! The trait an author implements, and the adapter that puts it behind the generated exports.
//! Every call makes a fresh value of the author's type: nothing is remembered between calls but what
//! is in the cluster and in the target's `extra_info`.

use std::marker::PhantomData;

use crate::bindings::exports::operon::action::handler::Guest;
use crate::cluster::HostCluster;
use crate::{ActionError, Cluster, Job, Operation, ProgressReport, Registration, Target};

/// What an `OperationJob` does to one pod.
///
/// # Guarantees
/// The host asks `get_ops_progress` only after `operate_target`, and `release_target` once for each
/// target that ends otherwise than succeeded.
///
/// # Assumptions
/// All functions are idempotent: they may be asked again at any time, whatever the cluster looks
/// like by then.
pub trait Action: Default {
    /// Asked once when the component is loaded, with the settings of its `ActionPlugin`: what to watch
    /// and which settings are right. By default nothing is watched and all settings are taken.
    ///
    /// # Errors
    /// A sentence that says why the component can't be used; the host then refuses it.
    fn setup(&self, settings: &str) -> Result<Registration, String> {
        let _ = settings;
        Ok(Registration::default())
    }

    /// What to do with the target now; asked in every pass until the target is finished.
    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError>;

    /// How far the target is.
    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError>;

    /// What to undo of a target that failed or was cancelled, wherever its story stopped. By default
    /// nothing.
    fn release_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let _ = (job, cluster);
        Ok(Operation::of(target))
    }
}

/// Joins an [`Action`] to the generated exports; only [`register!`](crate::register) names it.
#[derive(Debug)]
pub struct Adapter<A>(PhantomData<A>);

impl<A: Action> Guest for Adapter<A> {
    fn setup(settings: String) -> Result<Registration, String> {
        A::default().setup(&settings)
    }

    fn operate_target(target: Target, job: Job) -> Result<Operation, ActionError> {
        A::default().operate_target(&target, &job, &HostCluster)
    }

    fn get_ops_progress(target: Target, job: Job) -> Result<ProgressReport, ActionError> {
        A::default().get_ops_progress(&target, &job, &HostCluster)
    }

    fn release_target(target: Target, job: Job) -> Result<Operation, ActionError> {
        A::default().release_target(&target, &job, &HostCluster)
    }
}
