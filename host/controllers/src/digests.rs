//! Digests of objects by value. A change of the resource version or of `managedFields` alone is no change for an
//! action, and a typed pod holds less than the whole one.
//!
//! Each version of an object is read once. What is remembered for that is a cache: losing it costs time only.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use operon_core::{action::PodView, freshness::Stamp};
use serde::{Serialize, de::DeserializeOwned};

use crate::store::Entry;

/// How many digests one generation has. There are two: what was not used for a whole generation is forgotten.
const GENERATION: usize = 32_768;

/// The digests of versions of objects.
#[derive(Default)]
pub(crate) struct Digests(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    recent: HashMap<u64, u64>,
    older: HashMap<u64, u64>,
}

/// What is compared of an object.
#[derive(Clone, Copy, Hash)]
enum Form {
    Typed,
    Whole,
}

impl Digests {
    /// A digest of a pod in a cache as a typed record holds it. The pod is unpacked only if its digest is not known.
    pub(crate) fn typed_entry(&self, pod: &Entry<Pod>) -> u64 {
        self.known_or(key_of_entry(Form::Typed, pod), || typed(&pod.peek()))
    }

    /// A digest of a whole object.
    pub(crate) fn whole<K: Resource + Clone + Serialize>(&self, object: &K) -> u64 {
        self.known_or(key_of(Form::Whole, object), || whole(object))
    }

    /// The same of an object in a cache, which is unpacked only if its digest is not known.
    pub(crate) fn whole_entry<K>(&self, object: &Entry<K>) -> u64
    where
        K: Resource + Clone + Serialize + DeserializeOwned,
    {
        let key = key_of_entry(Form::Whole, object);
        self.known_or(key, || whole(&*object.peek()))
    }

    /// The digest of this key; without a key it is computed each time.
    fn known_or(&self, key: Option<u64>, compute: impl FnOnce() -> u64) -> u64 {
        let Some(key) = key else {
            return compute();
        };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(key);
        known.unwrap_or_else(|| {
            let value = compute();
            lock().insert(key, value);
            value
        })
    }
}

/// The key of a version of an object.
fn key_of(form: Form, object: &impl Resource) -> Option<u64> {
    let metadata = object.meta();
    let version = metadata.resource_version.as_deref();
    key(form, metadata.uid.as_deref(), version)
}

/// The same of an object in a cache, where its version is a number.
fn key_of_entry<K>(form: Form, entry: &Entry<K>) -> Option<u64> {
    let Stamp { uid, version } = entry.stamp();
    let version = (version > 0).then(|| version.to_string());
    key(form, uid, version.as_deref())
}

fn key(form: Form, uid: Option<&str>, version: Option<&str>) -> Option<u64> {
    Some(digest((form, uid?, version?)))
}

fn typed(pod: &Pod) -> u64 {
    digest(PodView {
        resource_version: String::new(),
        ..PodView::from(pod)
    })
}

fn whole<K: Resource + Clone + Serialize>(object: &K) -> u64 {
    let mut object = object.clone();
    let version = object.meta_mut().resource_version.take();
    object.meta_mut().managed_fields = None;
    let mut hashing = Hashing::default();
    match serde_json::to_writer(&mut hashing, &object) {
        Ok(()) => hashing.0.finish(),
        // No action can read it either.
        Err(_) => digest((&object.meta().uid, version)),
    }
}

impl Generations {
    fn get(&mut self, key: u64) -> Option<u64> {
        if let Some(value) = self.recent.get(&key) {
            return Some(*value);
        }
        let value = self.older.remove(&key)?;
        self.insert(key, value);
        Some(value)
    }

    fn insert(&mut self, key: u64, value: u64) {
        if self.recent.len() >= GENERATION {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, value);
    }
}

/// A digest of anything.
pub(crate) fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Hashes what is written.
#[derive(Default)]
struct Hashing(DefaultHasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Writer;

    fn pod(version: &str, edit: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "a", "uid": "uid", "resourceVersion": version, "labels": {"app": "x"},
                "managedFields": [{"manager": "kubelet", "time": "2026-01-01T00:00:00Z"}],
            },
            "spec": {"containers": [{"name": "main"}], "priority": 1},
            "status": {"phase": "Running", "conditions": [{
                "type": "Ready", "status": "True", "lastProbeTime": "2026-01-01T00:00:00Z",
            }]},
        });
        edit(&mut pod);
        serde_json::from_value(pod).expect("a pod")
    }

    fn entry(pod: &Pod) -> Arc<Entry<Pod>> {
        let mut writer = Writer::<Pod>::default();
        writer.apply_watcher_event(&Event::Apply(pod.clone()));
        writer.as_reader().entry(None, "a").expect("the pod")
    }

    #[test]
    fn a_change_counts_if_what_is_read_of_the_object_shows_it() {
        type Edit = fn(&mut Value);
        // What changes beside the resource version, and whether the typed and the whole pod show it.
        let table: [(&str, Edit, bool, bool); 5] = [
            ("nothing", |_| {}, false, false),
            (
                "managed fields",
                |pod| pod["metadata"]["managedFields"] = json!([]),
                false,
                false,
            ),
            (
                "a probe",
                |pod| pod["status"]["conditions"][0]["lastProbeTime"] = Value::Null,
                false,
                true,
            ),
            (
                "priority",
                |pod| pod["spec"]["priority"] = json!(2),
                false,
                true,
            ),
            (
                "a label",
                |pod| pod["metadata"]["labels"]["app"] = json!("y"),
                true,
                true,
            ),
        ];
        for (what, edit, typed, whole) in table {
            let digests = Digests::default();
            let (before, after) = (pod("1", |_| {}), pod("2", edit));
            let (old, new) = (entry(&before), entry(&after));
            // The second time the digests are known.
            for _ in 0..2 {
                assert_eq!(
                    digests.typed_entry(&old) != digests.typed_entry(&new),
                    typed,
                    "{what}"
                );
                assert_eq!(
                    digests.whole(&before) != digests.whole(&after),
                    whole,
                    "{what}"
                );
            }
        }
    }

    #[test]
    fn a_cached_object_has_the_digest_of_the_object() {
        let digests = Digests::default();
        for version in ["1", "2", "not a number"] {
            let pod = pod(version, |pod| {
                pod["metadata"]["labels"]["app"] = json!(version);
            });
            let entry = entry(&pod);
            let known = |form| {
                let key = key_of_entry(form, &entry)?;
                digests.0.lock().expect("no panic").get(key)
            };
            let both = (known(Form::Typed), known(Form::Whole));
            assert_eq!(both, (None, None), "{version}");
            // The second time the digests are known.
            for _ in 0..2 {
                assert_eq!(digests.typed_entry(&entry), typed(&pod), "{version}");
                assert_eq!(
                    digests.whole_entry(&entry),
                    digests.whole(&pod),
                    "{version}"
                );
            }
            let is_known = known(Form::Whole).is_some();
            assert_eq!(is_known, version != "not a number", "{version}");
        }
    }

    #[test]
    fn digests_that_are_not_used_are_forgotten() {
        let mut known = Generations::default();
        let generation = u64::try_from(GENERATION).expect("a number");
        known.insert(0, 7);
        known.insert(1, 8);
        for key in 2..=generation {
            known.insert(key, key);
        }
        assert_eq!(known.get(0), Some(7), "it is in use");
        for key in generation + 1..generation * 2 {
            known.insert(key, key);
        }
        assert_eq!((known.get(0), known.get(1)), (Some(7), None));
        assert!(known.recent.len() + known.older.len() <= 2 * GENERATION);
    }
}
