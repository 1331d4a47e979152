//! What a new pod of a CollaSet is.

use std::collections::BTreeSet;

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::ResourceExt;
use operon_api::{CollaSet, colla_set::PodNamingSuffixPolicy, keys};
use serde_json::{Value, json};

use super::{
    Seen,
    claims::{Claims, Needed, mount},
    ids::{Ids, Place},
    pair::Pairs,
    pods::{Pods, creation, creation_text, owner_uid, revision},
    revision::{Revisions, template},
    selection::texts,
};
use crate::{
    driver::{Claim, Start, Write},
    jobs::{
        name::{cut, five},
        owned::owner,
    },
    pod_lifecycle::labels::{CREATING, GATE},
};

/// How long the beginning of a pod's name may be: the name becomes the pod's host name.
const BEGINNING: usize = 57;

/// How many names are tried if another object has one.
const NAMES: u32 = 3;

/// How many new pods of pairs are created in one reconcile.
const PAIRS: usize = 16;

/// The creations of new pods.
pub(super) struct New {
    /// The new pods of pairs whose origin still counts.
    pub(super) beside: Vec<Start>,
    /// Those that take the place of pods that are missing. An origin that is being deleted does not count any
    /// more, so its new pod is one of these.
    pub(super) instead: Vec<Start>,
    /// The names that new pods need and that pods have which are not gone yet.
    pub(super) held: Vec<String>,
    /// The claims that must exist before new pods are created.
    pub(super) claims: Vec<Write>,
    /// The ids of new pods that wait for claims, and what must happen first.
    pub(super) claim_waits: Vec<(u32, String)>,
}

/// The creations of the new pods of pairs and of missing ones, as far as ids are reserved for them.
pub(super) fn new_pods(
    seen: &Seen,
    pods: &Pods<'_>,
    pairs: &Pairs<'_>,
    revisions: &Revisions<'_>,
    updated: &ControllerRevision,
    ids: &Ids<'_>,
    claims: &Claims<'_>,
) -> New {
    let is_deleted = |pod: &&&Pod| pod.metadata.deletion_timestamp.is_some();
    let (deleted, active): (Vec<&&Pod>, Vec<&&Pod>) = pairs.alone.iter().partition(is_deleted);
    let mut old = Old::of(seen, pods, revisions, updated);
    let mut creations = creations(seen);
    let leaving = leaving_names(seen, pods);
    let mut held = Vec::new();
    let mut missing = Vec::new();
    let mut claim_waits = Vec::new();
    let mut start = |origin: Option<&Pod>, id: u32, revision: Option<&ControllerRevision>| {
        if let Some(name) = name_of_id(&seen.object, id).filter(|name| leaving.contains(name)) {
            held.push(name);
            return None;
        }
        let of_origin = origin
            .filter(|pod| !pod.labels().contains_key(keys::REPLACED_BY_UPDATE))
            .and_then(self::revision)
            .and_then(|name| revisions.named(name));
        let revision = of_origin.or(revision).unwrap_or(updated);
        let claims = match claims.needed(id, revision) {
            Needed::There(claims) => claims,
            Needed::Missing(writes) => {
                missing.extend(writes);
                return None;
            }
            Needed::Held(what) => {
                claim_waits.push((id, what));
                return None;
            }
        };
        let new_pod = NewPod {
            creation: creations.next()?,
            id,
            origin,
            revision,
            claims,
        };
        Some(new_pod.start(seen))
    };
    let origins = deleted.into_iter().map(|pod| Some(*pod));
    let origins = origins.chain(std::iter::repeat(None));
    let instead = ids
        .places
        .iter()
        .zip(origins)
        .filter_map(|(place, origin)| {
            let revision = if origin.is_none() {
                old.next(place)
            } else {
                None
            };
            start(origin, place.id, revision)
        });
    let instead = instead.collect();
    let beside = active.into_iter().filter_map(|pod| {
        let id = ids.beside.get(&pod.name_any())?;
        Some((*pod, *id))
    });
    let beside = beside.take(PAIRS);
    let beside = beside.filter_map(|(pod, id)| start(Some(pod), id, None));
    let beside = beside.collect();
    New {
        beside,
        instead,
        held,
        claims: missing,
        claim_waits,
    }
}

