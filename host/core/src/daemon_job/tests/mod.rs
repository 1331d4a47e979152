//! Tests of the decisions of one pass, and of passes in a row.

mod chaos;
mod crash;
mod deleted;
mod failures;
mod life;
mod nodes;
mod owned;
mod revisions;
mod scale;
mod taken_over;
mod troubles;
mod waves;
mod world;
