//! The objects of a cluster in memory, in one namespace, and what watches report of their changes.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::plurals::PODS;
use crate::status::whole_seconds;

/// A change, as watches report it.
struct Change {
    version: u64,
    plural: &'static str,
    event: Value,
}

/// The objects by plural and name.
pub(crate) struct Objects {
    by_name: BTreeMap<(&'static str, String), Value>,
    version: u64,
    changes: Vec<Change>,
    /// What watches report ends at this version; none: they do not lag.
    pub(super) shown: Option<u64>,
    made: u64,
}

impl Objects {
    pub(super) fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            version: 1,
            changes: Vec::new(),
            shown: None,
            made: 0,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn list(&self, plural: &str) -> Value {
        json!({
            "metadata": {"resourceVersion": self.version.to_string()},
            "items": self.all(plural),
        })
    }

    /// What a watch reports since this version, if anything.
    pub(super) fn events(&self, plural: &str, since: u64) -> Option<String> {
        let shown = self.shown.unwrap_or(u64::MAX);
        let is_due = |change: &&Change| {
            change.plural == plural && change.version > since && change.version <= shown
        };
        let due = self.changes.iter().filter(is_due);
        let lines: Vec<_> = due.map(|change| change.event.to_string()).collect();
        (!lines.is_empty()).then(|| lines.join("\n") + "\n")
    }

    pub(crate) fn get(&self, plural: &'static str, name: &str) -> Option<&Value> {
        self.by_name.get(&(plural, name.to_owned()))
    }

    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        let of_kind = self.by_name.iter().filter(|((kind, _), _)| *kind == plural);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn create(&mut self, plural: &'static str, mut object: Value, now: Timestamp) {
        self.made += 1;
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("{plural}-{}", self.made));
        metadata["namespace"] = json!("ns");
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!(whole_seconds(now).to_string());
        self.set(plural, object);
    }

    /// An object becomes this, if that is a change; one that is deleted and not held goes.
    pub(crate) fn set(&mut self, plural: &'static str, mut object: Value) -> Value {
        let name = name_of(&object).to_owned();
        let old = self.get(plural, &name);
        if old == Some(&object) {
            return object;
        }
        let is_new = old.is_none();
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let is_deleted = object["metadata"]["deletionTimestamp"].is_string();
        let finalizers = object["metadata"]["finalizers"].as_array();
        let is_held = finalizers.is_some_and(|held| !held.is_empty());
        // A pod that is deleted goes when the kubelet says so.
        let goes = plural != PODS && is_deleted && !is_held;
        let kind = match (goes, is_new) {
            (true, _) => "DELETED",
            (false, false) => "MODIFIED",
            (false, true) => "ADDED",
        };
        if goes {
            self.by_name.remove(&(plural, name));
        } else {
            self.by_name.insert((plural, name), object.clone());
        }
        self.report(plural, kind, &object);
        object
    }

    fn report(&mut self, plural: &'static str, kind: &str, object: &Value) {
        self.changes.push(Change {
            version: self.version,
            plural,
            event: json!({"type": kind, "object": object}),
        });
    }

    pub(crate) fn delete(&mut self, plural: &'static str, name: &str, now: Timestamp) {
        let Some(mut object) = self.get(plural, name).cloned() else {
            return;
        };
        if object["metadata"]["deletionTimestamp"].is_null() {
            let second = whole_seconds(now);
            object["metadata"]["deletionTimestamp"] = json!(second.to_string());
            self.set(plural, object);
        }
    }

    /// The kubelet removes pods that are deleted, but for those with a finalizer.
    pub(crate) fn remove_deleted_pods(&mut self) {
        let goes = |pod: &Value| {
            let held = pod["metadata"]["finalizers"].as_array();
            pod["metadata"]["deletionTimestamp"].is_string() && held.is_none_or(Vec::is_empty)
        };
        for mut pod in self.all(PODS).into_iter().filter(goes) {
            self.version += 1;
            pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.by_name.remove(&(PODS, name_of(&pod).to_owned()));
            self.report(PODS, "DELETED", &pod);
        }
    }

    /// Whether watches report less than there is.
    pub(crate) fn lags(&self) -> bool {
        self.shown.is_some()
    }

    /// Watches report nothing newer from now on.
    pub(crate) fn lag(&mut self) {
        self.shown = Some(self.shown.unwrap_or(self.version));
    }
}

pub(crate) fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// A JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// A strategic merge patch of a pod: lists of containers and conditions are merged by their keys.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in fields {
        let key = match field.as_str() {
            "containers" => "name",
            "conditions" => "type",
            _ if value.is_null() => {
                if let Some(target) = target.as_object_mut() {
                    target.remove(field);
                }
                continue;
            }
            _ => {
                strategic(&mut target[field.as_str()], value);
                continue;
            }
        };
        let mut items = target[field.as_str()]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for change in value.as_array().into_iter().flatten() {
            match items.iter_mut().find(|item| item[key] == change[key]) {
                Some(item) => strategic(item, change),
                None => items.push(change.clone()),
            }
        }
        target[field.as_str()] = json!(items);
    }
}
