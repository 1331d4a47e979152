//! PodOpsLifecycle: how an operation takes a pod out of service, acts, and brings it back, so that no
//! request is lost. The protocol is KusionStack's; its labels are kept as they are.
//!
//! [`transition`] moves a pod's labels and its readiness gate, as a pure function of the pod. [`rule`] decides
//! when it may. [`adapter`] has the steps of an operation that takes part. [`labels`] reads the labels of one operation.
//!
//! KusionStack runs the transition in an admission webhook. Here a controller runs it after every change
//! of a pod, so there is no webhook that can be down. Operations stay safe in between: no state that the
//! controller has not seen yet allows one.

pub mod adapter;
pub mod deletion;
pub mod labels;
pub mod pod;
pub mod rule;
pub mod transition;

#[cfg(test)]
mod tests;
