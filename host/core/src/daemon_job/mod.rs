//! DaemonJob: the decisions of one reconcile.
//!
//! [`eligible`] selects the nodes that get a Job, [`memory`] reads what the status remembers of them,
//! [`on_node`] collects their Jobs, [`survey`] determines the state of each node, [`waves`] orders them;
//! [`plan`](plan::plan) decides what is done to Jobs, and [`conclude`](conclude::conclude) turns the
//! resulting state into the next status. Whatever must be remembered is on the Jobs or in the status, so a
//! reconcile can be repeated after any crash.
//!
//! A node is identified by its uid. The name of its Job is derived from what it is created for, so no Job
//! is created twice.

mod awaited;
mod blocked;
mod conclude;
mod driven;
mod eligible;
mod events;
mod failed;
mod job;
mod memory;
mod on_node;
mod plan;
mod rollout;
mod rule;
mod standing;
mod status;
mod survey;
mod template;
#[cfg(test)]
mod tests;
mod tries;
mod trouble;
mod waiting;
mod waves;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use operon_api::DaemonJob;

pub use self::driven::Driven;

/// What a reconcile sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object.
    pub object: Arc<DaemonJob>,
    /// The nodes of the cluster.
    pub nodes: Vec<Arc<Node>>,
    /// The Jobs of its namespace whose label `operon.dev/owner-uid` is its uid.
    pub jobs: Vec<Arc<Job>>,
    /// The pods of those Jobs, by the Job's uid.
    pub pods: HashMap<String, Vec<Arc<Pod>>>,
    /// The pods of its namespace with that label, whether or not their Job still exists.
    pub all_pods: Vec<Arc<Pod>>,
    /// The time, in whole seconds.
    pub now: Timestamp,
}

impl Seen {
    fn observed(&self) -> Observed<'_> {
        let Self {
            object,
            nodes,
            jobs,
            pods,
            all_pods,
            now,
        } = self;
        Observed {
            object,
            nodes,
            jobs,
            pods,
            all_pods,
            now: *now,
        }
    }
}

/// [`Seen`], borrowed.
struct Observed<'a> {
    object: &'a DaemonJob,
    nodes: &'a [Arc<Node>],
    jobs: &'a [Arc<Job>],
    pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    all_pods: &'a [Arc<Pod>],
    now: Timestamp,
}

impl<'a> Observed<'a> {
    /// The pods of a Job.
    fn pods_of(&self, job: &Job) -> &'a [Arc<Pod>] {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        self.pods.get(uid).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The most Jobs that one reconcile creates.
const MAX_STARTS: usize = 500;

/// The reason of a spec that can't be read.
const INVALID_SPEC: &str = "InvalidSpec";
