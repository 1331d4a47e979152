//! How the CollaSet is deleted, what the garbage collector does, and a controller with finalizers on pods.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{NAME, claims, kubelet::has_condition, promises::owner};
use crate::simulation::{
    Objects, name_of,
    plurals::{CLAIMS, COLLA_SETS, CONTEXTS, PODS, REVISIONS},
};

/// The finalizer of a controller that sends requests to pods.
const PROTECTION: &str = "prot.podopslifecycle.kusionstack.io/test";

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// How a user deletes the CollaSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    /// With its pods.
    Background,
    /// After its pods, which the garbage collector deletes.
    Foreground,
    /// Without its pods.
    Orphan,
    /// Without its pods, and without waiting for its finalizer; it is created again.
    Force,
}

impl Deletion {
    pub(super) const ALL: [Self; 4] = [
        Self::Background,
        Self::Foreground,
        Self::Orphan,
        Self::Force,
    ];
}

/// A user deletes the CollaSet, if there is one.
pub(super) fn delete(objects: &mut Objects, how: Deletion, now: Timestamp) {
    let Some(mut object) = objects.get(COLLA_SETS, NAME).cloned() else {
        return;
    };
    match how {
        Deletion::Background => objects.delete(COLLA_SETS, NAME, now),
        Deletion::Foreground | Deletion::Orphan => {
            let of_collector = [ORPHAN, FOREGROUND];
            let own = of_collector[usize::from(how == Deletion::Foreground)];
            let mut held = finalizers(&object);
            held.retain(|known| !of_collector.contains(&known.as_str()));
            held.push(own.to_owned());
            object["metadata"]["finalizers"] = json!(held);
            objects.set(COLLA_SETS, object);
            objects.delete(COLLA_SETS, NAME, now);
        }
        Deletion::Force => {
            let uid = object["metadata"]["uid"].clone();
            object["metadata"]["finalizers"] = json!([]);
            let object = objects.set(COLLA_SETS, object);
            objects.delete(COLLA_SETS, NAME, now);
            orphan(objects, &uid);
            let (mut again, spec) = (json!({"metadata": {"name": NAME}}), &object["spec"]);
            for key in ["apiVersion", "kind"] {
                again[key] = object[key].clone();
            }
            again["spec"] = spec.clone();
            objects.create(COLLA_SETS, again, now);
        }
    }
}

fn finalizers(object: &Value) -> Vec<String> {
    serde_json::from_value(object["metadata"]["finalizers"].clone()).unwrap_or_default()
}

/// What an object owns has no owner any more.
fn orphan(objects: &mut Objects, uid: &Value) {
    for plural in [PODS, REVISIONS, CONTEXTS, CLAIMS] {
        for mut owned in objects.all(plural) {
            if owner(&owned) == uid {
                owned["metadata"]["ownerReferences"] = json!([]);
                objects.set(plural, owned);
            }
        }
    }
}

/// What a CollaSet owned that does not exist any more is deleted; what one owns that is being deleted is
/// orphaned, or deleted before it.
pub(super) fn collect_garbage(objects: &mut Objects, now: Timestamp) {
    let object = objects.get(COLLA_SETS, NAME).cloned();
    let uid = object
        .as_ref()
        .map(|object| object["metadata"]["uid"].clone());
    for plural in [PODS, REVISIONS, CONTEXTS] {
        for owned in objects.all(plural) {
            if owner(&owned).is_string() && Some(owner(&owned)) != uid.as_ref() {
                objects.delete(plural, name_of(&owned), now);
            }
        }
    }
    let is_lost = |claim: &Value| owner(claim).is_string() && Some(owner(claim)) != uid.as_ref();
    for claim in objects.all(CLAIMS).into_iter().filter(is_lost) {
        claims::delete(objects, claim, now);
    }
    let Some((mut object, uid)) = object.zip(uid) else {
        return;
    };
    if object["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    let mut held = finalizers(&object);
    if held.iter().any(|known| known == ORPHAN) {
        orphan(objects, &uid);
    }
    let owned = objects.all(PODS).into_iter().chain(objects.all(REVISIONS));
    let owned: Vec<_> = owned.filter(|owned| *owner(owned) == uid).collect();
    let is_foreground = held.iter().any(|known| known == FOREGROUND);
    for owned in owned.iter().filter(|_| is_foreground) {
        let is_pod = owned["spec"].is_object();
        let plural = if is_pod { PODS } else { REVISIONS };
        objects.delete(plural, name_of(owned), now);
    }
    held.retain(|known| known != ORPHAN && !(known == FOREGROUND && owned.is_empty()));
    object["metadata"]["finalizers"] = json!(held);
    objects.set(COLLA_SETS, object);
}

/// The other controller sends requests to a pod that is Ready.
pub(super) fn protect(objects: &mut Objects, mut pod: Value) {
    let is_deleted = pod["metadata"]["deletionTimestamp"].is_string();
    if has_condition(&pod, "Ready") && !is_deleted {
        pod["metadata"]["finalizers"] = json!([PROTECTION]);
        objects.set(PODS, pod);
    }
}

/// It has stopped, when the pod is not Ready any more or is being deleted.
pub(super) fn unprotect(objects: &mut Objects, mut pod: Value) {
    let is_deleted = pod["metadata"]["deletionTimestamp"].is_string();
    if is_deleted || !has_condition(&pod, "Ready") {
        pod["metadata"]["finalizers"] = json!([]);
        objects.set(PODS, pod);
    }
}
