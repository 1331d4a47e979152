//! Pairs: a pod and the new pod that replaces it.

use kube::ResourceExt;
use operon_api::keys;
use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{
    colla_set::{Driven, Seen},
    driver::{Kind as _, Needs},
    pod_lifecycle::labels::{Mark, SERVICE_AVAILABLE},
};

fn to_replace() -> Value {
    json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}})
}

fn label(key: &str, value: &Value) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

/// A set of one pod that is being replaced by a second one, which serves or not.
fn pair(serves: bool) -> Seen {
    let mut seen = set(1);
    seen.serve();
    seen.pod(0, &to_replace());
    seen.serve();
    assert_eq!(seen.pods.len(), 2);
    seen.pod(0, &label(keys::PAIR_NEW_ID, &json!("1")));
    if !serves {
        seen.pod(1, &label(SERVICE_AVAILABLE, &Value::Null));
    }
    seen
}

fn name(seen: &Seen, place: usize) -> String {
    seen.pods[place].name_any()
}

#[test]
fn a_new_pod_of_the_same_revision_is_created_beside_the_old_one() {
    let mut seen = set(1);
    seen.serve();
    let before = seen.revision();
    seen.edit(|object| {
        object.spec.template.0["spec"]["hostNetwork"] = json!(true);
        object.metadata.generation = Some(2);
    });
    seen.note_revision();
    seen.pod(0, &to_replace());
    let plan = seen.plan();
    let [start] = &*plan.pair else {
        unreachable!("one pod")
    };
    let new_labels = &start.body["metadata"]["labels"];
    assert_eq!(new_labels[keys::PAIR_ORIGIN_NAME], name(&seen, 0));
    let uid = seen.pods[0].uid();
    assert!(uid.is_some());
    assert_eq!(new_labels[keys::REPLACES], json!(uid));
    assert_eq!(new_labels[keys::INSTANCE_ID], "1");
    assert_eq!(new_labels[keys::CONTROLLER_REVISION], before);
    assert_eq!(start.body["spec"]["hostNetwork"], Value::Null);
}

#[test]
fn the_old_pod_gets_the_number_of_the_new_one_and_the_two_count_as_one() {
    let mut seen = pair(false);
    seen.pod(0, &label(keys::PAIR_NEW_ID, &Value::Null));
    let plan = seen.plan();
    assert!(plan.pair.is_empty() && plan.create.is_empty() && plan.delete.is_empty());
    assert_eq!(written(&plan.edit), [name(&seen, 0)]);
    assert_eq!(labels(&plan.edit[0]), json!({keys::PAIR_NEW_ID: "1"}));
    assert_eq!(seen.conclude().replicas, 2);
    let scale = seen.conclude().conditions;
    let scale = scale.iter().find(|one| one.type_ == "Scale");
    assert_eq!(scale.expect("a condition").message, "1 of 1 pods exist");
}

#[test]
fn the_old_pod_goes_when_the_new_one_serves_and_not_before() {
    assert!(pair(false).plan().edit.is_empty());
    let seen = pair(true);
    let plan = seen.plan();
    assert_eq!(written(&plan.edit), [name(&seen, 0)]);
    assert!(labels(&plan.edit[0])[keys::TO_DELETE].is_string());
}

#[test]
fn a_replacement_that_is_cancelled_removes_the_new_pod_even_if_it_serves() {
    for serves in [false, true] {
        let mut seen = pair(serves);
        seen.pod(0, &label(keys::TO_REPLACE, &Value::Null));
        let plan = seen.plan();
        assert_eq!(written(&plan.edit), [name(&seen, 1)]);
        assert!(labels(&plan.edit[0])[keys::TO_DELETE].is_string());
    }
}

#[test]
fn a_replacement_that_is_cancelled_after_the_old_pod_began_to_go_is_finished() {
    let mut seen = pair(true);
    seen.pod(0, &label(keys::TO_DELETE, &json!("1")));
    seen.pod(0, &label(keys::TO_REPLACE, &Value::Null));
    assert!(seen.plan().edit.is_empty());
}

#[test]
fn a_new_pod_that_goes_is_created_again_and_its_number_is_forgotten_meanwhile() {
    let mut seen = pair(false);
    seen.pods.pop();
    let plan = seen.plan();
    assert_eq!(plan.pair.len(), 1);
    assert_eq!(labels(&plan.edit[0])[keys::PAIR_NEW_ID], Value::Null);
}

