//! Effects that the host refuses whatever RBAC grants, judged by its rules on the cluster in memory.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operon_core::action::{
    Effect, Failure, ObjectReference, Requirement,
    guard::{Change, Guarded, NewController, Refused, Unfit, guarded},
};
use serde_json::Value;

use super::world::World;

/// Checks an effect, as the host does before it sends it. These are the finalizers that the ActionPlugin declares.
///
/// # Errors
/// `EffectRefused`, or `Conflict` if an object is not as the effect expects it.
pub(super) fn check(world: &World, effect: &Effect, finalizers: &[String]) -> Result<(), Failure> {
    let before = match (guarded(effect).map_err(|why| refused(&why))?, effect) {
        (Guarded::No, _) => return Ok(()),
        (Guarded::Patched, Effect::Patch { object, .. }) => match world.object(object) {
            Some(found) => found.clone(),
            // The cluster refuses it.
            None => return Ok(()),
        },
        (Guarded::Patched | Guarded::Whole, _) => Value::Null,
    };
    let change = Change::of(effect, &before, finalizers).map_err(|unfit| match unfit {
        Unfit::Refused(why) => refused(&why),
        Unfit::Outdated => conflict("the object is not as the JSON patch expects it"),
    })?;
    for owner in &change.owners {
        let found = found(world, owner);
        if found.is_none_or(|found| !found["metadata"]["deletionTimestamp"].is_null()) {
            let ObjectReference { kind, name, .. } = &owner.object;
            return Err(conflict(&format!(
                "{kind} {name:?} does not exist any more"
            )));
        }
    }
    match &change.controller {
        Some(controller) if !may_control(world, controller) => Err(refused(&controller.refused())),
        Some(_) | None => Ok(()),
    }
}

fn may_control(world: &World, controller: &NewController) -> bool {
    let Some(to) = found(world, &controller.to) else {
        return false;
    };
    let before = controller.from.as_ref();
    let before = before.and_then(|from| found(world, from)).map(metadata);
    let is_orphan = before.is_none();
    controller.is_of_the_same_family(before.as_ref(), &metadata(to))
        || (is_orphan && controller.is_selected_by(to))
}

fn found<'a>(world: &'a World, owner: &Requirement) -> Option<&'a Value> {
    let found = world.object(&owner.object)?;
    (found["metadata"]["uid"] == *owner.uid).then_some(found)
}

/// The metadata of an object; empty if it is none of Kubernetes.
fn metadata(object: &Value) -> ObjectMeta {
    serde_json::from_value(object["metadata"].clone()).unwrap_or_default()
}

fn refused(refused: &Refused) -> Failure {
    Failure::new("EffectRefused", refused.to_string())
}

fn conflict(message: &str) -> Failure {
    Failure::new("Conflict", message)
}

#[cfg(test)]
mod tests {
    use operon_core::action::PatchKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_action_is_refused_offline_what_the_host_refuses() -> anyhow::Result<()> {
        let mut world = World::new();
        let owner = |kind: &str, name: &str| {
            json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("u-{name}"),
                "controller": true})
        };
        for (kind, name, owners) in [
            ("Deployment", "web", json!([])),
            ("ReplicaSet", "set", json!([owner("Deployment", "web")])),
            ("ReplicaSet", "other", json!([])),
        ] {
            world.put(&json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {
                "name": name, "uid": format!("u-{name}"), "ownerReferences": owners}}))?;
        }
        world.put(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0",
            "finalizers": ["a/held"], "ownerReferences": [owner("ReplicaSet", "set")]}}),
        )?;
        let patch = |subresource: Option<&str>, metadata: Value| Effect::Patch {
            object: ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: "web-0".to_owned(),
            },
            subresource: subresource.map(str::to_owned),
            kind: PatchKind::Merge,
            body: json!({ "metadata": metadata }),
            uid: None,
            resource_version: None,
        };
        let owned_by = |owner: Value| patch(None, json!({"ownerReferences": [owner]}));
        let no_finalizer = || patch(None, json!({"finalizers": []}));
        let declared = ["a/held".to_owned()];
        for (effect, finalizers, reason) in [
            (patch(None, json!({"labels": {"a": "b"}})), &[][..], None),
            (patch(Some("proxy"), json!({})), &[], Some("EffectRefused")),
            (no_finalizer(), &[], Some("EffectRefused")),
            (no_finalizer(), &declared, None),
            (owned_by(owner("Deployment", "web")), &[], None),
            (
                owned_by(owner("ReplicaSet", "other")),
                &[],
                Some("EffectRefused"),
            ),
            (owned_by(owner("ReplicaSet", "gone")), &[], Some("Conflict")),
        ] {
            let checked = check(&world, &effect, finalizers);
            let found = checked.err().map(|failure| failure.reason);
            assert_eq!(found.as_deref(), reason, "{effect:?}");
        }
        Ok(())
    }
}
