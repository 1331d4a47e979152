//! What a new pod of a CollaSet is.

use std::collections::BTreeSet;

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::ResourceExt;
use operon_api::{CollaSet, keys};
use serde_json::{Value, json};

use super::{
    Seen,
    pair::Pairs,
    pods::{Pods, creation, instance_id, owner_uid, revision},
    revision::{Revisions, template},
    selection::texts,
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

/// The creations of the new pods of pairs, and of so many others. An origin that is being deleted does not
/// count any more, so its new pod is one of the others.
pub(super) fn starts(
    seen: &Seen,
    pods: &Pods<'_>,
    pairs: &Pairs<'_>,
    revisions: &Revisions<'_>,
    updated: &ControllerRevision,
    missing: usize,
) -> Vec<Start> {
    let is_deleted = |pod: &&&Pod| pod.metadata.deletion_timestamp.is_some();
    let (deleted, active): (Vec<&&Pod>, Vec<&&Pod>) = pairs.alone.iter().partition(is_deleted);
    let beside = active.into_iter().map(|pod| Some(*pod));
    let instead = deleted.into_iter().map(|pod| Some(*pod));
    let instead = instead.chain(std::iter::repeat(None)).take(missing);
    let (creations, ids) = (created(seen) + 1.., free_ids(pods));
    let wanted = beside.chain(instead).zip(creations).zip(ids);
    wanted
        .map(|((origin, creation), id)| {
            let of_origin = origin
                .and_then(revision)
                .and_then(|name| revisions.named(name));
            let new_pod = NewPod {
                creation,
                id,
                origin,
                revision: of_origin.unwrap_or(updated),
            };
            new_pod.start(seen)
        })
        .collect()
}

/// How many pods were created for the set so far.
pub(super) fn created(seen: &Seen) -> i64 {
    let status = seen.object.status.as_ref();
    let known = status.map_or(0, |status| status.created_pods);
    let uid = seen.object.metadata.uid.as_deref();
    let owned = seen.pods.iter().filter(|pod| owner_uid(&***pod) == uid);
    owned.map(|pod| creation(pod)).max().unwrap_or(0).max(known)
}

/// The numbers that no pod has, the smallest first.
pub(super) fn free_ids(pods: &Pods<'_>) -> impl Iterator<Item = u32> + use<> {
    let taken: BTreeSet<_> = pods
        .active
        .iter()
        .filter_map(|pod| instance_id(pod))
        .collect();
    (0..).filter(move |id| !taken.contains(id))
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
        annotations.insert(keys::CREATION.to_owned(), self.creation.to_string());
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
        && creation(&found).to_string() == start.subject
        && found.metadata.deletion_timestamp.is_none();
    if is_it { Claim::Mine } else { Claim::Others }
}
