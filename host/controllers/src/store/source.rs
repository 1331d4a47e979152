//! What a cache is kept of, and how: begin with one of [`Cache::of`], say what is different, end with [`Source::start`].

use std::sync::{Arc, Mutex};

use kube::{
    Api, Resource,
    core::{DeserializeGuard, NamespaceScope},
    runtime::watcher,
};
use operon_core::{freshness::Freshness, namespaces::Namespaces};
use serde::Serialize;
use tokio::sync::{Notify, watch::channel};

use super::{
    AbortOnDrop, Cache, Cached, Store, Writer,
    keeper::{Keeper, Kept, OnChange, Shed},
    kind_of,
    packing::ToJson,
    watch::{Reading, Watch, readable, settle, watch_seconds},
};
use crate::health::Health;

/// How many objects a list reads at a time. What a page takes while it is read, the process keeps for good: objects
/// are many times as large then as they are afterwards, and several kinds are listed at the same time.
const PAGE: u32 = 100;

/// The objects of a cache that has not been started.
#[must_use]
pub struct Source<R, K: Cached> {
    api: Api<R>,
    /// One watch of `api`, or one in each of these.
    namespaces: Namespaces,
    /// `api` in a namespace.
    constrain: fn(Api<R>, &str) -> Api<R>,
    reading: Reading<R, K>,
    config: watcher::Config,
    dyntype: K::DynamicType,
    shed: Shed<K>,
    /// If they are compressed.
    json: Option<ToJson<K>>,
}

impl<K: Cached> Cache<K> {
    /// Of every object that `api` lists.
    pub fn of(api: Api<K>) -> Source<K, K>
    where
        K::DynamicType: Default,
    {
        Self::of_kind(api, K::DynamicType::default())
    }

    /// As [`Cache::of`], of a kind that is known only now.
    pub fn of_kind(api: Api<K>, dyntype: K::DynamicType) -> Source<K, K> {
        Source::new(api, Reading::all(), dyntype)
    }

    /// As [`Cache::of`], of a kind whose objects may have been stored before its schema was what it is now. One that
    /// can't be read is left out, with a warning: it must not keep all others away.
    pub fn guarded(api: Api<DeserializeGuard<K>>) -> Source<DeserializeGuard<K>, K>
    where
        K::DynamicType: Default,
    {
        let reading = Reading {
            read: readable,
            may_be_absent: false,
        };
        Source::new(api, reading, K::DynamicType::default())
    }
}

impl<R, K: Cached> Source<R, K> {
    fn new(api: Api<R>, reading: Reading<R, K>, dyntype: K::DynamicType) -> Self {
        Self {
            api,
            namespaces: Namespaces::all(),
            constrain: |api, _| api,
            reading,
            config: watcher::Config::default(),
            dyntype,
            shed: Arc::new(|_| {}),
            json: None,
        }
    }

    /// Only those of these namespaces: each is listed and watched by itself.
    pub fn within(mut self, namespaces: &Namespaces) -> Self
    where
        R: Resource<Scope: NamespaceScope>,
    {
        self.namespaces = namespaces.clone();
        self.constrain = |api, namespace| api.constrain(namespace);
        self
    }

    /// Only those with these labels.
    pub fn labels(mut self, selector: &str) -> Self {
        self.config = self.config.labels(selector);
        self
    }

    /// Only those with these fields.
    pub fn fields(mut self, selector: &str) -> Self {
        self.config = self.config.fields(selector);
        self
    }

    /// Takes off every object what is not read here.
    pub fn without(mut self, shed: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.shed = Arc::new(shed);
        self
    }

    /// For a kind of which a cluster has many objects: one that was not read for a while is compressed until it is read.
    pub fn packed(mut self) -> Self
    where
        K: Serialize,
    {
        self.json = Some(|object| serde_json::to_vec(object).ok());
        self
    }

    /// For a kind that the API server may not serve, now or later. While it does not, the cache is complete and empty,
    /// and the API server is asked by a watch whether it does now: as often as it would be for the watch of a kind that
    /// it serves.
    pub fn if_served(mut self) -> Self {
        self.reading.may_be_absent = true;
        self
    }

    /// Starts the watches, each of which begins again, with backoff, whatever ends it. `on_change` is called with every
    /// object that changed, or was deleted, after the store says so: by each watch in the order of its changes.
    pub fn start(
        self,
        on_change: impl Fn(&K, &Store<K>) + Send + Sync + 'static,
        health: &Health,
    ) -> Cache<K>
    where
        R: Cached<DynamicType = K::DynamicType>,
    {
        let Self {
            api,
            namespaces,
            constrain,
            reading,
            config,
            dyntype,
            shed,
            json,
        } = self;
        let store = Writer::new(json).as_reader();
        let kind = kind_of::<K>(&dyntype);
        let on_change: OnChange<K> = Arc::new(on_change);
        let apis: Vec<_> = match namespaces.names() {
            None => vec![api],
            Some(names) => names
                .iter()
                .map(|name| constrain(api.clone(), name))
                .collect(),
        };
        let mut tasks = vec![AbortOnDrop(tokio::spawn(settle(store.clone())))];
        let mut kept = Vec::new();
        for api in apis {
            let namespace = api.namespace().map(str::to_owned);
            let (listed, is_listed) = channel(false);
            let health = Arc::new(health.begin(kind.clone()));
            let keeper = Keeper {
                writer: Writer::within(store.clone(), namespace.as_deref()),
                listed,
                store: store.clone(),
                dyntype: dyntype.clone(),
                shed: Arc::clone(&shed),
                on_change: Arc::clone(&on_change),
                freshness: Freshness::default(),
                health: Arc::clone(&health),
                panics: 0,
                tell_all: false,
                is_broken: false,
            };
            let one = Arc::new(Kept {
                keeper: Mutex::new(keeper),
                is_listed,
                health,
                again: Notify::new(),
                namespace,
            });
            let seconds =
                watch_seconds(&format!("{kind}{}", one.namespace.as_deref().unwrap_or("")));
            let config = config.clone().timeout(seconds).page_size(PAGE);
            let watch = Watch(Arc::clone(&one)).run(api, reading, config);
            tasks.push(AbortOnDrop(tokio::spawn(watch)));
            kept.push(one);
        }
        Cache {
            store,
            namespaces,
            kept: kept.into(),
            health: health.clone(),
            tasks: tasks.into(),
        }
    }
}
