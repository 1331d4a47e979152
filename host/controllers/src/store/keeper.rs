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
use operon_core::freshness::{Freshness, Stamp};
use tokio::sync::{Notify, watch};

use super::{Cached, OnChange, Store, Writer};
use crate::{fault::contain, health::WatchHealth};

/// Takes off an object what nobody here reads.
pub(super) type Shed<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// What a cache and the task of its watch share.
pub(super) struct Kept<K: Cached> {
    pub(super) keeper: Mutex<Keeper<K>>,
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

/// Keeps a cache: the one place where it changes.
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
                let known = self.known(&object);
                let before = known.as_ref().map(|known| version(&**known));
                if self.freshness.watched(before, version(&object)) {
                    self.put(known.as_deref(), object);
                }
            }
            watcher::Event::Delete(object) => {
                let known = self.known(&object).map(|known| stamp(&*known));
                if self.freshness.deleted(known.as_ref(), &stamp(&object)) {
                    self.writer.remove(&object);
                    self.tell(&object);
                }
            }
            watcher::Event::Init => {
                self.is_broken = false;
                self.freshness.list_begins();
                self.writer.list_begins();
            }
            watcher::Event::InitApply(object) => {
                self.freshness.listed(self.key(&object), version(&object));
                self.writer.list_has(Arc::new(object));
            }
            // A list that was not read to its end is no content; another one follows.
            watcher::Event::InitDone if self.is_broken => {}
            watcher::Event::InitDone => self.listed(),
        }
    }

    /// A list is complete: it becomes the content, but for what is newer here. Only what it changed is
    /// passed on.
    fn listed(&mut self) {
        let before = self.store.state().into_iter();
        let before: HashMap<_, _> = before.map(|object| (self.key(&*object), object)).collect();
        let versions = before.iter();
        let versions = versions.map(|(key, object)| (key.clone(), version(&**object)));
        let merge = self.freshness.list_ends(versions);
        for object in merge.keep.iter().filter_map(|key| before.get(key)) {
            self.writer.list_has(Arc::clone(object));
        }
        self.writer.list_ends();
        self.listed.send_replace(true);
        self.health.up();
        for object in merge.vanished.iter().filter_map(|key| before.get(key)) {
            self.tell(object);
        }
        let changed = if std::mem::take(&mut self.tell_all) {
            self.store.state()
        } else {
            let changed = merge.changed.iter();
            changed.filter_map(|key| self.store.get(key)).collect()
        };
        for object in changed {
            let known = before.get(&self.key(&*object));
            self.tell_of(known.map(|known| &**known), &object);
        }
    }

    /// The API server does not serve the kind: there are no objects.
    pub(super) fn absent(&mut self) {
        self.watched(watcher::Event::Init);
        self.watched(watcher::Event::InitDone);
    }

    pub(super) fn written(&mut self, mut object: K) {
        let (key, known) = (self.key(&object), self.known(&object));
        let before = known.as_ref().map(|known| version(&**known));
        if !self.freshness.written(&key, before, version(&object)) {
            return;
        }
        self.lighten(&mut object);
        self.put(known.as_deref(), object);
    }

    /// An object takes the place of what was known before.
    fn put(&mut self, known: Option<&K>, object: K) {
        let object = Arc::new(object);
        self.writer.put(Arc::clone(&object));
        self.tell_of(known, &object);
    }

    /// Passes on that an object took the place of what was known before. An earlier object of its name was
    /// deleted, which nothing else reports.
    fn tell_of(&mut self, known: Option<&K>, object: &K) {
        if let Some(known) = known.filter(|known| known.meta().uid != object.meta().uid) {
            self.tell(known);
        }
        self.tell(object);
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
        metrics.panicked(&format!("watch {kind}"));
        tracing::error!(
            kind,
            namespace = object.and_then(ResourceExt::namespace),
            name = object.map(ResourceExt::name_any),
            panic,
            "a change of the cache panicked; it is listed again"
        );
    }

    fn lighten(&self, object: &mut K) {
        object.managed_fields_mut().clear();
        (self.shed)(object);
    }

    fn key(&self, object: &K) -> ObjectRef<K> {
        ObjectRef::from_obj_with(object, self.dyntype.clone())
    }

    fn known(&self, object: &K) -> Option<Arc<K>> {
        self.store.get(&self.key(object))
    }
}

fn stamp<K: Resource>(object: &K) -> Stamp<Option<String>, u128> {
    Stamp {
        uid: object.meta().uid.clone(),
        version: version(object),
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
