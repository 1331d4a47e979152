//! The decisions of Operon: pure functions from the observation to the actions.
//!
//! Nothing here holds a client, reads a clock or does I/O; `now` is an argument. Only [`driver`] is async,
//! over a port that does the I/O, and [`shares`], where others wait. One folder per kind. The traits of [`action`]
//! connect the neighbouring layers: the plugin runtime implements [`action::Action`] and [`action::ActionLoader`], the
//! controllers [`action::ClusterView`].

pub mod action;
pub mod action_plugin;
mod amount;
pub mod colla_set;
pub mod daemon_job;
pub mod driver;
pub mod event_series;
pub mod freshness;
pub mod job_flow;
pub mod jobs;
pub mod namespaces;
pub mod node;
pub mod operation_job;
pub mod outage;
pub mod pod_lifecycle;
mod quantity;
pub mod rate;
pub mod reactive_job;
pub mod selector;
pub mod shares;
pub mod stand_down;
mod words;
