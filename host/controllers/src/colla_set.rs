//! The CollaSet controller. Everything that is decided is decided in `operon_core::colla_set`; this file
//! reads the caches, and says which CollaSets a change concerns.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{
    api::{
        apps::v1::ControllerRevision,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    jiff::Timestamp,
};
use kube::{Client, Resource, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{CollaSet, PodDecoration, ResourceContext, keys, resource_context::OWNER};
use operon_core::{
    colla_set::{Driven, Seen, may_adopt, may_take},
    jobs::owned::controller,
};

use crate::{
    apply::within_limit,
    driven::Controller,
    error::Error,
    index::Index,
    run::pace_of,
    store::{Cache, Cached, Store},
};

/// How much each pod adds to the time between two reconciles.
const PER_POD: Duration = Duration::from_millis(2);

/// What CollaSets are decided from.
pub struct CollaSets {
    /// All CollaSets: several may share a ResourceContext.
    pub objects: Cache<CollaSet>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// All ControllerRevisions; those of other kinds without what they hold.
    pub revisions: Cache<ControllerRevision>,
    /// The PersistentVolumeClaims that were created from claim templates.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All ResourceContexts.
    pub contexts: Cache<ResourceContext>,
    /// All PodDecorations of KusionStack, if the API server has the kind.
    pub decorations: Cache<PodDecoration>,
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
        let context = self.context(&object);
        Seen {
            mates: self.mates(&object, context.as_deref()),
            context,
            pods: concerned(&self.triggers.pods, &object, &self.pods.store),
            revisions: concerned(&self.triggers.revisions, &object, &self.revisions.store),
            claims: self.claims(&object),
            can_resize: self.can_resize,
            decorations: self.decorations(&object),
            now: Timestamp::now(),
            object,
        }
    }

    fn pace(object: &CollaSet) -> Duration {
        pace_of(usize::try_from(object.spec.replicas).unwrap_or(0), PER_POD)
    }

    fn object(seen: &Seen) -> &Arc<CollaSet> {
        &seen.object
    }
}

impl CollaSets {
    /// The claims that concern a CollaSet, without those that belong to another one.
    fn claims(&self, object: &CollaSet) -> Vec<Arc<PersistentVolumeClaim>> {
        let claims = concerned(&self.triggers.claims, object, &self.claims.store);
        without_foreign(claims, object, || {
            let key = all_of(&object.namespace().unwrap_or_default());
            let sets = self.triggers.objects.get(&key, &self.objects.store);
            sets.iter().filter_map(|set| set.uid()).collect()
        })
    }

    /// The ResourceContext of a CollaSet.
    fn context(&self, object: &CollaSet) -> Option<Arc<ResourceContext>> {
        let namespace = object.namespace().unwrap_or_default();
        let reference = ObjectRef::new(&object.context_name()).within(&namespace);
        self.contexts.store.get(&reference)
    }

    /// The PodDecorations of its namespace.
    fn decorations(&self, object: &CollaSet) -> Vec<Arc<PodDecoration>> {
        let namespace = object.namespace().unwrap_or_default();
        let known = &self.triggers.decorations;
        known.get(&namespace, &self.decorations.store)
    }

    /// The names of the other CollaSets that have ids in this context.
    fn mates(&self, object: &CollaSet, context: Option<&ResourceContext>) -> BTreeSet<String> {
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let mut owners = context.map(owners).unwrap_or_default();
        owners.retain(|owner| {
            let reference = ObjectRef::new(owner).within(&namespace);
            let found = self.objects.store.get(&reference);
            *owner != name && found.is_some_and(|one| one.context_name() == object.context_name())
        });
        owners
    }
}

/// The claims without those that belong to another CollaSet that exists. Those of a set that does not exist any more
/// are free. `living` has the uids of the sets of the namespace.
fn without_foreign(
    mut claims: Vec<Arc<PersistentVolumeClaim>>,
    object: &CollaSet,
    living: impl FnOnce() -> BTreeSet<String>,
) -> Vec<Arc<PersistentVolumeClaim>> {
    let own = object.metadata.uid.as_ref();
    let foreign = |claim: &PersistentVolumeClaim| {
        let of = claim.annotations().get(keys::CLAIM_OF);
        of.filter(|of| Some(*of) != own).cloned()
    };
    if claims.iter().any(|claim| foreign(claim).is_some()) {
        let living = living();
        claims.retain(|claim| foreign(claim).is_none_or(|of| !living.contains(&of)));
    }
    claims
}

