//! Caches of objects, kept by a watch, that also see what this process wrote.
//!
//! A store never goes back: an older version of an object does not replace a newer one, whichever
//! arrives first, the watch or the answer to our own write. So a pass that follows a write always sees
//! it, and nothing is done twice because a cache lagged.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

/// Called with every object that changed, or is gone, after the store says so.
pub type OnChange<K> = Arc<dyn Fn(&K, &Store<K>) + Send + Sync>;

/// Takes off an object what nobody here reads.
type Shed<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// The longest time after which an answer to our own write may come: longer than a write may take.
const LATE: Duration = Duration::from_mins(1);

/// The wait before a watch that was interrupted starts again; it doubles with every failure up to the
/// second. An API server that refuses is not asked again and again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// A kind that can be cached.
pub trait Cached:
    Resource<DynamicType: Clone + Debug + Eq + Hash + Unpin + Send + Sync>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Cached for K where
    K: Resource<DynamicType: Clone + Debug + Eq + Hash + Unpin + Send + Sync>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// A cache being kept: read it by `store`, tell it of a write by [`Cache::wrote`]. Dropping the last
/// clone ends the watch.
pub struct Cache<K: Cached> {
    /// The readable side.
    pub store: Store<K>,
    keeper: Arc<Mutex<Keeper<K>>>,
    trouble: Arc<Mutex<Option<String>>>,
    task: Arc<AbortOnDrop>,
}

impl<K: Cached> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            keeper: Arc::clone(&self.keeper),
            trouble: Arc::clone(&self.trouble),
            task: Arc::clone(&self.task),
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K: Cached> Cache<K> {
    /// Starts to watch what `api` lists, with a watch that begins again, with backoff, whatever ends it.
    pub fn start(
        api: Api<K>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        on_change: OnChange<K>,
    ) -> Self {
        Self::start_lean(api, config, dyntype, |_| {}, on_change)
    }

    /// As [`Cache::start`]; of every object `shed` takes off what nobody here asks for.
    pub fn start_lean(
        api: Api<K>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        shed: impl Fn(&mut K) + Send + Sync + 'static,
        on_change: OnChange<K>,
    ) -> Self {
        Self::start_with(api, Some, config, dyntype, Arc::new(shed), on_change)
    }

    /// As [`Cache::start`], of a kind whose objects may have been stored before its schema was what it
    /// is now. One that can't be read is left out, with a warning: it must not keep all others away.
    pub fn start_guarded(
        api: Api<DeserializeGuard<K>>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        on_change: OnChange<K>,
    ) -> Self {
        Self::start_with(api, readable, config, dyntype, Arc::new(|_| {}), on_change)
    }

    fn start_with<R: Cached<DynamicType = K::DynamicType>>(
        api: Api<R>,
        read: fn(R) -> Option<K>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        shed: Shed<K>,
        on_change: OnChange<K>,
    ) -> Self {
        let writer = reflector::store::Writer::new(dyntype.clone());
        let store = writer.as_reader();
        let kind = K::kind(&dyntype).into_owned();
        let keeper = Keeper {
            writer,
            store: store.clone(),
            dyntype,
            shed,
            on_change,
            deleted: HashMap::new(),
        };
        let keeper = Arc::new(Mutex::new(keeper));
        let trouble = Arc::new(Mutex::new(None));
        let watch = Watch {
            kind,
            keeper: Arc::clone(&keeper),
            trouble: Arc::clone(&trouble),
        };
        let task = tokio::spawn(watch.run(api, read, config));
        Self {
            store,
            keeper,
            trouble,
            task: Arc::new(AbortOnDrop(task)),
        }
    }

    /// Tells the cache of an object as the API server returned it from a write. When this returns,
    /// every reader sees it.
    pub fn wrote(&self, object: K) {
        self.keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .written(object);
    }

    /// Waits until the first list is complete.
    pub async fn ready(&self) {
        // The writer lives as long as `self`, so it is never dropped while this waits.
        let _ = self.store.wait_until_ready().await;
        // Whoever is told of changes has been told of the first list too, once the keeper is free.
        drop(self.keeper.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the first list is complete.
    pub fn is_ready(&self) -> bool {
        self.store.wait_until_ready().now_or_never().is_some()
    }

    /// Why the watch has nothing to report, if that is so.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    /// Waits until the first list is complete, but no longer than this.
    pub async fn ready_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ready()).await.is_ok()
    }
}

