//! What becomes of the pods of a set that is deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, core::Status};
use operon_api::{conditions::find, keys};
use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{
    action::Effect,
    colla_set::{Driven, Seen},
    driver::{Asked, Done, Kind as _, Refusal, Write},
    pod_lifecycle::labels::{Mark, PREPARING_TO_DELETE},
};

const PROTECTION: &str = "prot.podopslifecycle.kusionstack.io/lb";

/// A set of so many pods that serve, deleted with these finalizers besides its own.
fn deleted(replicas: i32, finalizers: &[&str]) -> Seen {
    let mut seen = set(replicas);
    seen.serve();
    delete(&mut seen, finalizers);
    seen
}

fn delete(seen: &mut Seen, finalizers: &[&str]) {
    let now = Time(seen.now);
    let own = [keys::COLLA_SET_FINALIZER];
    let all = own.iter().chain(finalizers);
    let all = all.map(|finalizer| (*finalizer).to_owned()).collect();
    seen.edit(|object| {
        object.metadata.deletion_timestamp = Some(now);
        object.metadata.finalizers = Some(all);
    });
}

/// The finalizers that the plan leaves on the set, if it changes them.
fn finalizers(seen: &Seen) -> Option<Value> {
    let batches = Driven::batches(seen, &seen.plan());
    let writes = batches.into_iter().flat_map(|batch| batch.writes);
    let mut found = writes.filter_map(|write| match write {
        Write::Do(Effect::Patch { object, body, .. }) if object.kind == "CollaSet" => {
            Some(body["metadata"]["finalizers"].clone())
        }
        _ => None,
    });
    found.next()
}

fn said(seen: &Seen) -> String {
    let status = seen.conclude();
    let ready = find(&status.conditions, "Ready").expect("a condition");
    assert_eq!(ready.reason, "Deleting");
    ready.message.clone()
}

fn label(key: &str, value: &Value) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

fn scaling_in() -> Value {
    json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): "1",
        Mark::OperationType.of("collaset"): "scale-in",
        PREPARING_TO_DELETE: "1",
    }}})
}

#[test]
fn a_set_is_held_before_its_first_pod_is_created() {
    let mut seen = set(1);
    seen.edit(|object| object.metadata.finalizers = None);
    let batches = Driven::batches(&seen, &seen.plan());
    let first = batches.iter().find(|batch| !batch.writes.is_empty());
    let first = &first.expect("a batch").writes[0];
    let Write::Do(Effect::Patch { object, body, .. }) = first else {
        unreachable!("a patch: {first:?}")
    };
    assert_eq!(object.kind, "CollaSet");
    let held = json!([keys::COLLA_SET_FINALIZER]);
    assert_eq!(body["metadata"]["finalizers"], held);
}

#[test]
fn a_set_of_before_that_nothing_holds_is_held_and_creates_no_new_pod_of_a_pair_until_then() {
    let mut seen = set(1);
    seen.serve();
    seen.edit(|object| object.metadata.finalizers = None);
    seen.pod(0, &label(keys::TO_REPLACE, &json!("true")));
    assert_eq!(finalizers(&seen), Some(json!([keys::COLLA_SET_FINALIZER])));
    let makes = |seen: &Seen| {
        let batches = Driven::batches(seen, &seen.plan());
        let mut writes = batches.into_iter().flat_map(|batch| batch.writes);
        writes.any(|write| matches!(write, Write::Make(_)))
    };
    assert!(!makes(&seen));
    seen.edit(|object| object.metadata.finalizers = Some(vec![keys::COLLA_SET_FINALIZER.into()]));
    assert!(makes(&seen));
    assert_eq!(finalizers(&seen), None);
}