/// The names of the CollaSets that a context says it has ids of.
fn owners(context: &ResourceContext) -> BTreeSet<String> {
    let entries = context.spec.contexts.iter().flatten();
    let owners = entries.filter_map(|entry| entry.data.as_ref()?.get(OWNER));
    let owners: BTreeSet<&String> = owners.collect();
    owners.into_iter().cloned().collect()
}

/// The objects that a CollaSet owns or may adopt.
fn concerned<K>(index: &Index<K>, object: &CollaSet, store: &Store<K>) -> Vec<Arc<K>>
where
    K: Cached + Resource<DynamicType = ()>,
{
    let namespace = object.namespace().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let owned = index.get(&owned_by(&namespace, &object.name_any(), &uid), store);
    let orphans = index.get(&orphans_of(object), store);
    owned.into_iter().chain(orphans).collect()
}

/// Wakes the CollaSets that a change concerns.
pub struct CollaSetTriggers {
    queue: UnboundedSender<ObjectRef<CollaSet>>,
    /// By their CollaSet; those without a controller by their namespace.
    pods: Index<Pod>,
    /// As the pods.
    revisions: Index<ControllerRevision>,
    /// As the pods.
    claims: Index<PersistentVolumeClaim>,
    /// By a label or a name of pods that they may adopt, by their ResourceContext, and by their namespace.
    objects: Index<CollaSet>,
    /// By their namespace.
    decorations: Index<PodDecoration>,
}

impl CollaSetTriggers {
    /// Wakes CollaSets by this queue.
    pub fn new(queue: UnboundedSender<ObjectRef<CollaSet>>) -> Self {
        Self {
            queue,
            pods: Index::new(concerns),
            revisions: Index::new(concerns),
            claims: Index::new(concerns),
            objects: Index::new(keys_of),
            decorations: Index::new(|one| one.namespace().into_iter().collect()),
        }
    }

    /// A CollaSet changed.
    pub fn object_changed(&self, object: &CollaSet, objects: &Store<CollaSet>) {
        self.objects.changed(object, objects);
        self.wake(ObjectRef::from_obj(object));
    }

    /// A pod changed: its owner before and after is woken, or every CollaSet that may adopt it.
    pub fn pod_changed(&self, pod: &Pod, pods: &Store<Pod>, objects: &Store<CollaSet>) {
        let former = self.pods.changed(pod, pods);
        self.wake_owners(former.into_iter().chain(concerns(pod)));
        self.wake_without_owner(pod, objects, |object| may_adopt(object, pod));
    }

    /// Wakes the CollaSets that an object without a controller concerns.
    fn wake_without_owner<K: Resource>(
        &self,
        one: &K,
        objects: &Store<CollaSet>,
        concerns: impl Fn(&CollaSet) -> bool,
    ) {
        if controller(one).is_some() {
            return;
        }
        let keys = adopted_by(one);
        let found = keys.iter().flat_map(|key| self.objects.get(key, objects));
        let found = found.filter(|object| concerns(object));
        let found: BTreeSet<_> = found.map(|object| object.name_any()).collect();
        let namespace = one.meta().namespace.clone().unwrap_or_default();
        for name in found {
            self.wake(ObjectRef::new(&name).within(&namespace));
        }
    }

    /// A ControllerRevision changed: its owner before and after is woken.
    pub fn revision_changed(
        &self,
        revision: &ControllerRevision,
        revisions: &Store<ControllerRevision>,
    ) {
        let former = self.revisions.changed(revision, revisions);
        self.wake_owners(former.into_iter().chain(concerns(revision)));
    }

    /// A claim changed: its owner before and after is woken, or every CollaSet that uses it or may take it.
    pub fn claim_changed(
        &self,
        claim: &PersistentVolumeClaim,
        claims: &Store<PersistentVolumeClaim>,
        objects: &Store<CollaSet>,
    ) {
        let former = self.claims.changed(claim, claims);
        self.wake_owners(former.into_iter().chain(concerns(claim)));
        let of = claim.annotations().get(keys::CLAIM_OF);
        self.wake_without_owner(claim, objects, |object| {
            (of.is_some() && of == object.metadata.uid.as_ref()) || may_take(object, claim)
        });
    }

