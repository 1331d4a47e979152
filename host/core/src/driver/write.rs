//! The writes that kinds have in common.

use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::action::{Effect, ObjectReference, PatchKind, Propagation};

/// Deletes an object, if it is still this one.
pub fn delete<K: Resource<DynamicType = ()>>(object: &K, propagation: Propagation) -> Effect {
    Effect::Delete {
        object: reference(object),
        uid: object.uid(),
        resource_version: None,
        grace_period_seconds: None,
        propagation,
    }
}

/// Deletes an object, if it has not changed.
pub fn delete_unchanged<K: Resource<DynamicType = ()>>(
    object: &K,
    propagation: Propagation,
) -> Effect {
    Effect::Delete {
        object: reference(object),
        uid: object.uid(),
        resource_version: object.resource_version(),
        grace_period_seconds: None,
        propagation,
    }
}

/// Merges a patch into an object, if it is still this one.
pub fn patch<K: Resource<DynamicType = ()>>(object: &K, body: Value) -> Effect {
    Effect::Patch {
        object: reference(object),
        subresource: None,
        kind: PatchKind::Merge,
        body,
        uid: object.uid(),
        resource_version: None,
    }
}

/// Puts a finalizer on an object or takes it off, if the object has not changed; nothing if that is how
/// it is. Other finalizers stay.
pub fn set_finalizer<K>(object: &K, finalizer: &str, wanted: bool) -> Option<Effect>
where
    K: Resource<DynamicType = ()>,
{
    let finalizers = object.finalizers();
    if finalizers.iter().any(|known| known == finalizer) == wanted {
        return None;
    }
    let others = finalizers.iter().map(String::as_str);
    let others = others.filter(|known| *known != finalizer);
    let finalizers: Vec<_> = others.chain(wanted.then_some(finalizer)).collect();
    Some(unchanged(
        object,
        json!({"metadata": {"finalizers": finalizers}}),
    ))
}

/// Merges a patch into an object, if it has not changed.
pub fn unchanged<K: Resource<DynamicType = ()>>(object: &K, body: Value) -> Effect {
    Effect::Patch {
        object: reference(object),
        subresource: None,
        kind: PatchKind::Merge,
        body,
        uid: object.uid(),
        resource_version: object.resource_version(),
    }
}

/// What names an object in an effect.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
    }
}