#[test]
fn the_pods_of_a_deleted_set_are_deleted_through_the_lifecycle_and_the_set_goes_last() {
    let mut seen = deleted(2, &[]);
    let plan = seen.plan();
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    assert_eq!(plan.edit.len(), 2);
    for edit in &plan.edit {
        let set = labels(edit);
        assert!(set[keys::TO_DELETE].is_string(), "{set}");
    }
    assert_eq!(finalizers(&seen), None);
    let words = "the CollaSet is being deleted: 2 pods are left, 0 of them being deleted";
    assert_eq!(said(&seen), words);
    for place in 0..2 {
        seen.pod(place, &label(keys::TO_DELETE, &json!("1")));
    }
    assert!(seen.plan().edit.is_empty());
    let terminating = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    seen.pod(0, &terminating);
    seen.pods.pop();
    assert_eq!(finalizers(&seen), None);
    assert!(said(&seen).ends_with("1 pod is left, 1 of them being deleted"));
    seen.pods.clear();
    assert_eq!(finalizers(&seen), Some(json!([])));
}

#[test]
fn a_deleted_set_that_is_paused_or_has_an_invalid_selector_deletes_its_pods() {
    let mut seen = deleted(1, &[]);
    seen.edit(|object| {
        object.spec.paused = Some(true);
        object.spec.selector = serde_json::from_value(json!({})).expect("a selector");
    });
    assert!(labels(&seen.plan().edit[0])[keys::TO_DELETE].is_string());
    assert!(said(&seen).contains("1 pod is left"));
    seen.pods.clear();
    assert_eq!(finalizers(&seen), Some(json!([])));
}

#[test]
fn what_a_deleted_set_has_begun_gives_way_and_a_scale_in_goes_on() {
    let mut seen = deleted(2, &[]);
    let mut updating = scaling_in();
    updating["metadata"]["labels"][Mark::OperationType.of("collaset")] = json!("update");
    seen.pod(0, &updating);
    seen.pod(1, &scaling_in());
    let plan = seen.plan();
    assert_eq!(written(&plan.edit), [seen.pods[0].name_any()]);
    let set = labels(&plan.edit[0]);
    assert_eq!(set[Mark::UndoType.of("collaset")], "update");
    assert!(set[keys::TO_DELETE].is_string());
    seen.pod(1, &label(&Mark::Operate.of("collaset"), &json!("1")));
    assert_eq!(written(&seen.plan().delete), [seen.pods[1].name_any()]);
}

#[test]
fn the_finalizers_that_keep_a_pod_of_a_deleted_set_are_named() {
    let mut seen = deleted(1, &[]);
    let preparing = json!({"metadata": {"finalizers": [PROTECTION], "labels": {
        (keys::TO_DELETE): "1",
        Mark::Operating.of("pod-delete"): "1",
        Mark::OperationType.of("pod-delete"): "delete",
        Mark::PreChecked.of("pod-delete"): "1",
    }}});
    seen.pod(0, &preparing);
    let name = seen.pods[0].name_any();
    let words =
        format!("Pod {name:?} waits for the removal of finalizers of the pod: {PROTECTION}");
    assert!(said(&seen).ends_with(&words), "{}", said(&seen));
    let terminating = json!({"metadata": {
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/mine"],
    }});
    seen.pod(0, &terminating);
    let words =
        format!("Pod {name:?} waits for the removal of finalizers of the pod: example.com/mine");
    assert!(said(&seen).ends_with(&words), "{}", said(&seen));
}

#[test]
fn a_refusal_that_keeps_a_deleted_set_is_quoted() {
    let mut seen = deleted(1, &[]);
    let refused = Status::failure("denied by a webhook", "Forbidden").with_code(403);
    let done = Done {
        refused: vec![Refusal::answered("failed to patch Pod shop/a", &refused)],
        ..Done::default()
    };
    let message = |seen: &Seen| {
        let conclusion = Driven::conclude(seen, &seen.plan(), &done, &Asked::default());
        let status = conclusion.expect("a conclusion").status;
        let ready = find(&status.conditions, "Ready").expect("a condition");
        ready.message.clone()
    };
    assert!(message(&seen).contains("denied by a webhook"));
    // The finalizer cannot be removed.
    seen.pods.clear();
    assert!(message(&seen).contains("denied by a webhook"));
}

