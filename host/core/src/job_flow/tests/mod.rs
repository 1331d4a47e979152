//! Tests of the decisions of one pass, and of passes in a row.

#![expect(
    clippy::needless_pass_by_value,
    reason = "objects are written in place, with json!"
)]

mod cancel;
mod crash;
mod edits;
mod failure;
mod jobs;
mod life;
mod nonsense;
mod outputs;
mod retry;
mod seeds;
mod simulation;
mod suspended;
mod trouble;
mod when;
mod world;
