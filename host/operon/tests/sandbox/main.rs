//! What a component can reach beside its own memory: nothing. Core modules written by hand, which no compiler would
//! make, stand in an action like any other. Each ends in an error within its limits, and the next call works.

#[path = "../support/mod.rs"]
mod support;

mod attempts;
mod canary;
mod crafted;
mod memory;
mod traps;
mod values;
