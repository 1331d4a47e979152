//! What the stories run with: a [`World`](world::World) of their own (a namespace, named after the
//! test), builders for what they put into it, and `eventually` instead of sleeping.
//!
//! The stories themselves are in `tests/stories`, one file per subject. They run against a cluster in which
//! Operon is installed; `cargo xtask test` makes one and says where it is (see [`environment`]).
//! Nothing here knows how the host does what it does: stories look at the world only.

#![expect(clippy::panic, reason = "a story that can't go on says why and ends")]
#![expect(
    clippy::missing_panics_doc,
    reason = "everything in a harness of tests panics when it fails"
)]

pub mod colla_set;
pub mod daemon_job;
pub mod endpoints;
pub mod environment;
pub mod host;
pub mod job;
pub mod job_flow;
pub mod kubectl;
pub mod plugin;
pub mod pods;
pub mod reactive_job;
pub mod registry;
pub mod release;
pub mod traffic;
pub mod user;
pub mod workload;
pub mod world;

/// What nearly every story needs.
pub mod prelude {
    pub use std::time::Duration;

    pub use anyhow::{Context as _, Result, bail, ensure};
    pub use k8s_openapi::api::core::v1::Pod;
    pub use kube::ResourceExt as _;
    pub use operon_api::{OperationJob, operation_job::Progress};
    pub use serde_json::json;

    pub use crate::{
        job::{self, Job},
        pods::{self, PodExt as _, names},
        workload::{Deployment, GATE},
        world::{World, story},
    };
}
