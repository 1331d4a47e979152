//! What the author of an action depends on: the trait [`Action`], the macro [`register!`], and a fake
//! cluster to play stories on in native tests ([`testing`]).
//!
//! An action gets data and answers with data. It never writes to Kubernetes: it returns effects, which the
//! host performs with the rights of the action's own `ServiceAccount`. The shapes are those of
//! `wit/action.wit`; this crate adds accessors and builders to them.

mod action;
#[doc(hidden)]
pub mod bindings;
mod cluster;
pub mod log;
mod operation;
mod owner;
pub mod patch;
mod pod;
mod registration;
mod target;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod time;

pub use action::Action;
#[doc(hidden)]
pub use action::Adapter;
pub use bindings::operon::action::cluster::{JobState, ReadError};
pub use bindings::operon::action::types::{
    ActionError, Attributes, Condition, Container, ContainerKind, ContainerPhase, Delete, Effect,
    Event, Evict, Failure, Job, Mapping, ObjectReference, Operation, OwnerReference, Patch,
    PatchKind, Pod, PodLimit, Progress, ProgressReport, Registration, Requirement, Severity,
    Target, Traits, Unfinished, Watch,
};
pub use cluster::Cluster;
pub use patch::MetadataEdit;
pub use registration::{ActionSettings, NoSettings, settings};
pub use serde_json::{Value, json};

/// What nearly every action needs: `use operon_sdk::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{
        Action, ActionError, ActionSettings, Cluster, Effect, Failure, Job, Mapping, NoSettings,
        Operation, Pod, Progress, ProgressReport, Registration, Target, Value, Watch, json, log,
        patch,
    };
}

/// Exports the crate's component as an action: `operon_sdk::register!(MyAction);`, once, at the top level.
///
/// Natively it expands to nothing, so the same crate is tested with a plain `cargo test`.
#[macro_export]
macro_rules! register {
    ($action:ty) => {
        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        type OperonRegisteredAction = $crate::Adapter<$action>;
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_action!(OperonRegisteredAction with_types_in $crate::bindings);
    };
}

/// The README's code is compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
