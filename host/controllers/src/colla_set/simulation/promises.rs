//! The guarantees of CollaSets and of the PodOpsLifecycle, each checked at the write that could violate it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use operon_api::keys;
use operon_core::pod_lifecycle::{
    deletion::DELETION,
    labels::{GATE, Operation, PROTECTION, SERVICE_AVAILABLE, Stage},
};
use serde_json::Value;

use super::{
    NAME,
    kubelet::{has_condition, is_active},
};
use crate::simulation::{
    Objects, Promises, Write, name_of,
    plurals::{COLLA_SETS, PODS, REVISIONS},
};

/// The promises that were broken, and what they are judged by.
pub(super) struct Writes {
    broken: Vec<String>,
    /// The most replicas that a process may still believe to be desired.
    most: Arc<AtomicUsize>,
    /// The pods that served once, by uid.
    served: BTreeSet<String>,
}

impl Writes {
    pub(super) fn new(most: Arc<AtomicUsize>) -> Self {
        Self {
            broken: Vec::new(),
            most,
            served: BTreeSet::new(),
        }
    }

    fn promise(&mut self, holds: bool, what: &str, about: &dyn std::fmt::Debug) {
        if !holds {
            self.broken.push(format!("{what}: {about:?}"));
        }
    }

    fn created(&mut self, pod: &Value, objects: &Objects) {
        let creation = &pod["metadata"]["annotations"][keys::CREATION];
        let pods = objects.all(PODS);
        let mut known = pods
            .iter()
            .map(|known| &known["metadata"]["annotations"][keys::CREATION]);
        self.promise(
            creation.is_string() && known.all(|known| known != creation),
            "no pod is created twice",
            pod,
        );
        let object = objects.get(COLLA_SETS, NAME);
        let object = object.filter(|object| object["metadata"]["uid"] == *owner(pod));
        // The pods of a CollaSet that was deleted are removed by the garbage collector.
        let Some(object) = object else { return };
        self.promise(
            has_finalizer(object, keys::COLLA_SET_FINALIZER),
            "no pod is created for a CollaSet that nothing holds",
            pod,
        );
        let uid = &object["metadata"]["uid"];
        let mut owned = pods;
        owned.retain(|pod| is_active(pod) && owner(pod) == uid);
        let before = counted(&owned);
        owned.push(pod.clone());
        let most = self.most.load(Ordering::Relaxed).max(before);
        self.promise(
            counted(&owned) <= most,
            "no more pods are created than desired",
            &(most, owned),
        );
    }

    fn deleted(&mut self, pod: &Value) {
        let is_allowed = [keys::COLLA_SET_OPERATION, DELETION.id]
            .iter()
            .any(|id| is_operated(pod, id));
        self.promise(
            !is_active(pod) || (is_allowed && is_out_of_service(pod) && !is_protected(pod)),
            "a pod is deleted only when its lifecycle has taken it out of service",
            pod,
        );
    }

    fn changed(&mut self, old: &Value, new: &Value, objects: &Objects) {
        let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
        if has_label(new, SERVICE_AVAILABLE) && has_condition(new, "Ready") {
            self.served.insert(uid.to_owned());
        }
        self.promise(
            !has_label(new, SERVICE_AVAILABLE)
                || has_label(old, SERVICE_AVAILABLE)
                || has_condition(old, "Ready"),
            "only a Ready pod is said to serve",
            new,
        );
        self.promise(
            old["spec"] == new["spec"]
                || (is_operated(old, keys::COLLA_SET_OPERATION) && is_out_of_service(old)),
            "a pod is changed in place only when its lifecycle has taken it out of service",
            old,
        );
        if has_label(new, keys::TO_DELETE) && !has_label(old, keys::TO_DELETE) {
            let replaces = |pod: &Value| {
                pod["metadata"]["labels"][keys::PAIR_ORIGIN_NAME] == *name_of(old)
                    && pod["metadata"]["uid"]
                        .as_str()
                        .is_some_and(|uid| self.served.contains(uid))
            };
            let is_replaced = objects.all(PODS).iter().any(replaces);
            let set = objects.get(COLLA_SETS, NAME);
            let is_with_set = set.is_none_or(|set| {
                set["metadata"]["deletionTimestamp"].is_string()
                    || set["metadata"]["uid"] != *owner(old)
            });
            self.promise(
                is_replaced || is_with_set || has_label(old, keys::PAIR_ORIGIN_NAME),
                "a pod is marked to be deleted only when the pod that replaces it served",
                old,
            );
        }
    }