    /// A ResourceContext changed: every CollaSet that keeps its ids there is woken, also one that waits until
    /// another one has created it.
    pub fn context_changed(&self, context: &ResourceContext, objects: &Store<CollaSet>) {
        let namespace = context.namespace().unwrap_or_default();
        let key = shares(&namespace, &context.name_any());
        for object in self.objects.get(&key, objects) {
            self.wake(ObjectRef::from_obj(&*object));
        }
    }

    /// A PodDecoration changed: the CollaSets of its namespace are woken, because it may have selected other pods
    /// before.
    pub fn decoration_changed(
        &self,
        decoration: &PodDecoration,
        decorations: &Store<PodDecoration>,
        objects: &Store<CollaSet>,
    ) {
        self.decorations.changed(decoration, decorations);
        let key = all_of(&decoration.namespace().unwrap_or_default());
        for object in self.objects.get(&key, objects) {
            self.wake(ObjectRef::from_obj(&*object));
        }
    }

    fn wake_owners(&self, keys: impl Iterator<Item = String>) {
        let keys: BTreeSet<_> = keys.collect();
        let owners = keys.iter().filter_map(|key| owner_of(key));
        owners.for_each(|owner| self.wake(owner));
    }

    fn wake(&self, object: ObjectRef<CollaSet>) {
        // A closed queue means that the process ends.
        let _ = self.queue.unbounded_send(object);
    }
}

/// The keys of a CollaSet: one label that every pod has which its selector selects, the names of the pods that it
/// includes, the name of its ResourceContext, and its namespace.
fn keys_of(object: &CollaSet) -> BTreeSet<String> {
    let namespace = object.namespace().unwrap_or_default();
    let matched = object.spec.selector.match_labels.iter().flatten().next();
    let matched = matched.map_or_else(
        || labelled(&namespace, None),
        |(key, value)| labelled(&namespace, Some((key, value))),
    );
    let strategy = object.spec.scale_strategy.iter();
    let included = strategy.flat_map(|strategy| &strategy.pod_to_include);
    let included = included.map(|name| named(&namespace, name));
    let context = shares(&namespace, &object.context_name());
    let all = all_of(&namespace);
    included.chain([matched, context, all]).collect()
}

/// The keys of the CollaSets that may adopt a pod, or take a claim.
fn adopted_by<K: Resource>(pod: &K) -> Vec<String> {
    let namespace = pod.namespace().unwrap_or_default();
    let labels = pod.labels().iter().map(Some).chain([None]);
    let labels = labels.map(|label| labelled(&namespace, label));
    labels.chain([named(&namespace, &pod.name_any())]).collect()
}

fn labelled(namespace: &str, label: Option<(&String, &String)>) -> String {
    let (key, value) = label.map_or(("", ""), |(key, value)| (key, value));
    format!("{namespace}/{key}={value}")
}

fn named(namespace: &str, pod: &str) -> String {
    format!("{namespace}//{pod}")
}

/// The key of the CollaSets that keep their ids in a ResourceContext.
fn shares(namespace: &str, context: &str) -> String {
    format!("{namespace}///{context}")
}

/// The key of all CollaSets of a namespace.
fn all_of(namespace: &str) -> String {
    format!("{namespace}////")
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
        Some(owner) if owner.kind == CollaSet::kind(&()) => {
            let namespace = object.namespace().unwrap_or_default();
            Some(owned_by(&namespace, &owner.name, &owner.uid))
        }
        Some(_) => None,
        None => Some(orphans_of(object)),
    };
    key.into_iter().collect()
}

/// The key of the objects that a CollaSet owns.
fn owned_by(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}/{name}/{uid}")
}

/// The CollaSet of such a key.
fn owner_of(key: &str) -> Option<ObjectRef<CollaSet>> {
    let (namespace, owner) = key.split_once('/')?;
    let (name, _) = owner.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}

/// The key of the objects of a namespace that have no controller.
fn orphans_of<K: Resource>(object: &K) -> String {
    format!("{}/", object.namespace().unwrap_or_default())
}