/// The name of the pod with this id, if names are made of ids.
fn name_of_id(object: &CollaSet, id: u32) -> Option<String> {
    match object.naming() {
        PodNamingSuffixPolicy::Random => None,
        PodNamingSuffixPolicy::PersistentSequence => Some(format!("{}-{id}", object.name_any())),
    }
}

/// The names of pods that are on their way out, if names are made of ids.
fn leaving_names(seen: &Seen, pods: &Pods<'_>) -> BTreeSet<String> {
    if seen.object.naming() == PodNamingSuffixPolicy::Random {
        return BTreeSet::new();
    }
    let leaving = pods.terminating.iter().chain(&pods.finished);
    leaving.map(|pod| pod.name_any()).collect()
}

/// The old revisions of the pods that the partition keeps and that are missing.
struct Old<'a, 'b> {
    revisions: &'b Revisions<'a>,
    /// The previous revision.
    current: Option<&'a ControllerRevision>,
    updated: String,
    missing: usize,
}

impl<'a, 'b> Old<'a, 'b> {
    fn of(
        seen: &Seen,
        pods: &Pods<'_>,
        revisions: &'b Revisions<'a>,
        updated: &ControllerRevision,
    ) -> Self {
        let status = seen.object.status.as_ref();
        let current = status.and_then(|status| status.current_revision.as_deref());
        let updated = updated.name_any();
        let current = current.filter(|name| *name != updated);
        let old = pods
            .active
            .iter()
            .filter(|pod| revision(pod) != Some(&*updated));
        Self {
            revisions,
            current: current.and_then(|name| revisions.named(name)),
            missing: seen.object.partition().saturating_sub(old.count()),
            updated,
        }
    }

    /// The old revision of the pod that gets this place; none if it gets the updated one. A pod that is gone
    /// comes back at its own revision, unless it would be updated immediately.
    fn next(&mut self, place: &Place<'_>) -> Option<&'a ControllerRevision> {
        if place.revision == Some(&*self.updated) {
            return None;
        }
        let remembered = place.revision.and_then(|name| self.revisions.named(name));
        let old = remembered.or(self.current)?;
        self.missing = self.missing.checked_sub(1)?;
        Some(old)
    }
}

/// The numbers of the next creations. A creation whose answer was lost, and whose pod no watch has reported
/// yet, is repeated before any other: until it is known whether that pod exists, another one may be one too
/// many. It is one that the status does not count yet, and that has no pod although a later one has.
///
/// Where names are made of ids, a repeated creation finds the pod in any case.
fn creations(seen: &Seen) -> impl Iterator<Item = i64> + use<> {
    let is_random = seen.object.naming() == PodNamingSuffixPolicy::Random;
    let status = seen.object.status.as_ref().filter(|_| is_random);
    let known: BTreeSet<_> = creations_of_pods(seen).collect();
    let last = created(seen);
    let uncounted = status.map(|status| status.created_pods.saturating_add(1)..last);
    let uncounted = uncounted.into_iter().flatten();
    let open: Vec<_> = uncounted.filter(|count| !known.contains(count)).collect();
    let next = open.is_empty().then_some(last.saturating_add(1)..);
    open.into_iter().chain(next.into_iter().flatten())
}

/// How many pods had been created for the set with each pod that it created, also with those that it has released.
fn creations_of_pods(seen: &Seen) -> impl Iterator<Item = i64> {
    seen.pods.iter().map(|pod| creation(&seen.object, pod))
}

/// How many pods were created for the set so far.
pub(super) fn created(seen: &Seen) -> i64 {
    let status = seen.object.status.as_ref();
    let known = status.map_or(0, |status| status.created_pods);
    creations_of_pods(seen).max().unwrap_or(0).max(known)
}

/// A pod that is to be created.
struct NewPod<'a> {
    creation: i64,
    id: u32,
    /// The pod that it replaces.
    origin: Option<&'a Pod>,
    revision: &'a ControllerRevision,
    /// The names of the volumes, and of the claims.
    claims: Vec<(String, String)>,
}

