//! Names of pods that are made of their ids, and names that are too long.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{conditions::find, keys};
use serde_json::{Value, json};

use super::set::{created, set};
use crate::{
    colla_set::{Driven, Seen},
    driver::{Claim, Kind as _, Start},
};

/// A set whose pods are named by their ids.
fn sequence(replicas: i32) -> Seen {
    let mut seen = set(replicas);
    seen.edit(|object| {
        let strategy = json!({"podNamingSuffixPolicy": "PersistentSequence"});
        object.spec.naming_strategy = serde_json::from_value(strategy).expect("a strategy");
    });
    seen
}

fn names(starts: &[Start]) -> Vec<&str> {
    starts.iter().map(|start| &*start.names[0]).collect()
}

fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

#[test]
fn pods_are_named_by_their_ids() {
    let mut seen = sequence(3);
    assert_eq!(names(&seen.plan().create), ["foo-0", "foo-1", "foo-2"]);
    seen.serve();
    seen.pods.remove(1);
    assert_eq!(names(&seen.plan().create), ["foo-1"]);
}

#[test]
fn a_new_pod_waits_until_the_pod_of_its_name_is_gone_and_says_so() {
    let mut seen = sequence(3);
    seen.serve();
    seen.pod(1, &deleted());
    seen.edit(|object| object.spec.replicas = 4);
    assert_eq!(names(&seen.plan().create), ["foo-3"], "others do not wait");
    let scale = seen.conclude().conditions;
    let scale = find(&scale, "Scale").expect("a condition");
    assert_eq!(scale.reason, "Waiting");
    assert!(scale.message.contains("\"foo-1\""), "{}", scale.message);
    seen.pods.remove(1);
    assert_eq!(names(&seen.plan().create), ["foo-1", "foo-3"]);
}

#[test]
fn a_pod_that_has_finished_is_deleted_before_it_is_created_again() {
    let mut seen = sequence(1);
    seen.serve();
    seen.pod(0, &json!({"status": {"phase": "Failed"}}));
    let plan = seen.plan();
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 1));
    seen.pods.clear();
    assert_eq!(names(&seen.plan().create), ["foo-0"]);
}

#[test]
fn the_new_pod_of_a_pair_has_the_name_of_its_own_id() {
    let mut seen = sequence(2);
    seen.serve();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
    );
    assert_eq!(names(&seen.plan().pair), ["foo-2"]);
}

#[test]
fn a_pod_that_has_the_name_is_found_waited_for_or_named() {
    let seen = sequence(1);
    let start = &seen.plan().create[0];
    let claim = |patch: &Value| {
        let mut pod = json!(created::<Pod>(start, "uid"));
        crate::driver::memory::merge(&mut pod, patch);
        Driven::claim(&seen, start, &pod)
    };
    assert_eq!(claim(&json!({})), Claim::Mine);
    let later = json!({"metadata": {"annotations": {keys::CREATION: "set-uid/7"}}});
    assert_eq!(claim(&later), Claim::Mine, "the id says which pod it is");
    let other = json!({"metadata": {"labels": {keys::INSTANCE_ID: "7"}}});
    assert_eq!(claim(&other), Claim::Others);
    let foreign = json!({"metadata": {"ownerReferences": null}});
    assert_eq!(claim(&foreign), Claim::Others);
    assert_eq!(claim(&deleted()), Claim::Leaving);
}

#[test]
fn an_id_whose_name_another_pod_has_is_passed_over() {
    let mut seen = sequence(2);
    let pod = |name: &str, status: &Value| {
        let pod = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "foo"}},
            "status": status,
        });
        std::sync::Arc::new(serde_json::from_value::<Pod>(pod).expect("a pod"))
    };
    seen.pods.push(pod("foo-0", &json!({"phase": "Failed"})));
    assert_eq!(names(&seen.plan().create), ["foo-1", "foo-2"]);
    seen.pods.clear();
    seen.serve();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::INSTANCE_ID: "7"}}}),
    );
    seen.edit(|object| object.spec.replicas = 3);
    assert_eq!(names(&seen.plan().create), ["foo-2"]);
}

#[test]
fn a_pod_whose_name_is_too_long_to_be_replaced_is_named() {
    let mut seen = sequence(2);
    seen.edit(|object| object.metadata.name = Some("x".repeat(62)));
    seen.serve();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
    );
    let plan = seen.plan();
    assert!(plan.pair.is_empty() && plan.edit.is_empty());
    let conditions = seen.conclude().conditions;
    let scale = find(&conditions, "Scale").expect("a condition");
    assert_eq!(scale.reason, "NameTooLong");
    assert!(
        scale.message.contains(&seen.pods[0].name_any()),
        "{}",
        scale.message
    );
    let stalled = find(&conditions, "Stalled").expect("a user must change something");
    assert_eq!(stalled.reason, "NameTooLong");
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: null}}}),
    );
    let conditions = seen.conclude().conditions;
    assert!(find(&conditions, "Stalled").is_none());
}
