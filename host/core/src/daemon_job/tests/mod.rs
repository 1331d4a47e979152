//! Tests of the decisions of one pass, and of passes in a row.

mod crash;
mod dead_node;
mod deleted;
mod failures;
mod life;
mod nodes;
mod owned;
mod revisions;
mod scale;
mod simulation;
mod suspended;
mod taken_over;
mod troubles;
mod unavailable;
mod waves;
mod world;
