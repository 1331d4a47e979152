//! What an object says while its controller stands down: a condition and an Event, once. If KusionStack's
//! controller removes the condition with its next write of the status, it is not written again.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{Api, Client, ResourceExt};
use operon_api::conditions::{STANDING_DOWN, condition, find};
use operon_core::{action::Severity, stand_down::Sign};
use serde_json::{Value, json};

use crate::{
    error::{Class, Error},
    events::Events,
    report::Reported,
    run::Next,
    status::{StatusWriter, Written, whole_seconds},
    store::Cache,
};

/// The reason of the condition.
const REASON: &str = "KusionStackRuns";

/// How many deleted objects may be remembered.
const DELETED: usize = 100;

/// Reports on an object that its controller stands down.
pub trait Tell<K>: Send + Sync {
    /// Reports it, unless that was done.
    fn tell<'a>(&'a self, object: &'a K, sign: &'a Sign) -> BoxFuture<'a, Result<Next, Error>>;

    /// The controller does not stand down any more.
    fn forget(&self, object: &K);
}

/// Reports it as the controller of the objects does: the condition is removed by its next status.
pub struct Notice<K: Reported> {
    client: Client,
    manager: &'static str,
    cache: Cache<K>,
    events: Events,
    concerns: fn(&K) -> bool,
    writer: StatusWriter,
    /// The uids of the objects that it was reported on.
    reported: Mutex<HashSet<String>>,
}

impl<K: Reported> Notice<K> {
    /// Reports it as this field manager, on the objects that a controller would write.
    pub fn new(
        client: &Client,
        manager: &'static str,
        cache: &Cache<K>,
        events: &Events,
        concerns: fn(&K) -> bool,
    ) -> Self {
        Self {
            client: client.clone(),
            manager,
            cache: cache.clone(),
            events: events.clone(),
            concerns,
            writer: StatusWriter::default(),
            reported: Mutex::default(),
        }
    }

    async fn write(&self, object: &K, sign: &Sign) -> Result<Next, Error> {
        let uid = object.uid().unwrap_or_default();
        let is_reported = self.reported().contains(&uid);
        if is_reported || !(self.concerns)(object) {
            return Ok(Next::default());
        }
        let message = message::<K>(sign);
        if let Some(status) = status(object, &message, whole_seconds(Timestamp::now())) {
            let namespace = object.namespace().unwrap_or_default();
            let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
            let version = object.resource_version();
            let (manager, version) = (self.manager, version.as_deref());
            let write = self
                .writer
                .write(&api, manager, object, version, None, &status);
            match write.await {
                Ok(Written::Later(wait)) => {
                    return Ok(Next {
                        requeue_after: Some(wait),
                        retry: false,
                    });
                }
                Ok(Written::Yes(written)) => self.cache.wrote(*written),
                Ok(Written::Unchanged) => {}
                Err(error) if error.class() == Class::Unavailable => return Err(error),
                // The Event says it.
                Err(error) => tracing::debug!(
                    namespace,
                    name = object.name_any(),
                    error = error.chain(),
                    "the condition {STANDING_DOWN} could not be written"
                ),
            }
            self.events
                .send(
                    object,
                    Severity::Normal,
                    STANDING_DOWN,
                    "Reconcile",
                    &message,
                )
                .await;
        }
        self.remember(uid);
        Ok(Next::default())
    }

    /// Remembers that it was reported on an object. Nothing is reconciled when an object is deleted, so those that the
    /// cache does not have any more are forgotten here.
    fn remember(&self, uid: String) {
        let mut reported = self.reported();
        if reported.len() >= self.cache.store.len() + DELETED {
            let objects = self.cache.store.state();
            let there: HashSet<_> = objects.iter().filter_map(|object| object.uid()).collect();
            reported.retain(|uid| there.contains(uid));
        }
        reported.insert(uid);
    }

    fn reported(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Reported> Tell<K> for Notice<K> {
    fn tell<'a>(&'a self, object: &'a K, sign: &'a Sign) -> BoxFuture<'a, Result<Next, Error>> {
        self.write(object, sign).boxed()
    }

    fn forget(&self, object: &K) {
        self.reported().remove(&object.uid().unwrap_or_default());
    }
}

fn message<K: Reported>(sign: &Sign) -> String {
    let (kind, remedy) = (K::kind(&()), sign.remedy());
    format!(
        "Operon leaves {kind}s to KusionStack's controllers and writes nothing, because {sign}. {remedy}"
    )
}

/// The object's status with the condition; none if it has the condition already.
fn status<K: Reported>(object: &K, message: &str, now: Timestamp) -> Option<Value> {
    let object_now = serde_json::to_value(object).ok()?;
    let before = object_now.get("status").filter(|status| status.is_object());
    let mut status = before.cloned().unwrap_or_else(|| json!({}));
    let known = status.get("conditions").cloned().unwrap_or_default();
    let mut conditions: Vec<Condition> = serde_json::from_value(known).unwrap_or_default();
    if find(&conditions, STANDING_DOWN).is_some_and(|known| known.message == message) {
        return None;
    }
    let generation = object.meta().generation;
    let standing_down = condition(
        &conditions,
        STANDING_DOWN,
        "True",
        REASON,
        message,
        generation,
        now,
    );
    conditions.retain(|one| one.type_ != STANDING_DOWN);
    conditions.push(standing_down);
    status["conditions"] = json!(conditions);
    Some(status)
}

#[cfg(test)]
mod tests {
    use operon_api::CollaSet;
    use operon_core::stand_down::{Presence, Signs, WEBHOOKS};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{fake, health::Health, metrics::Metrics};

    #[tokio::test]
    async fn objects_that_were_deleted_are_not_remembered_for_ever() {
        let client = fake::client(|request| {
            let is_list = request.method() == http::Method::GET;
            let is_watch = request.uri().to_string().contains("watch=true");
            let list = json!({"metadata": {"resourceVersion": "7"}, "items": []});
            let gone =
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
            match (is_list, is_watch) {
                (true, true) => None,
                (true, false) => Some(fake::answer(200, &list)),
                (false, _) => Some(fake::answer(404, &gone)),
            }
        });
        let health = Health::new(Metrics::register(&mut Registry::default()));
        let cache: Cache<CollaSet> = Cache::guarded(Api::all(client.clone()))
            .packed()
            .start(|_, _| {}, &health);
        cache.ready().await;
        let events = Events::new(&client, None);
        let notice = Notice::new(&client, "test", &cache, &events, |_| true);
        let mut signs = Signs::default();
        signs.webhook(WEBHOOKS[0], true);
        let (Presence::Present(sign), _) = signs.presence(std::time::Duration::ZERO) else {
            unreachable!("the webhook is a sign")
        };
        for number in 0..300 {
            let object = json!({
                "metadata": {"name": "a", "namespace": "ns", "uid": format!("uid-{number}")},
                "spec": {"selector": {}, "template": {}},
            });
            let object: CollaSet = serde_json::from_value(object).expect("a CollaSet");
            assert!(notice.tell(&object, &sign).await.is_ok());
            let reported = notice.reported();
            assert!(reported.contains(&format!("uid-{number}")));
            assert!(reported.len() <= DELETED, "{}", reported.len());
        }
    }
}
