//! What the status says.

use kube::core::Status;
use operon_api::conditions::find;
use serde_json::json;

use super::set::set;
use crate::{
    colla_set::Driven,
    driver::{Done, Kind as _, Made, Refusal},
    pod_lifecycle::labels::SERVICE_AVAILABLE,
};

#[test]
fn counts_are_of_pods_that_neither_have_finished_nor_are_being_deleted() {
    let mut seen = set(4);
    seen.serve();
    seen.pod(0, &json!({"status": {"phase": "Failed"}}));
    seen.pod(
        1,
        &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    seen.pod(
        2,
        &json!({"metadata": {"labels": {SERVICE_AVAILABLE: null}}}),
    );
    let status = seen.conclude();
    assert_eq!((status.replicas, status.terminating_replicas), (2, 1));
    assert_eq!((status.ready_replicas, status.available_replicas), (2, 1));
    assert_eq!(
        (status.updated_replicas, status.updated_available_replicas),
        (2, 1)
    );
    assert_eq!(status.scheduled_replicas, 2);
    assert_eq!(status.selector.as_deref(), Some("app=foo"));
    let message = |type_| find(&status.conditions, type_).map(|one| one.message.as_str());
    assert_eq!(message("Scale"), Some("2 of 4 pods exist"));
    let available = message("Available").expect("a condition");
    assert!(
        available.starts_with("1 of 4 pods serve: pod"),
        "{available}"
    );
}

#[test]
fn the_current_revision_follows_when_as_many_pods_as_desired_are_updated() {
    let mut seen = set(1);
    seen.serve();
    let status = seen.conclude();
    let first = status.updated_revision.clone();
    assert_eq!(status.current_revision, first);
    seen.edit(|object| {
        object.status = Some(status);
        object.metadata.generation = Some(2);
        object.spec.template.0["spec"]["hostNetwork"] = json!(true);
    });
    seen.note_revision();
    let status = seen.conclude();
    assert_eq!(status.current_revision, first);
    assert_ne!(status.updated_revision, first);
    assert_eq!(status.updated_replicas, 0);
    let update = find(&status.conditions, "Update").expect("a condition");
    assert_eq!(
        (update.status.as_str(), update.reason.as_str()),
        ("False", "Updating")
    );
}

#[test]
fn the_words_of_a_refusal_are_quoted() {
    let seen = set(1);
    let refused = Status::failure("exceeded quota", "Forbidden").with_code(403);
    let refusal = Refusal::answered("failed to create Pod shop/foo-1", &refused);
    let done = Done {
        made: [("1".to_owned(), Made::Refused(refusal))].into(),
        ..Done::default()
    };
    let status = seen.conclude_after(&done);
    let scale = find(&status.conditions, "Scale").expect("a condition");
    assert_eq!(scale.reason, "RequestRefused");
    assert!(
        scale
            .message
            .contains("failed to create Pod shop/foo-1: exceeded quota")
    );
}

#[test]
fn the_rule_that_keeps_a_pod_out_of_service_is_named() {
    let mut seen = set(1);
    seen.serve();
    let note = r#"{"stage":"PostCheck","passed":false,"rejectInfo":[{"ruleName":"warm","reason":"not yet"}]}"#;
    let key = "detail.podtransitionrule.kusionstack.io/web";
    seen.pod(
        0,
        &json!({"metadata": {"labels": {SERVICE_AVAILABLE: null}, "annotations": {key: note}}}),
    );
    let status = seen.conclude();
    let available = find(&status.conditions, "Available").expect("a condition");
    let words = "waits for PodTransitionRule web, rule warm: not yet";
    assert!(available.message.ends_with(words), "{available:?}");
}

#[test]
fn counts_are_progress_and_what_people_wait_for_is_not() {
    let mut seen = set(4);
    seen.serve();
    for place in 0..3 {
        seen.pod(
            place,
            &json!({"metadata": {"labels": {SERVICE_AVAILABLE: null}}}),
        );
    }
    let one = seen.conclude();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {SERVICE_AVAILABLE: "1"}}}),
    );
    let two = seen.conclude();
    assert_ne!(one, two);
    assert!(Driven::is_progress(&one, &two));
    for place in 0..3 {
        seen.pod(
            place,
            &json!({"metadata": {"labels": {SERVICE_AVAILABLE: "1"}}}),
        );
    }
    assert!(!Driven::is_progress(&two, &seen.conclude()), "Available");
    let mut seen_generation = two.clone();
    seen_generation.observed_generation = Some(2);
    assert!(!Driven::is_progress(&two, &seen_generation));
}
