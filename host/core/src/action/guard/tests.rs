//! What is refused, and what is not, as tables.

mod never;

use serde_json::json;

use super::*;
use crate::action::{Propagation, Severity};

fn object(kind: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        name: "web-0".to_owned(),
    }
}

fn patch(kind: PatchKind, body: Value) -> Effect {
    Effect::Patch {
        object: object("Pod"),
        subresource: None,
        kind,
        body,
        uid: None,
        resource_version: None,
    }
}

fn merge(body: Value) -> Effect {
    patch(PatchKind::Merge, body)
}

fn owner(name: &str, controller: bool) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": format!("u-{name}"),
        "controller": controller})
}

fn pod(finalizers: &[&str], owners: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "labels": {"app": "web"},
        "finalizers": finalizers, "ownerReferences": owners}})
}

#[test]
fn no_effect_connects_to_an_object() {
    for (subresource, refused) in [
        (None, false),
        (Some("status"), false),
        (Some("resize"), false),
        (Some("ephemeralcontainers"), false),
        (Some("scale"), false),
        (Some("proxy"), true),
        (Some("exec"), true),
        (Some("attach"), true),
        (Some("portforward"), true),
    ] {
        for kind in [PatchKind::Merge, PatchKind::Json, PatchKind::Strategic] {
            for on in ["Pod", "Service"] {
                let body = if kind == PatchKind::Json {
                    json!([])
                } else {
                    json!({})
                };
                let effect = Effect::Patch {
                    object: object(on),
                    subresource: subresource.map(str::to_owned),
                    kind,
                    body,
                    uid: None,
                    resource_version: None,
                };
                let found = guarded(&effect);
                assert_eq!(found.is_err(), refused, "{subresource:?} {kind:?} {on}");
            }
        }
    }
}

#[test]
fn an_effect_that_names_no_finalizer_and_no_owner_needs_no_read() {
    let step = |op: &str, path: &str| patch(PatchKind::Json, json!([{"op": op, "path": path}]));
    let from = |from: &str| {
        let step = json!([{"op": "move", "path": "/spec/x", "from": from}]);
        patch(PatchKind::Json, step)
    };
    let strategic = |body: Value| patch(PatchKind::Strategic, body);
    let none = || json!({"metadata": {"labels": {"a": "b"}}, "spec": {"$patch": "replace"}});
    let delete = Effect::Delete {
        object: object("Pod"),
        uid: None,
        resource_version: None,
        grace_period_seconds: None,
        propagation: Propagation::Background,
    };
    let evict = Effect::Evict {
        pod: "web-0".to_owned(),
        uid: None,
        resource_version: None,
        grace_period_seconds: None,
    };
    let event = Effect::Event {
        severity: Severity::Normal,
        reason: "A".to_owned(),
        message: String::new(),
    };
    let (no, patched, whole) = (Ok(Guarded::No), Ok(Guarded::Patched), Ok(Guarded::Whole));
    for (effect, expected) in [
        (merge(none()), no.clone()),
        (merge(json!({})), no.clone()),
        (
            merge(json!({"metadata": {"finalizers": null}})),
            patched.clone(),
        ),
        (
            merge(json!({"metadata": {"ownerReferences": []}})),
            patched.clone(),
        ),
        (merge(json!({"metadata": null})), patched.clone()),
        (merge(json!([])), no.clone()),
        (strategic(none()), no.clone()),
        (step("add", "/metadata/labels/a"), no.clone()),
        (step("add", "/spec/finalizers"), no.clone()),
        (step("test", "/metadata/finalizers/0"), no.clone()),
        (step("add", "/metadata/finalizers/-"), patched.clone()),
        (step("remove", "/metadata/ownerReferences"), patched.clone()),
        (step("replace", "/metadata"), patched.clone()),
        (step("replace", ""), patched.clone()),
        (from("/spec/y"), no.clone()),
        (Effect::Create(none()), no.clone()),
        (Effect::Create(pod(&[], &[])), whole.clone()),
        (Effect::Apply(none()), no.clone()),
        (Effect::Apply(pod(&[], &[])), whole),
        (delete, no.clone()),
        (evict, no.clone()),
        (event, no),
    ] {
        assert_eq!(guarded(&effect), expected, "{effect:?}");
    }
}