    /// Only our finalizer is put on a CollaSet, and taken off when none of its pods is left.
    fn held(&mut self, old: &Value, new: &Value, objects: &Objects) {
        let bare = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["finalizers"] = Value::Null;
            object
        };
        self.promise(bare(old) == bare(new), "only finalizers are written", new);
        let is_held = |object| has_finalizer(object, keys::COLLA_SET_FINALIZER);
        let mut pods = objects.all(PODS);
        pods.retain(|pod| is_active(pod) && *owner(pod) == old["metadata"]["uid"]);
        self.promise(
            is_held(new) || pods.is_empty(),
            "a CollaSet is held while it has a pod",
            &(new, pods),
        );
    }

    fn gate_changed(&mut self, old: &Value, new: &Value) {
        let is_opened = has_condition(new, GATE) && !has_condition(old, GATE);
        let labels = labels(old);
        let operations = Operation::all(&labels);
        let is_operated = operations.iter().any(|one| one.stage() == Stage::Operate);
        self.promise(
            !is_opened || !is_operated,
            "the gate stays closed while an operation may act",
            old,
        );
    }
}

impl Promises for Writes {
    fn write(&mut self, write: &Write<'_>) {
        let Write { old, objects, .. } = *write;
        match (write.plural, write.subresource, write.new) {
            (PODS, None, Some(new)) if old.is_null() => self.created(new, objects),
            (PODS, None, Some(new)) => self.changed(old, new, objects),
            (PODS, Some("status"), Some(new)) => self.gate_changed(old, new),
            (PODS, None, None) => self.deleted(old),
            (COLLA_SETS, None, Some(new)) if !old.is_null() => self.held(old, new, objects),
            (REVISIONS, None, _) | (COLLA_SETS, Some("status"), Some(_)) => {}
            (plural, subresource, _) => {
                let about = (plural, subresource, write.body);
                self.promise(false, "nothing else is written", &about);
            }
        }
    }

    fn broken(&self) -> &[String] {
        &self.broken
    }
}

/// The uid of the owner of an object.
pub(super) fn owner(object: &Value) -> &Value {
    &object["metadata"]["ownerReferences"][0]["uid"]
}

/// How many of these active pods count: a pair counts as one.
fn counted(pods: &[Value]) -> usize {
    let names: BTreeSet<_> = pods.iter().map(name_of).collect();
    let origin = |pod: &Value| {
        let origin = pod["metadata"]["labels"][keys::PAIR_ORIGIN_NAME].as_str();
        origin
            .filter(|name| names.contains(name))
            .map(str::to_owned)
    };
    let pairs: BTreeSet<_> = pods.iter().filter_map(origin).collect();
    pods.len() - pairs.len()
}

pub(super) fn labels(pod: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default()
}

fn has_label(pod: &Value, key: &str) -> bool {
    pod["metadata"]["labels"][key].is_string()
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    let held = object["metadata"]["finalizers"].as_array();
    held.is_some_and(|held| held.contains(&Value::from(finalizer)))
}

/// Whether another controller still sends requests to a pod.
fn is_protected(pod: &Value) -> bool {
    let held = pod["metadata"]["finalizers"].as_array();
    let held = held.into_iter().flatten().filter_map(Value::as_str);
    held.into_iter()
        .any(|finalizer| finalizer.starts_with(PROTECTION))
}

fn is_operated(pod: &Value, id: &str) -> bool {
    Operation::of(&labels(pod), id).stage() == Stage::Operate
}

fn is_out_of_service(pod: &Value) -> bool {
    !has_condition(pod, GATE) && !has_condition(pod, "Ready")
}
