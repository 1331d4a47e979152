//! The reconcilers of Operon: observe the stores, let the core decide, apply its plan, write the status.
//!
//! What all controllers share is written once: [`store`] (caches that see their own writes), [`apply`]
//! (the only writer of objects), [`status`] (the only writer of statuses), [`events`], [`error`] and
//! [`run`] (the queue, retries, metrics). A controller is one file of steps on top of them.

mod access;
pub mod action_events;
pub mod action_plugin;
pub mod apply;
pub mod ask;
pub mod book;
mod call;
pub mod catalogue;
pub mod colla_set;
pub mod config;
pub mod daemon_job;
mod digests;
pub mod driven;
pub mod effects;
pub mod error;
pub mod events;
pub mod existing_jobs;
#[cfg(test)]
mod fake;
pub mod fault;
pub mod health;
pub mod index;
pub mod job_flow;
pub mod job_template;
pub mod jobs;
pub mod left_behind;
pub mod metrics;
pub mod operation_job;
pub mod orphaned_job;
pub mod owner_triggers;
pub mod plugin_watch;
pub mod pod_ops_lifecycle;
pub mod pod_transition_rule;
pub mod pod_writer;
pub mod reactive_job;
mod reads;
mod recent;
pub mod report;
pub mod restraint;
pub mod run;
pub mod served_fields;
pub mod served_namespaces;
#[cfg(test)]
mod simulation;
pub mod stand_down;
pub mod status;
pub mod store;
mod target_index;
pub mod triggers;
pub mod unready_nodes;
pub mod view;
