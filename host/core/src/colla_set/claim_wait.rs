//! Pods that wait for PersistentVolumeClaims without a volume, and why these have none.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::{
    Seen,
    claims::mounted,
    pods::{is_available, is_finished, is_scheduled, owner_uid},
};
use crate::{
    driver::{Asked, Question},
    jobs::{
        text::short,
        time::{NAMED_AFTER, left},
    },
};

/// How often it is checked again why a claim has no volume: nothing reports that another Event was sent.
const RECHECK: Duration = Duration::from_mins(1);

/// The reasons of Events of a claim that gets its volume when its pod has a node.
const FOR_POD: [&str; 2] = ["WaitForFirstConsumer", "WaitForPodScheduled"];

/// How much of an Event is quoted.
const QUOTED: usize = 300;

/// A pod that waits for a claim.
pub(super) struct Unbound<'a> {
    pod: &'a Pod,
    claim: &'a PersistentVolumeClaim,
    /// Whether it has waited for so long that it is named.
    is_named: bool,
    /// When to look again.
    pub(super) recheck: Duration,
}

/// The first pod without a node that waits for a claim without a volume.
pub(super) fn unbound(seen: &Seen) -> Option<Unbound<'_>> {
    let uid = seen.object.metadata.uid.as_deref();
    if seen.claims.is_empty() {
        return None;
    }
    let pods = seen.pods.iter().map(AsRef::as_ref);
    let waits = |pod: &&Pod| {
        owner_uid(*pod) == uid
            && !(is_scheduled(pod) || is_available(pod) || is_finished(pod))
            && pod.metadata.deletion_timestamp.is_none()
    };
    pods.filter(waits).find_map(|pod| {
        let claim = mounted(pod).find_map(|name| unbound_claim(seen, name))?;
        let created = pod.metadata.creation_timestamp.as_ref()?;
        let short = left(created.0, NAMED_AFTER, seen.now);
        Some(Unbound {
            pod,
            claim,
            is_named: short.is_none(),
            recheck: short.unwrap_or(RECHECK),
        })
    })
}

fn unbound_claim<'a>(seen: &'a Seen, name: &str) -> Option<&'a PersistentVolumeClaim> {
    let mut claims = seen.claims.iter().map(AsRef::as_ref);
    claims.find(|claim: &&PersistentVolumeClaim| {
        claim.metadata.name.as_deref() == Some(name) && phase(claim) != "Bound"
    })
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Pending")
}

/// The Event that explains why the claim has no volume.
pub(super) fn question(seen: &Seen) -> Option<Question> {
    let unbound = unbound(seen).filter(|unbound| unbound.is_named)?;
    unbound.claim.uid().map(Question::Event)
}

impl Unbound<'_> {
    /// What the pod waits for, as a sentence; none if it has only begun to wait, or if the claim waits for the pod.
    pub(super) fn said(&self, asked: &Asked) -> Option<String> {
        let claim = self.claim;
        let uid = claim.uid().unwrap_or_default();
        let event = asked.event.as_ref().filter(|_| asked.is_about(&uid));
        let waits_for_pod = event.is_some_and(|event| FOR_POD.contains(&&*event.reason));
        if !self.is_named || waits_for_pod {
            return None;
        }
        let waits = format!(
            "pod {:?} waits for PersistentVolumeClaim {:?}, which is {}",
            self.pod.name_any(),
            claim.name_any(),
            phase(claim)
        );
        Some(match event {
            Some(event) => {
                let message = short(&event.message, QUOTED);
                format!("{waits}: {}: {message}", event.reason)
            }
            None => waits,
        })
    }
}
