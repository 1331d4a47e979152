//! The end of a reconcile: the status is written, the cache gets it, and what became different is
//! reported by Events. This happens once, here.
//!
//! A write runs as a task of its own, because the API server needs seconds for a large status. Until it
//! is answered, reconciles of the object see it as [`StatusWrite::Sent`].

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ObjectReference};
use kube::{
    Api, Client, Resource, ResourceExt, core::object::HasStatus, runtime::reflector::ObjectRef,
};
use operon_core::driver::{Class, Conclusion, Event, Next, Refusal, StatusWrite};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    error::Error,
    events::Events,
    fault::contained,
    status::{StatusWriter, Written},
    store::{Cache, Cached},
};

/// A kind with a status.
pub trait Reported:
    Cached
    + Serialize
    + Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Serialize + PartialEq + Debug + Clone + Send + Sync + 'static>
{
}

impl<K> Reported for K where
    K: Cached
        + Serialize
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus<Status: Serialize + PartialEq + Debug + Clone + Send + Sync + 'static>
{
}

/// Reports on the objects of one kind.
pub struct Reports<K: Cached + HasStatus> {
    client: Client,
    manager: &'static str,
    cache: Cache<K>,
    events: Events,
    wake: UnboundedSender<ObjectRef<K>>,
    writer: StatusWriter,
    /// The writes that are not done, or failed, by the uid of the object.
    writes: Mutex<HashMap<String, StatusWrite<K::Status>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// How soon a status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// A second after the previous one at the earliest.
    Ordinary,
    /// As soon as its size allows: others wait for it.
    Urgent,
    /// Later than others: it only says how far the work is.
    Progress,
}

