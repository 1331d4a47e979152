//! What a new pod of a CollaSet is.

use std::collections::BTreeSet;

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::ResourceExt;
use operon_api::{CollaSet, keys};
use serde_json::{Value, json};

use super::{
    Seen,
    pair::Pairs,
    pods::{Pods, creation, creation_text, instance_id, owner_uid, revision},
    revision::{Revisions, template},
    selection::texts,
    update::partition,
};
use crate::{
    driver::{Claim, Start},
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
}

/// The creations of the new pods of pairs, and of so many missing ones.
pub(super) fn new_pods(
    seen: &Seen,
    pods: &Pods<'_>,
    pairs: &Pairs<'_>,
    revisions: &Revisions<'_>,
    updated: &ControllerRevision,
    missing: usize,
) -> New {
    let is_deleted = |pod: &&&Pod| pod.metadata.deletion_timestamp.is_some();
    let (deleted, active): (Vec<&&Pod>, Vec<&&Pod>) = pairs.alone.iter().partition(is_deleted);
    let mut before = Before::of(seen, pods, revisions, updated);
    let mut numbers = (created(seen).saturating_add(1)..).zip(free_ids(pods));
    let mut start = |origin: Option<&Pod>| {
        let (creation, id) = numbers.next()?;
        let of_origin = origin
            .filter(|pod| !pod.labels().contains_key(keys::REPLACED_BY_UPDATE))
            .and_then(revision)
            .and_then(|name| revisions.named(name));
        let of_before = if origin.is_none() {
            before.next()
        } else {
            None
        };
        let new_pod = NewPod {
            creation,
            id,
            origin,
            revision: of_origin.or(of_before).unwrap_or(updated),
        };
        Some(new_pod.start(seen))
    };
    let instead = deleted.into_iter().map(|pod| Some(*pod));
    let instead = instead.chain(std::iter::repeat(None)).take(missing);
    let instead = instead.filter_map(&mut start).collect();
    let beside = active.into_iter().take(PAIRS);
    let beside = beside.filter_map(|pod| start(Some(pod))).collect();
    New { beside, instead }
}

/// The revision before, for as many new pods as the partition keeps at it and are missing.
struct Before<'a> {
    revision: Option<&'a ControllerRevision>,
    missing: usize,
}

impl<'a> Before<'a> {
    fn of(
        seen: &Seen,
        pods: &Pods<'_>,
        revisions: &Revisions<'a>,
        updated: &ControllerRevision,
    ) -> Self {
        let status = seen.object.status.as_ref();
        let current = status.and_then(|status| status.current_revision.as_deref());
        let current = current.filter(|name| *name != updated.name_any());
        let old = pods
            .active
            .iter()
            .filter(|pod| revision(pod) != Some(&*updated.name_any()));
        Self {
            revision: current.and_then(|name| revisions.named(name)),
            missing: partition(&seen.object).saturating_sub(old.count()),
        }
    }

    fn next(&mut self) -> Option<&'a ControllerRevision> {
        self.missing = self.missing.checked_sub(1)?;
        self.revision
    }
}

/// How many pods were created for the set so far.
pub(super) fn created(seen: &Seen) -> i64 {
    let status = seen.object.status.as_ref();
    let known = status.map_or(0, |status| status.created_pods);
    let uid = seen.object.metadata.uid.as_deref();
    let owned = seen.pods.iter().filter(|pod| owner_uid(&***pod) == uid);
    owned
        .map(|pod| creation(&seen.object, pod))
        .max()
        .unwrap_or(0)
        .max(known)
}

/// The numbers that no pod has or gets by being adopted, the smallest first.
fn free_ids(pods: &Pods<'_>) -> impl Iterator<Item = u32> + use<> {
    let members = pods.active.iter().chain(&pods.adopt);
    let ids: Vec<_> = members.map(|pod| instance_id(pod)).collect();
    let unnumbered = ids.iter().filter(|id| id.is_none()).count();
    let taken: BTreeSet<_> = ids.into_iter().flatten().collect();
    (0..).filter(move |id| !taken.contains(id)).skip(unnumbered)
}

/// A pod that is to be created.
struct NewPod<'a> {
    creation: i64,
    id: u32,
    /// The pod that it replaces.
    origin: Option<&'a Pod>,
    revision: &'a ControllerRevision,
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
        }
        let mut annotations = texts(&template, "annotations");
        let creation = creation_text(object, self.creation);
        annotations.insert(keys::CREATION.to_owned(), creation);
        let mut spec = template.at(&["spec"]).cloned().unwrap_or_default();
        add_gate(&mut spec);
        Start {
            subject: self.creation.to_string(),
            names: names(object, self.creation),
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
    let is_it = uid.is_some()
        && owner_uid(&found) == uid
        && creation(object, &found).to_string() == start.subject
        && found.metadata.deletion_timestamp.is_none();
    if is_it { Claim::Mine } else { Claim::Others }
}
