//! JobFlow and JobTemplate: the decisions of one reconcile.
//!
//! [`FlowGraph`](graph::FlowGraph) is a validated spec, [`plan`](plan::plan) decides which Jobs are
//! created, deleted and changed, [`conclude`](conclude::conclude) turns the resulting state into the next
//! status. Whatever must be remembered is in the status, so a reconcile can be repeated after any crash.
//!
//! There are never two Jobs for one attempt of a step: the name of a Job is derived from both, so creating
//! it again gives the same name.

mod advance;
mod assess;
mod conclude;
mod driven;
mod events;
pub mod graph;
mod make;
mod memory;
mod outputs;
mod plan;
mod refused;
mod status;
mod step_jobs;
pub mod template;
#[cfg(test)]
mod tests;
mod turn;
mod when;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use operon_api::{JobFlow, JobTemplate};

pub use self::driven::Driven;
use self::graph::{FlowGraph, GraphError};

/// What a reconcile sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The flow.
    pub flow: Arc<JobFlow>,
    /// The graph of this flow, or why it has none.
    graph: Arc<Result<FlowGraph, GraphError>>,
    /// The state around the flow.
    around: Around,
}

/// The state around a flow.
#[derive(Clone, Debug)]
pub struct Around {
    /// The Jobs of its namespace whose label [`OWNER_UID`](operon_api::keys::OWNER_UID) is its uid.
    pub jobs: Vec<Arc<Job>>,
    /// The JobTemplates of its namespace that it refers to, by name; those that exist.
    pub templates: HashMap<String, Arc<JobTemplate>>,
    /// The pods of those Jobs, and of the Jobs that its status names, by the Job's uid.
    pub pods: HashMap<String, Vec<Arc<Pod>>>,
    /// The time, in whole seconds.
    pub now: Timestamp,
}

impl Seen {
    /// A flow, and the state around it.
    pub fn new(flow: Arc<JobFlow>, around: Around) -> Self {
        let graph = Arc::new(FlowGraph::new(&flow.spec));
        Self {
            flow,
            graph,
            around,
        }
    }

    /// The same version of the flow, and the present state around it.
    #[must_use]
    pub fn again(self, around: Around) -> Self {
        Self { around, ..self }
    }

    fn observed(&self) -> Observed<'_> {
        let Self {
            flow,
            graph,
            around,
        } = self;
        let Around {
            jobs,
            templates,
            pods,
            now,
        } = around;
        Observed {
            flow,
            graph,
            jobs,
            templates,
            pods,
            now: *now,
        }
    }
}

/// [`Seen`], borrowed. Flow and graph are of one spec.
struct Observed<'a> {
    flow: &'a JobFlow,
    graph: &'a Result<FlowGraph, GraphError>,
    jobs: &'a [Arc<Job>],
    templates: &'a HashMap<String, Arc<JobTemplate>>,
    pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
}
