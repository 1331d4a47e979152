//! Kubernetes Events, sent after the status that they report has been written. An Event that can't be
//! sent is logged; it never fails a reconcile, and a reconcile does not wait for it.
//!
//! The Events of one object are sent in order. An Event with the same content as a recent one increases the
//! count of that Event; another text gives a new Event. What was only counted is written when the series has ended,
//! or the process stops.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use operon_api::keys::EVENT_COMPONENT;
use operon_core::{
    action::Severity,
    event_series::{Recent, Repetition, Sent},
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::apply::within_limit;

/// How many Events are sent at the same time: fewer than effects, which matter more. The Events of one
/// object are always sent one after another.
const LANES: usize = 4;

/// How many Events of one lane wait to be sent before the sender of another waits as well.
const QUEUE: usize = 64;

/// How long the end of the process waits for queued Events.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// The longest text, reason and name that the API server accepts, in bytes; the name leaves room for a
/// unique suffix.
const NOTE: usize = 1024;
const WORD: usize = 128;
const NAME: usize = 220;

/// Sends Events, in the background.
#[derive(Clone)]
pub struct Events {
    lanes: Vec<mpsc::Sender<Queued>>,
}

/// What a lane does, in this order.
enum Queued {
    /// Sends an Event.
    Event(Box<Event>),
    /// Writes all counts, and reports that everything before is sent.
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// Events from this instance of the host (its pod's name).
    pub fn new(client: &Client, instance: Option<&str>) -> Self {
        Self::with_clock(client, instance, Timestamp::now)
    }

    /// The same with so many lanes of this room, for Events whose texts are an action's: those of one reason about
    /// one object are one Event.
    pub(crate) fn of_actions(
        client: &Client,
        instance: Option<&str>,
        lanes: usize,
        room: usize,
    ) -> Self {
        Self::with_lanes((client, instance), (lanes, room), by_reason, Timestamp::now)
    }

    fn with_clock(
        client: &Client,
        instance: Option<&str>,
        now: impl Fn() -> Timestamp + Clone + Send + 'static,
    ) -> Self {
        Self::with_lanes((client, instance), (LANES, QUEUE), key, now)
    }

    fn with_lanes(
        (client, instance): (&Client, Option<&str>),
        (lanes, room): (usize, usize),
        key: fn(&Event) -> String,
        now: impl Fn() -> Timestamp + Clone + Send + 'static,
    ) -> Self {
        let instance = instance.unwrap_or(EVENT_COMPONENT);
        let lane = |_| {
            let (queue, queued) = mpsc::channel(room);
            let lane = Lane {
                client: client.clone(),
                instance: start(instance, WORD).to_owned(),
                recent: Recent::default(),
                key,
                now: now.clone(),
            };
            tokio::spawn(lane.run(queued));
            queue
        };
        Self {
            lanes: (0..lanes).map(lane).collect(),
        }
    }

    /// Waits until the Events that are queued so far are sent, and their counts written, but not for long.
    pub async fn flush(&self) {
        let flushed = self.lanes.iter().map(async |lane| {
            let (sender, flushed) = oneshot::channel();
            if lane.send(Queued::Flush(sender)).await.is_ok() {
                // A lane that ended has nothing to send.
                let _ = flushed.await;
            }
        });
        // A failure is a time that ran out.
        let _ = tokio::time::timeout(FLUSH_LIMIT, join_all(flushed)).await;
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

    /// Sends an Event about the object of `reference`, and a related object.
    pub async fn send_about(
        &self,
        reference: &ObjectReference,
        related: Option<ObjectReference>,
        severity: Severity,
        reason: &str,
        action: &str,
        message: &str,
    ) {
        let event = event(reference, related, severity, reason, action, message);
        if let Some(lane) = self.lane(reference) {
            // The queue ends with the process.
            let _ = lane.send(Queued::Event(Box::new(event))).await;
        }
    }

    /// Sends an Event about the object of `reference` if there is room for it now. Returns whether there is.
    pub(crate) fn offer_about(
        &self,
        reference: &ObjectReference,
        severity: Severity,
        reason: &str,
        action: &str,
        message: &str,
    ) -> bool {
        let event = event(reference, None, severity, reason, action, message);
        let lane = self.lane(reference);
        lane.is_some_and(|lane| lane.try_send(Queued::Event(Box::new(event))).is_ok())
    }

    /// The lane of the Events about this object.
    fn lane(&self, about: &ObjectReference) -> Option<&mpsc::Sender<Queued>> {
        let mut hasher = DefaultHasher::new();
        (&about.uid, &about.name).hash(&mut hasher);
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(1).max(1);
        let lane = usize::try_from(hasher.finish() % lanes).unwrap_or_default();
        self.lanes.get(lane)
    }
}

fn event(
    about: &ObjectReference,
    related: Option<ObjectReference>,
    severity: Severity,
    reason: &str,
    action: &str,
    message: &str,
) -> Event {
    let type_ = match severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    };
    Event {
        type_: Some(type_.to_owned()),
        reason: Some(start(reason, WORD).to_owned()),
        action: Some(start(action, WORD).to_owned()),
        note: Some(note(message)),
        regarding: Some(about.clone()),
        related,
        ..Event::default()
    }
}

/// Sends the Events of some objects, one after another.
struct Lane<N> {
    client: Client,
    instance: String,
    recent: Recent<String>,
    /// What Events of one series have in common.
    key: fn(&Event) -> String,
    now: N,
}

impl<N: Fn() -> Timestamp> Lane<N> {
    async fn run(mut self, mut queued: mpsc::Receiver<Queued>) {
        while let Some(next) = self.next(&mut queued).await {
            let event = match next {
                Queued::Event(event) => event,
                Queued::Flush(flushed) => {
                    let all = self.recent.end();
                    self.count(all).await;
                    // Whoever waited may have gone.
                    let _ = flushed.send(());
                    continue;
                }
            };
            let described = || "an Event".to_owned();
            if let Err(error) = within_limit("send", described, self.publish(&event)).await {
                let about = event.regarding.unwrap_or_default();
                tracing::warn!(
                    kind = about.kind,
                    namespace = about.namespace,
                    name = about.name,
                    reason = event.reason,
                    error = error.chain(),
                    "an Event could not be sent"
                );
            }
        }
    }

    /// What is next in the queue. While there is nothing, the counts of series that end are written.
    async fn next(&mut self, queued: &mut mpsc::Receiver<Queued>) -> Option<Queued> {
        while let Some(end) = self.recent.ends_in((self.now)()) {
            // A time that is over already is no wait.
            let end = Duration::try_from(end).unwrap_or_default();
            if let Ok(next) = tokio::time::timeout(end, queued.recv()).await {
                return next;
            }
            let ended = self.recent.ended((self.now)());
            self.count(ended).await;
        }
        queued.recv().await
    }

    async fn publish(&mut self, event: &Event) -> Result<(), kube::Error> {
        let about = event.regarding.clone().unwrap_or_default();
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let api = Api::namespaced(self.client.clone(), namespace);
        let (key, now) = ((self.key)(event), (self.now)());
        let ended = self.recent.ended(now);
        self.count(ended).await;
        match self.recent.repeated(&key, now) {
            Repetition::None => {}
            Repetition::Counted => return Ok(()),
            Repetition::Due(sent) => match api
                .patch(&sent.name, &PatchParams::default(), &again(&sent))
                .await
            {
                // It is deleted already, as an administrator may do.
                Err(kube::Error::Api(status)) if status.code == 404 => self.recent.forget(&key),
                patched => {
                    patched?;
                    let ended = self.recent.remember(key, sent);
                    self.count(ended).await;
                    return Ok(());
                }
            },
        }
        let event = self.first(event, &about, namespace, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        let sent = Sent {
            namespace: namespace.to_owned(),
            name,
            count: 1,
            last: now,
            written: now,
            is_unwritten: false,
        };
        let ended = self.recent.remember(key, sent);
        self.count(ended).await;
        Ok(())
    }

    /// Writes the counts of series that have ended.
    async fn count(&mut self, ended: impl IntoIterator<Item = Sent>) {
        for sent in ended {
            let api: Api<Event> = Api::namespaced(self.client.clone(), &sent.namespace);
            let (params, patch) = (PatchParams::default(), again(&sent));
            let described = || format!("Event {:?}", sent.name);
            let patched = api.patch(&sent.name, &params, &patch);
            if let Err(error) = within_limit("count up", described, patched).await {
                tracing::debug!(
                    namespace = sent.namespace,
                    name = sent.name,
                    error = error.chain(),
                    "the count of an Event could not be written"
                );
            }
        }
    }

    /// An Event that begins a series.
    fn first(
        &self,
        event: &Event,
        about: &ObjectReference,
        namespace: &str,
        now: Timestamp,
    ) -> Event {
        let name = start(about.name.as_deref().unwrap_or(EVENT_COMPONENT), NAME);
        let name = name.trim_end_matches(['-', '.']);
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(EVENT_COMPONENT.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..event.clone()
        }
    }
}

/// The content of an Event.
fn key(event: &Event) -> String {
    let Event {
        action,
        note,
        reason,
        regarding,
        related,
        type_,
        deprecated_count: _,
        deprecated_first_timestamp: _,
        deprecated_last_timestamp: _,
        deprecated_source: _,
        event_time: _,
        metadata: _,
        reporting_controller: _,
        reporting_instance: _,
        series: _,
    } = event;
    json!([regarding, related, type_, reason, action, note]).to_string()
}

/// What an Event is about, and its reason, whatever its text and the version of the object are.
fn by_reason(event: &Event) -> String {
    let about = event.regarding.clone().unwrap_or_default();
    let ObjectReference {
        kind,
        namespace,
        name,
        uid,
        ..
    } = about;
    let Event {
        action,
        reason,
        type_,
        ..
    } = event;
    json!([kind, namespace, name, uid, type_, reason, action]).to_string()
}

/// What counts an Event up.
fn again(sent: &Sent) -> Patch<serde_json::Value> {
    let series = EventSeries {
        count: sent.count,
        last_observed_time: MicroTime(sent.last),
    };
    Patch::Merge(json!({ "series": series }))
}

/// The beginning of a text, at most this many bytes.
fn start(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn note(message: &str) -> String {
    if message.len() <= NOTE {
        return message.to_owned();
    }
    format!("{}…", start(message, NOTE - '…'.len_utf8()))
}

#[cfg(test)]
mod tests;
