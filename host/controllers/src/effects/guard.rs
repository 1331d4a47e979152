//! Refuses effects that no action may have performed, before any of their requests is sent. The rules are
//! `operon_core::action::guard`; this file reads what they need, as the action's ServiceAccount.
//!
//! What is judged is what is sent: a patch of finalizers or owners is sent over the version of the object that it was
//! judged by.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use operon_core::action::{
    Effect, ObjectReference, PatchKind,
    guard::{Change, Guarded, NewController, Refused, Unfit, guarded},
};
use serde_json::Value;

use super::{Performer, answered::Asked, named, reference};
use crate::{error::Error, store::Store};

/// What an action may do beyond what RBAC decides.
#[derive(Default)]
pub struct Guard {
    /// The finalizers that it may add and remove: `spec.finalizers` of its ActionPlugin.
    pub finalizers: Vec<String>,
    /// The pods that the host knows: a patch over such a version needs no read.
    pub pods: Option<Store<Pod>>,
}

impl Performer {
    /// The effect as it may be sent.
    ///
    /// # Errors
    /// It is refused, or what decides about it could not be read.
    pub(super) async fn guarded<'a>(
        &self,
        namespace: &str,
        effect: &'a Effect,
    ) -> Result<Cow<'a, Effect>, Error> {
        let (Some(guard), Some(object)) = (&self.guard, object_of(effect)) else {
            return Ok(Cow::Borrowed(effect));
        };
        let refused = |refused: Refused| Error::EffectRefused {
            verb: effect.verb().as_str(),
            object: named(namespace, &object),
            refused,
        };
        let is_guarded = guarded(effect).map_err(refused)?;
        let kind = self.kinds.find(&object.api_version, &object.kind).await;
        if let Err(error @ Error::ClusterScoped { .. }) = kind {
            return Err(refused(Refused::new("kind", error.to_string())));
        }
        let (before, sent) = match is_guarded {
            Guarded::No => return Ok(Cow::Borrowed(effect)),
            Guarded::Whole => (Value::Null, Cow::Borrowed(effect)),
            Guarded::Patched => {
                let before = self.before(guard, namespace, &object, effect).await;
                let before = before.map_err(|error| unreadable(error, refused, &object))?;
                let sent = over(effect, &before).ok_or_else(|| Error::Requirement {
                    object: named(namespace, &object),
                    state: "has changed in the meantime",
                })?;
                (before, Cow::Owned(sent))
            }
        };
        let change = Change::of(effect, &before, &guard.finalizers);
        let change = change.map_err(|unfit| match unfit {
            Unfit::Refused(why) => refused(why),
            Unfit::Outdated => Error::Requirement {
                object: named(namespace, &object),
                state: "is not as the JSON patch expects it",
            },
        })?;
        self.check_owners(namespace, &change, refused).await?;
        Ok(sent)
    }

    /// The object as it is before a patch: from the cache if the patch is over that very version.
    async fn before(
        &self,
        guard: &Guard,
        namespace: &str,
        object: &ObjectReference,
        effect: &Effect,
    ) -> Result<Value, Error> {
        if let Some(known) = known(guard, namespace, object, effect) {
            return Ok(known);
        }
        let found = self.get(namespace, object).await?;
        // What was read from JSON is JSON.
        Ok(serde_json::to_value(found).unwrap_or_default())
    }

    async fn check_owners(
        &self,
        namespace: &str,
        change: &Change,
        refused: impl Fn(Refused) -> Error + Copy,
    ) -> Result<(), Error> {
        for owner in &change.owners {
            let live = self.live(namespace, owner).await;
            live.map_err(|error| unreadable(error, refused, &owner.object))?;
        }
        match &change.controller {
            Some(controller) => self.check_controller(namespace, controller, refused).await,
            None => Ok(()),
        }
    }

    async fn check_controller(
        &self,
        namespace: &str,
        controller: &NewController,
        refused: impl Fn(Refused) -> Error + Copy,
    ) -> Result<(), Error> {
        let NewController { from, to, .. } = controller;
        let unread = |object| move |error| unreadable(error, refused, object);
        let target = self.live(namespace, to).await;
        let target = target.map_err(unread(&to.object))?;
        let before = match from {
            Some(from) => self
                .found(namespace, from)
                .await
                .map_err(unread(&from.object))?,
            None => None,
        };
        if controller.is_of_the_same_family(before.as_ref(), &target) {
            return Ok(());
        }
        if before.is_none() {
            let found = self.get(namespace, &to.object).await;
            let found = found.map_err(unread(&to.object))?;
            let is_same = Asked::new(namespace, &to.object, Some(&to.uid)).is(&found);
            let found = serde_json::to_value(found).unwrap_or_default();
            if is_same && controller.is_selected_by(&found) {
                return Ok(());
            }
        }
        Err(refused(controller.refused()))
    }
}

/// A read that RBAC refuses fails the target: the effect can't be judged.
fn unreadable(error: Error, refused: impl Fn(Refused) -> Error, object: &ObjectReference) -> Error {
    match error {
        Error::ClusterScoped { .. } => {
            refused(Refused::new("metadata.ownerReferences", error.to_string()))
        }
        error if error.is_forbidden() => {
            let ObjectReference { kind, name, .. } = object;
            let rule = format!(
                "finalizers and owners are only changed after a read of {kind} {name:?}, which the action's \
                 ServiceAccount may not get: {}",
                error.chain()
            );
            refused(Refused::new("metadata", rule))
        }
        error => error,
    }
}

/// The object that an effect is about; none for an Event, and for a body that names none.
fn object_of(effect: &Effect) -> Option<ObjectReference> {
    match effect {
        Effect::Patch { object, .. } | Effect::Delete { object, .. } => Some(object.clone()),
        Effect::Apply(body) | Effect::Create(body) => reference(body),
        Effect::Evict { .. } | Effect::Event { .. } => None,
    }
}

/// The pod of the cache that has the very version that a merge patch is over.
fn known(
    guard: &Guard,
    namespace: &str,
    object: &ObjectReference,
    effect: &Effect,
) -> Option<Value> {
    let Effect::Patch {
        kind: PatchKind::Merge,
        resource_version: Some(version),
        ..
    } = effect
    else {
        return None;
    };
    let is_pod = (object.api_version.as_str(), object.kind.as_str()) == ("v1", "Pod");
    let pods = guard.pods.as_ref().filter(|_| is_pod)?;
    let pod = pods.get(&ObjectRef::new(&object.name).within(namespace))?;
    (pod.resource_version().as_ref() == Some(version))
        .then(|| serde_json::to_value(&*pod).ok())
        .flatten()
}

/// The patch over this version of the object; none if it is over another one.
fn over(effect: &Effect, before: &Value) -> Option<Effect> {
    let version = before["metadata"]["resourceVersion"].as_str()?;
    let mut sent = effect.clone();
    if let Effect::Patch {
        resource_version, ..
    } = &mut sent
    {
        let known = resource_version.get_or_insert_with(|| version.to_owned());
        if known != version {
            return None;
        }
    }
    Some(sent)
}

#[cfg(test)]
mod tests;
