//! Caches of objects, kept by a watch, that also see what this process wrote.
//!
//! A cache never goes back: an older version of an object does not replace a newer one, whichever
//! arrives first, the watch, a list or the answer to our own write ([`Freshness`]). So a reconcile that
//! follows a write always sees it, and nothing is done twice because a cache lagged.
//!
//! Whatever ends a watch, an error or a panic of ours, it begins again with a list. This file is what readers
//! and writers use; `source.rs` starts a cache, `objects.rs` is the content, `entry.rs` and `packing.rs` how an object is kept, `keeper.rs` the
//! changes, and `watch.rs` the task that lists and watches.

mod entry;
mod keeper;
mod objects;
mod packing;
mod source;
mod watch;

use std::{fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use kube::Resource;
use operon_core::namespaces::Namespaces;
use serde::de::DeserializeOwned;

use self::keeper::Kept;
pub(crate) use self::objects::Writer;
pub use self::{
    entry::{Entry, Labels},
    objects::Store,
    source::Source,
};
use crate::health::Health;

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

/// A cache being kept, begun by [`Cache::of`]: read it by `store`, report a write to it by [`Cache::wrote`]. Dropping
/// the last clone ends the watches.
pub struct Cache<K: Cached> {
    /// The readable side.
    pub store: Store<K>,
    namespaces: Namespaces,
    /// One for each watch: of all objects, or of those of one namespace.
    kept: Arc<[Arc<Kept<K>>]>,
    health: Health,
    tasks: Arc<[AbortOnDrop]>,
}

impl<K: Cached> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            namespaces: self.namespaces.clone(),
            kept: Arc::clone(&self.kept),
            health: self.health.clone(),
            tasks: Arc::clone(&self.tasks),
        }
    }
}

/// Ends a task when this is dropped.
pub(crate) struct AbortOnDrop<T = ()>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K: Cached> Cache<K> {
    /// Reports to the cache an object as the API server returned it from a write. When this returns,
    /// every reader sees it.
    pub fn wrote(&self, object: K) {
        let namespace = object.meta().namespace.as_deref();
        if let Some(one) = self.watch_of(namespace) {
            one.change(|keeper| keeper.written(object));
        }
    }

    /// The watch that sees the objects of a namespace, or cluster-scoped ones.
    fn watch_of(&self, namespace: Option<&str>) -> Option<&Arc<Kept<K>>> {
        self.kept.iter().find(|one| {
            let watched = one.namespace.as_deref();
            watched.is_none() || watched == namespace
        })
    }

    /// Waits until the first list of each watch is complete.
    pub async fn ready(&self) {
        // The keepers live as long as `self`, so none is dropped while this waits.
        self.listed().await;
        // All changes of the first lists have been passed on too once the keepers are free.
        for one in &*self.kept {
            drop(one.lock());
        }
    }

    /// Whether the first list of each watch is complete.
    pub fn is_ready(&self) -> bool {
        self.kept.iter().all(|one| *one.is_listed.borrow())
    }

    /// Waits until the first list of each watch is complete, without keeping the cache; whether they ever were.
    pub(crate) fn listed(&self) -> impl Future<Output = bool> + Send + use<K> {
        let watches: Vec<_> = self.kept.iter().map(|one| one.is_listed.clone()).collect();
        async move {
            for mut is_listed in watches {
                if is_listed.wait_for(|is_listed| *is_listed).await.is_err() {
                    return false;
                }
            }
            true
        }
    }

    /// Why a watch is down, if one is: the cache may be behind then.
    pub fn trouble(&self) -> Option<String> {
        self.kept.iter().find_map(|one| one.health.trouble())
    }

    /// Why the watch of this namespace is down, if it is, as a sentence that names the kind. The watches of other
    /// namespaces do not matter.
    pub fn stale(&self, namespace: &str) -> Option<String> {
        let one = self.watch_of(Some(namespace))?;
        let (kind, trouble) = (one.health.kind(), one.health.trouble()?);
        Some(format!("the watch of {kind} is interrupted: {trouble}"))
    }

    /// The namespaces with the objects that it has.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Where other caches report how their watches are, which the host can do without.
    pub fn optional_health(&self) -> Health {
        self.health.optional()
    }

    /// Waits until the first list is complete, but no longer than this.
    pub async fn ready_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ready()).await.is_ok()
    }
}

/// The kind as kubectl takes it: `Pod`, `Job.batch`.
pub(crate) fn kind_of<K: Resource>(dyntype: &K::DynamicType) -> String {
    let (kind, group) = (K::kind(dyntype), K::group(dyntype));
    if group.is_empty() {
        return kind.into_owned();
    }
    format!("{kind}.{group}")
}

#[cfg(test)]
mod tests;
