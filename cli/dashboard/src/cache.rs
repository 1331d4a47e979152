//! The objects of all kinds, kept by one watch for each kind, which all pages share.
//!
//! A kind that may not be listed in all namespaces is watched in the namespace of the context. A watch that broke starts
//! again with a list: only a complete list shows that the cache follows the cluster again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, pin_mut};
use kube::{
    api::DynamicObject,
    runtime::watcher::{self, Event, watcher},
};
use operon_cli_cluster::{Cluster, Failure};
use tokio::{sync::watch, time::timeout};

use crate::shown::{Shown, What};

/// How long a list may take.
const LIST: Duration = Duration::from_secs(20);

/// How long one request of a watch lasts, in seconds. A connection that died unnoticed is noticed soon after that.
const WATCH: u32 = 60;

/// The pause before a watch that failed starts again; it doubles with each failure.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15);

/// Namespace and name.
pub(crate) type Key = (String, String);

/// What is known of a kind.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// How often it changed.
    pub(crate) version: u64,
    /// The objects; why one cannot be read, if so.
    pub(crate) objects: BTreeMap<Key, Result<Shown, String>>,
    /// Why only one namespace is watched.
    pub(crate) narrowed: Option<String>,
    pub(crate) link: Link,
}

/// Whether the objects are those of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    /// They are being listed for the first time.
    #[default]
    Listing,
    /// They are.
    Live,
    /// The cluster does not serve the kind.
    Unserved,
    /// They may be old, or were never listed: why.
    Lost(String),
}

/// The cache. Its watches end with the program.
pub(crate) struct Cache {
    /// In the order of [`What::ALL`].
    known: watch::Sender<Vec<Known>>,
}

/// Why a watch ended.
enum End {
    /// It was interrupted.
    Interrupted,
    /// It cannot go on.
    Failed(Failure),
}

impl Cache {
    /// Watches all kinds, in all namespaces or in that of the cluster.
    pub(crate) fn start(cluster: &Cluster, is_everywhere: bool) -> Arc<Self> {
        let known = vec![Known::default(); What::ALL.len()];
        let cache = Arc::new(Self {
            known: watch::Sender::new(known),
        });
        for (place, what) in What::ALL.into_iter().enumerate() {
            let namespace = (!is_everywhere).then(|| cluster.namespace.clone());
            let keep = Arc::clone(&cache).keep(place, what, cluster.clone(), namespace);
            tokio::spawn(keep);
        }
        cache
    }

    /// Every kind with what is known of it; the receiver also says when that changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Vec<Known>> {
        self.known.subscribe()
    }

    /// Waits until all kinds were listed, or cannot be, but not longer than this.
    pub(crate) async fn settle(&self, limit: Duration) {
        let mut known = self.subscribe();
        let is_settled = |all: &Vec<Known>| all.iter().all(|one| one.link != Link::Listing);
        let settled = known.wait_for(is_settled);
        // What is still being listed when the time is up is shown as such.
        let _ = timeout(limit, settled).await;
    }

    async fn keep(
        self: Arc<Self>,
        place: usize,
        what: What,
        cluster: Cluster,
        mut namespace: Option<String>,
    ) {
        let mut pause = SHORTEST;
        loop {
            let end = self
                .follow(place, what, &cluster, namespace.as_deref())
                .await;
            match end {
                End::Interrupted => pause = SHORTEST,
                End::Failed(failure) if is_to_narrow(&failure, what) && namespace.is_none() => {
                    namespace = Some(cluster.namespace.clone());
                    self.change(place, |known| known.narrowed = Some(failure.to_string()));
                    continue;
                }
                End::Failed(failure) => {
                    self.change(place, |known| {
                        if failure.is_unknown_kind() {
                            known.link = Link::Unserved;
                            known.objects.clear();
                        } else {
                            known.link = Link::Lost(failure.to_string());
                        }
                    });
                    pause = (pause * 2).min(LONGEST);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Lists and watches until that fails.
    async fn follow(
        &self,
        place: usize,
        what: What,
        cluster: &Cluster,
        namespace: Option<&str>,
    ) -> End {
        let config = watcher::Config::default().timeout(WATCH);
        let events = watcher(what.api(cluster, namespace), config);
        pin_mut!(events);
        let mut listed = Some(BTreeMap::new());
        loop {
            let next = if listed.is_some() {
                match timeout(LIST, events.next()).await {
                    Ok(next) => next,
                    Err(_) => return End::Failed(Failure::NoAnswer(LIST)),
                }
            } else {
                events.next().await
            };
            match next {
                Some(Ok(Event::Init)) => listed = Some(BTreeMap::new()),
                Some(Ok(Event::InitApply(object))) => {
                    if let Some(listed) = &mut listed {
                        listed.insert(key(&object), read(what, &object));
                    }
                }
                Some(Ok(Event::InitDone)) => {
                    let objects = listed.take().unwrap_or_default();
                    self.change(place, |known| {
                        known.objects = objects;
                        known.link = Link::Live;
                    });
                }
                Some(Ok(Event::Apply(object))) => {
                    let read = read(what, &object);
                    self.change(place, |known| {
                        known.objects.insert(key(&object), read);
                    });
                }
                Some(Ok(Event::Delete(object))) => self.change(place, |known| {
                    known.objects.remove(&key(&object));
                }),
                Some(Err(error)) => {
                    return Failure::of_watch(error).map_or(End::Interrupted, End::Failed);
                }
                None => return End::Interrupted,
            }
        }
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Known)) {
        self.known.send_modify(|all| {
            if let Some(known) = all.get_mut(place) {
                change(known);
                known.version += 1;
            }
        });
    }
}

/// What is known of a kind.
pub(crate) fn of(all: &[Known], what: What) -> Option<&Known> {
    let place = What::ALL.iter().position(|one| *one == what)?;
    all.get(place)
}

/// Whether a list of one namespace may be permitted.
fn is_to_narrow(failure: &Failure, what: What) -> bool {
    matches!(failure, Failure::Refused { code: 403, .. }) && matches!(what, What::Ours(_))
}

fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn read(what: What, object: &DynamicObject) -> Result<Shown, String> {
    what.parsed(object).map_err(|error| format!("{error:#}"))
}
