//! The deletion of pods that have the label `to-delete`: an operation of its own, which takes the pod out of
//! service first. Pure.
//!
//! The controller that moves the lifecycle performs this operation too, so it needs fewer writes than others: what
//! follows its begin is in the same write, and the pod is deleted instead of being labelled that it may be.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::keys;

use super::{
    adapter::{Adapter, Edit, Standing},
    labels::{Labels, Operation, PREPARING_TO_DELETE, Stage},
};

/// The operation that deletes a pod.
pub const DELETION: Adapter<'static> = Adapter {
    id: "pod-delete",
    kind: "delete",
};

/// The change of labels by which the operation begins on a pod that shall be deleted, or by which it is withdrawn from
/// a pod that shall not be deleted any more.
pub(super) fn edit(pod: &Pod, now: Timestamp) -> Option<Edit> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if !is_wanted(pod) {
        let mut labels = DELETION.undo(pod.labels())?;
        labels.insert(PREPARING_TO_DELETE.to_owned(), None);
        return Some(labels);
    }
    let time = now.as_nanosecond();
    match DELETION.standing(pod.labels(), time) {
        Standing::Begin(mut labels) => {
            labels.insert(PREPARING_TO_DELETE.to_owned(), Some(time.to_string()));
            Some(labels)
        }
        Standing::Blocked(_) | Standing::Waits(_) | Standing::Allowed(_) | Standing::Returning => {
            None
        }
    }
}

/// Whether a pod is deleted now: it says that the operation is allowed to take it out of service, and the operation
/// may act by the labels that it would get next.
pub(super) fn is_due(pod: &Pod, next: &Labels, now: Timestamp) -> bool {
    let stage = Operation::of(pod.labels(), DELETION.id).stage();
    let has_begun = matches!(stage, Stage::Preparing | Stage::Operate);
    let standing = DELETION.standing(next, now.as_nanosecond());
    let is_active = pod.metadata.deletion_timestamp.is_none();
    is_active && is_wanted(pod) && has_begun && matches!(standing, Standing::Allowed(_))
}

/// Whether a pod shall be deleted.
fn is_wanted(pod: &Pod) -> bool {
    pod.labels().contains_key(keys::TO_DELETE)
}
