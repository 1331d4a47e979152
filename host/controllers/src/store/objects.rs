//! The objects of a cache, by namespace and name: those of a namespace are found without a look at others.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::{Resource, runtime::reflector::ObjectRef};

/// The readable side of a cache. A clone reads the same objects.
pub struct Store<K>(Arc<RwLock<Objects<K>>>);

/// The writable side of a cache.
pub(crate) struct Writer<K> {
    store: Store<K>,
    /// The objects of a list under way.
    list: Objects<K>,
}

/// Objects by namespace, which is empty for those of a cluster-scoped kind, and name.
struct Objects<K>(HashMap<Box<str>, HashMap<Box<str>, Arc<K>>>);

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
    /// The object of this name, as it is now.
    pub fn get(&self, named: &ObjectRef<K>) -> Option<Arc<K>>
    where
        K: Resource,
    {
        let namespace = named.namespace.as_deref().unwrap_or_default();
        let objects = self.read();
        objects.0.get(namespace)?.get(&*named.name).cloned()
    }

    /// The objects of a namespace, or of a cluster-scoped kind, as they are now, in no order.
    pub fn within(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let objects = self.read();
        let objects = objects.0.get(namespace.unwrap_or_default());
        objects
            .into_iter()
            .flat_map(HashMap::values)
            .cloned()
            .collect()
    }

    /// All objects, as they are now, in no order.
    pub fn state(&self) -> Vec<Arc<K>> {
        self.state_filter(|_| true)
    }

    /// All objects for which this holds, as they are now, in no order.
    pub fn state_filter(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.read();
        let all = objects.0.values().flat_map(HashMap::values);
        all.filter(|object| is_wanted(object)).cloned().collect()
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
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Resource> Objects<K> {
    fn put(&mut self, object: Arc<K>) {
        let (namespace, name) = place(&*object);
        let (namespace, name) = (namespace.into(), name.into());
        self.0.entry(namespace).or_default().insert(name, object);
    }

    fn remove(&mut self, object: &K) {
        let (namespace, name) = place(object);
        if let Some(objects) = self.0.get_mut(namespace) {
            objects.remove(name);
            if objects.is_empty() {
                self.0.remove(namespace);
            }
        }
    }
}

fn place<K: Resource>(object: &K) -> (&str, &str) {
    let metadata = object.meta();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    (namespace, metadata.name.as_deref().unwrap_or_default())
}

impl<K> Default for Writer<K> {
    fn default() -> Self {
        Self {
            store: Store(Arc::default()),
            list: Objects::default(),
        }
    }
}

impl<K: Resource> Writer<K> {
    /// What readers see.
    pub(crate) fn as_reader(&self) -> Store<K> {
        self.store.clone()
    }

    /// An object is new or changed.
    pub(super) fn put(&mut self, object: Arc<K>) {
        self.store.write().put(object);
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, object: &K) {
        self.store.write().remove(object);
    }

    /// A list begins: nothing changes until its end.
    pub(super) fn list_begins(&mut self) {
        self.list = Objects::default();
    }

    /// An object is in the list.
    pub(super) fn list_has(&mut self, object: Arc<K>) {
        self.list.put(object);
    }

    /// The list is complete, and becomes the content.
    pub(super) fn list_ends(&mut self) {
        *self.store.write() = std::mem::take(&mut self.list);
    }

    /// What a watch reports changes the content, whatever its order.
    #[cfg(test)]
    pub(crate) fn apply_watcher_event(&mut self, event: &kube::runtime::watcher::Event<K>)
    where
        K: Clone,
    {
        use kube::runtime::watcher::Event;
        match event {
            Event::Apply(object) => self.put(Arc::new(object.clone())),
            Event::Delete(object) => self.remove(object),
            Event::Init => self.list_begins(),
            Event::InitApply(object) => self.list_has(Arc::new(object.clone())),
            Event::InitDone => self.list_ends(),
        }
    }
}
