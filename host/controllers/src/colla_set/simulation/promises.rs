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
    NAME, claims,
    kubelet::{has_condition, is_active},
};
use crate::simulation::{
    Objects, Promises, Write, name_of,
    plurals::{CLAIMS, COLLA_SETS, CONTEXTS, PODS, REVISIONS, RULES},
};

/// The numbers of replicas that a process may still believe to be desired.
pub(super) struct Believed {
    most: AtomicUsize,
    least: AtomicUsize,
}

impl Believed {
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            most: AtomicUsize::new(replicas),
            least: AtomicUsize::new(replicas),
        }
    }

    /// This many may be believed too.
    pub(super) fn also(&self, replicas: usize) {
        self.most.fetch_max(replicas, Ordering::Relaxed);
        self.least.fetch_min(replicas, Ordering::Relaxed);
    }

    /// Only this many are believed.
    pub(super) fn only(&self, replicas: usize) {
        self.most.store(replicas, Ordering::Relaxed);
        self.least.store(replicas, Ordering::Relaxed);
    }
}

/// The promises that were broken, and what they are judged by.
pub(super) struct Writes {
    broken: Vec<String>,
    believed: Arc<Believed>,
    /// The pods that served once, by uid.
    served: BTreeSet<String>,
    /// The names of the pods that operations took out of service, or created again, until they serve.
    out: BTreeSet<String>,
    /// How many pods operations deleted to create them again, until that happens; and of which CollaSet.
    lost: (usize, Value),
}