impl<K: Reported> Reports<K> {
    /// Reports as this field manager; an object whose status was written is reconciled again by `wake`.
    pub fn new(
        client: Client,
        manager: &'static str,
        cache: Cache<K>,
        events: Events,
        wake: UnboundedSender<ObjectRef<K>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            manager,
            cache,
            events,
            wake,
            writer: StatusWriter::default(),
            writes: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// The cache of the objects.
    pub fn cache(&self) -> &Cache<K> {
        &self.cache
    }

    /// Sends Events.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Where the last write of an object's status is. A failure is returned once.
    pub fn status_write(&self, object: &K) -> StatusWrite<K::Status> {
        let uid = object.uid().unwrap_or_default();
        let mut writes = self.writes();
        match writes.get(&uid) {
            None | Some(StatusWrite::None) => StatusWrite::None,
            Some(StatusWrite::Sent(sent)) => StatusWrite::Sent(Arc::clone(sent)),
            Some(StatusWrite::Failed(_)) => writes.remove(&uid).unwrap_or(StatusWrite::None),
        }
    }

    /// Starts to write the status if it differs from that of `object`, unless the last write was a moment
    /// ago, or was refused over the same version: then another reconcile is asked for.
    pub fn report(self: &Arc<Self>, object: &Arc<K>, conclusion: Conclusion<K::Status>) -> Next {
        self.report_by(object, conclusion, Pace::Ordinary)
    }

    /// The same of a status that others wait for: it is not written before the next second only if it is large.
    pub fn report_urgently(
        self: &Arc<Self>,
        object: &Arc<K>,
        conclusion: Conclusion<K::Status>,
    ) -> Next {
        self.report_by(object, conclusion, Pace::Urgent)
    }

    /// As [`Reports::report`], but a status that `is_progress` compared with that of `object` waits longer.
    pub fn report_at_pace(
        self: &Arc<Self>,
        object: &Arc<K>,
        conclusion: Conclusion<K::Status>,
        is_progress: fn(&K::Status, &K::Status) -> bool,
    ) -> Next {
        let previous = object.status();
        let is_progress = previous.is_some_and(|old| is_progress(old, &conclusion.status));
        let pace = if is_progress && conclusion.events.is_empty() {
            Pace::Progress
        } else {
            Pace::Ordinary
        };
        self.report_by(object, conclusion, pace)
    }

    fn report_by(
        self: &Arc<Self>,
        object: &Arc<K>,
        conclusion: Conclusion<K::Status>,
        pace: Pace,
    ) -> Next {
        let Conclusion {
            status,
            events,
            requeue_after,
        } = conclusion;
        let at = |requeue_after| Next {
            requeue_after,
            retry: false,
        };
        if object.status() == Some(&status) {
            return at(requeue_after);
        }
        let uid = object.uid().unwrap_or_default();
        let version = self.version(object);
        if self.writer.is_settled(&uid, version.as_deref(), &status) {
            return at(requeue_after);
        }
        let ordinary = self.writer.wait(&uid, version.as_deref());
        let wait = match pace {
            Pace::Ordinary => ordinary,
            Pace::Urgent => self
                .writer
                .wait_if_urgent(&uid, version.as_deref(), &status),
            Pace::Progress => ordinary.max(self.writer.wait_with_progress(&uid)),
        };
        if let Some(wait) = wait {
            return at(Some(requeue_after.map_or(wait, |after| after.min(wait))));
        }
        let status = Arc::new(status);
        let sent = StatusWrite::Sent(Arc::clone(&status));
        self.writes().insert(uid, sent);
        let (reports, object) = (Arc::clone(self), Arc::clone(object));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let version = version.as_deref();
            reports.write(&object, version, &status, &events).await;
        });
        at(requeue_after)
    }

    /// The version that a status decided from `object` is written over: the latest that has the same
    /// status, because only another status must not be overwritten. So a finalizer that the same reconcile
    /// placed, or a user's edit, is no conflict.
    fn version(&self, object: &K) -> Option<String> {
        let latest = self.cache.store.get(&ObjectRef::from_obj(object));
        let has_same = |latest: &Arc<K>| {
            latest.uid() == object.uid()
                && (latest.resource_version() == object.resource_version()
                    || latest.status() == object.status())
        };
        let latest = latest.filter(has_same);
        latest.as_deref().unwrap_or(object).resource_version()
    }

    /// Waits until every write that was started is done.
    pub async fn written(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
    }

    async fn write(&self, object: &K, version: Option<&str>, status: &K::Status, events: &[Event]) {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let write = async {
            let write = self
                .writer
                .write(&api, self.manager, object, version, None, status);
            match write.await? {
                Written::Yes(written) => {
                    self.cache.wrote(*written);
                    Ok(true)
                }
                Written::Unchanged | Written::Later(_) => Ok(false),
            }
        };
        let written = contained(write).await.unwrap_or_else(|panic| {
            let message = format!("the host panicked while it wrote the status: {panic}");
            Err(Refusal::unanswered("Panicked", message))
        });
        let is_written = matches!(written, Ok(true));
        self.ended(object, written.err());
        // A closed queue means that the process ends.
        let _ = self.wake.unbounded_send(ObjectRef::from_obj(object));
        for event in events.iter().filter(|_| is_written) {
            self.send(object, event).await;
        }
    }

    /// The write of the object's status ended. A failure is kept for the next reconcile of the object, if
    /// there will be one.
    fn ended(&self, object: &K, failure: Option<Refusal>) {
        let uid = object.uid().unwrap_or_default();
        let is_there = || {
            let latest = self.cache.store.get(&ObjectRef::from_obj(object));
            latest.is_some_and(|latest| latest.uid() == object.uid())
        };
        let failure = failure.filter(|refusal| refusal.class != Class::Gone && is_there());
        let mut writes = self.writes();
        match failure {
            Some(refusal) => writes.insert(uid, StatusWrite::Failed(refusal)),
            None => writes.remove(&uid),
        };
    }

    async fn send(&self, object: &K, event: &Event) {
        let Event {
            severity,
            reason,
            message,
            related,
        } = event;
        let related = related.as_ref().map(|related| ObjectReference {
            api_version: Some(related.api_version.clone()),
            kind: Some(related.kind.clone()),
            namespace: object.namespace(),
            name: Some(related.name.clone()),
            ..ObjectReference::default()
        });
        self.events
            .send_about(
                &object.object_ref(&()),
                related,
                *severity,
                reason,
                "Reconcile",
                message,
            )
            .await;
    }

    fn writes(&self) -> MutexGuard<'_, HashMap<String, StatusWrite<K::Status>>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        error.into_refusal()
    }
}

#[cfg(test)]
mod tests;
