//! Tests of the decisions of one reconcile.

mod pods;
mod revisions;
mod scale;
mod set;
mod status;
