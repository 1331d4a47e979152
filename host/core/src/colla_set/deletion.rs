//! The deletion of a CollaSet. A finalizer holds the set until its pods are gone: they are deleted through
//! their lifecycle, or, if the set is deleted with `--cascade=orphan`, released in service.
//!
//! The garbage collector works at the same time. It orphans pods while the finalizer `orphan` is on the set, and
//! deletes them while `foregroundDeletion` is; nothing can keep it from that.

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::SelectorExt as _};
use operon_api::{CollaSet, keys};

use super::{
    Seen,
    claims::Claims,
    edits::Edits,
    membership,
    plan::Plan,
    pods::{Pods, creation, owner_uid},
    revision::Revisions,
    scale::{Scale, is_scaling_in, waits_for},
    selection::selector,
    update::UPDATE,
};
use crate::{action::Propagation, driver, pod_lifecycle::deletion::DELETION};

/// The finalizers that the garbage collector puts on an object that is deleted with `--cascade`.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// The deletion of a set, as far as it is.
#[derive(Debug)]
pub(super) struct End {
    /// What is left to do, as a sentence; none: the set can go.
    pub(super) left: Option<String>,
}

/// What is written for a set that is being deleted.
pub(super) fn end(seen: &Seen) -> Plan {
    let object = &*seen.object;
    let has = |finalizer: &str| object.finalizers().iter().any(|known| known == finalizer);
    let pods = Pods::owned(seen);
    let mut edits = Edits::default();
    let mut scale = Scale::default();
    let mut delete: Vec<_> = Vec::new();
    if has(ORPHAN) {
        for pod in pods.active.iter().chain(&pods.finished) {
            membership::release(object, pod, &mut edits);
        }
    } else {
        let finished = pods.finished.iter();
        delete.extend(finished.map(|pod| driver::delete(*pod, Propagation::Background)));
        for pod in &pods.active {
            drain(pod, seen, &mut edits, &mut scale);
        }
    }
    // The garbage collector may have orphaned them already.
    for pod in orphans(seen) {
        membership::unbind(pod, &mut edits);
    }
    let edit = edits.into_effects();
    delete.extend(scale.deletions);
    let left = left(&pods, &scale.waiting, has(ORPHAN), has(FOREGROUND));
    // The garbage collector releases the claims of a set that is orphaned.
    let claim_changes = if has(ORPHAN) {
        Vec::new()
    } else {
        Claims::of(seen, &Revisions::of(seen)).settle()
    };
    let is_cleared = edit.is_empty() && claim_changes.is_empty();
    Plan {
        end: Some(End {
            left: left.or_else(|| {
                (!is_cleared).then(|| "its pods and claims are being released".to_owned())
            }),
        }),
        edit,
        claim_changes,
        delete,
        requeue_after: scale.requeue_after,
        ..Plan::default()
    }
}

/// The next step of a pod that is deleted with its set.
fn drain<'a>(pod: &'a Pod, seen: &Seen, edits: &mut Edits<'a>, scale: &mut Scale) {
    // A scale-in that has begun deletes it.
    if is_scaling_in(pod) {
        return scale.take_out(pod, seen, edits);
    }
    edits.take_back(UPDATE, pod);
    membership::take_part(pod, edits);
    if pod.labels().contains_key(keys::TO_DELETE) {
        let standing = DELETION.standing(pod.labels(), seen.now.as_nanosecond());
        scale.waiting.extend(waits_for(pod, &standing));
    } else {
        let now = seen.now.as_nanosecond().to_string();
        edits.label(pod, keys::TO_DELETE, now);
    }
}

/// The pods that were the set's, and have no controller any more.
fn orphans(seen: &Seen) -> impl Iterator<Item = &Pod> {
    let object: &CollaSet = &seen.object;
    let selector = selector(object).ok();
    let pods = seen.pods.iter().map(AsRef::as_ref);
    pods.filter(move |pod: &&Pod| {
        let is_selected = || {
            let selector = selector.as_ref();
            selector.is_some_and(|selector| selector.matches(pod.labels()))
        };
        owner_uid(*pod).is_none()
            && pod.metadata.deletion_timestamp.is_none()
            && (creation(object, pod) > 0 || is_selected())
    })
}

/// What is left to do, as a sentence.
fn left(
    pods: &Pods<'_>,
    waiting: &[(String, String)],
    is_orphaning: bool,
    is_foreground: bool,
) -> Option<String> {
    let terminating: &[&Pod] = if is_orphaning { &[] } else { &pods.terminating };
    let there = pods.active.len() + pods.finished.len() + terminating.len();
    if there == 0 {
        return None;
    }
    let pods_are = if there == 1 { "pod is" } else { "pods are" };
    let mut text = if is_orphaning {
        format!("{there} {pods_are} still to be released")
    } else {
        format!(
            "{there} {pods_are} left, {} of them being deleted",
            terminating.len()
        )
    };
    let held = terminating.iter().find(|pod| !pod.finalizers().is_empty());
    let held = held.map(|pod| {
        let finalizers = pod.finalizers().join(", ");
        (
            pod.name_any(),
            format!("the removal of finalizers of the pod: {finalizers}"),
        )
    });
    let waits = waiting.first().or(held.as_ref());
    if let Some(waits) = waits.map(|(pod, what)| format!(". Pod {pod:?} waits for {what}")) {
        text += &waits;
    }
    if is_foreground {
        text += ". The garbage collector deletes the pods without the PodOpsLifecycle, because the CollaSet \
                 was deleted with --cascade=foreground";
    }
    Some(text)
}