impl Writes {
    pub(super) fn new(believed: Arc<Believed>) -> Self {
        Self {
            broken: Vec::new(),
            believed,
            served: BTreeSet::new(),
            out: BTreeSet::new(),
            lost: (0, Value::Null),
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
        // A repeated creation of a pod that is named by its id has another number.
        let id = pod["metadata"]["labels"][keys::INSTANCE_ID].as_str();
        let is_named_by_id = name_of(pod) == format!("{NAME}-{}", id.unwrap_or_default());
        self.promise(
            creation.is_string() && (is_named_by_id || known.all(|known| known != creation)),
            "no pod is created twice",
            pod,
        );
        self.mounts(pod, objects);
        let object = objects.get(COLLA_SETS, NAME);
        if self.lost.0 > 0 {
            self.lost.0 -= 1;
            self.out.insert(name_of(pod).to_owned());
        }
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
        let id = &pod["metadata"]["labels"][keys::INSTANCE_ID];
        let has_id = |known: &Value| known["metadata"]["labels"][keys::INSTANCE_ID] == *id;
        self.promise(
            !owned.iter().any(has_id),
            "no pod is created with the id of another one",
            pod,
        );
        owned.push(pod.clone());
        let most = self.believed.most.load(Ordering::Relaxed).max(before);
        self.promise(
            counted(&owned) <= most,
            "no more pods are created than desired",
            &(most, owned),
        );
    }

    /// A pod is created with claims that no other pod mounts. That they exist is no promise: a user may delete one.
    fn mounts(&mut self, pod: &Value, objects: &Objects) {
        for name in claims::mounted(pod) {
            let mut others = claims::pods_of(objects, &name);
            let has_finished = |pod: &Value| {
                let phase = &pod["status"]["phase"];
                phase == "Failed" || phase == "Succeeded"
            };
            others.retain(|pod| !has_finished(pod));
            self.promise(others.is_empty(), "a claim has one pod", &(pod, others));
        }
    }

    fn claim_created(&mut self, claim: &Value, objects: &Objects) {
        let mut same = objects.all(CLAIMS);
        same.retain(|known| claims::purpose(known) == claims::purpose(claim));
        same.retain(|known| claims::pods_of(objects, name_of(known)).is_empty());
        self.promise(
            same.is_empty(),
            "no claim is created twice for an id, a template and its hash",
            &(claim, same),
        );
    }

    fn claim_deleted(&mut self, claim: &Value, objects: &Objects) {
        let pods = claims::pods_of(objects, name_of(claim));
        self.promise(
            pods.is_empty(),
            "no claim is deleted while a pod mounts it",
            &(claim, pods),
        );
    }

    fn deleted(&mut self, pod: &Value, objects: &Objects) {
        self.counts_lost(pod, objects);
        // The lifecycle itself deletes pods, so it need not say first that it may.
        let is_allowed =
            is_operated(pod, keys::COLLA_SET_OPERATION) || is_leaving(pod, DELETION.id);
        self.promise(
            !is_active(pod) || (is_allowed && is_out_of_service(pod) && !is_protected(pod)),
            "a pod is deleted only when its lifecycle has taken it out of service",
            pod,
        );
    }

    /// A pod that an operation deletes is missing until it is created again.
    fn counts_lost(&mut self, pod: &Value, objects: &Objects) {
        let object = objects.get(COLLA_SETS, NAME);
        let uid = object.map_or(&Value::Null, |object| &object["metadata"]["uid"]);
        if self.lost.1 != *uid {
            self.lost = (0, uid.clone());
        }
        let mut pods = objects.all(PODS);
        pods.retain(|other| {
            is_active(other) && owner(other) == uid && name_of(other) != name_of(pod)
        });
        let desired = self.believed.least.load(Ordering::Relaxed);
        let missing = desired.saturating_sub(counted(&pods));
        if self.out.contains(name_of(pod)) {
            self.lost.0 += 1;
        }
        self.lost.0 = self.lost.0.min(missing);
    }

    /// An operation may take a pod out of service only if a rule leaves room for it.
    fn leaves(&mut self, pod: &Value, objects: &Objects) {
        let is_out = |pod: &Value| {
            is_active(pod) && self.out.contains(name_of(pod)) && !has_label(pod, SERVICE_AVAILABLE)
        };
        let pods = objects.all(PODS);
        let desired = self.believed.least.load(Ordering::Relaxed);
        let mut there = pods.clone();
        there.retain(is_active);
        // A CollaSet that is being deleted creates no pods again.
        let object = objects
            .get(COLLA_SETS, NAME)
            .map(|object| &object["metadata"]);
        let creates = object.is_some_and(|object| {
            object["uid"] == self.lost.1 && object["deletionTimestamp"].is_null()
        });
        let lost = if creates { self.lost.0 } else { 0 };
        let lost = lost.min(desired.saturating_sub(counted(&there)));
        let others: Vec<_> = pods.iter().filter(|pod| is_out(pod)).map(name_of).collect();
        let is_allowed = objects.all(RULES).is_empty() || others.len() + lost == 0;
        let about = format!("{} {others:?} {lost}", name_of(pod));
        self.promise(
            is_allowed,
            "operations take no more pods out of service than a rule allows",
            &about,
        );
        self.out.insert(name_of(pod).to_owned());
    }

    fn changed(&mut self, old: &Value, new: &Value, objects: &Objects) {
        if has_label(new, SERVICE_AVAILABLE) && !has_label(old, SERVICE_AVAILABLE) {
            self.out.remove(name_of(new));
        }
        if has_label(old, SERVICE_AVAILABLE) && has_condition(old, "Ready") && is_held(new) {
            self.leaves(new, objects);
        }
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
        let is_operated = [old, new].into_iter().map(labels).any(|labels| {
            let operations = Operation::all(&labels);
            operations.iter().any(|one| one.stage() == Stage::Operate)
        });
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
            (PODS, None | Some("resize"), Some(new)) => self.changed(old, new, objects),
            (PODS, Some("status"), Some(new)) => {
                self.gate_changed(old, new);
                self.changed(old, new, objects);
            }
            (PODS, None, None) => self.deleted(old, objects),
            (COLLA_SETS, None, Some(new)) if !old.is_null() => self.held(old, new, objects),
            (CLAIMS, None, Some(new)) if old.is_null() => self.claim_created(new, objects),
            (CLAIMS, None, Some(new)) => self.promise(
                old["spec"] == new["spec"],
                "only the metadata of a claim is written",
                new,
            ),
            (CLAIMS, None, None) => self.claim_deleted(old, objects),
            (REVISIONS, None, _)
            | (CONTEXTS, None, Some(_))
            | (COLLA_SETS | RULES, Some("status"), Some(_)) => {}
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

/// Whether an operation takes a pod out of service.
fn is_held(pod: &Value) -> bool {
    let labels = labels(pod);
    let all = Operation::all(&labels);
    let is_held = |one: &Operation<'_>| match one.stage() {
        Stage::Preparing | Stage::Operate => true,
        Stage::Undone
        | Stage::PreCheck
        | Stage::Finished
        | Stage::PostCheck
        | Stage::Completing
        | Stage::Orphaned => false,
    };
    all.iter().any(is_held)
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

/// Whether an operation was allowed to take a pod out of service.
fn is_leaving(pod: &Value, id: &str) -> bool {
    let stage = Operation::of(&labels(pod), id).stage();
    matches!(stage, Stage::Preparing | Stage::Operate)
}

fn is_out_of_service(pod: &Value) -> bool {
    !has_condition(pod, GATE) && !has_condition(pod, "Ready")
}
