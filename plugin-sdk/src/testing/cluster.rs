//! The fake cluster: objects as JSON, a clock, and the changes that a test makes behind the action's back.
//! One namespace. Reading is the action's [`Cluster`] trait; performing effects is `effects.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::effects::Write;
use super::replica_set::Backoff;
use super::selector;
use crate::{Cluster, Event, JobState, ObjectReference, Pod, ReadError, time};

/// Kind, API version, name.
type Key = (String, String, String);

/// Objects, a clock, and the history of writes.
#[derive(Debug, Clone)]
pub struct FakeCluster {
    objects: BTreeMap<Key, Value>,
    now: i64,
    last_version: u64,
    last_uid: u64,
    /// The jobs that exist, by uid.
    jobs: BTreeMap<String, JobState>,
    /// The kinds that the API server does not serve: API version, kind.
    not_served: BTreeSet<(String, String)>,
    /// Every name that an object has had.
    pub(super) names: BTreeSet<String>,
    pub(super) writes: Vec<Write>,
    pub(super) events: Vec<Event>,
    /// How long each `ReplicaSet` backs off that a quota refused a pod, by name.
    pub(super) backoff: BTreeMap<String, Backoff>,
}

impl Default for FakeCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeCluster {
    /// An empty world, some while after the epoch.
    pub fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            now: 1_000_000,
            last_version: 0,
            last_uid: 0,
            jobs: BTreeMap::new(),
            not_served: BTreeSet::new(),
            names: BTreeSet::new(),
            writes: Vec::new(),
            events: Vec::new(),
            backoff: BTreeMap::new(),
        }
    }

    /// The world's clock, in seconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Advances the time.
    pub fn advance(&mut self, seconds: i64) {
        self.now += seconds;
    }

    /// A job of this uid exists from now on. A [`FakeJob`](super::FakeJob) adds itself.
    pub fn add_job(&mut self, uid: &str) {
        self.jobs.insert(uid.to_owned(), JobState::Active);
    }

    /// The job of this uid has finished, and has nothing left to release.
    pub fn finish_job(&mut self, uid: &str) {
        self.jobs.insert(uid.to_owned(), JobState::Finished);
    }

    /// The job of this uid is deleted, whatever it left behind.
    pub fn remove_job(&mut self, uid: &str) {
        self.jobs.remove(uid);
    }

    /// The API server does not serve this kind.
    pub fn stop_serving(&mut self, api_version: &str, kind: &str) {
        let kind = (api_version.to_owned(), kind.to_owned());
        self.not_served.insert(kind);
    }

    fn check_served(&self, api_version: &str, kind: &str) -> Result<(), ReadError> {
        let wanted = (api_version.to_owned(), kind.to_owned());
        if self.not_served.contains(&wanted) {
            return Err(ReadError::NotServed(format!("{api_version}/{kind}")));
        }
        Ok(())
    }

    /// Every write by effects, oldest first.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Every event that effects sent, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Puts an object into the world, complete with uid, resource version and creation time where it
    /// has none; replaces one of its kind and name.
    pub fn put(&mut self, mut object: Value) {
        self.last_version += 1;
        let created = time::format(self.now);
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            self.last_uid += 1;
            metadata["uid"] = format!("uid-{}", self.last_uid).into();
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = created.into();
        }
        metadata["resourceVersion"] = self.last_version.to_string().into();
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (
            part(&object["kind"]),
            part(&object["apiVersion"]),
            part(&object["metadata"]["name"]),
        );
        self.names.insert(key.2.clone());
        self.objects.insert(key, object);
    }

    /// Adds a running pod with one container, that is ready since now. `metadata` adds labels,
    /// annotations, owner references.
    pub fn add_pod(&mut self, name: &str, metadata: &Value) -> Pod {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "app:1"}]},
            "status": {"phase": "Pending"}
        });
        merge(&mut object["metadata"], metadata);
        self.put(object);
        self.make_ready(name);
        self.expect_pod(name)
    }

    /// Every object, by kind, API version and name.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.objects.values()
    }

    /// The object as it is.
    pub fn object(&self, api_version: &str, kind: &str, name: &str) -> Option<&Value> {
        let key = (kind.to_owned(), api_version.to_owned(), name.to_owned());
        self.objects.get(&key)
    }

    /// The pod of this name.
    pub fn pod(&self, name: &str) -> Option<Pod> {
        self.object("v1", "Pod", name).and_then(Pod::from_object)
    }

    /// All pods, by name.
    pub fn pods(&self) -> Vec<Pod> {
        self.find_pods("").unwrap_or_default()
    }

    /// The names of the pods that are not being deleted.
    pub fn staying_pods(&self) -> Vec<String> {
        let staying = self.pods().into_iter().filter(|pod| !pod.deleting);
        staying.map(|pod| pod.name).collect()
    }

    /// Changes an object by a merge patch, as any other client of the cluster might.
    ///
    /// # Panics
    /// If the object is not there: the test is wrong.
    pub fn change(&mut self, api_version: &str, kind: &str, name: &str, patch: &Value) {
        let found = self.object(api_version, kind, name).cloned();
        let mut object = found.expect("the test changes an object that exists");
        merge(&mut object, patch);
        self.put(object);
    }

    /// Changes a pod by a merge patch.
    pub fn change_pod(&mut self, name: &str, patch: &Value) {
        self.change("v1", "Pod", name, patch);
    }

    /// The pod runs and is ready, since now.
    pub fn make_ready(&mut self, name: &str) {
        self.set_state(name, "Running", true);
    }

    /// The pod runs but is not ready, since now.
    pub fn make_unready(&mut self, name: &str) {
        self.set_state(name, "Running", false);
    }

    /// The pod ends: `Succeeded` or `Failed`.
    pub fn end_pod(&mut self, name: &str, phase: &str) {
        self.set_state(name, phase, false);
    }

    fn set_state(&mut self, name: &str, phase: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let since = time::format(self.now);
        if self.expect_pod(name).node.is_none() {
            self.change_pod(name, &json!({"spec": {"nodeName": "node-1"}}));
        }
        self.change_pod(
            name,
            &json!({"status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": since}
            ]}}),
        );
    }

    /// Requests the pod's graceful deletion; the pod disappears at
    /// [`finish_deletions`](Self::finish_deletions).
    pub fn start_deleting(&mut self, name: &str) {
        let deleted = time::format(self.now);
        self.change_pod(name, &json!({"metadata": {"deletionTimestamp": deleted}}));
    }

    /// The kubelet's part: every pod that is being deleted, and has no finalizer, disappears.
    pub fn finish_deletions(&mut self) {
        self.objects.retain(|_, object| {
            let metadata = &object["metadata"];
            let held = metadata["finalizers"]
                .as_array()
                .is_some_and(|list| !list.is_empty());
            metadata["deletionTimestamp"].is_null() || held
        });
    }

    /// Removes an object immediately.
    pub fn remove(&mut self, api_version: &str, kind: &str, name: &str) {
        let key = (kind.to_owned(), api_version.to_owned(), name.to_owned());
        self.objects.remove(&key);
    }

    /// Removes a pod immediately.
    pub fn remove_pod(&mut self, name: &str) {
        self.remove("v1", "Pod", name);
    }

    /// The pod, which the test knows to be there.
    ///
    /// # Panics
    /// If it is not: the test is wrong.
    pub fn expect_pod(&self, name: &str) -> Pod {
        self.pod(name).expect("the test names a pod that exists")
    }

    pub(super) fn objects_of(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let objects = self.objects.iter();
        let chosen = objects.filter(|((k, version, _), _)| k == kind && version == api_version);
        chosen.map(|(_, object)| object.clone()).collect()
    }
}