#[test]
fn a_strategic_merge_patch_changes_no_finalizer_and_no_owner_in_any_way() {
    for body in [
        json!({"metadata": {"finalizers": ["a/b"]}}),
        json!({"metadata": {"ownerReferences": []}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}),
        json!({"metadata": {"$patch": "replace"}}),
        json!({"metadata": {"$retainKeys": ["name"]}}),
        json!({"metadata": null}),
        json!({"$patch": "delete"}),
    ] {
        let refused = guarded(&patch(PatchKind::Strategic, body.clone()));
        assert!(refused.is_err(), "{body}");
    }
}

#[test]
fn only_declared_finalizers_are_added_and_removed() {
    let declared = ["ours/a".to_owned()];
    let finalizers = |list: Value| merge(json!({"metadata": {"finalizers": list}}));
    let add = |name: &str| {
        patch(
            PatchKind::Json,
            json!([{"op": "add", "path": "/metadata/finalizers/-", "value": name}]),
        )
    };
    let remove = |place: &str| {
        let path = format!("/metadata/finalizers/{place}");
        patch(PatchKind::Json, json!([{"op": "remove", "path": path}]))
    };
    let both = || pod(&["ours/a", "theirs/b"], &[]);
    for (effect, before, allowed) in [
        (finalizers(json!(["theirs/b"])), both(), true),
        (finalizers(json!(["theirs/b", "ours/a"])), both(), true),
        (finalizers(json!(["ours/a"])), both(), false),
        (finalizers(json!([])), both(), false),
        (finalizers(Value::Null), both(), false),
        (merge(json!({"metadata": null})), both(), false),
        (finalizers(json!(["ours/a"])), pod(&[], &[]), true),
        (finalizers(json!(["theirs/b"])), pod(&[], &[]), false),
        (finalizers(json!("ours/a")), pod(&[], &[]), false),
        (finalizers(json!([1])), pod(&[], &[]), false),
        (add("ours/a"), pod(&["theirs/b"], &[]), true),
        (add("theirs/c"), pod(&["theirs/b"], &[]), false),
        (remove("0"), both(), true),
        (remove("1"), both(), false),
        (Effect::Create(pod(&["ours/a"], &[])), Value::Null, true),
        (Effect::Create(pod(&["theirs/b"], &[])), Value::Null, false),
        (Effect::Apply(pod(&["ours/a"], &[])), Value::Null, true),
        (Effect::Apply(pod(&["theirs/b"], &[])), Value::Null, false),
    ] {
        let found = Change::of(&effect, &before, &declared);
        assert_eq!(found.is_ok(), allowed, "{effect:?} of {before}");
    }
}

#[test]
fn a_json_patch_that_the_object_does_not_fit_is_outdated() {
    // The API server counts a negative index from the end, and this library does not.
    for path in ["/metadata/finalizers/5", "/metadata/finalizers/-1"] {
        let body = json!([{"op": "remove", "path": path}]);
        let found = Change::of(&patch(PatchKind::Json, body), &pod(&["a/b"], &[]), &[]);
        assert_eq!(found, Err(Unfit::Outdated), "{path}");
    }
}

#[test]
fn a_new_owner_and_a_new_controller_have_to_be_read_and_known_ones_not() {
    let owners = |owners: &[Value]| merge(json!({"metadata": {"ownerReferences": owners}}));
    let (a, b) = (|is| owner("a", is), |is| owner("b", is));
    let renamed = json!({"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": "u-a"});
    // The owners before and after; those to read; the controllers before and after.
    for (before, after, read, controllers) in [
        (vec![a(true)], vec![a(true)], vec![], None),
        (vec![a(true)], vec![], vec![], None),
        (vec![a(true)], vec![a(false)], vec![], None),
        (vec![], vec![a(false)], vec!["a"], None),
        (vec![], vec![a(true)], vec!["a"], Some((None, "a"))),
        (vec![a(false)], vec![a(true)], vec!["a"], Some((None, "a"))),
        (
            vec![a(true)],
            vec![b(true)],
            vec!["b"],
            Some((Some("a"), "b")),
        ),
        (
            vec![a(true), b(false)],
            vec![a(false), b(true)],
            vec!["b"],
            Some((Some("a"), "b")),
        ),
        (vec![a(false)], vec![renamed], vec!["a"], None),
    ] {
        let change = Change::of(&owners(&after), &pod(&[], &before), &[]).expect("a change");
        let found: Vec<_> = change
            .owners
            .iter()
            .map(|one| one.object.name.as_str())
            .collect();
        assert_eq!(found, read, "{before:?} {after:?}");
        let found = change.controller.as_ref().map(|controller| {
            let from = controller
                .from
                .as_ref()
                .map(|from| from.object.name.as_str());
            (from, controller.to.object.name.as_str())
        });
        assert_eq!(found, controllers, "{before:?} {after:?}");
    }
    for unreadable in [json!([{"uid": "u"}]), json!({}), json!([a(true), b(true)])] {
        let effect = merge(json!({"metadata": {"ownerReferences": unreadable}}));
        assert!(
            Change::of(&effect, &pod(&[], &[]), &[]).is_err(),
            "{unreadable}"
        );
    }
}

