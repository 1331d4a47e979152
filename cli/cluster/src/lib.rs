//! What `kubectl operon` and its page read from a cluster, and requests that failed, in words that say what to do.
//!
//! Nothing here decides what is shown: objects go to `operon-cli-model`.

mod cluster;
mod failure;

pub use cluster::{Cluster, parsed, timely};
pub use failure::{Failure, Missing, explained};
