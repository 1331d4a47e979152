//! Tests of the decisions of one pass, and of passes in a row.

mod availability;
mod conclude;
mod deletion;
mod dry_run;
mod extra_info;
mod lifecycle;
mod limits;
mod parameters;
mod passes;
mod plan;
mod pods;
mod release;
mod selection;
mod size;
mod status;
mod suspension;
mod turns;
mod world;
