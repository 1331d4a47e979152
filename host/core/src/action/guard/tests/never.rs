//! What is refused whatever the object is, as tables.

use super::*;

#[test]
fn a_json_patch_that_is_judged_copies_and_moves_nothing() {
    let bomb: Vec<Value> = (0..40)
        .map(|number| json!({"op": "copy", "from": "/metadata", "path": format!("/metadata/{number}")}))
        .collect();
    let add = json!({"op": "add", "path": "/metadata/finalizers/-", "value": "a/b"});
    let step = |op: &str, from: &str, path: &str| json!({"op": op, "from": from, "path": path});
    // The patch, and what it is: refused, or how it is guarded.
    for (body, expected) in [
        (json!(bomb), None),
        (
            json!([step("copy", "/metadata", "/metadata/labels/a")]),
            None,
        ),
        (json!([step("copy", "", "/spec/a")]), None),
        (
            json!([step(
                "move",
                "/metadata/finalizers/0",
                "/metadata/finalizers/1"
            )]),
            None,
        ),
        // The step that is guarded is another one, before or after.
        (json!([add, step("copy", "/spec", "/spec/a")]), None),
        (json!([step("move", "/spec/a", "/spec/b"), add]), None),
        (json!([add]), Some(Guarded::Patched)),
        // It is not judged, so the host never makes the copy.
        (json!([step("copy", "/spec", "/spec/a")]), Some(Guarded::No)),
    ] {
        let found = guarded(&patch(PatchKind::Json, body.clone())).ok();
        assert_eq!(found, expected, "{body}");
    }
}

#[test]
fn no_effect_writes_who_owns_the_fields_of_an_object() {
    let forged = || json!([{"manager": "a", "operation": "Apply", "fieldsV1": {}}]);
    let object = |fields: Value| json!({"metadata": {"name": "web-0", "managedFields": fields}});
    let step = |step: Value| patch(PatchKind::Json, json!([step]));
    let add = |path: &str, value: Value| step(json!({"op": "add", "path": path, "value": value}));
    for (effect, allowed) in [
        (merge(object(forged())), false),
        (merge(object(json!([]))), false),
        (merge(object(Value::Null)), false),
        (patch(PatchKind::Strategic, object(forged())), false),
        (Effect::Create(object(forged())), false),
        (Effect::Apply(object(forged())), false),
        (add("/metadata/managedFields", forged()), false),
        (add("/metadata/managedFields/0", json!({})), false),
        (add("/metadata", json!({"managedFields": forged()})), false),
        (add("", object(forged())), false),
        (
            step(json!({"op": "remove", "path": "/metadata/managedFields/0"})),
            false,
        ),
        (
            step(json!({"op": "copy", "from": "/metadata/managedFields/0", "path": "/spec/a"})),
            false,
        ),
        (
            step(json!({"op": "test", "path": "/metadata/managedFields/0", "value": {}})),
            true,
        ),
        (add("/metadata", json!({"name": "web-0"})), true),
        (add("/spec/managedFields", forged()), true),
        (
            merge(json!({"metadata": {"labels": {"managedFields": "a"}}})),
            true,
        ),
    ] {
        assert_eq!(guarded(&effect).is_ok(), allowed, "{effect:?}");
    }
}