#[test]
fn a_controller_hands_an_object_to_its_own_controller_and_back_and_to_no_other() {
    let metadata = |name: &str, controller: Option<&str>| -> ObjectMeta {
        let owners: Vec<Value> = controller
            .map(|name| owner(name, true))
            .into_iter()
            .collect();
        let metadata = json!({"name": name, "uid": format!("u-{name}"), "ownerReferences": owners});
        serde_json::from_value(metadata).expect("metadata")
    };
    let set = || metadata("set", Some("deployment"));
    let (deployment, other) = (|| metadata("deployment", None), || metadata("other", None));
    // The controllers before and after, as they are; the one before may be gone.
    for (from, found, to, allowed) in [
        ("set", Some(set()), deployment(), true),
        ("deployment", Some(deployment()), set(), true),
        ("deployment", None, set(), true),
        ("set", None, deployment(), false),
        ("set", Some(set()), other(), false),
        ("other", Some(other()), set(), false),
    ] {
        let name = to.name.clone().unwrap_or_default();
        let after = merge(json!({"metadata": {"ownerReferences": [owner(&name, true)]}}));
        let change = Change::of(&after, &pod(&[], &[owner(from, true)]), &[]).expect("a change");
        let controller = change.controller.expect("another controller");
        let same = controller.is_of_the_same_family(found.as_ref(), &to);
        assert_eq!(same, allowed, "from {from} to {name}");
    }
}

#[test]
fn a_controller_takes_an_object_without_one_only_if_it_selects_it() {
    let after = merge(json!({"metadata": {"ownerReferences": [owner("a", true)]}}));
    let change = Change::of(&after, &pod(&[], &[]), &[]).expect("a change");
    let controller = change.controller.expect("a controller");
    for (selector, selects) in [
        (json!({"matchLabels": {"app": "web"}}), true),
        (
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            true,
        ),
        (json!({"matchLabels": {"app": "other"}}), false),
        (json!({"matchLabels": {}}), false),
        (json!({}), false),
        // Of a Service or a ReplicationController.
        (json!({"app": "web"}), false),
        (Value::Null, false),
    ] {
        let to = json!({"spec": {"selector": selector}});
        assert_eq!(controller.is_selected_by(&to), selects, "{selector}");
    }
    let metadata = ObjectMeta::default();
    assert!(!controller.is_of_the_same_family(None, &metadata));
}

#[test]
fn an_effect_gives_an_object_a_few_owners_and_no_more() {
    let owners = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|one| owner(&one.to_string(), false))
            .collect()
    };
    let merge = |owners: &[Value]| merge(json!({"metadata": {"ownerReferences": owners}}));
    for (before, effect, allowed) in [
        (pod(&[], &[]), merge(&owners(8)), true),
        (pod(&[], &[]), merge(&owners(9)), false),
        (pod(&[], &[]), merge(&owners(100)), false),
        // Those that the object has already are not read.
        (pod(&[], &owners(95)), merge(&owners(100)), true),
        (Value::Null, Effect::Create(pod(&[], &owners(9))), false),
        (Value::Null, Effect::Apply(pod(&[], &owners(9))), false),
    ] {
        let found = Change::of(&effect, &before, &[]);
        assert_eq!(found.is_ok(), allowed, "{effect:?}");
    }
}