/// The task that brings what the watch reports.
struct Watch<K: Cached> {
    kind: String,
    keeper: Arc<Mutex<Keeper<K>>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl<K: Cached> Watch<K> {
    async fn run<R: Cached>(self, api: Api<R>, read: fn(R) -> Option<K>, config: watcher::Config) {
        let mut events = std::pin::pin!(watcher(api, config));
        let mut failures = 0;
        while let Some(event) = events.next().await {
            match event {
                // A list begins: nothing has been answered yet.
                Ok(watcher::Event::Init) => self.keep(watcher::Event::Init),
                Ok(event) => {
                    failures = 0;
                    self.note(None);
                    if let Some(event) = each(event, read) {
                        self.keep(event);
                    }
                }
                Err(error) => {
                    let wait = PAUSES
                        .0
                        .saturating_mul(2_u32.saturating_pow(failures))
                        .min(PAUSES.1);
                    tracing::warn!(
                        kind = self.kind,
                        error = %error,
                        wait = ?wait,
                        "watch interrupted; it starts again"
                    );
                    self.note(Some(error.to_string()));
                    failures += 1;
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn keep(&self, event: watcher::Event<K>) {
        self.keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .watched(event);
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// An event about the object that was read, if it could be.
fn each<R, K>(event: watcher::Event<R>, read: fn(R) -> Option<K>) -> Option<watcher::Event<K>> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Apply(object) => read(object).map(Apply),
        Delete(object) => read(object).map(Delete),
        Init => Some(Init),
        InitApply(object) => read(object).map(InitApply),
        InitDone => Some(InitDone),
    }
}

fn readable<K: Cached>(object: DeserializeGuard<K>) -> Option<K> {
    let unreadable = match object.0 {
        Ok(object) => return Some(object),
        Err(unreadable) => unreadable,
    };
    let InvalidObject { error, metadata } = unreadable;
    tracing::warn!(
        kind = std::any::type_name::<K>().rsplit("::").next(),
        namespace = metadata.namespace.as_deref(),
        name = metadata.name.as_deref(),
        error = error,
        "an object can't be read and is left alone: it is not what its schema says"
    );
    None
}

/// Keeps a cache: the one place where it changes.
struct Keeper<K: Cached> {
    writer: reflector::store::Writer<K>,
    store: Store<K>,
    dyntype: K::DynamicType,
    shed: Shed<K>,
    on_change: OnChange<K>,
    /// The uids of the objects deleted lately, and when: a late answer to our own write must not bring
    /// one back.
    deleted: HashMap<String, Instant>,
}

impl<K: Cached> Keeper<K> {
    fn watched(&mut self, event: watcher::Event<K>) {
        let event = event.modify(|object| self.lighten(object));
        match &event {
            watcher::Event::Apply(object) => {
                if !self.is_newer(object) {
                    return;
                }
                self.writer.apply_watcher_event(&event);
                (self.on_change)(object, &self.store);
            }
            watcher::Event::Delete(object) => {
                self.deleted.retain(|_, at| at.elapsed() < LATE);
                self.deleted
                    .insert(object.uid().unwrap_or_default(), Instant::now());
                self.writer.apply_watcher_event(&event);
                (self.on_change)(object, &self.store);
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {
                self.writer.apply_watcher_event(&event);
            }
            watcher::Event::InitDone => {
                let before = self.store.state();
                self.writer.apply_watcher_event(&event);
                // What vanished while nobody watched is a change as well.
                let now = self.store.state();
                for object in before.iter().filter(|old| !self.has(old)).chain(&now) {
                    (self.on_change)(object, &self.store);
                }
            }
        }
    }

    fn written(&mut self, mut object: K) {
        let deleted = self.deleted.contains_key(&object.uid().unwrap_or_default());
        if deleted || !self.is_newer(&object) {
            return;
        }
        self.lighten(&mut object);
        let event = watcher::Event::Apply(object);
        self.writer.apply_watcher_event(&event);
        if let watcher::Event::Apply(object) = &event {
            (self.on_change)(object, &self.store);
        }
    }

    fn lighten(&self, object: &mut K) {
        object.managed_fields_mut().clear();
        (self.shed)(object);
    }

    fn has(&self, object: &K) -> bool {
        self.store
            .get(&ObjectRef::from_obj_with(object, self.dyntype.clone()))
            .is_some()
    }

    /// Whether this is a later version than the one the store has, or another object of that name.
    fn is_newer(&self, object: &K) -> bool {
        let reference = ObjectRef::from_obj_with(object, self.dyntype.clone());
        self.store
            .get(&reference)
            .is_none_or(|known| known.uid() != object.uid() || version(object) > version(&*known))
    }
}

/// An object's version as a number: the API server's versions of one kind are ordered that way.
fn version<K: Resource>(object: &K) -> u128 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use operon_api::JobFlow;
    use serde_json::{Value, json};

    use super::*;

    fn listed(object: Value) -> Event<DeserializeGuard<JobFlow>> {
        Event::InitApply(serde_json::from_value(object).expect("metadata"))
    }

    #[test]
    fn what_was_stored_before_its_schema_keeps_nobody_else_away() {
        let metadata = json!({"name": "old", "namespace": "default"});
        for spec in [json!(null), json!({}), json!({"flows": "none"})] {
            let old = json!({"metadata": metadata, "spec": spec});
            assert!(each(listed(old), readable).is_none(), "{spec}");
        }
        let new = json!({"metadata": metadata, "spec": {"flows": [{"name": "a"}]}});
        assert!(matches!(
            each(listed(new), readable),
            Some(Event::InitApply(flow)) if flow.spec.flows.len() == 1
        ));
    }
}
