//! The objects of a cache, by namespace and name: those of a namespace are found without a look at others.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::{Resource, runtime::reflector::ObjectRef};
#[cfg(test)]
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    entry::Entry,
    packing::{Packing, ToJson},
};

/// The readable side of a cache. A clone reads the same objects.
pub struct Store<K>(Arc<Content<K>>);

struct Content<K> {
    objects: RwLock<Objects<K>>,
    packing: Packing<K>,
}

/// The writable side of a cache.
pub(crate) struct Writer<K> {
    store: Store<K>,
    /// Where its objects are, unless they are in all namespaces or in none.
    namespace: Option<Box<str>>,
    /// The objects of a list under way.
    list: Objects<K>,
}

/// Objects by namespace, which is empty for those of a cluster-scoped kind, and name.
struct Objects<K>(HashMap<Box<str>, ByName<K>>);

type ByName<K> = HashMap<Arc<str>, Arc<Entry<K>>>;

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Debug for Store<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store of {}", self.len())
    }
}

impl<K> Store<K> {
    /// The entries of a namespace, or of a cluster-scoped kind, as they are now, in no order. None of them changes
    /// when its object does: they are a view of this moment.
    pub fn entries(&self, namespace: Option<&str>) -> Vec<Arc<Entry<K>>> {
        let objects = self.read();
        let objects = objects.0.get(namespace.unwrap_or_default());
        let entries = objects.into_iter().flat_map(HashMap::values);
        entries.cloned().collect()
    }

    /// The entry of the object of this name, as it is now.
    pub fn entry(&self, namespace: Option<&str>, name: &str) -> Option<Arc<Entry<K>>> {
        let objects = self.read();
        let objects = objects.0.get(namespace.unwrap_or_default())?;
        objects.get(name).cloned()
    }

    /// All entries, as they are now.
    fn all(&self) -> Vec<Arc<Entry<K>>> {
        let objects = self.read();
        let all = objects.0.values().flat_map(HashMap::values);
        all.cloned().collect()
    }

