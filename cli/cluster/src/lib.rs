//! What `kubectl operon` and its page read from a cluster and write to it, and requests that failed, in words that say
//! what to do.
//!
//! Nothing here decides what is shown or written: `operon-cli-model` does.

mod access;
mod cluster;
mod failure;
mod write;

pub use access::Access;
pub use cluster::{Cluster, parsed, timely};
pub use failure::{Failure, Missing, explained};
pub use write::{Unwritten, create, name, perform};
