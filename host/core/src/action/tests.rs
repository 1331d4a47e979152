//! What effects do, as tables.

use serde_json::json;

use super::*;

#[test]
fn an_effect_that_may_give_an_object_to_a_controller_is_known_in_every_form() {
    let patch = |kind: PatchKind, body: Value| Effect::Patch {
        object: ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: "web-0".to_owned(),
        },
        subresource: None,
        kind,
        body,
        uid: None,
        resource_version: None,
    };
    let owned = |controller: bool| {
        let owner =
            json!({"kind": "ReplicaSet", "name": "web", "uid": "u", "controller": controller});
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    let step = |op: &str, path: &str| {
        let step = json!({"op": op, "path": path, "value": {}});
        patch(
            PatchKind::Json,
            json!([{"op": "add", "path": "/spec/a", "value": 1}, step]),
        )
    };
    for (effect, gives) in [
        (patch(PatchKind::Merge, owned(true)), true),
        (patch(PatchKind::Merge, owned(false)), false),
        (
            patch(PatchKind::Merge, json!({"metadata": {"labels": {}}})),
            false,
        ),
        (Effect::Apply(owned(true)), true),
        (Effect::Create(owned(true)), true),
        (Effect::Create(owned(false)), false),
        (step("add", "/metadata/ownerReferences"), true),
        (step("add", "/metadata/ownerReferences/-"), true),
        (
            step("replace", "/metadata/ownerReferences/0/controller"),
            true,
        ),
        (step("replace", "/metadata"), true),
        (step("replace", ""), true),
        (step("test", "/metadata/ownerReferences/0"), false),
        (step("add", "/metadata/finalizers/-"), false),
        (step("add", "/metadata/labels/a"), false),
    ] {
        assert_eq!(effect.gives_to_controller(), gives, "{effect:?}");
    }
}