#[test]
fn an_old_pod_that_is_deleted_leaves_the_new_one_in_its_place() {
    let mut seen = pair(false);
    seen.pod(
        0,
        &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    let plan = seen.plan();
    assert!(plan.create.is_empty() && plan.edit.is_empty());
    seen.pods.remove(0);
    let plan = seen.plan();
    assert!(plan.create.is_empty());
    assert_eq!(labels(&plan.edit[0])[keys::PAIR_ORIGIN_NAME], Value::Null);
}

#[test]
fn an_old_pod_that_is_deleted_before_it_has_a_new_one_gets_it_instead_of_another() {
    let mut seen = set(2);
    seen.serve();
    seen.pod(0, &to_replace());
    seen.pod(
        0,
        &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    let plan = seen.plan();
    let [start] = &*plan.create else {
        unreachable!("one pod")
    };
    let origin = &start.body["metadata"]["labels"][keys::PAIR_ORIGIN_NAME];
    assert_eq!(*origin, name(&seen, 0));
    seen.edit(|object| object.spec.replicas = 1);
    assert!(seen.plan().create.is_empty(), "it is not wanted any more");
}

#[test]
fn a_pair_is_scaled_in_together_and_no_pod_that_is_scaled_in_is_replaced() {
    let mut seen = pair(true);
    seen.edit(|object| object.spec.replicas = 0);
    let mut names = written(&seen.plan().edit);
    names.sort();
    let mut both = vec![name(&seen, 0), name(&seen, 1)];
    both.sort();
    assert_eq!(names, both);

    let mut seen = set(1);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 0);
    let begun = labels(&seen.plan().edit[0]);
    seen.pod(0, &json!({"metadata": {"labels": begun}}));
    seen.pod(0, &to_replace());
    assert!(seen.plan().pair.is_empty());
}

#[test]
fn a_pod_whose_scale_in_waits_for_another_operation_is_not_replaced() {
    let mut seen = set(1);
    seen.serve();
    seen.pod(0, &to_replace());
    assert_eq!(seen.plan().pair.len(), 1);
    seen.pod(0, &label(&Mark::Operating.of("other"), &json!("1")));
    seen.edit(|object| object.spec.replicas = 0);
    let plan = seen.plan();
    assert!(plan.pair.is_empty(), "its new pod would leave with it");
}

#[test]
fn the_new_pod_of_a_pair_is_not_replaced_itself() {
    let mut seen = pair(false);
    seen.pod(1, &to_replace());
    assert!(seen.plan().pair.is_empty());
    seen.pods.remove(0);
    assert_eq!(seen.plan().pair.len(), 1, "it is a pod like any other now");
}

#[test]
fn every_pod_may_be_replaced_at_the_same_time() {
    let mut seen = set(3);
    seen.serve();
    for place in 0..3 {
        seen.pod(place, &to_replace());
    }
    seen.serve();
    assert_eq!(seen.pods.len(), 6);
    let plan = seen.plan();
    assert!(plan.pair.is_empty() && plan.create.is_empty());
    assert_eq!(plan.edit.len(), 3, "one write for each origin");
}

#[test]
fn a_new_pod_that_is_refused_holds_up_neither_scaling_nor_other_pairs() {
    let mut seen = set(3);
    seen.serve();
    seen.pod(0, &to_replace());
    seen.edit(|object| object.spec.replicas = 5);
    let batches = Driven::batches(&seen, &seen.plan());
    let needs: Vec<_> = batches.iter().take(3).map(|batch| batch.needs).collect();
    assert_eq!(needs, [Needs::Previous, Needs::Previous, Needs::Nothing]);
}

#[test]
fn the_old_pod_stays_if_the_new_one_stops_serving_before_the_old_one_has_left_service() {
    let deleted = |stage: &str| {
        json!({"metadata": {"labels": {
            (keys::TO_DELETE): "17", Mark::Operating.of("pod-delete"): "1",
            Mark::OperationType.of("pod-delete"): "delete", Mark::PreChecked.of("pod-delete"): "1", stage: "1",
        }}})
    };
    let mut seen = pair(true);
    seen.pod(0, &deleted(&Mark::Preparing.of("pod-delete")));
    assert!(seen.plan().edit.is_empty());
    let mut seen = pair(false);
    seen.pod(0, &deleted(&Mark::Preparing.of("pod-delete")));
    let plan = seen.plan();
    assert_eq!(written(&plan.edit), [name(&seen, 0)]);
    assert_eq!(labels(&plan.edit[0]), json!({keys::TO_DELETE: null}));
    // Nothing more is written before the new pod serves again.
    seen.pod(0, &label(keys::TO_DELETE, &Value::Null));
    assert!(seen.plan().edit.is_empty());
    let mut seen = pair(false);
    seen.pod(0, &deleted(&Mark::Operate.of("pod-delete")));
    assert!(seen.plan().edit.is_empty(), "it has left service");
    let mut seen = pair(false);
    seen.pod(0, &label(keys::TO_DELETE, &json!("true")));
    assert!(seen.plan().edit.is_empty(), "a user requested that");
    let mut seen = pair(true);
    seen.pod(0, &deleted(&Mark::Preparing.of("pod-delete")));
    seen.pods.pop();
    seen.pod(0, &label(keys::PAIR_NEW_ID, &Value::Null));
    let plan = seen.plan();
    assert_eq!(labels(&plan.edit[0]), json!({keys::TO_DELETE: null}));
    assert_eq!(plan.pair.len(), 1, "another new pod is created");
}

#[test]
fn a_pod_that_is_being_adopted_keeps_its_place_in_a_pair() {
    for orphan in [0, 1] {
        let mut seen = pair(false);
        seen.pod(orphan, &json!({"metadata": {"ownerReferences": null}}));
        let plan = seen.plan();
        assert!(plan.pair.is_empty(), "pod {orphan}: there is a new pod");
        assert!(plan.create.is_empty(), "pod {orphan}");
        assert_eq!(written(&plan.edit), [name(&seen, orphan)]);
        assert_eq!(labels(&plan.edit[0]), json!({keys::CONTROL: "true"}));
    }
}
