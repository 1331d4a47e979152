//! The page of `kubectl operon dashboard`: a server on loopback that shows Operon's objects in a browser,
//! and steers them.
//!
//! What is shown is what `operon-cli-model` says: the trees and the texts of `kubectl operon get` and `why`. This crate
//! reads objects, writes HTML, and decides who may see it (`gate.rs`). A verb is written by `operon-cli-cluster`, after the
//! user has confirmed it (`confirm.rs`).

mod cache;
mod confirm;
mod escape;
mod fragment;
mod gate;
mod intent;
mod ledger;
mod live;
mod object;
mod offer;
mod overview;
mod part;
mod place;
mod rights;
mod serve;
mod shown;

pub use serve::Page;
