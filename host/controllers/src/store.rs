//! Caches of objects, kept by a watch, that also see what this process wrote.
//!
//! A cache never goes back: an older version of an object does not replace a newer one, whichever
//! arrives first, the watch, a list or the answer to our own write ([`Freshness`]). So a reconcile that
//! follows a write always sees it, and nothing is done twice because a cache lagged.
//!
//! Whatever ends a watch, an error or a panic of ours, it begins again with a list.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
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
use operon_core::freshness::{Freshness, Stamp};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    fault::{contain, contained},
    health::{Health, WatchHealth},
};

/// Called with every object that changed, or was deleted, after the store says so.
pub type OnChange<K> = Arc<dyn Fn(&K, &Store<K>) + Send + Sync>;

/// Takes off an object what nobody here reads.
type Shed<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// The wait before a watch that ended starts again; it doubles with every failure up to the second. An
/// API server that refuses is not asked again and again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How long a list may go without a part of it: longer than the API server works on one. A connection that
/// died unnoticed answers never.
const LIST_LIMIT: Duration = Duration::from_secs(90);

/// How long one request of a watch lasts, from the first to the second of these seconds: at its end the
/// watch goes on by another request, without a list. A connection that died unnoticed is noticed 5 s after
/// it. That is one request a minute for each watch.
const WATCH_SECONDS: (u32, u32) = (60, 90);

/// How long one request of a watch of this kind lasts, so that those of all kinds do not end together.
fn watch_seconds(kind: &str) -> u32 {
    let (least, most) = WATCH_SECONDS;
    let sum = kind.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    least + sum % (most - least + 1)
}

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

/// A cache being kept: read it by `store`, report a write to it by [`Cache::wrote`]. Dropping the last
/// clone ends the watch.
pub struct Cache<K: Cached> {
    /// The readable side.
    pub store: Store<K>,
    kept: Arc<Kept<K>>,
    /// Whether the first list is complete. The store itself wakes only the last who waits for that.
    is_listed: watch::Receiver<bool>,
    task: Arc<AbortOnDrop>,
}

impl<K: Cached> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            kept: Arc::clone(&self.kept),
            is_listed: self.is_listed.clone(),
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
        health: &Health,
    ) -> Self {
        Self::start_lean(api, config, dyntype, |_| {}, on_change, health)
    }

    /// As [`Cache::start`]; of every object `shed` takes off what nobody here asks for.
    pub fn start_lean(
        api: Api<K>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        shed: impl Fn(&mut K) + Send + Sync + 'static,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self {
        Self::start_with(
            api,
            Some,
            config,
            dyntype,
            Arc::new(shed),
            on_change,
            health,
        )
    }

    /// As [`Cache::start`], of a kind whose objects may have been stored before its schema was what it
    /// is now. One that can't be read is left out, with a warning: it must not keep all others away.
    pub fn start_guarded(
        api: Api<DeserializeGuard<K>>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self {
        Self::start_with(
            api,
            readable,
            config,
            dyntype,
            Arc::new(|_| {}),
            on_change,
            health,
        )
    }

    fn start_with<R: Cached<DynamicType = K::DynamicType>>(
        api: Api<R>,
        read: fn(R) -> Option<K>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        shed: Shed<K>,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self {
        let writer = reflector::store::Writer::new(dyntype.clone());
        let store = writer.as_reader();
        let kind = kind_of::<K>(&dyntype);
        let config = config.timeout(watch_seconds(&kind));
        let health = Arc::new(health.begin(kind));
        let (listed, is_listed) = watch::channel(false);
        let keeper = Keeper {
            writer,
            listed,
            store: store.clone(),
            dyntype,
            shed,
            on_change,
            freshness: Freshness::default(),
            health: Arc::clone(&health),
            panics: 0,
            tell_all: false,
            is_broken: false,
        };
        let kept = Arc::new(Kept {
            keeper: Mutex::new(keeper),
            health,
            again: Notify::new(),
        });
        let watch = Watch(Arc::clone(&kept));
        let task = tokio::spawn(watch.run(api, read, config));
        Self {
            store,
            kept,
            is_listed,
            task: Arc::new(AbortOnDrop(task)),
        }
    }

    /// Reports to the cache an object as the API server returned it from a write. When this returns,
    /// every reader sees it.
    pub fn wrote(&self, object: K) {
        self.kept.change(|keeper| keeper.written(object));
    }

    /// Waits until the first list is complete.
    pub async fn ready(&self) {
        // The keeper lives as long as `self`, so it is never dropped while this waits.
        self.listed().await;
        // All changes of the first list have been passed on too once the keeper is free.
        drop(self.kept.lock());
    }

    /// Whether the first list is complete.
    pub fn is_ready(&self) -> bool {
        *self.is_listed.borrow()
    }

    /// Waits until the first list is complete, without keeping the cache; whether it ever was.
    pub(crate) fn listed(&self) -> impl Future<Output = bool> + Send + use<K> {
        let mut is_listed = self.is_listed.clone();
        async move { is_listed.wait_for(|is_listed| *is_listed).await.is_ok() }
    }

    /// Why the watch is down, if it is: the cache may be behind then.
    pub fn trouble(&self) -> Option<String> {
        self.kept.health.trouble()
    }

    /// As [`Cache::trouble`], as a sentence that names the kind.
    pub fn stale(&self) -> Option<String> {
        let trouble = self.trouble()?;
        let kind = self.kept.health.kind();
        Some(format!("the watch of {kind} is interrupted: {trouble}"))
    }

    /// Where other caches report how their watches are, which the host can do without.
    pub fn optional_health(&self) -> Health {
        self.kept.health.health().optional()
    }

    /// Waits until the first list is complete, but no longer than this.
    pub async fn ready_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ready()).await.is_ok()
    }
}

