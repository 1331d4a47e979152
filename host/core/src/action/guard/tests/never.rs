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
