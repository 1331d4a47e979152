//! ReactiveJob: the decisions of one reconcile.
//!
//! [`family`](family::family) finds the Jobs that this object owns, [`plan`](plan::plan) decides what is
//! done to them and whether a new one runs, [`conclude`](conclude::conclude) turns the resulting state into
//! the next status. Whatever must be remembered is on the Jobs or in the status, so a reconcile can be
//! repeated after any crash.
//!
//! There are never two Jobs for one change: the name of a Job is derived from the previous Job and from
//! what it is created for, so creating it again gives the same name.

mod adjust;
mod again;
mod changes;
mod conclude;
pub mod config;
mod driven;
pub mod family;
mod job;
mod plan;
pub(crate) mod sap_hash;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use operon_api::ReactiveJob;

pub use self::{driven::Driven, template::Hashes};

/// What a reconcile sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object.
    pub object: Arc<ReactiveJob>,
    /// The Jobs of its namespace that have its name on them, with its uid or one that no ReactiveJob has.
    pub jobs: Vec<Arc<Job>>,
    /// The pods of those Jobs, and of the Job that the status names, by the Job's uid.
    pub pods: HashMap<String, Vec<Arc<Pod>>>,
    /// The hashes of `spec.jobTemplate`.
    pub template: Hashes,
    /// The ConfigMaps and Secrets that the template refers to.
    pub config: ConfigState,
    /// The time, in whole seconds.
    pub now: Timestamp,
}

impl Seen {
    fn observed(&self) -> Observed<'_> {
        let Self {
            object,
            jobs,
            pods,
            template,
            config,
            now,
        } = self;
        Observed {
            object,
            jobs,
            pods,
            template,
            config,
            now: *now,
        }
    }
}

/// [`Seen`], borrowed.
struct Observed<'a> {
    object: &'a ReactiveJob,
    jobs: &'a [Arc<Job>],
    pods: &'a HashMap<String, Vec<Arc<Pod>>>,
    template: &'a Hashes,
    config: &'a ConfigState,
    now: Timestamp,
}

/// What is known of the ConfigMaps and Secrets that `spec.triggers` selects. Empty if it selects none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigState {
    /// Each as `ConfigMap/name`, with a digest of its content, or `absent`; those that can be watched.
    pub known: BTreeMap<String, String>,
    /// The digests that older versions of Operon wrote of the present content of Secrets, without a key.
    pub unkeyed: BTreeMap<String, String>,
    /// Whether more will be known in a moment: a first list is not complete.
    pub is_listing: bool,
    /// Which kinds can't be watched and why: a sentence each.
    pub unwatched: Vec<String>,
}

/// How long ConfigMaps must have stayed the same, unless `spec.triggers.debounceSeconds` is set.
pub const DEBOUNCE: Duration = Duration::from_secs(10);
