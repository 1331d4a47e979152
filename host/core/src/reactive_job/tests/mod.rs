//! Tests of the decisions of one pass, and of passes in a row.

mod changes;
mod concurrency;
mod crash;
mod deletion;
mod failures;
mod history;
mod life;
mod lost;
mod pod_template;
mod restore;
mod retry;
mod same;
mod simulation;
mod stalled;
mod standing;
mod takeover;
mod triggers;
mod world;
