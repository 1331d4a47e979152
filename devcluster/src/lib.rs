//! A real Kubernetes control plane on this machine, for demo, tests and measurements.
//!
//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, with RBAC.
//! Nodes are either real (kubelet, containerd and runc; needs root) or simulated (KWOK).
//! Everything a cluster writes is in its state folder in the cache, and ends with [`Cluster::down`].
//! Several clusters run side by side under different names.

mod cache;
mod certificates;
mod cluster;
mod containers;
mod control_plane;
mod debian;
mod forward;
mod image;
mod options;
mod process;
mod progress;
mod proxy;
mod real;
mod record;
mod rootfs;
mod simulated;
mod tools;

use serde::{Deserialize, Serialize};

pub use cache::{Lock, cache_dir, remove};
pub use cluster::{Cluster, Ended};
pub use debian::prometheus;
pub use forward::forward;
pub use image::{ImageConfig, architecture, archive, image_from_rootfs, layout_from_rootfs};
pub use options::Options;
pub use process::{Process, find_program, output_of};
pub use progress::{Progress, last_lines};
pub use real::why_no_real_nodes;
pub use record::{Ports, RealNode, Record, clusters_dir};
pub use rootfs::assemble_rootfs;
pub use tools::{KUBERNETES_VERSION, Tool};

/// What the nodes of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nodes {
    /// One node that runs pods: kubelet, containerd and runc on this machine. Needs root.
    Real,
    /// Node objects whose kubelet KWOK plays: pods become Ready, Jobs complete, nothing runs.
    Simulated,
}

impl Nodes {
    /// Real where this machine can, simulated otherwise; with the reason for the latter.
    pub fn for_this_machine() -> (Self, Option<String>) {
        match why_no_real_nodes() {
            None => (Self::Real, None),
            Some(reason) => (Self::Simulated, Some(reason)),
        }
    }
}

impl std::fmt::Display for Nodes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Real => "real",
            Self::Simulated => "simulated",
        })
    }
}
