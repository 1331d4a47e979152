//! What changes of the PersistentVolumeClaims of a set: a claim follows the pod that mounts it, has the owner that
//! the retention policy wants, and is deleted when no pod needs it.
//!
//! A claim is never deleted while a pod of the set, or a standalone one, mounts it. Claims that pods of other kinds mount
//! are protected by Kubernetes, which keeps a claim until no pod uses it.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use operon_api::{CollaSet, colla_set::ClaimRetention, keys};
use serde_json::{Map, Value, json};

use super::{
    Seen,
    claims::{Claims, id_of, is_deleted, mounted},
    pods::{Pods, instance_id, revision, was_excluded},
};
use crate::{
    action::{Effect, Propagation},
    driver,
    jobs::{owned::owner, time::left},
};

/// How old a claim is at least when it is deleted: a request of a process that is gone may arrive that late, so its
/// pod may not be seen yet.
const YOUNG: Duration = Duration::from_secs(20);

/// Which ids need their claims.
#[derive(Debug, Default)]
pub(super) struct Living {
    /// The ids of pods that exist or come back.
    pub(super) ids: BTreeSet<u32>,
    /// The ids of pods that were replaced, whose claims are deleted whatever the policy is.
    pub(super) replaced: BTreeSet<u32>,
}

impl<'a> Claims<'a> {
    /// Keeps the claims' owners and ids true.
    pub(super) fn changes(&self, pods: &Pods<'a>) -> Vec<Effect> {
        // One that is being deleted stays while a pod mounts it, so what it says matters too.
        let own = self.own.iter();
        let own = own.filter_map(|claim| match self.users(claim, pods) {
            (members, _) if !members.is_empty() => {
                changed(self.object, claim, id_of_users(&members), true)
            }
            (_, strangers) if !strangers.is_empty() => {
                let is_excluded = |pod: &&Pod| {
                    let leaves = |known: &&Pod| known.metadata.name == pod.metadata.name;
                    was_excluded(pod) || pods.exclude.iter().any(leaves)
                };
                Some(released(
                    self.object,
                    claim,
                    strangers.iter().any(is_excluded),
                ))
            }
            _ if is_deleted(claim) => None,
            _ => changed(self.object, claim, None, false),
        });
        let free = self.free.iter();
        let free = free.filter_map(|claim| {
            let (mut members, _) = self.users(claim, pods);
            members.retain(|pod| self.is_of_template(pod, claim));
            (!members.is_empty()).then(|| taken(self.object, claim, id_of_users(&members), true))
        });
        own.chain(free).collect()
    }

    /// Lets the claims of a set that is being deleted have the owner that the policy wants.
    pub(super) fn settle(&self) -> Vec<Effect> {
        let own = self.own.iter().filter(|claim| !is_deleted(claim));
        own.filter_map(|claim| changed(self.object, claim, None, false))
            .collect()
    }

    /// The deletions of claims that no pod needs, and when the next one is due.
    pub(super) fn deletions(
        &self,
        seen: &Seen,
        pods: &Pods<'a>,
        updated: &str,
        living: &Living,
    ) -> (Vec<Effect>, Option<Duration>) {
        let useless = self.own.iter().filter(|claim| {
            let is_mounted = !self.mounting(claim).is_empty();
            !is_deleted(claim) && !is_mounted && self.is_useless(claim, pods, updated, living)
        });
        let mut requeue_after: Option<Duration> = None;
        let due = useless.filter(|claim| match youth(claim, seen) {
            None => true,
            left => {
                requeue_after = requeue_after.into_iter().chain(left).min();
                false
            }
        });
        let effects = due.map(|claim| driver::delete_unchanged(*claim, Propagation::Background));
        let effects = effects.collect();
        (effects, requeue_after)
    }

