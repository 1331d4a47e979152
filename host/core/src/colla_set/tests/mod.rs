//! Tests of the decisions of one reconcile.

mod pairs;
mod pods;
mod revisions;
mod scale;
mod set;
mod status;
