//! Tests of the decisions of one reconcile.

mod by_label;
mod claims;
mod decoration;
mod deletion;
mod ids;
mod in_place;
mod named;
mod names;
mod pairs;
mod pods;
mod pools;
mod resources;
mod revisions;
mod scale;
mod set;
mod status;
mod taken_over;
mod update;
