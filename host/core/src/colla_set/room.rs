//! Pods whose nodes have no room for the CPU and memory that an update has written into them. Such a pod runs with
//! what it had, so it serves meanwhile; the kubelet resizes it when there is room, and that ends the update.
//!
//! But a container whose `resizePolicy` says so restarts at that moment, which must not happen to a pod that
//! serves. And where there never will be room, another node may have some: such pods are created again, unless
//! the policy is `InPlaceOnly`.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    jiff::Timestamp,
};
use kube::ResourceExt as _;

use super::{delay, in_place, resources};
use crate::jobs::text::short;

/// How many seconds a pod waits out of service for its node to have room.
const PATIENCE: i32 = 60;

/// How much of a kubelet's message is quoted.
const QUOTED: usize = 200;

/// Whether a pod serves while its node has no room.
pub(super) fn serves_meanwhile(pod: &Pod) -> bool {
    in_place::waits_for_room(pod).is_some() && !may_restart(pod)
}

/// What the update of a pod waits for.
pub(super) fn waits_for(pod: &Pod) -> Option<(String, String)> {
    let PodCondition {
        reason, message, ..
    } = in_place::waits_for_room(pod)?;
    let meanwhile = if may_restart(pod) {
        "the pod stays out of service, because its container restarts when the node has room"
    } else {
        "until then the pod serves with the previous ones"
    };
    let what = format!(
        "its node to have room for its new CPU and memory; {meanwhile}: {}: {}",
        reason.as_deref().unwrap_or_default(),
        short(message.as_deref().unwrap_or_default(), QUOTED)
    );
    Some((pod.name_any(), what))
}

/// Whether only another node can give a pod what it shall have soon. If that depends on the time, the next look is
/// due when it is so, unless it is due sooner.
pub(super) fn is_stuck(pod: &Pod, now: Timestamp, requeue_after: &mut Option<Duration>) -> bool {
    let Some(pending) = in_place::waits_for_room(pod) else {
        return false;
    };
    let waited_long = |requeue_after| {
        let since = resources::pending_since(pending).unwrap_or(now);
        delay::is_over(Some(PATIENCE), since.as_nanosecond(), now, requeue_after)
    };
    resources::is_infeasible(pod) || (may_restart(pod) && waited_long(requeue_after))
}

/// Whether a container of a pod that waits for room may restart at any moment.
fn may_restart(pod: &Pod) -> bool {
    !resources::is_infeasible(pod) && resources::restart(pod)
}
