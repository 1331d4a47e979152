//! What a cache holds, and the one place where that changes: by what the watch reports and by what this
//! process wrote. Which of two versions of an object stays is decided by [`Freshness`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource, ResourceExt,
    runtime::{reflector::ObjectRef, watcher},
};
use operon_core::freshness::Freshness;
use tokio::sync::{Notify, watch};

use super::{Cached, Entry, Store, Writer};
use crate::{fault::contain, health::WatchHealth};

/// Takes off an object what is not read here.
pub(super) type Shed<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// Called with every object that changed, or was deleted, after the store says so.
pub(super) type OnChange<K> = Arc<dyn Fn(&K, &Store<K>) + Send + Sync>;

/// What a cache and the task of one of its watches share.
pub(super) struct Kept<K: Cached> {
    pub(super) keeper: Mutex<Keeper<K>>,
    /// What is watched, unless it is every object of the kind.
    pub(super) namespace: Option<String>,
    /// Whether the first list is complete. The store itself wakes only the last who waits for that.
    pub(super) is_listed: watch::Receiver<bool>,
    pub(super) health: Arc<WatchHealth>,
    /// Asks for another list, because something panicked.
    pub(super) again: Notify,
}

impl<K: Cached> Kept<K> {
    pub(super) fn lock(&self) -> MutexGuard<'_, Keeper<K>> {
        // Nothing poisons it: panics are contained while it is held.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the cache. No panic gets out: what it left half done is set right by another list.
    pub(super) fn change(&self, change: impl FnOnce(&mut Keeper<K>)) {
        let mut keeper = self.lock();
        let before = keeper.panics;
        if let Err(panic) = contain(|| change(&mut keeper)) {
            self.health.panicked(&panic);
            keeper.is_broken = true;
            keeper.panicked(None, &panic);
        }
        if keeper.panics != before {
            self.again.notify_one();
        }
    }
}

/// Keeps what one watch of a cache reports: the one place where it changes.
pub(super) struct Keeper<K: Cached> {
    pub(super) writer: Writer<K>,
    /// Reports that the first list is complete.
    pub(super) listed: watch::Sender<bool>,
    pub(super) store: Store<K>,
    pub(super) dyntype: K::DynamicType,
    pub(super) shed: Shed<K>,
    pub(super) on_change: OnChange<K>,
    pub(super) freshness: Freshness<ObjectRef<K>, u128>,
    pub(super) health: Arc<WatchHealth>,
    /// How many panics there have been.
    pub(super) panics: u64,
    /// A change may not have reached everyone: the next list is passed on as a whole.
    pub(super) tell_all: bool,
    /// A change of the cache was left half done since the last list began.
    pub(super) is_broken: bool,
}

impl<K: Cached> Keeper<K> {
    pub(super) fn watched(&mut self, event: watcher::Event<K>) {
        match event.modify(|object| self.lighten(object)) {
            watcher::Event::Apply(object) => {
                let (namespace, entry) = entry_of(object);
                let known = self.store.entry(namespace.as_deref(), entry.name());
                let before = known.as_ref().map(|known| known.stamp().version);
                if self.freshness.watched(before, entry.stamp().version) {
                    self.put(known.as_deref(), namespace.as_deref(), &entry);
                }
            }
            watcher::Event::Delete(object) => {
                let (namespace, entry) = entry_of(object);
                let known = self.store.entry(namespace.as_deref(), entry.name());
                let stamp = known.as_ref().map(|known| known.stamp());
                if self.freshness.deleted(stamp.as_ref(), &entry.stamp()) {
                    self.writer.remove(namespace.as_deref(), entry.name());
                    self.tell(&entry.get());
                }
            }
            watcher::Event::Init => {
                self.is_broken = false;
                self.freshness.list_begins();
                self.writer.list_begins();
            }
            watcher::Event::InitApply(object) => {
                let key = self.key(&object);
                let (namespace, entry) = entry_of(object);
                self.freshness.listed(key, entry.stamp().version);
                // Most objects of a list are never read.
                self.store.pack(&entry);
                self.writer.list_has(namespace.as_deref(), entry);
            }
            // A list that was not read to its end is no content; another one follows.
            watcher::Event::InitDone if self.is_broken => {}
            watcher::Event::InitDone => self.listed(),
        }
    }

