//! JobFlow and JobTemplate: the decisions of one pass.
//!
//! [`FlowGraph`](graph::FlowGraph) is a spec that makes sense, [`plan`](plan::plan) says which Jobs are
//! made, deleted and changed, [`conclude`](conclude::conclude) turns what there is afterwards into the
//! next status. What must be remembered is in the status, so a pass can be repeated after any crash.
//!
//! There are never two Jobs for one attempt of a step: the name of a Job is derived from both, so whoever
//! makes it again makes the same.

mod advance;
mod assess;
pub mod conclude;
mod events;
pub mod graph;
mod make;
mod memory;
mod outputs;
pub mod plan;
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

use self::graph::{FlowGraph, GraphError};
pub use self::make::claim;

/// Everything that a pass decides from.
pub struct Observed<'a> {
    /// The flow.
    pub flow: &'a JobFlow,
    /// Its graph, or why it has none: it is made once for both halves of a pass.
    pub graph: &'a Result<FlowGraph, GraphError>,
    /// The Jobs of its namespace whose label [`OWNER_UID`](operon_api::keys::OWNER_UID) is its uid.
    pub jobs: &'a [Arc<Job>],
    /// The JobTemplates of its namespace that it refers to, by name; those that there are.
    pub templates: &'a HashMap<String, Arc<JobTemplate>>,
    /// The pods of those Jobs, and of the Jobs that its status names, by the Job's uid.
    pub pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    /// The clock at the start of the pass, in whole seconds.
    pub now: Timestamp,
}
