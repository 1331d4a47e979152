//! What may change in a pod that exists, and when the change is done.

use operon_api::{embedded::PodTemplateSpec, keys};
use serde_json::{Value, json};

use crate::{
    colla_set::in_place::{Change, is_done},
    driver::memory::merge,
};

pub(super) fn template(patch: &Value) -> PodTemplateSpec {
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

pub(super) fn pod(patch: &Value) -> k8s_openapi::api::core::v1::Pod {
    let mut pod = json!({
        "metadata": {"name": "foo-1", "generation": 4},
        "spec": {"containers": [{"name": "main", "image": "main:1"}, {"name": "side", "image": "side:1"}]},
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

pub(super) fn updated(change: &Change) -> Value {
    let patch = change.patch(&pod(&json!({})), "foo-2");
    let containers = json!([
        {"name": "main", "image": patch["spec"]["containers"][0]["image"]},
        {"name": "side", "image": "side:1"},
    ]);
    json!({
        "metadata": {"annotations": patch["metadata"]["annotations"], "generation": 5},
        "spec": {"containers": containers},
    })
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
        json!({"generation": 5, "containers": {
            "main": {"id": "c://1", "image": "main:1"},
            "side": {"id": "c://2", "image": "side:1"},
        }})
    );
}

#[test]
fn an_image_that_the_pod_has_already_restarts_nothing_and_is_not_waited_for() {
    let change = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let change = change.expect("possible");
    let has_it = json!({"spec": {"containers": [
        {"name": "main", "image": "main:2"},
        {"name": "side", "image": "side:1"},
    ]}});
    let patch = change.patch(&pod(&has_it), "foo-2");
    let mut after = json!({"metadata": {"annotations": patch["metadata"]["annotations"]}});
    merge(&mut after, &has_it);
    assert!(is_done(&pod(&after)));
}

#[test]
fn an_image_that_is_changed_back_before_the_kubelet_saw_it_is_done_when_it_has() {
    let there = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let between = pod(&updated(&there.expect("possible")));
    let back = Change::between(
        &template(&images("main:2", "side:1")),
        &template(&json!({})),
    );
    let patch = back.expect("possible").patch(&between, "foo-1");
    let mut after = json!({
        "metadata": {"annotations": patch["metadata"]["annotations"], "generation": 6},
    });
    assert!(!is_done(&pod(&after)), "the kubelet has not seen it");
    merge(&mut after, &statuses(6, "c://1", true));
    assert!(is_done(&pod(&after)));
}

#[test]
fn a_kubelet_that_reports_no_generation_is_not_waited_for() {
    let change = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let mut after = updated(&change.expect("possible"));
    merge(&mut after, &statuses(5, "c://3", true));
    after["status"]["observedGeneration"] = Value::Null;
    assert!(is_done(&pod(&after)));
}

#[test]
fn the_label_by_which_a_pod_takes_part_in_the_lifecycle_stays() {
    let with = json!({"metadata": {"labels": {keys::CONTROL: "true"}}});
    let change = Change::between(&template(&with), &template(&json!({}))).expect("possible");
    let patch = change.patch(&pod(&json!({})), "foo-2");
    let labels = &patch["metadata"]["labels"];
    assert_eq!(*labels, json!({keys::CONTROLLER_REVISION: "foo-2"}));
}

#[test]
fn a_change_of_labels_after_one_of_images_waits_for_no_further_generation() {
    let there = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let mut after = updated(&there.expect("possible"));
    let mut new = images("main:2", "side:1");
    new["metadata"] = json!({"labels": {"new": "1"}});
    let second = Change::between(&template(&images("main:2", "side:1")), &template(&new));
    let patch = second.expect("possible").patch(&pod(&after), "foo-3");
    merge(&mut after, &json!({"metadata": patch["metadata"]}));
    assert!(!is_done(&pod(&after)), "the first image is not there yet");
    merge(&mut after, &statuses(5, "c://3", true));
    assert!(is_done(&pod(&after)));
}

#[test]
fn an_image_that_is_changed_back_after_the_kubelet_acted_needs_another_container() {
    let there = Change::between(
        &template(&json!({})),
        &template(&images("main:2", "side:1")),
    );
    let mut after = updated(&there.expect("possible"));
    merge(&mut after, &statuses(5, "c://3", false));
    let back = Change::between(
        &template(&images("main:2", "side:1")),
        &template(&json!({})),
    );
    let patch = back.expect("possible").patch(&pod(&after), "foo-1");
    let note = json!({"metadata": {"annotations": patch["metadata"]["annotations"]}});
    merge(&mut after, &note);
    merge(&mut after, &images("main:1", "side:1"));
    merge(&mut after, &statuses(6, "c://3", true));
    assert!(!is_done(&pod(&after)), "it runs the second image");
    merge(&mut after, &statuses(6, "c://4", true));
    assert!(is_done(&pod(&after)));
}