    /// All entries with the namespaces of their objects, or those of this namespace, as they are now.
    fn placed(&self, within: Option<&str>) -> Vec<(Option<String>, Arc<Entry<K>>)> {
        let objects = self.read();
        let objects = objects.0.iter();
        let objects = objects.filter(|(namespace, _)| within.is_none_or(|it| it == &***namespace));
        let namespaced = objects.flat_map(|(namespace, objects)| {
            let namespace = (!namespace.is_empty()).then(|| namespace.to_string());
            objects
                .values()
                .map(move |entry| (namespace.clone(), Arc::clone(entry)))
        });
        namespaced.collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().0.values().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().0.is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.0
            .objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.0
            .objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: DeserializeOwned> Store<K> {
    /// The object of this name, as it is now.
    pub fn get(&self, named: &ObjectRef<K>) -> Option<Arc<K>>
    where
        K: Resource,
    {
        let entry = self.entry(named.namespace.as_deref(), &named.name)?;
        Some(entry.get())
    }

    /// The objects of a namespace, or of a cluster-scoped kind, as they are now, in no order.
    pub fn within(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let entries = self.entries(namespace);
        entries.iter().map(|entry| entry.get()).collect()
    }

    /// All objects, as they are now, in no order. For kinds of which there are few.
    pub fn state(&self) -> Vec<Arc<K>> {
        self.all().iter().map(|entry| entry.get()).collect()
    }

    /// All objects for which this holds, as they are now, in no order. For kinds of which there are few.
    pub fn state_filter(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let mut objects = self.state();
        objects.retain(|object| is_wanted(object));
        objects
    }

    /// The objects that have this label, as they are now, in no order.
    pub fn labelled(&self, label: &str) -> Vec<Arc<K>> {
        let labelled = self.all().into_iter();
        let labelled = labelled.filter(|entry| entry.labels().get(label).is_some());
        labelled.map(|entry| entry.peek()).collect()
    }

    /// Compresses the objects that were not read since the previous call.
    pub(super) fn settle(&self) {
        for entry in self.all() {
            entry.settle(&self.0.packing);
        }
    }

    /// Compresses an object.
    pub(super) fn pack(&self, entry: &Entry<K>) {
        entry.pack(&self.0.packing);
    }
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K> Objects<K> {
    fn put(&mut self, namespace: Option<&str>, entry: Arc<Entry<K>>) {
        let namespace = namespace.unwrap_or_default();
        if !self.0.contains_key(namespace) {
            self.0.insert(namespace.into(), HashMap::new());
        }
        if let Some(objects) = self.0.get_mut(namespace) {
            objects.insert(Arc::clone(entry.name()), entry);
        }
    }

    fn remove(&mut self, namespace: Option<&str>, name: &str) {
        let namespace = namespace.unwrap_or_default();
        if let Some(objects) = self.0.get_mut(namespace) {
            objects.remove(name);
            if objects.is_empty() {
                self.0.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
impl<K: Serialize> Default for Writer<K> {
    fn default() -> Self {
        Self::new(Some(|object| serde_json::to_vec(object).ok()))
    }
}

impl<K> Writer<K> {
    /// No objects yet. They are packed if there is a way to write them.
    pub(super) fn new(json: Option<ToJson<K>>) -> Self {
        let content = Content {
            objects: RwLock::new(Objects::default()),
            packing: Packing::new(json),
        };
        Self::within(Store(Arc::new(content)), None)
    }

    /// Writes the objects of one namespace, or all of them. Others may write those of other namespaces to the same
    /// store.
    pub(super) fn within(store: Store<K>, namespace: Option<&str>) -> Self {
        Self {
            store,
            namespace: namespace.map(Box::from),
            list: Objects::default(),
        }
    }

    /// What readers see.
    pub(crate) fn as_reader(&self) -> Store<K> {
        self.store.clone()
    }

    /// The entries that it writes, with the namespaces of their objects, as they are now.
    pub(super) fn placed(&self) -> Vec<(Option<String>, Arc<Entry<K>>)> {
        self.store.placed(self.namespace.as_deref())
    }

    /// An object is new or changed.
    pub(super) fn put(&mut self, namespace: Option<&str>, entry: Arc<Entry<K>>) {
        self.store.write().put(namespace, entry);
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, namespace: Option<&str>, name: &str) {
        self.store.write().remove(namespace, name);
    }

    /// A list begins: nothing changes until its end.
    pub(super) fn list_begins(&mut self) {
        self.list = Objects::default();
    }

    /// An object is in the list.
    pub(super) fn list_has(&mut self, namespace: Option<&str>, entry: Arc<Entry<K>>) {
        self.list.put(namespace, entry);
    }

    /// The list is complete, and becomes the content, or that of the namespace.
    pub(super) fn list_ends(&mut self) {
        let list = std::mem::take(&mut self.list);
        let mut objects = self.store.write();
        match &self.namespace {
            None => *objects = list,
            Some(namespace) => {
                objects.0.remove(namespace);
                objects.0.extend(list.0);
            }
        }
    }

    /// What a watch reports changes the content, whatever its order.
    #[cfg(test)]
    pub(crate) fn apply_watcher_event(&mut self, event: &kube::runtime::watcher::Event<K>)
    where
        K: Resource + Clone,
    {
        use kube::runtime::watcher::Event;
        let entry = |object: &K| Arc::new(Entry::new(object.clone()));
        match event {
            Event::Apply(object) => self.put(object.meta().namespace.as_deref(), entry(object)),
            Event::Delete(object) => {
                let (namespace, entry) = (object.meta().namespace.as_deref(), entry(object));
                self.remove(namespace, entry.name());
            }
            Event::Init => self.list_begins(),
            Event::InitApply(object) => {
                self.list_has(object.meta().namespace.as_deref(), entry(object));
            }
            Event::InitDone => self.list_ends(),
        }
    }
}
