//! The page of `kubectl operon dashboard`: a server on loopback that shows Operon's objects in a browser, read-only.
//!
//! What is shown is what `operon-cli-model` says: the trees and the texts of `kubectl operon get` and `why`. This crate
//! reads objects, writes HTML, and decides who may see it (`gate.rs`).

mod cache;
mod escape;
mod fragment;
mod gate;
mod live;
mod object;
mod overview;
mod part;
mod place;
mod serve;
mod shown;

pub use serve::Page;