#[test]
fn pods_that_are_orphaned_stay_in_service_and_keep_their_numbers() {
    let mut seen = set(3);
    seen.serve();
    seen.pod(0, &scaling_in());
    let mut updating = scaling_in();
    updating["metadata"]["labels"][Mark::OperationType.of("collaset")] = json!("update");
    updating["metadata"]["labels"][Mark::Operate.of("collaset")] = json!("1");
    updating["metadata"]["annotations"] = json!({(keys::IN_PLACE_UPDATE): "{}"});
    seen.pod(1, &updating);
    let pair = json!({"metadata": {"labels": {
        (keys::TO_REPLACE): "17", (keys::TO_DELETE): "true", (keys::PAIR_NEW_ID): "7",
        (keys::REPLACED_BY_UPDATE): "foo-1",
    }}});
    seen.pod(2, &pair);
    delete(&mut seen, &["orphan"]);
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(finalizers(&seen), None);
    for (place, edit) in plan.edit.iter().enumerate() {
        let Effect::Patch { body, .. } = edit else {
            unreachable!("a patch")
        };
        assert_eq!(body["metadata"]["ownerReferences"], json!([]));
        let set = &body["metadata"]["labels"];
        for kept in [keys::INSTANCE_ID, keys::CONTROL, keys::CONTROLLER_REVISION] {
            assert_eq!(set.get(kept), None, "{place}");
        }
    }
    let name = |place: usize| seen.pods[place].name_any();
    let of = |place: usize| {
        let names = written(&plan.edit);
        let found = names.iter().position(|known| *known == name(place));
        labels(&plan.edit[found.expect("an edit")])
    };
    assert_eq!(of(0)[Mark::UndoType.of("collaset")], "scale-in");
    assert_eq!(of(0)[PREPARING_TO_DELETE], Value::Null);
    assert_eq!(of(1)[Mark::UndoType.of("collaset")], "update");
    let withdrawn = [
        keys::TO_REPLACE,
        keys::PAIR_NEW_ID,
        keys::REPLACED_BY_UPDATE,
    ];
    for key in withdrawn {
        assert_eq!(of(2).get(key), Some(&Value::Null), "{key}");
    }
    assert_eq!(of(2).get(keys::TO_DELETE), None, "a user requested that");
    assert!(said(&seen).ends_with("3 pods are still to be released"));
}

#[test]
fn a_pod_that_the_garbage_collector_orphaned_first_returns_to_service_all_the_same() {
    let mut seen = deleted(1, &[]);
    seen.pod(0, &scaling_in());
    seen.pod(0, &json!({"metadata": {"ownerReferences": null}}));
    assert_eq!(finalizers(&seen), None);
    let plan = seen.plan();
    let set = labels(&plan.edit[0]);
    assert_eq!(set[Mark::UndoType.of("collaset")], "scale-in");
    assert_eq!(set.get(keys::TO_DELETE), None);
    seen.pod(
        0,
        &label(&Mark::UndoType.of("collaset"), &json!("scale-in")),
    );
    assert!(seen.plan().edit.is_empty());
    assert_eq!(finalizers(&seen), Some(json!([])));
}

#[test]
fn an_orphaned_pod_that_kusionstack_was_updating_loses_its_note_and_the_set_goes() {
    let mut seen = deleted(1, &["orphan"]);
    let note = |value: Value| {
        json!({"metadata": {
            "ownerReferences": null, "annotations": {(keys::LAST_POD_STATUS): value},
        }})
    };
    seen.pod(0, &note(json!("{}")));
    let plan = seen.plan();
    let Effect::Patch { body, .. } = &plan.edit[0] else {
        unreachable!("a patch")
    };
    let removed = json!({(keys::LAST_POD_STATUS): null});
    assert_eq!(body["metadata"]["annotations"], removed);
    seen.pod(0, &note(Value::Null));
    assert!(seen.plan().edit.is_empty());
    assert_eq!(finalizers(&seen), Some(json!(["orphan"])));
}

#[test]
fn the_context_of_a_set_that_is_being_deleted_is_left_to_the_garbage_collector() {
    for finalizers in [&[][..], &["orphan"], &["foregroundDeletion"]] {
        let mut seen = deleted(2, finalizers);
        let context = seen.context.as_ref().expect("a context");
        assert_eq!(context.owner_references()[0].uid, "set-uid");
        assert!(seen.plan_now().context.is_none());
        seen.pods.clear();
        assert!(seen.plan_now().context.is_none());
    }
}
