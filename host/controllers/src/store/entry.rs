//! One version of an object in a cache. It is whole while it is read, and otherwise compressed: most objects of a
//! cluster are never read. What it is found by can always be read.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{Resource, ResourceExt};
use operon_core::{freshness::Stamp, selector::Selector};
use serde::de::DeserializeOwned;

use super::packing::{Packed, Packing};

/// One version of an object.
pub struct Entry<K> {
    /// Shared with the place where the entry is found.
    name: Arc<str>,
    labels: Labels,
    /// A digest of the owner references.
    owners: u64,
    uid: Option<Box<str>>,
    version: u128,
    is_being_deleted: bool,
    held: Mutex<Held<K>>,
}

/// At least one of the two is there.
struct Held<K> {
    whole: Option<Arc<K>>,
    packed: Option<Packed>,
    /// It was read since [`Entry::settle`] was called last.
    is_read: bool,
    /// It would not be the same when it is unpacked.
    stays_whole: bool,
}

/// The labels of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(
    /// `key=value`, with commas between them, none of which is a part of a key or a value.
    Box<str>,
);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find_map(|(found, value)| (found == key).then_some(value))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split(',').filter_map(|label| label.split_once('='))
    }
}

impl<K: Resource> Entry<K> {
    pub(super) fn new(object: K) -> Self {
        let labels = object
            .labels()
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let labels: Vec<_> = labels.collect();
        let metadata = object.meta();
        let owners = metadata.owner_references.as_ref();
        let owners = owners
            .into_iter()
            .flatten()
            .map(|owner| (&owner.uid, owner.controller));
        let mut digest = DefaultHasher::new();
        owners.collect::<Vec<_>>().hash(&mut digest);
        let version = metadata.resource_version.as_deref();
        Self {
            name: metadata.name.as_deref().unwrap_or_default().into(),
            labels: Labels(labels.join(",").into()),
            owners: digest.finish(),
            uid: metadata.uid.as_deref().map(Box::from),
            version: version
                .and_then(|version| version.parse().ok())
                .unwrap_or(0),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            held: Mutex::new(Held {
                whole: Some(Arc::new(object)),
                packed: None,
                is_read: true,
                stays_whole: false,
            }),
        }
    }
}

impl<K> Entry<K> {
    /// The object's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The object's labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether a label selector matches the object.
    pub fn is_selected(&self, selector: &Selector) -> bool {
        selector.matches_by(|key| self.labels.get(key))
    }

    /// The object's uid.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// Whether the object has a deletion timestamp.
    pub fn is_being_deleted(&self) -> bool {
        self.is_being_deleted
    }

    /// Which object it is, and its version as a number: the API server's versions of one kind are ordered that way. A
    /// version that is missing, or no number, is 0.
    pub(crate) fn stamp(&self) -> Stamp<Option<&str>, u128> {
        Stamp {
            uid: self.uid.as_deref(),
            version: self.version,
        }
    }

    /// Whether a later version of the object, or another object of its name, is not found by all that this one is: it
    /// is another object, or it has other labels or owners.
    pub(super) fn is_found_otherwise(&self, now: &Self) -> bool {
        (&self.uid, &self.labels, self.owners) != (&now.uid, &now.labels, now.owners)
    }

    fn held(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: DeserializeOwned> Entry<K> {
    /// The object, which stays whole for a while: for whoever reads it again and again.
    pub fn get(&self) -> Arc<K> {
        let mut held = self.held();
        held.is_read = true;
        let whole = self.whole(&held);
        held.whole = Some(Arc::clone(&whole));
        whole
    }

    /// The object, which does not stay whole for this: for whoever may read any number of them.
    pub fn peek(&self) -> Arc<K> {
        self.whole(&self.held())
    }

    fn whole(&self, held: &Held<K>) -> Arc<K> {
        if let Some(whole) = &held.whole {
            return Arc::clone(whole);
        }
        let Some(object) = held.packed.as_ref().and_then(unpacked) else {
            unreachable!("{} was unpacked when it was packed", self.name);
        };
        Arc::new(object)
    }

    /// Compresses the object, and lets go of the whole one, unless it would not be the same afterwards.
    pub(super) fn pack(&self, packing: &Packing<K>) {
        let mut held = self.held();
        if held.stays_whole {
            return;
        }
        if held.packed.is_none() {
            let json = held.whole.as_ref().and_then(|whole| packing.json(whole));
            held.packed = json.and_then(|json| {
                let packed = packing.samples.pack(&json);
                let same = unpacked(&packed).and_then(|unpacked| packing.json(&unpacked));
                (same == Some(json)).then_some(packed)
            });
            held.stays_whole = held.packed.is_none();
        }
        if held.packed.is_some() {
            held.whole = None;
            held.is_read = false;
        }
    }

    /// Compresses the object unless it was read since the previous call.
    pub(super) fn settle(&self, packing: &Packing<K>) {
        let mut held = self.held();
        if held.whole.is_none() || std::mem::take(&mut held.is_read) {
            return;
        }
        drop(held);
        self.pack(packing);
    }

    /// Whether only the compressed object is kept.
    #[cfg(test)]
    pub(super) fn is_packed(&self) -> bool {
        self.held().whole.is_none()
    }
}

fn unpacked<K: DeserializeOwned>(packed: &Packed) -> Option<K> {
    let json = packed.json().ok()?;
    serde_json::from_slice(&json).ok()
}
