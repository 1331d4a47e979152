//! The Events of actions, beside those of the host. They have a queue of their own, so no Event of the host waits for
//! them, and no call of an action waits at all: what an action sends too fast, or the queue has no room for, is dropped
//! and counted. Events of one reason about one object are one Event with a count, and the text of the first.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use operon_core::action::Severity;

use crate::{
    events::Events,
    metrics::{DropCause, Metrics},
    restraint::Restraint,
};

/// How many Events of actions are sent at the same time.
const LANES: usize = 2;

/// How many wait in each lane: a burst of two actions.
const QUEUE: usize = 256;

/// Sends the Events of actions, in the background.
#[derive(Clone)]
pub struct ActionEvents {
    events: Events,
    metrics: Metrics,
}

impl ActionEvents {
    /// Events from this instance of the host.
    pub fn new(client: &Client, instance: Option<&str>, metrics: Metrics) -> Self {
        Self {
            events: Events::of_actions(client, instance, LANES, QUEUE),
            metrics,
        }
    }

    /// Sends an Event of this ActionPlugin's action about an object, or drops it.
    pub(crate) fn send(
        &self,
        (plugin, restraint): (&str, &Restraint),
        about: &ObjectReference,
        (severity, reason, message): (Severity, &str, &str),
        action: &str,
    ) {
        let cause = if restraint.takes_event() {
            let queued = self
                .events
                .offer_about(about, severity, reason, action, message);
            (!queued).then_some(DropCause::Queue)
        } else {
            Some(DropCause::Rate)
        };
        if let Some(cause) = cause {
            self.metrics.event_dropped(plugin, cause);
        }
    }

    /// Waits until the Events that are queued so far are sent, but not for long.
    pub async fn flush(&self) {
        self.events.flush().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::{self, eventually};

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        }
    }

    fn dropped(registry: &Registry, cause: &str) -> usize {
        let mut text = String::new();
        encode(&mut text, registry).expect("metrics");
        let name =
            format!("operon_action_events_dropped_total{{plugin=\"act\",cause=\"{cause}\"}} ");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&name));
        lines.filter_map(|count| count.parse::<usize>().ok()).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn events_beyond_the_rate_are_dropped_and_counted() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let client = fake::client(|_| None);
        let events = ActionEvents::new(&client, None, metrics);
        let (flooding, decent) = (Restraint::default(), Restraint::default());
        let event = (Severity::Normal, "Again", "and again");
        for number in 0..300 {
            events.send(
                ("act", &flooding),
                &about(&number.to_string()),
                event,
                "Act",
            );
        }
        assert_eq!(dropped(&registry, "rate"), 100);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        for _ in 0..30 {
            events.send(("act", &flooding), &about("web"), event, "Act");
        }
        assert_eq!(dropped(&registry, "rate"), 110);
        // The API server answers nothing, so the queue is full at some time, and no call waits for it.
        for number in 0..1000 {
            let one = Restraint::default();
            events.send(("act", &one), &about(&number.to_string()), event, "Act");
        }
        assert!(dropped(&registry, "queue") > 500);
        events.send(("other", &decent), &about("web"), event, "Act");
        assert_eq!(dropped(&registry, "rate"), 110);
    }

    #[tokio::test]
    async fn an_event_of_the_host_does_not_wait_for_those_of_actions() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&sent);
        let client = fake::client(move |request| {
            let body: Value = serde_json::from_str(request.body()).unwrap_or_default();
            let reason = body["reason"].as_str().unwrap_or_default().to_owned();
            let is_host = reason == "OfTheHost";
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.push(reason);
            let event = json!({"metadata": {"name": "e"}, "eventTime": null});
            is_host.then(|| fake::answer(200, &event))
        });
        let metrics = Metrics::register(&mut Registry::default());
        let of_actions = ActionEvents::new(&client, None, metrics);
        let of_host = Events::new(&client, None);
        for number in 0..500 {
            let event = (Severity::Warning, "OfAnAction", "flood");
            let restraint = Restraint::default();
            of_actions.send(
                ("act", &restraint),
                &about(&number.to_string()),
                event,
                "Act",
            );
        }
        let (severity, reason) = (Severity::Normal, "OfTheHost");
        of_host
            .send_about(&about("0"), None, severity, reason, "Act", "done")
            .await;
        eventually("the host's Event is sent", || {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.iter().any(|reason| reason == "OfTheHost")
        })
        .await;
    }

    #[tokio::test]
    async fn events_of_one_reason_about_one_object_are_one_event_with_the_first_text() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&sent);
        let client = fake::client(move |request| {
            let body: Value = serde_json::from_str(request.body()).unwrap_or_default();
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.push(format!("{} {}", body["note"], body["series"]["count"]));
            let event = json!({"metadata": {"name": "e"}, "eventTime": null});
            Some(fake::answer(200, &event))
        });
        let metrics = Metrics::register(&mut Registry::default());
        let events = ActionEvents::new(&client, None, metrics);
        let restraint = Restraint::default();
        for number in 0..50 {
            let mut about = about("web");
            about.resource_version = Some(number.to_string());
            let text = format!("attempt {number}");
            let event = (Severity::Normal, "Tried", text.as_str());
            events.send(("act", &restraint), &about, event, "Act");
        }
        events.flush().await;
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(sent, ["\"attempt 0\" null", "null 50"]);
    }
}
