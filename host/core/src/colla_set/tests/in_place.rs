//! What may change in a pod that exists, and when the change is done.

use operon_api::{embedded::PodTemplateSpec, keys};
use serde_json::{Value, json};

use crate::{
    colla_set::in_place::{Change, is_done},
    driver::memory::merge,
};

fn template(patch: &Value) -> PodTemplateSpec {
    let mut template = json!({
        "metadata": {"labels": {"app": "foo", "old": "1"}},
        "spec": {
            "nodeSelector": {"zone": "a"},
            "containers": [
                {"name": "main", "image": "main:1", "args": ["a"]},
                {"name": "side", "image": "side:1"},
            ],
        },
    });
    merge(&mut template, patch);
    serde_json::from_value(template).expect("a template")
}

fn images(main: &str, side: &str) -> Value {
    json!({"spec": {"containers": [
        {"name": "main", "image": main, "args": ["a"]},
        {"name": "side", "image": side},
    ]}})
}

fn pod(patch: &Value) -> k8s_openapi::api::core::v1::Pod {
    let mut pod = json!({
        "metadata": {"name": "foo-1", "generation": 4},
        "status": {
            "observedGeneration": 4,
            "containerStatuses": [
                {"name": "main", "containerID": "c://1", "ready": true, "image": "", "imageID": "", "restartCount": 0},
                {"name": "side", "containerID": "c://2", "ready": true, "image": "", "imageID": "", "restartCount": 0},
            ],
        },
    });
    merge(&mut pod, patch);
    serde_json::from_value(pod).expect("a pod")
}

#[test]
fn images_labels_and_annotations_change_in_place_and_nothing_else_is_written() {
    let mut patch = images("main:2", "side:1");
    patch["metadata"] = json!({"labels": {"old": null, "new": "1"}, "annotations": {"note": "x"}});
    let change = Change::between(&template(&json!({})), &template(&patch)).expect("possible");
    let written = change.patch(&pod(&json!({})), "foo-2");
    assert_eq!(
        written["metadata"]["labels"],
        json!({"old": null, "new": "1", (keys::CONTROLLER_REVISION): "foo-2"})
    );
    assert_eq!(written["metadata"]["annotations"]["note"], "x");
    // Another spelling of the other image, which somebody wrote into the pod, stays.
    assert_eq!(
        written["spec"],
        json!({"containers": [{"name": "main", "image": "main:2"}]})
    );
}

#[test]
fn the_field_that_cannot_change_in_place_is_named() {
    for (patch, field) in [
        (
            json!({"spec": {"nodeSelector": {"zone": "b"}}}),
            "spec.nodeSelector",
        ),
        (json!({"spec": {"hostNetwork": true}}), "spec.hostNetwork"),
        (
            json!({"metadata": {"finalizers": ["a"]}}),
            "metadata.finalizers",
        ),
        (
            json!({"spec": {"containers": [{"name": "main", "image": "main:1"}]}}),
            "spec.containers",
        ),
        (
            json!({"spec": {"containers": [
                {"name": "main", "image": "main:1", "args": ["b"]},
                {"name": "side", "image": "side:1"},
            ]}}),
            "spec.containers[main].args",
        ),
    ] {
        let found = Change::between(&template(&json!({})), &template(&patch));
        assert_eq!(found, Err(field.to_owned()));
    }
}

fn updated(change: &Change) -> Value {
    let patch = change.patch(&pod(&json!({})), "foo-2");
    json!({"metadata": {"annotations": patch["metadata"]["annotations"], "generation": 5}})
}

fn statuses(seen: i64, main: &str, ready: bool) -> Value {
    json!({"status": {"observedGeneration": seen, "containerStatuses": [
        {"name": "main", "containerID": main, "ready": ready, "image": "", "imageID": "", "restartCount": 1},
        {"name": "side", "containerID": "c://2", "ready": true, "image": "", "imageID": "", "restartCount": 0},
    ]}})
}

#[test]
fn it_is_done_when_the_kubelet_has_seen_it_and_another_container_is_ready() {
    let change = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let mut after = updated(&change.expect("possible"));
    let mut is_done_with = |status: Value| {
        merge(&mut after, &status);
        is_done(&pod(&after))
    };
    assert!(!is_done_with(json!({})));
    assert!(
        !is_done_with(statuses(5, "c://1", true)),
        "the old container still runs"
    );
    assert!(
        !is_done_with(statuses(4, "c://3", true)),
        "a crash before the kubelet saw it"
    );
    assert!(
        !is_done_with(statuses(5, "c://3", false)),
        "it is not ready"
    );
    assert!(is_done_with(statuses(5, "c://3", true)));
}

#[test]
fn a_change_of_labels_alone_is_done_when_it_is_written() {
    let patch = json!({"metadata": {"labels": {"new": "1"}}});
    let change = Change::between(&template(&json!({})), &template(&patch)).expect("possible");
    assert!(is_done(&pod(&updated(&change))));
}

#[test]
fn a_second_change_waits_for_the_containers_of_the_first_too() {
    let first = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let after = pod(&updated(&first.expect("possible")));
    let second = Change::between(
        &template(&images("main:2", "side:1")),
        &template(&images("main:2", "side:2")),
    );
    let patch = second.expect("possible").patch(&after, "foo-3");
    let noted = patch["metadata"]["annotations"][keys::IN_PLACE_UPDATE].as_str();
    let noted: Value = serde_json::from_str(noted.expect("a note")).expect("JSON");
    assert_eq!(
        noted,
        json!({"generation": 5, "containers": {"main": "c://1", "side": "c://2"}})
    );
}