    /// A list is complete: it becomes the content, but for what is newer here. Only what it changed is
    /// passed on.
    fn listed(&mut self) {
        let before: HashMap<_, _> = self.by_key().collect();
        let versions = before.iter();
        let versions = versions.map(|(key, entry)| (key.clone(), entry.stamp().version));
        let merge = self.freshness.list_ends(versions);
        for key in &merge.keep {
            if let Some(entry) = before.get(key) {
                let namespace = key.namespace.as_deref();
                self.writer.list_has(namespace, Arc::clone(entry));
            }
        }
        self.writer.list_ends();
        self.listed.send_replace(true);
        self.health.up();
        for entry in merge.vanished.iter().filter_map(|key| before.get(key)) {
            self.tell(&entry.get());
        }
        let changed: Vec<_> = if std::mem::take(&mut self.tell_all) {
            self.by_key().collect()
        } else {
            let changed = merge.changed.into_iter();
            changed
                .filter_map(|key| {
                    let entry = self.store.entry(key.namespace.as_deref(), &key.name)?;
                    Some((key, entry))
                })
                .collect()
        };
        for (key, entry) in changed {
            let known = before.get(&key).map(|known| &**known);
            self.tell_of(known, &entry);
            self.store.pack(&entry);
        }
    }

    /// The entries, by key.
    fn by_key(&self) -> impl Iterator<Item = (ObjectRef<K>, Arc<Entry<K>>)> + use<K> {
        let dyntype = self.dyntype.clone();
        self.writer
            .placed()
            .into_iter()
            .map(move |(namespace, entry)| {
                let mut key = ObjectRef::new_with(entry.name(), dyntype.clone());
                key.namespace = namespace;
                (key, entry)
            })
    }

    /// The API server does not serve the kind: there are no objects.
    pub(super) fn absent(&mut self) {
        self.watched(watcher::Event::Init);
        self.watched(watcher::Event::InitDone);
    }

    pub(super) fn written(&mut self, mut object: K) {
        self.lighten(&mut object);
        let key = self.key(&object);
        let (namespace, entry) = entry_of(object);
        let known = self.store.entry(namespace.as_deref(), entry.name());
        let before = known.as_ref().map(|known| known.stamp().version);
        if self.freshness.written(&key, before, entry.stamp().version) {
            self.put(known.as_deref(), namespace.as_deref(), &entry);
        }
    }

    /// An object takes the place of what was known before.
    fn put(&mut self, known: Option<&Entry<K>>, namespace: Option<&str>, entry: &Arc<Entry<K>>) {
        self.writer.put(namespace, Arc::clone(entry));
        self.tell_of(known, entry);
    }

    /// Passes on that an object took the place of what was known before. Nothing else reports that an earlier object of
    /// its name was deleted. An object may have concerned a job by a label or an owner that it has no more.
    fn tell_of(&mut self, known: Option<&Entry<K>>, entry: &Entry<K>) {
        if let Some(known) = known.filter(|known| known.is_found_otherwise(entry)) {
            self.tell(&known.get());
        }
        self.tell(&entry.get());
    }

    /// Passes a change on. If whoever listens panics, that concerns this change alone.
    fn tell(&mut self, object: &K) {
        if let Err(panic) = contain(|| (self.on_change)(object, &self.store)) {
            self.panicked(Some(object), &panic);
        }
    }

    /// Logs and counts a panic. What it may have left undone is done after another list.
    pub(super) fn panicked(&mut self, object: Option<&K>, panic: &str) {
        self.panics += 1;
        self.tell_all = true;
        let kind = self.health.kind();
        let metrics = self.health.health().metrics();
        metrics.watch_panicked(kind);
        tracing::error!(
            kind,
            namespace = object.and_then(ResourceExt::namespace),
            name = object.map(ResourceExt::name_any),
            panic,
            "a change of the cache panicked; it is listed again"
        );
    }

    fn lighten(&self, object: &mut K) {
        object.meta_mut().managed_fields = None;
        (self.shed)(object);
    }

    fn key(&self, object: &K) -> ObjectRef<K> {
        ObjectRef::from_obj_with(object, self.dyntype.clone())
    }
}

/// The entry of an object, and the namespace where it is found.
fn entry_of<K: Resource>(object: K) -> (Option<String>, Arc<Entry<K>>) {
    let namespace = object.meta().namespace.clone();
    (namespace, Arc::new(Entry::new(object)))
}
