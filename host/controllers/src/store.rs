//! Caches of objects, kept by a watch, that also see what this process wrote.
//!
//! A cache never goes back: an older version of an object does not replace a newer one, whichever
//! arrives first, the watch, a list or the answer to our own write ([`Freshness`]). So a reconcile that
//! follows a write always sees it, and nothing is done twice because a cache lagged.
//!
//! Whatever ends a watch, an error or a panic of ours, it begins again with a list. This file is what readers
//! and writers use; `objects.rs` is the content, `entry.rs` and `packing.rs` how an object is kept, `keeper.rs` the
//! changes, and `watch.rs` the task that lists and watches.

mod entry;
mod keeper;
mod objects;
mod packing;
mod watch;

use std::{
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{Api, Resource, core::DeserializeGuard, runtime::watcher};
use operon_core::freshness::Freshness;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Notify, watch::channel};

pub(crate) use self::objects::Writer;
pub use self::{
    entry::{Entry, Labels},
    objects::Store,
};
use self::{
    keeper::{Keeper, Kept, Shed},
    packing::ToJson,
    watch::{Reading, Watch, readable, watch_seconds},
};
use crate::health::Health;

/// Called with every object that changed, or was deleted, after the store says so.
pub type OnChange<K> = Arc<dyn Fn(&K, &Store<K>) + Send + Sync>;

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
    is_listed: tokio::sync::watch::Receiver<bool>,
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

/// How many objects a list reads at a time. What a page takes while it is read, the process keeps for good: objects
/// are many times as large then as they are afterwards, and several kinds are listed at the same time.
const PAGE: u32 = 100;

/// How the objects of a kind are kept.
struct Kind<K: Cached> {
    dyntype: K::DynamicType,
    shed: Shed<K>,
    /// If they are compressed.
    json: Option<ToJson<K>>,
}

fn json<K: Serialize>(object: &K) -> Option<Vec<u8>> {
    serde_json::to_vec(object).ok()
}

/// Ends a task when this is dropped.
pub(crate) struct AbortOnDrop<T = ()>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
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
        let kind = Kind {
            dyntype,
            shed: Arc::new(shed),
            json: None,
        };
        Self::start_with(api, Reading::all(), config, kind, on_change, health)
    }

    /// As [`Cache::start_lean`], for a kind of which a cluster has many objects: one that was not read for a while is
    /// compressed until it is read.
    pub fn start_packed(
        api: Api<K>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        shed: impl Fn(&mut K) + Send + Sync + 'static,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self
    where
        K: Serialize,
    {
        let kind = Kind {
            dyntype,
            shed: Arc::new(shed),
            json: Some(json),
        };
        Self::start_with(api, Reading::all(), config, kind, on_change, health)
    }

    /// As [`Cache::start_packed`], of a kind whose objects may have been stored before its schema was what it
    /// is now. One that can't be read is left out, with a warning: it must not keep all others away.
    pub fn start_guarded(
        api: Api<DeserializeGuard<K>>,
        config: watcher::Config,
        dyntype: K::DynamicType,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self
    where
        K: Serialize,
    {
        let reading = Reading {
            read: readable,
            may_be_absent: false,
        };
        let kind = Kind {
            dyntype,
            shed: Arc::new(|_| {}),
            json: Some(json),
        };
        Self::start_with(api, reading, config, kind, on_change, health)
    }

    /// As [`Cache::start_guarded`], of a kind that the API server may not serve, now or later. While it does not,
    /// the cache is complete and empty, and the API server is asked by a watch whether it does now: as often as it
    /// would be for the watch of a kind that it serves.
    pub fn start_if_served(
        api: Api<DeserializeGuard<K>>,
        dyntype: K::DynamicType,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self {
        let reading = Reading {
            read: readable,
            may_be_absent: true,
        };
        let kind = Kind {
            dyntype,
            shed: Arc::new(|_| {}),
            json: None,
        };
        let config = watcher::Config::default();
        Self::start_with(api, reading, config, kind, on_change, health)
    }

    fn start_with<R: Cached<DynamicType = K::DynamicType>>(
        api: Api<R>,
        reading: Reading<R, K>,
        config: watcher::Config,
        kind: Kind<K>,
        on_change: OnChange<K>,
        health: &Health,
    ) -> Self {
        let Kind {
            dyntype,
            shed,
            json,
        } = kind;
        let writer = Writer::new(json);
        let store = writer.as_reader();
        let kind = kind_of::<K>(&dyntype);
        let config = config.timeout(watch_seconds(&kind)).page_size(PAGE);
        let health = Arc::new(health.begin(kind));
        let (listed, is_listed) = channel(false);
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
        let task = tokio::spawn(watch.run(api, reading, config));
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

#[cfg(test)]
mod tests;
