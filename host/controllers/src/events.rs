//! Kubernetes Events, sent after the status that they tell of has been written. An Event that can't be
//! sent is logged; it never fails a pass, and a pass does not wait for it.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use operon_api::keys::EVENT_COMPONENT;
use operon_core::action::Severity;
use tokio::sync::mpsc;

/// How many Events wait to be sent before whoever has another waits as well.
const QUEUE: usize = 256;

/// How many are sent at once: fewer than there are effects under way, which matter more.
const AT_ONCE: usize = 4;

/// How long the end of the process waits for what is queued.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Sends Events, in the background.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl Events {
    /// Events from this instance of the host (its pod's name).
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: EVENT_COMPONENT.to_owned(),
            instance,
        };
        let recorder = Recorder::new(client, reporter);
        let (queue, queued) = mpsc::channel(QUEUE);
        tokio::spawn(publish_all(recorder, queued));
        Self { queue }
    }

    /// Waits until what was queued before is under way, but not for long.
    pub async fn flush(&self) {
        // Every place of the queue is free then. A failure is a time that ran out.
        let _ = tokio::time::timeout(FLUSH_LIMIT, self.queue.reserve_many(QUEUE)).await;
    }

    /// Sends an Event about an object.
    pub async fn send<K>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        action: &str,
        message: &str,
    ) where
        K: Resource<DynamicType = ()>,
    {
        let reference = object.object_ref(&());
        self.send_about(&reference, None, severity, reason, action, message)
            .await;
    }

    /// Sends an Event about whatever `reference` names, and another object that it has to do with.
    pub async fn send_about(
        &self,
        reference: &ObjectReference,
        related: Option<ObjectReference>,
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
            secondary: related,
        };
        // The queue ends with the process.
        let _ = self.queue.send((event, reference.clone())).await;
    }
}

async fn publish_all(recorder: Recorder, queued: mpsc::Receiver<(Event, ObjectReference)>) {
    let events = stream::unfold(queued, |mut queued| async {
        let next = queued.recv().await?;
        Some((next, queued))
    });
    let recorder = &recorder;
    events
        .for_each_concurrent(AT_ONCE, |(event, reference)| async move {
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::warn!(
                    reason = event.reason,
                    object = reference.name.as_deref().unwrap_or_default(),
                    error = %error,
                    "an Event could not be sent"
                );
            }
        })
        .await;
}