impl NewPod<'_> {
    fn start(&self, seen: &Seen) -> Start {
        let object = &*seen.object;
        let template = template(self.revision);
        let mut labels = texts(&template, "labels");
        labels.extend([
            (keys::CONTROL.to_owned(), "true".to_owned()),
            (keys::INSTANCE_ID.to_owned(), self.id.to_string()),
            (
                keys::CONTROLLER_REVISION.to_owned(),
                self.revision.name_any(),
            ),
            (CREATING.to_owned(), seen.now.as_nanosecond().to_string()),
        ]);
        if let Some(origin) = self.origin {
            labels.insert(keys::PAIR_ORIGIN_NAME.to_owned(), origin.name_any());
            let uid = origin.uid().map(|uid| (keys::REPLACES.to_owned(), uid));
            labels.extend(uid);
        }
        let mut annotations = texts(&template, "annotations");
        let creation = creation_text(object, self.creation);
        annotations.insert(keys::CREATION.to_owned(), creation);
        let mut spec = template.at(&["spec"]).cloned().unwrap_or_default();
        add_gate(&mut spec);
        mount(&mut spec, &self.claims);
        Start {
            subject: self.creation.to_string(),
            names: name_of_id(object, self.id)
                .map_or_else(|| names(object, self.creation), |name| vec![name]),
            body: json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "labels": labels,
                    "annotations": annotations,
                    "finalizers": template.at(&["metadata", "finalizers"]),
                    "ownerReferences": [owner(object)],
                },
                "spec": spec,
            }),
        }
    }
}

/// The lifecycle takes a pod out of service by this gate. It must be there from the beginning.
fn add_gate(spec: &mut Value) {
    let gates = spec["readinessGates"].as_array().cloned();
    let mut gates = gates.unwrap_or_default();
    if gates.iter().all(|gate| gate["conditionType"] != GATE) {
        gates.push(json!({"conditionType": GATE}));
    }
    spec["readinessGates"] = json!(gates);
}

fn names(object: &CollaSet, creation: i64) -> Vec<String> {
    let (set, uid) = (object.name_any(), object.uid().unwrap_or_default());
    let beginning = cut(&set, BEGINNING);
    (0..NAMES)
        .map(|salt| format!("{beginning}-{}", five(&format!("{uid}/{creation}/{salt}"))))
        .collect()
}

/// Decides about a pod that has a name of the one that is to be created.
pub(super) fn claim(object: &CollaSet, start: &Start, found: &Value) -> Claim {
    let Ok(found) = serde_json::from_value::<Pod>(found.clone()) else {
        return Claim::Others;
    };
    let uid = object.metadata.uid.as_deref();
    let is_owned = uid.is_some() && owner_uid(&found) == uid;
    let is_deleted = found.metadata.deletion_timestamp.is_some();
    let is_it = match object.naming() {
        PodNamingSuffixPolicy::Random => creation(object, &found).to_string() == start.subject,
        // The name is free in a moment, whoever has it.
        PodNamingSuffixPolicy::PersistentSequence if is_deleted => return Claim::Leaving,
        PodNamingSuffixPolicy::PersistentSequence => {
            let id = found.labels().get(keys::INSTANCE_ID);
            id.is_some_and(|id| start.body["metadata"]["labels"][keys::INSTANCE_ID] == **id)
        }
    };
    if is_it && is_owned && !is_deleted {
        Claim::Mine
    } else {
        Claim::Others
    }
}
