//! The ResourceContext of a set: what it says, and how it is written.
//!
//! Sets may share one. Each changes its own ids and leaves those of the others as they are.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use operon_api::{
    CollaSet, ResourceContext,
    resource_context::{ContextDetail, OWNER},
};
use serde_json::json;

use super::{
    Seen,
    pods::{instance_id, is_finished, owner_uid, was_excluded},
};
use crate::driver::{self, Start, Write};

/// What the creation of a context is for.
pub(super) const SUBJECT: &str = "context";

/// What is remembered of an id.
pub(super) type Data = BTreeMap<String, String>;

/// A write of so many ids less than all waits until others join it.
const SHARE: usize = 8;

/// What a context says.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) context: Option<&'a ResourceContext>,
    /// The ids of this set.
    pub(super) own: BTreeMap<u32, &'a Data>,
    /// Those of the other sets of the pool, and of pods without a controller that a former set left.
    pub(super) others: BTreeMap<u32, &'a Data>,
    /// How many entries are none of these: their ids are no numbers, or there twice, or of no set.
    useless: usize,
}

impl<'a> Known<'a> {
    /// What the context says. Of two entries with one id, the first counts.
    pub(super) fn of(seen: &'a Seen) -> Self {
        let context = seen.context.as_deref();
        let name = seen.object.name_any();
        let mut known = Self {
            context,
            own: BTreeMap::new(),
            others: BTreeMap::new(),
            useless: 0,
        };
        let left = left_behind(seen);
        let entries = context.and_then(|context| context.spec.contexts.as_ref());
        for entry in entries.into_iter().flatten() {
            let id = u32::try_from(entry.id).ok();
            let id = id.filter(|id| !known.own.contains_key(id) && !known.others.contains_key(id));
            let data = entry.data.as_ref();
            match (id, data, data.and_then(|data| data.get(OWNER))) {
                (Some(id), Some(data), Some(owner)) if *owner == name => {
                    known.own.insert(id, data);
                }
                (Some(id), Some(data), Some(owner))
                    if seen.mates.contains(owner) || left.contains(&id) =>
                {
                    known.others.insert(id, data);
                }
                _ => known.useless += 1,
            }
        }
        known
    }

    /// The write that makes these the ids of the set, if it is due: it is urgent, or the set is at rest, or
    /// it concerns many ids.
    pub(super) fn write(
        &self,
        object: &CollaSet,
        desired: &BTreeMap<u32, Data>,
        is_urgent: bool,
        is_at_rest: bool,
    ) -> Option<Write> {
        let is_as_desired = |(id, data): &(&u32, &Data)| self.own.get(id) == Some(data);
        let differ = desired.iter().filter(|one| !is_as_desired(one)).count();
        let dropped = self.own.keys().filter(|id| !desired.contains_key(id));
        let changes = differ + dropped.count() + self.useless;
        let is_large = changes * SHARE >= desired.len().max(1);
        let Some(context) = self.context else {
            return (!desired.is_empty()).then(|| Write::Make(self.start(object, desired)));
        };
        let is_owner = context
            .owner_references()
            .iter()
            .any(|owner| is(owner, object));
        let is_due = is_urgent || is_at_rest || is_large;
        if is_owner && (changes == 0 || !is_due) {
            return None;
        }
        let owners = context.owner_references().iter();
        // One of a former set of the name is a set that does not exist.
        let owners =
            owners.filter(|owner| owner.kind != "CollaSet" || owner.name != object.name_any());
        let owners: Vec<_> = owners.cloned().chain(reference(object)).collect();
        Some(Write::Do(driver::unchanged(
            context,
            json!({
                "metadata": {"ownerReferences": owners},
                "spec": {"contexts": self.entries(desired)},
            }),
        )))
    }

    fn start(&self, object: &CollaSet, desired: &BTreeMap<u32, Data>) -> Start {
        let owners: Vec<_> = reference(object).into_iter().collect();
        Start {
            subject: SUBJECT.to_owned(),
            names: vec![object.context_name()],
            body: json!({
                "apiVersion": ResourceContext::api_version(&()),
                "kind": ResourceContext::kind(&()),
                "metadata": {"ownerReferences": owners},
                "spec": {"contexts": self.entries(desired)},
            }),
        }
    }

    /// All entries, in the order of their ids.
    fn entries(&self, desired: &BTreeMap<u32, Data>) -> Vec<ContextDetail> {
        let all = self.others.iter().map(|(id, data)| (*id, *data));
        let all: BTreeMap<u32, &Data> = all
            .chain(desired.iter().map(|(id, data)| (*id, data)))
            .collect();
        let entry = |(id, data): (u32, &Data)| ContextDetail {
            id: i64::from(id),
            data: Some(data.clone()),
        };
        all.into_iter().map(entry).collect()
    }
}

/// The ids of pods that have no controller: a set may have been deleted without its pods, and come back.
fn left_behind(seen: &Seen) -> BTreeSet<u32> {
    let orphans = seen.pods.iter().filter(|pod| {
        let is_deleted = pod.metadata.deletion_timestamp.is_some();
        owner_uid(&***pod).is_none() && !is_deleted && !is_finished(pod) && !was_excluded(pod)
    });
    orphans.filter_map(|pod| instance_id(pod)).collect()
}

/// Several sets may own a context, none of which controls it. It is deleted with the last of them.
fn reference(object: &CollaSet) -> Option<OwnerReference> {
    Some(OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..object.controller_owner_ref(&())?
    })
}

fn is(owner: &OwnerReference, object: &CollaSet) -> bool {
    Some(&owner.uid) == object.metadata.uid.as_ref()
}