    /// Whether no pod that exists or comes back needs a claim that no pod mounts.
    fn is_useless(
        &self,
        claim: &PersistentVolumeClaim,
        pods: &Pods<'a>,
        updated: &str,
        living: &Living,
    ) -> bool {
        let goes_with_pod = self.object.claims_when_scaled() == ClaimRetention::Delete;
        let Some(id) = id_of(claim) else {
            return false;
        };
        if !goes_with_pod && !living.replaced.contains(&id) {
            return false;
        }
        let mut active = pods.active.iter().chain(&pods.adopt);
        let Some(pod) = active.find(|pod| instance_id(pod) == Some(id)) else {
            let is_gone = !living.ids.contains(&id);
            return is_gone && (goes_with_pod || living.replaced.contains(&id));
        };
        // The pod mounts other claims: this one is of an older template, or another one is used instead.
        let status = self.object.status.as_ref();
        let current = status.and_then(|status| status.current_revision.as_deref());
        let revisions = [Some(updated), current, revision(pod)];
        let all = || revisions.into_iter().flatten();
        let templates = all().flat_map(|name| self.templates(name));
        let mut wanted = templates.filter(|template| template.is_of(self.object, claim));
        let is_wanted = wanted.next().is_some_and(|template| {
            let is_mounted = |other: &&&PersistentVolumeClaim| {
                mounted(pod).any(|name| other.metadata.name.as_deref() == Some(name))
            };
            let mut others = self.own.iter().filter(is_mounted);
            !others.any(|other| template.is_of(self.object, other))
        });
        goes_with_pod && !is_wanted
    }
}

/// The id of the only pod that mounts a claim, if it stays.
fn id_of_users(members: &[&Pod]) -> Option<u32> {
    match members {
        [pod] if pod.metadata.deletion_timestamp.is_none() => instance_id(pod),
        _ => None,
    }
}

/// How long a claim is too young to be deleted.
fn youth(claim: &PersistentVolumeClaim, seen: &Seen) -> Option<Duration> {
    let created = claim.metadata.creation_timestamp.as_ref()?;
    left(created.0, YOUNG, seen.now)
}

/// What a claim has that belongs to the set, as a write; none if it has that.
fn changed(
    object: &CollaSet,
    claim: &PersistentVolumeClaim,
    id: Option<u32>,
    is_used: bool,
) -> Option<Effect> {
    let has_id = id.is_none() || id == id_of(claim);
    let uid = object.metadata.uid.as_ref();
    let is_owned = claim
        .owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == uid);
    let shall_be_owned = object.claims_when_deleted() == ClaimRetention::Delete;
    let was_excluded = is_used && claim.labels().contains_key(keys::ORPHANED);
    let is_right = is_owned == shall_be_owned && has_id && !was_excluded;
    (!is_right).then(|| taken(object, claim, id, is_used))
}

/// The write that makes a claim the set's, and for this id, if there is one. One that is used is excluded no more.
pub(super) fn taken(
    object: &CollaSet,
    claim: &PersistentVolumeClaim,
    id: Option<u32>,
    is_used: bool,
) -> Effect {
    let mut labels = Map::new();
    if let Some(id) = id.filter(|id| id_of(claim) != Some(*id)) {
        labels.insert(keys::INSTANCE_ID.to_owned(), json!(id.to_string()));
    }
    if is_used && claim.labels().contains_key(keys::ORPHANED) {
        labels.insert(keys::ORPHANED.to_owned(), Value::Null);
    }
    let shall_be_owned = object.claims_when_deleted() == ClaimRetention::Delete;
    let own = owner(object).filter(|_| shall_be_owned);
    let owners: Vec<_> = others(object, claim).into_iter().chain(own).collect();
    let of = json!(object.metadata.uid);
    let metadata =
        json!({"annotations": {keys::CLAIM_OF: of}, "labels": labels, "ownerReferences": owners});
    driver::unchanged(claim, json!({"metadata": metadata}))
}

/// The write that ends a claim's belonging to the set: the pod that mounts it has left.
fn released(object: &CollaSet, claim: &PersistentVolumeClaim, is_excluded: bool) -> Effect {
    let labels = if is_excluded {
        json!({keys::ORPHANED: "true"})
    } else {
        json!({})
    };
    let metadata = json!({
        "annotations": {keys::CLAIM_OF: null},
        "labels": labels,
        "ownerReferences": others(object, claim),
    });
    driver::unchanged(claim, json!({"metadata": metadata}))
}

fn others(
    object: &CollaSet,
    claim: &PersistentVolumeClaim,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    let owners = claim.owner_references().iter();
    let others = owners.filter(|owner| Some(&owner.uid) != object.metadata.uid.as_ref());
    others.cloned().collect()
}
