//! Kubernetes Events, sent after the status that they tell of has been written. An Event that can't be
//! sent is logged; it never fails a pass.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use operon_api::keys::EVENT_COMPONENT;
use operon_core::action::Severity;

/// Sends Events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events from this instance of the host (its pod's name).
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: EVENT_COMPONENT.to_owned(), instance };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Sends an Event about an object.
    pub async fn send<K>(&self, object: &K, severity: Severity, reason: &str, action: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.send_about(&object.object_ref(&()), severity, reason, action, message).await;
    }

    /// Sends an Event about whatever `reference` names.
    pub async fn send_about(
        &self,
        reference: &ObjectReference,
        severity: Severity,
        reason: &str,
        action: &str,
        message: &str,
    ) {
        let event = Event {
            type_: match severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            note: Some(message.chars().take(1000).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, reference).await {
            tracing::warn!(
                reason,
                object = reference.name.as_deref().unwrap_or_default(),
                error = %error,
                "an Event could not be sent"
            );
        }
    }
}
