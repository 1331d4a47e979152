//! Reads from the API server what the caches do not hold: the end of a log, the last Event about an
//! object.

use std::time::Duration;

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Event, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, LogParams},
};
use operon_core::{
    action::Failure,
    driver::{Asked, LogSource, Question},
};

use crate::{
    apply::{describe, within_limit},
    error::Error,
    recent::Recent,
};

/// How much of a log is read: enough for the lines that are kept.
const LOG_LINES: i64 = 64;
const LOG_BYTES: i64 = 64 * 1024;

/// How long the last Event about an object is not read again, or the lack of it, once it has been read. It explains a
/// state that lasts, and the object is reconciled for other reasons too.
const EVENT_LASTS: Duration = Duration::from_secs(55);

/// Reads what explains the state of objects.
pub struct Questions {
    client: Client,
    /// By the uid of the object that an Event is about.
    events: Recent<String, Asked>,
}

impl Questions {
    /// Those to this API server.
    pub fn to(client: Client) -> Self {
        Self {
            client,
            events: Recent::default(),
        }
    }

    /// Reads the log or the Events of what an object owns. Unavailable parts are left out, because they only
    /// explain.
    pub(crate) async fn ask<K>(&self, object: &K, question: &Question) -> Asked
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let event = match question {
            Question::Event(uid) => Some(uid),
            Question::Log(_) | Question::Warning(_) => None,
        };
        if let Some((asked, _)) = event.and_then(|uid| self.events.get(uid)) {
            return asked;
        }
        let namespace = object.namespace().unwrap_or_default();
        match read(&self.client, &namespace, question).await {
            Ok(asked) => {
                if let Some(uid) = event {
                    self.events.keep(uid.clone(), asked.clone(), EVENT_LASTS);
                }
                asked
            }
            Err(error) => {
                tracing::warn!(
                    kind = %K::kind(&()),
                    namespace,
                    name = object.name_any(),
                    error = error.chain(),
                    "the Events or logs that explain the state of an object can't be read"
                );
                Asked::default()
            }
        }
    }
}

async fn read(client: &Client, namespace: &str, question: &Question) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    match question {
        Question::Log(source) => asked.log = Some(log(client, namespace, source).await?),
        Question::Warning(uid) => {
            asked.warning = last_event(client, namespace, uid, ",type=Warning").await?;
        }
        Question::Event(uid) => asked.event = last_event(client, namespace, uid, "").await?,
    }
    Ok(asked)
}

async fn log(client: &Client, namespace: &str, source: &LogSource) -> Result<String, Error> {
    let LogSource {
        pod,
        container,
        previous,
    } = source;
    let params = LogParams {
        container: Some(container.clone()),
        previous: *previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let described = || format!("the log of {}", describe("Pod", Some(namespace), pod));
    within_limit("read", described, pods.logs(pod, &params)).await
}

/// The last Event about the object of this uid, of those that more selects.
async fn last_event(
    client: &Client,
    namespace: &str,
    uid: &str,
    more: &str,
) -> Result<Option<Failure>, Error> {
    let fields = format!("involvedObject.uid={uid}{more}");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().fields(&fields);
    let described = || format!("Events in namespace {namespace}");
    let mut found = within_limit("list", described, events.list(&params))
        .await?
        .items;
    found.sort_by_key(|event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or(event.event_time.as_ref().map(|time| time.0))
    });
    Ok(found.pop().map(|event| {
        let reason = event.reason.unwrap_or_default();
        Failure::new(reason, event.message.unwrap_or_default())
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use k8s_openapi::api::batch::v1::Job;

    use super::*;
    use crate::fake;

    #[tokio::test(start_paused = true)]
    async fn the_last_event_about_an_object_is_read_once_a_minute() {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let questions = Questions::to(fake::client(move |_| {
            // The first answer is a failure, which says nothing about Events.
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                let failed = serde_json::json!({"kind": "Status", "apiVersion": "v1", "code": 500, "reason": "InternalError"});
                return Some(fake::answer(500, &failed));
            }
            let events = serde_json::json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [{
                "metadata": {}, "involvedObject": {}, "reason": "ProvisioningFailed", "message": "no",
            }]});
            Some(fake::answer(200, &events))
        }));
        let job = Job::default();
        for (uid, seconds, expected) in [
            ("a", 0, 1),
            ("a", 0, 2),
            ("a", 54, 2),
            ("b", 0, 3),
            ("a", 2, 4),
        ] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            let asked = questions.ask(&job, &Question::Event(uid.to_owned())).await;
            assert_eq!(requests.load(Ordering::Relaxed), expected, "{uid}");
            let event = asked.event.map(|event| event.reason);
            let known = (expected > 1).then(|| "ProvisioningFailed".to_owned());
            assert_eq!(event, known, "{uid}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_does_not_answer_holds_up_no_reconcile() {
        let silent = fake::client(|_| None);
        let log = Question::Log(LogSource {
            pod: "a".to_owned(),
            container: "main".to_owned(),
            previous: false,
        });
        let uid = || "uid".to_owned();
        for question in [log, Question::Warning(uid()), Question::Event(uid())] {
            let job = Job::default();
            let silent = Questions::to(silent.clone());
            let asked = silent.ask(&job, &question);
            let asked = tokio::time::timeout(Duration::from_mins(1), asked).await;
            assert_eq!(asked.ok(), Some(Asked::default()), "{question:?}");
        }
    }
}
