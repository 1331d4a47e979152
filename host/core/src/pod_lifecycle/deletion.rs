//! The deletion of pods that have the label `to-delete`: an operation of its own, which takes the pod out of
//! service first. Pure.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::keys;
use serde_json::json;

use super::{
    adapter::{Adapter, Standing},
    labels::PREPARING_TO_DELETE,
};
use crate::{
    action::{Effect, Propagation},
    driver,
};

/// The operation that deletes a pod.
pub const DELETION: Adapter<'static> = Adapter {
    id: "pod-delete",
    kind: "delete",
};

/// The next write towards the deletion of a pod, if the pod shall be deleted and it is time; or the write that
/// takes the operation back, if the pod shall not be deleted any more.
pub fn deletion(pod: &Pod, now: Timestamp) -> Option<Effect> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if !pod.labels().contains_key(keys::TO_DELETE) {
        let mut labels = DELETION.undo(pod.labels())?;
        labels.insert(PREPARING_TO_DELETE.to_owned(), None);
        let body = json!({"metadata": {"labels": labels}});
        return Some(driver::unchanged(pod, body));
    }
    let time = now.as_nanosecond();
    match DELETION.standing(pod.labels(), time) {
        Standing::Begin(mut labels) => {
            labels.insert(PREPARING_TO_DELETE.to_owned(), Some(time.to_string()));
            let body = json!({"metadata": {"labels": labels}});
            Some(driver::unchanged(pod, body))
        }
        Standing::Allowed(_) => Some(driver::delete_unchanged(pod, Propagation::Background)),
        Standing::Blocked(_) | Standing::Waits(_) | Standing::Returning => None,
    }
}