/// The kind as kubectl takes it: `Pod`, `Job.batch`.
fn kind_of<K: Resource>(dyntype: &K::DynamicType) -> String {
    let (kind, group) = (K::kind(dyntype), K::group(dyntype));
    if group.is_empty() {
        return kind.into_owned();
    }
    format!("{kind}.{group}")
}

/// What a cache and the task of its watch share.
struct Kept<K: Cached> {
    keeper: Mutex<Keeper<K>>,
    health: Arc<WatchHealth>,
    /// Asks for another list, because something panicked.
    again: Notify,
}

impl<K: Cached> Kept<K> {
    fn lock(&self) -> MutexGuard<'_, Keeper<K>> {
        // Nothing poisons it: panics are contained while it is held.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the cache. No panic gets out: what it left half done is set right by another list.
    fn change(&self, change: impl FnOnce(&mut Keeper<K>)) {
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

/// How a watch ended.
enum End {
    Failed(watcher::Error),
    /// The stream of its events ended, which it should not, or a list took too long.
    Closed,
    /// Another list was asked for.
    Again,
}

/// The task that brings what the watch reports.
struct Watch<K: Cached>(Arc<Kept<K>>);

impl<K: Cached> Watch<K> {
    /// Watches for ever. Each turn is a watch of its own, which begins with a list.
    async fn run<R: Cached>(self, api: Api<R>, read: fn(R) -> Option<K>, config: watcher::Config) {
        let (mut failures, mut panics) = (Pauses::default(), Pauses::default());
        loop {
            let turn = self.turn(
                api.clone(),
                read,
                config.clone(),
                &mut failures,
                &mut panics,
            );
            match contained(turn).await {
                Ok(End::Again) => continue,
                Ok(End::Closed) => {}
                Ok(End::Failed(error)) => self.0.health.failed(&error),
                Err(panic) => {
                    self.0.health.panicked(&panic);
                    self.0.lock().panicked(None, &panic);
                }
            }
            tokio::time::sleep(failures.next()).await;
        }
    }

    async fn turn<R: Cached>(
        &self,
        api: Api<R>,
        read: fn(R) -> Option<K>,
        config: watcher::Config,
        failures: &mut Pauses,
        panics: &mut Pauses,
    ) -> End {
        // The list that begins now serves whoever asked for one before.
        let _ = self.0.again.notified().now_or_never();
        let mut events = std::pin::pin!(watcher(api, config));
        let mut again = std::pin::pin!(async {
            self.0.again.notified().await;
            tokio::time::sleep(panics.next()).await;
        });
        let mut is_listing = true;
        loop {
            let next = async {
                if is_listing {
                    let part = tokio::time::timeout(LIST_LIMIT, events.next());
                    part.await.unwrap_or(None)
                } else {
                    events.next().await
                }
            };
            let event = tokio::select! {
                event = next => event,
                () = &mut again => return End::Again,
            };
            match event {
                Some(Ok(event)) => {
                    match event {
                        watcher::Event::Init => is_listing = true,
                        watcher::Event::InitDone => {
                            is_listing = false;
                            failures.reset();
                        }
                        watcher::Event::Apply(_)
                        | watcher::Event::Delete(_)
                        | watcher::Event::InitApply(_) => {}
                    }
                    if let Some(event) = each(event, read) {
                        self.0.change(|keeper| keeper.watched(event));
                    }
                }
                Some(Err(error)) => return End::Failed(error),
                None => return End::Closed,
            }
        }
    }
}

/// The waits after failures.
#[derive(Default)]
struct Pauses {
    failures: u32,
    last: Option<Instant>,
}

impl Pauses {
    /// The next wait: twice the last one, unless that is long ago.
    fn next(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > PAUSES.1 * 2) {
            self.reset();
        }
        let wait = PAUSES.0.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        wait.min(PAUSES.1)
    }

    fn reset(&mut self) {
        *self = Self::default();
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
    /// Reports that the first list is complete.
    listed: watch::Sender<bool>,
    store: Store<K>,
    dyntype: K::DynamicType,
    shed: Shed<K>,
    on_change: OnChange<K>,
    freshness: Freshness<ObjectRef<K>, u128>,
    health: Arc<WatchHealth>,
    /// How many panics there have been.
    panics: u64,
    /// A change may not have reached everyone: the next list is passed on as a whole.
    tell_all: bool,
    /// A change of the cache was left half done since the last list began.
    is_broken: bool,
}

impl<K: Cached> Keeper<K> {
    fn watched(&mut self, event: watcher::Event<K>) {
        let event = event.modify(|object| self.lighten(object));
        match &event {
            watcher::Event::Apply(object) => {
                let known = self.known(object);
                let before = known.as_ref().map(|known| version(&**known));
                if self.freshness.watched(before, version(object)) {
                    self.writer.apply_watcher_event(&event);
                    self.tell_of(known.as_deref(), object);
                }
            }
            watcher::Event::Delete(object) => {
                let known = self.known(object).map(|known| stamp(&*known));
                if self.freshness.deleted(known.as_ref(), &stamp(object)) {
                    self.writer.apply_watcher_event(&event);
                    self.tell(object);
                }
            }
            watcher::Event::Init => {
                self.is_broken = false;
                self.freshness.list_begins();
                self.writer.apply_watcher_event(&event);
            }
            watcher::Event::InitApply(object) => {
                self.freshness.listed(self.key(object), version(object));
                self.writer.apply_watcher_event(&event);
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
            let kept = watcher::Event::InitApply(K::clone(object));
            self.writer.apply_watcher_event(&kept);
        }
        self.writer.apply_watcher_event(&watcher::Event::InitDone);
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

    fn written(&mut self, mut object: K) {
        let (key, known) = (self.key(&object), self.known(&object));
        let before = known.as_ref().map(|known| version(&**known));
        if !self.freshness.written(&key, before, version(&object)) {
            return;
        }
        self.lighten(&mut object);
        let event = watcher::Event::Apply(object);
        self.writer.apply_watcher_event(&event);
        if let watcher::Event::Apply(object) = &event {
            self.tell_of(known.as_deref(), object);
        }
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
    fn panicked(&mut self, object: Option<&K>, panic: &str) {
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

#[cfg(test)]
mod tests;
