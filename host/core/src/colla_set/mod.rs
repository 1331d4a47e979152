//! CollaSet: the decisions of one reconcile.
//!
//! [`pods`] says which pods belong to the set, [`revision`] which ControllerRevisions it has, [`ids`] which
//! numbers its pods have, and [`context`] where these are kept, [`new_pod`] what a new pod is, [`pair`] which
//! pods replace others, [`scale`] which pods are too many, [`update`] how pods get an edited template, [`room`]
//! what becomes of those whose nodes have no room for it, [`claims`] which PersistentVolumeClaims they mount,
//! [`deletion`] what becomes of the pods of a deleted set, [`decoration`] which PodDecorations are not applied.
//! [`plan`](plan::plan) puts together what is written, and [`conclude`](conclude::conclude) turns what there is
//! afterwards into the next status.
//!
//! A pod is named after how many pods had been created for the set, so a repeated creation finds the pod
//! that exists already, and no name is used twice.

mod claim_template;
mod claim_upkeep;
mod claim_wait;
mod claims;
mod conclude;
mod context;
mod decoration;
mod delay;
mod deletion;
mod driven;
mod edits;
mod ids;
mod in_place;
mod membership;
mod named;
mod new_pod;
mod pair;
mod plan;
mod pods;
mod resources;
mod revision;
mod room;
mod scale;
mod selection;
#[cfg(test)]
mod tests;
mod update;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::ControllerRevision,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    jiff::Timestamp,
};
use operon_api::{CollaSet, PodDecoration, ResourceContext};

pub(crate) use self::selection::texts;
pub use self::{
    claims::may_take,
    driven::Driven,
    pods::{may_adopt, owner_uid},
};

/// What a reconcile sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object.
    pub object: Arc<CollaSet>,
    /// The pods that it owns, and the pods of its namespace that have no controller.
    pub pods: Vec<Arc<Pod>>,
    /// The ControllerRevisions that it owns, and those of its namespace that have no controller.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The PersistentVolumeClaims of claim templates that it owns, and those of its namespace that have no
    /// controller.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Whether the API server changes CPU and memory of a pod that exists.
    pub can_resize: bool,
    /// The ResourceContext that holds the ids of its pods.
    pub context: Option<Arc<ResourceContext>>,
    /// The names of the other CollaSets that have ids in it.
    pub mates: BTreeSet<String>,
    /// The PodDecorations of its namespace.
    pub decorations: Vec<Arc<PodDecoration>>,
    /// The time.
    pub now: Timestamp,
}
