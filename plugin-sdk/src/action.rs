//! The trait an author implements, and the adapter that puts it behind the generated exports. Every call
//! creates a fresh value of the author's type: nothing is remembered between calls except the state of the
//! cluster and the target's `extra_info`.

use std::marker::PhantomData;

use crate::bindings::exports::operon::action::handler::Guest;
use crate::cluster::HostCluster;
use crate::{ActionError, Cluster, Job, Operation, ProgressReport, Registration, Target};

/// What an `OperationJob` does to one pod.
///
/// # Guarantees
/// The host calls `get_ops_progress` only after `operate_target`, and `release_target` for each target that
/// ends without success.
///
/// # Assumptions
/// All functions are idempotent: they may be called again at any time, in any state of the cluster.
pub trait Action: Default {
    /// Called once when the component is loaded, with the settings of its `ActionPlugin`: returns what to
    /// watch, and which settings are valid. By default nothing is watched and all settings are accepted.
    ///
    /// # Errors
    /// A message with the reason why the component can't be used; the host then refuses it.
    fn setup(&self, settings: &str) -> Result<Registration, String> {
        let _ = settings;
        Ok(Registration::default())
    }

    /// What to do with the target now; called until the target has finished, whenever the target, or an object that a
    /// watch maps to it, has changed, and when `recheck_after` has passed.
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
