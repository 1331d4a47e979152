//! OperationJob: the decisions of one reconcile.
//!
//! [`plan`](plan::plan) decides what each target needs now; the controller calls the action accordingly;
//! [`conclude`](conclude::conclude) turns the answers into the next status. Both see the same [`Observed`],
//! so a reconcile is a function of the world, and can be repeated after any crash.
//!
//! A target is started in two reconciles: the first only records it (progress, time, the pod's uid), the
//! second operates it. So whatever an action did, the status already names the pod.

pub mod availability;
pub mod conclude;
pub mod dry_run;
mod events;
mod extra_info;
mod failures;
pub mod lifecycle;
mod limits;
pub mod parameters;
pub mod plan;
pub mod selection;
mod size;
pub mod status;
mod suspension;
#[cfg(test)]
mod tests;
pub mod turns;

use std::{collections::HashMap, hash::BuildHasher, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};

pub use self::suspension::Suspended;
use self::{lifecycle::Lifecycle, parameters::Parameters};
use crate::action::{Failure, JobState};

/// Everything that a reconcile decides from.
pub struct Observed<'a> {
    /// The job.
    pub job: &'a OperationJob,
    /// The pods that have the name of a target.
    pub pods: &'a dyn TargetPods,
    /// The nodes that are not Ready, by name, each with a sentence about it.
    pub unready_nodes: &'a HashMap<String, String>,
    /// Whether the job's action can be called.
    pub action: &'a ActionState,
    /// That it is set aside because its calls fault.
    pub suspended: Option<&'a Suspended>,
    /// Why no target may start or go on, if the API server does not know all fields of the job.
    pub lacking: Option<&'a Failure>,
    /// Whether it takes part in the PodOpsLifecycle.
    pub lifecycle: Lifecycle,
    /// Whether it accepts the parameters of the job.
    pub parameters: &'a Parameters,
    /// For how long this process has found a job that is being deleted, and that its action could not be loaded.
    pub blocked: Duration,
    /// The clock at the start of the reconcile, in whole seconds.
    pub now: Timestamp,
}

impl Observed<'_> {
    /// The pod with which a target started, if it exists.
    pub fn own_pod(&self, detail: &TargetDetail) -> Option<Arc<Pod>> {
        let uid = detail.pod_uid.as_ref()?;
        let pod = self.pods.get(&detail.name);
        pod.filter(|pod| pod.metadata.uid.as_ref() == Some(uid))
    }
}

/// The pods that have the name of a target, as they are at the start of a reconcile.
///
/// Most targets of a large job wait or are finished. Nothing is decided from their pods but that a pod exists, so a
/// cache need not unpack those pods.
pub trait TargetPods: Sync {
    /// The uid of the pod of this name, if there is one.
    fn uid(&self, name: &str) -> Option<String>;

    /// The pod of this name, if there is one.
    fn get(&self, name: &str) -> Option<Arc<Pod>>;
}

impl<S: BuildHasher + Sync> TargetPods for HashMap<String, Arc<Pod>, S> {
    fn uid(&self, name: &str) -> Option<String> {
        let pod = HashMap::get(self, name)?;
        Some(pod.metadata.uid.clone().unwrap_or_default())
    }

    fn get(&self, name: &str) -> Option<Arc<Pod>> {
        HashMap::get(self, name).cloned()
    }
}

/// Whether an action can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionState {
    /// A component serves it.
    Loaded,
    /// An ActionPlugin claims it, but no component of it could be loaded (yet).
    NotLoaded {
        /// Why, for people.
        message: String,
        /// It could not be loaded; otherwise it is being loaded.
        has_failed: bool,
    },
    /// No ActionPlugin claims it.
    NotFound {
        /// Since when, as far as this process knows: when the last one was deleted, or when the process
        /// started.
        since: Timestamp,
    },
}

impl ActionState {
    /// Whether the action can't be called because its component could not be loaded. While it is being loaded, others
    /// may have their turn.
    pub fn has_failed(&self) -> bool {
        match self {
            Self::NotLoaded {
                has_failed,
                message: _,
            } => *has_failed,
            Self::Loaded | Self::NotFound { .. } => false,
        }
    }
}

/// What another job needs to know of a job that exists.
pub fn job_state(job: &OperationJob) -> JobState {
    let status = job.status.as_ref();
    let is_finished = status
        .and_then(|status| status.progress)
        .is_some_and(Progress::is_finished);
    let mut details = status.into_iter().flat_map(|status| &status.target_details);
    if is_finished && job.metadata.deletion_timestamp.is_none() && !details.any(size::is_under_way)
    {
        JobState::Finished
    } else {
        JobState::Active
    }
}

/// Marks a target that has nothing left to clean up. The key is upstream's.
pub const RELEASED: &str = "Released";

/// The reason of a target that could not be released before its job went.
const RELEASE_ABANDONED: &str = "ReleaseAbandoned";

/// The reason of a target that was not finished when its job was deleted or canceled.
const CANCELED: &str = "Canceled";

/// How long a job waits for an ActionPlugin that does not exist before it fails, counted from when the job
/// was first seen or the ActionPlugin was deleted, whichever is later. It covers an ActionPlugin and a job
/// that are applied together, and an ActionPlugin that is deleted and created again.
pub const ACTION_GRACE: Duration = Duration::from_secs(30);

/// How long a new job waits for a pod that does not exist. It covers a pod and a job created together.
pub const POD_GRACE: Duration = Duration::from_secs(3);

/// How long a deleted job is held since a release of it first failed, and how long for an action that is
/// not loaded.
pub const RELEASE_LIMIT: Duration = Duration::from_mins(1);

/// The rest of `limit` since `start`; none when it has passed.
fn remaining(start: Timestamp, limit: Duration, now: Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(now.duration_since(start)).unwrap_or_default();
    limit.checked_sub(passed).filter(|left| !left.is_zero())
}

/// The sooner of two moments, where none is never.
pub fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