impl Cluster for FakeCluster {
    fn get(&self, object: &ObjectReference) -> Result<Option<Value>, ReadError> {
        self.check_served(&object.api_version, &object.kind)?;
        let found = self.object(&object.api_version, &object.kind, &object.name);
        Ok(found.cloned())
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<Value>, ReadError> {
        self.check_served(api_version, kind)?;
        let mut found = Vec::new();
        for object in self.objects_of(api_version, kind) {
            let labels = &object["metadata"]["labels"];
            let matches = selector::matches(label_selector, |key| labels[key].as_str());
            match matches {
                Some(true) => found.push(object),
                Some(false) => {}
                None => return Err(ReadError::BadSelector(label_selector.to_owned())),
            }
        }
        Ok(found)
    }

    fn find_pods(&self, label_selector: &str) -> Result<Vec<Pod>, ReadError> {
        let found = self.find("v1", "Pod", label_selector)?;
        Ok(found.iter().filter_map(Pod::from_object).collect())
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        Ok(self.jobs.get(uid).copied().unwrap_or(JobState::Absent))
    }
}

/// A JSON merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            if let Some(fields) = target.as_object_mut() {
                fields.remove(key);
            }
        } else {
            merge(&mut target[key], change);
        }
    }
}

/// A strategic merge patch, as far as the fake cluster knows it: lists of objects with names are merged by
/// name, and other lists are replaced.
pub(super) fn strategic_merge(target: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            if let Some(fields) = target.as_object_mut() {
                fields.remove(key);
            }
            continue;
        }
        let is_named = |items: &[Value]| items.iter().all(|item| item["name"].is_string());
        match (&mut target[key], change) {
            (Value::Array(items), Value::Array(changes)) if is_named(changes) => {
                for change in changes {
                    let known = items.iter_mut().find(|item| item["name"] == change["name"]);
                    match known {
                        Some(item) => strategic_merge(item, change),
                        None => items.push(change.clone()),
                    }
                }
            }
            (inner @ Value::Object(_), Value::Object(_)) => strategic_merge(inner, change),
            (inner, change) => merge(inner, change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategic_merge_patch_merges_lists_by_name() {
        let mut object =
            json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}});
        let patch = json!({"metadata": {"labels": {"c": "d"}},
            "spec": {"containers": [{"name": "a", "image": "y"}]}});
        strategic_merge(&mut object, &patch);
        let containers = json!([{"name": "a", "image": "y"}, {"name": "b"}]);
        assert_eq!(object["spec"]["containers"], containers);
        assert_eq!(object["metadata"]["labels"]["c"], "d");
    }

    #[test]
    fn a_strategic_merge_patch_removes_the_keys_that_are_null() {
        let mut object = json!({"metadata": {"labels": {"a": "b", "c": "d"}},
            "spec": {"containers": [{"name": "a", "image": "x"}]}});
        let patch = json!({"metadata": {"labels": {"a": null}},
            "spec": {"containers": [{"name": "a", "image": null}]}});
        strategic_merge(&mut object, &patch);
        let expected =
            json!({"metadata": {"labels": {"c": "d"}}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(object, expected);
    }

    #[test]
    fn a_merge_patch_sets_removes_and_keeps() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(&mut object, &json!({"a": {"b": null, "e": 4}}));
        assert_eq!(object, json!({"a": {"c": 2, "e": 4}, "d": 3}));
    }

    #[test]
    fn a_pod_with_a_finalizer_outlives_its_deletion() {
        let mut world = FakeCluster::new();
        world.add_pod("held", &json!({"finalizers": ["x/y"]}));
        world.add_pod("free", &json!({}));
        world.start_deleting("held");
        world.start_deleting("free");
        world.finish_deletions();
        assert!(world.pod("free").is_none());
        assert!(world.expect_pod("held").deleting);
    }
}
