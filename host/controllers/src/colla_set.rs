//! The CollaSet controller. Everything that is decided is decided in `operon_core::colla_set`; this file
//! reads the caches, and says which CollaSets a change concerns.

#[cfg(test)]
mod simulation;

use std::{collections::BTreeSet, sync::Arc};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    Client, Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::{CollaSet, keys};
use operon_core::colla_set::{Driven, Seen};

use crate::{
    apply::within_limit,
    driven::Controller,
    error::Error,
    index::Index,
    store::{Cache, Cached},
};

/// What CollaSets are decided from.
pub struct CollaSets {
    /// All pods.
    pub pods: Cache<Pod>,
    /// All ControllerRevisions; those of other kinds without what they hold.
    pub revisions: Cache<ControllerRevision>,
    /// Knows which of them concern a CollaSet.
    pub triggers: Arc<CollaSetTriggers>,
    /// Whether the API server [can resize](can_resize) pods.
    pub can_resize: bool,
}

/// Whether the API server has the subresource `resize` of pods, since Kubernetes 1.33.
///
/// # Errors
/// The API server did not answer, or not in time.
pub async fn can_resize(client: &Client) -> Result<bool, Error> {
    let object = || "the resources of v1".to_owned();
    let request = client.list_core_api_resources("v1");
    let found = within_limit("list", object, request).await?.resources;
    Ok(found.iter().any(|one| one.name == "pods/resize"))
}

impl Controller for CollaSets {
    type Object = CollaSet;
    type Kind = Driven;

    const NAME: &'static str = "collaset";
    const MANAGER: &'static str = keys::COLLA_SET_MANAGER;

    fn look(&self, object: Arc<CollaSet>, _before: Option<Seen>) -> Seen {
        Seen {
            pods: concerned(&self.triggers.pods, &object, &self.pods.store),
            revisions: concerned(&self.triggers.revisions, &object, &self.revisions.store),
            can_resize: self.can_resize,
            now: Timestamp::now(),
            object,
        }
    }

    fn object(seen: &Seen) -> &Arc<CollaSet> {
        &seen.object
    }
}

/// The objects that a CollaSet owns or may adopt.
fn concerned<K>(index: &Index<K>, object: &CollaSet, store: &Store<K>) -> Vec<Arc<K>>
where
    K: Cached + Resource<DynamicType = ()>,
{
    let owned = index.get(&object.uid().unwrap_or_default(), store);
    let orphans = index.get(&orphans_of(object), store);
    owned.into_iter().chain(orphans).collect()
}

/// Wakes the CollaSets that a change concerns.
pub struct CollaSetTriggers {
    queue: UnboundedSender<ObjectRef<CollaSet>>,
    /// By the uid of their CollaSet; those without a controller by their namespace.
    pods: Index<Pod>,
    /// As the pods.
    revisions: Index<ControllerRevision>,
}

impl CollaSetTriggers {
    /// Wakes CollaSets by this queue.
    pub fn new(queue: UnboundedSender<ObjectRef<CollaSet>>) -> Self {
        Self {
            queue,
            pods: Index::new(concerns),
            revisions: Index::new(concerns),
        }
    }

    /// A CollaSet changed.
    pub fn object_changed(&self, object: &CollaSet) {
        self.wake(ObjectRef::from_obj(object));
    }

    /// A pod changed.
    pub fn pod_changed(&self, pod: &Pod, pods: &Store<Pod>, objects: &Store<CollaSet>) {
        self.pods.changed(pod, pods);
        self.wake_concerned(pod, objects);
    }

    /// A ControllerRevision changed.
    pub fn revision_changed(
        &self,
        revision: &ControllerRevision,
        revisions: &Store<ControllerRevision>,
        objects: &Store<CollaSet>,
    ) {
        self.revisions.changed(revision, revisions);
        self.wake_concerned(revision, objects);
    }

    /// The owner of an object, or every CollaSet that may adopt it.
    fn wake_concerned<K: Resource>(&self, object: &K, objects: &Store<CollaSet>) {
        let namespace = object.namespace().unwrap_or_default();
        match controller(object) {
            Some(owner) if owner.kind == CollaSet::kind(&()) => {
                self.wake(ObjectRef::new(&owner.name).within(&namespace));
            }
            Some(_) => {}
            None => {
                let objects = objects.state();
                let here = objects
                    .iter()
                    .filter(|one| one.namespace().as_ref() == Some(&namespace));
                here.for_each(|one| self.wake(ObjectRef::from_obj(&**one)));
            }
        }
    }

    fn wake(&self, object: ObjectRef<CollaSet>) {
        // A closed queue means that the process ends.
        let _ = self.queue.unbounded_send(object);
    }
}

/// Drops what a ControllerRevision of another kind holds.
pub fn without_foreign_data(revision: &mut ControllerRevision) {
    let is_ours = controller(revision).is_none_or(|owner| owner.kind == CollaSet::kind(&()));
    if !is_ours {
        revision.data = None;
    }
}

fn concerns<K: Resource>(object: &K) -> BTreeSet<String> {
    let key = match controller(object) {
        Some(owner) if owner.kind == CollaSet::kind(&()) => Some(owner.uid.clone()),
        Some(_) => None,
        None => Some(orphans_of(object)),
    };
    key.into_iter().collect()
}

/// The key of the objects of a namespace that have no controller.
fn orphans_of<K: Resource>(object: &K) -> String {
    format!("{}/", object.namespace().unwrap_or_default())
}

/// The controller of an object.
pub(crate) fn controller<K: Resource>(
    object: &K,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    let owners = object.meta().owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
}
