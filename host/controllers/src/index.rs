//! Objects of a cache by a key that is read from them, so that finding a few does not scan all.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use kube::{Resource, runtime::reflector::ObjectRef};

use crate::store::{Cached, Store};

/// The keys of an object; it is found by each of them.
pub type Keys<K> = fn(&K) -> BTreeSet<String>;

/// References to the objects of one cache, by key. The cache reports every change to it.
pub struct Index<K: Cached + Resource<DynamicType = ()>> {
    keys: Keys<K>,
    content: RwLock<Content<K>>,
}

struct Content<K: Cached + Resource<DynamicType = ()>> {
    objects: HashMap<String, HashSet<ObjectRef<K>>>,
    keys: HashMap<ObjectRef<K>, BTreeSet<String>>,
}

impl<K: Cached + Resource<DynamicType = ()>> Index<K> {
    /// An empty index.
    pub fn new(keys: Keys<K>) -> Self {
        let content = Content {
            objects: HashMap::new(),
            keys: HashMap::new(),
        };
        Self {
            keys,
            content: RwLock::new(content),
        }
    }

    /// An object changed or is gone, and the store says so already. Returns the keys by which it is not
    /// found any more.
    pub fn changed(&self, object: &K, store: &Store<K>) -> BTreeSet<String> {
        let reference = ObjectRef::from_obj(object);
        let keys = store
            .get(&reference)
            .map(|now| (self.keys)(&now))
            .unwrap_or_default();
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.set(reference, keys)
    }

    /// The objects of this key.
    pub fn get(&self, key: &str, store: &Store<K>) -> Vec<Arc<K>> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let references = content.objects.get(key).into_iter().flatten();
        references
            .filter_map(|reference| store.get(reference))
            .collect()
    }
}

impl<K: Cached + Resource<DynamicType = ()>> Content<K> {
    fn set(&mut self, reference: ObjectRef<K>, keys: BTreeSet<String>) -> BTreeSet<String> {
        if self.keys.get(&reference) == Some(&keys) {
            return BTreeSet::new();
        }
        let mut former = self.keys.remove(&reference).unwrap_or_default();
        for key in &former {
            if let Some(objects) = self.objects.get_mut(key) {
                objects.remove(&reference);
                if objects.is_empty() {
                    self.objects.remove(key);
                }
            }
        }
        for key in &keys {
            self.objects
                .entry(key.clone())
                .or_default()
                .insert(reference.clone());
            former.remove(key);
        }
        if !keys.is_empty() {
            self.keys.insert(reference, keys);
        }
        former
    }
}
