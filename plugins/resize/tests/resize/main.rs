//! Resizes in a world with a kubelet.

mod common;
mod release;
mod schema;
mod story;
