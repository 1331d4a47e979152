//! Which changes of CPU and memory a pod takes in place, and when they are done.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use operon_api::{
    colla_set::{PodUpgradePolicy, UpdateStrategy},
    conditions::find,
    keys,
};
use serde_json::{Value, json};

use super::{
    in_place::{pod, template, updated},
    set::{NOW, labels, set, written},
    update::allowed,
};
use crate::{
    action::Effect,
    colla_set::{
        Seen,
        in_place::{Change, is_done, resize},
    },
    driver::memory::merge,
    pod_lifecycle::labels::{Mark, PREPARING_TO_DELETE, SERVICE_AVAILABLE},
};

/// The containers of the template, one with these resources.
fn sized(resources: &Value) -> Value {
    json!({"spec": {"containers": [
        {"name": "main", "image": "main:1", "args": ["a"], "resources": resources},
        {"name": "side", "image": "side:1"},
    ]}})
}

fn resize_between(old: &Value, new: &Value) -> Result<Change, String> {
    Change::between(&template(&sized(old)), &template(&sized(new)))
}

fn requests(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": "64Mi"}})
}

#[test]
fn cpu_and_memory_are_written_after_the_note_and_done_when_the_kubelet_has_acted() {
    let change = resize_between(&requests("100m"), &requests("200m")).expect("possible");
    let sized = json!({"spec": {"containers": [
        {"name": "main", "image": "main:1", "resources": requests("100m")},
        {"name": "side", "image": "side:1"},
    ]}});
    let mut noted = updated(&change);
    merge(&mut noted, &sized);
    let before = pod(&noted);
    assert!(!is_done(&before), "nothing is resized yet");
    let patch = resize(&before).expect("a patch");
    let container = &patch["spec"]["containers"][0];
    assert_eq!(container["name"], "main");
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "200m", "memory": "64Mi"})
    );
    assert_eq!(
        patch["spec"]["containers"].as_array().map(Vec::len),
        Some(1)
    );

    let mut written = noted;
    // Another spelling is the same quantity.
    written["spec"]["containers"][0]["resources"] = requests("0.2");
    written["metadata"]["generation"] = json!(5);
    assert_eq!(resize(&pod(&written)), None);
    assert!(!is_done(&pod(&written)), "the kubelet has not seen it");
    written["status"]["observedGeneration"] = json!(5);
    for kind in ["PodResizePending", "PodResizeInProgress"] {
        written["status"]["conditions"] = json!([{"type": kind, "status": "True"}]);
        assert!(!is_done(&pod(&written)), "{kind}");
    }
    written["status"]["conditions"] = json!([]);
    assert!(is_done(&pod(&written)));
}

#[test]
fn a_limit_without_a_request_is_also_the_request() {
    let limits = |cpu: &str| json!({"limits": {"cpu": cpu, "memory": "64Mi"}});
    let change = resize_between(&limits("1"), &limits("2")).expect("possible");
    let mut noted = updated(&change);
    merge(
        &mut noted,
        &sized(&json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})),
    );
    let patch = resize(&pod(&noted)).expect("a patch");
    let resources = &patch["spec"]["containers"][0]["resources"];
    assert_eq!(resources["requests"]["cpu"], "2");
    assert_eq!(resources["limits"]["cpu"], "2");
}

#[test]
fn resources_that_the_api_server_does_not_change_in_a_pod_are_named() {
    let both = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}});
    let with = |path: &str, value: Value| {
        let mut changed = both.clone();
        *changed.pointer_mut(path).expect("a field") = value;
        changed
    };
    let cases = [
        (json!({}), "resources"),
        (
            json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}),
            "",
        ),
        (
            json!({"requests": both["requests"]}),
            "resources.limits.memory",
        ),
        (json!({"limits": both["limits"]}), "resources.requests.cpu"),
        (
            with("/limits/memory", json!("512Mi")),
            "resources.limits.memory",
        ),
        (
            json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": both["limits"]}),
            "resources.requests.ephemeral-storage",
        ),
        (with("/limits", json!({"memory": "2Gi"})), ""),
    ];
    for (after, field) in cases {
        let found = resize_between(&both, &after);
        match field {
            "" => assert!(found.is_ok(), "{after} {found:?}"),
            field => {
                let found = found.expect_err("impossible");
                assert!(
                    found.starts_with(&format!("spec.containers[main].{field}")),
                    "{after} {found}"
                );
            }
        }
    }
}

#[test]
fn another_quality_of_service_class_is_not_possible_in_place() {
    let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let burstable =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    let alone = |resources: &Value| json!({"spec": {"containers": [{"name": "main", "resources": resources}]}});
    let found = Change::between(
        &template(&alone(&guaranteed)),
        &template(&alone(&burstable)),
    );
    assert_eq!(found, Err("spec.containers[main].resources".to_owned()));
    let larger = json!({"limits": {"cpu": "1500m", "memory": "1Gi"}});
    assert!(Change::between(&template(&alone(&guaranteed)), &template(&alone(&larger))).is_ok());
}

fn containers(cpu: &str) -> Value {
    json!([{"name": "main", "image": "busybox", "resources": requests(cpu)}])
}

/// A set of one pod that gets more CPU, and may be changed.
fn resized(policy: PodUpgradePolicy) -> Seen {
    let mut seen = set(1);
    seen.edit(|object| {
        object.spec.update_strategy = Some(UpdateStrategy {
            pod_upgrade_policy: Some(policy),
            ..UpdateStrategy::default()
        });
    });
    seen.edit_template("spec/containers", containers("100m"));
    seen.serve();
    seen.edit_template("spec/containers", containers("200m"));
    seen.pod(0, &allowed());
    seen
}

/// The update is noted in the pod.
fn note(seen: &mut Seen) {
    let (edits, name) = (seen.plan().edit, seen.pods[0].name_any());
    let mut patches = edits.iter().filter_map(|edit| match edit {
        Effect::Patch { object, body, .. } if object.name == name => Some(body),
        _ => None,
    });
    let body = patches.next().expect("a patch");
    assert_eq!(body.get("spec"), None);
    let noted = json!({"metadata": body["metadata"]});
    seen.pod(0, &noted);
}

fn pending(reason: &str) -> Value {
    json!({"status": {"conditions": [
        {"type": "PodResizePending", "status": "True", "reason": reason, "message": "node has 1 CPU"},
    ]}})
}

#[test]
fn a_pod_is_resized_by_a_write_of_its_own_also_while_the_set_is_paused() {
    let mut seen = resized(PodUpgradePolicy::InPlaceOnly);
    note(&mut seen);
    for paused in [false, true] {
        seen.edit(|object| object.spec.paused = Some(paused));
        let edits = seen.plan().edit;
        let Effect::Patch {
            subresource, body, ..
        } = &edits[0]
        else {
            unreachable!("a patch")
        };
        assert_eq!((edits.len(), subresource.as_deref()), (1, Some("resize")));
        assert_eq!(
            body["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            "200m"
        );
    }
}

#[test]
fn a_pod_whose_node_never_has_room_is_created_again_or_named() {
    let mut seen = resized(PodUpgradePolicy::InPlaceIfPossible);
    note(&mut seen);
    seen.pod(0, &json!({"spec": {"containers": containers("200m")}}));
    seen.pod(0, &pending("Deferred"));
    let plan = seen.plan();
    assert!(plan.delete.is_empty(), "the node may have room later");
    seen.pod(0, &pending("Infeasible"));
    assert_eq!(seen.plan().delete.len(), 1);
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.pod_upgrade_policy = Some(PodUpgradePolicy::InPlaceOnly);
    });
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(plan.update_waits.len(), 1);
    assert_eq!(labels(&plan.edit[0]), finished(), "it serves meanwhile");
}

/// The labels that bring a pod back into service.
fn finished() -> Value {
    json!({ Mark::Operating.of("collaset"): null })
}

/// The pod serves, and has no label of an operation.
fn serves() -> Value {
    json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): null,
        Mark::OperationType.of("collaset"): null,
        Mark::PreChecked.of("collaset"): null,
        Mark::Operate.of("collaset"): null,
        SERVICE_AVAILABLE: "1",
    }}})
}

/// A set of so many pods. The first one is resized, and its node has no room for that now.
fn deferred(replicas: i32, resize_policy: &Value) -> Seen {
    let containers = |cpu: &str| {
        let mut containers = containers(cpu);
        containers[0]["resizePolicy"] = resize_policy.clone();
        containers
    };
    let mut seen = set(replicas);
    seen.edit_template("spec/containers", containers("100m"));
    seen.serve();
    seen.edit_template("spec/containers", containers("200m"));
    seen.pod(0, &allowed());
    note(&mut seen);
    seen.pod(0, &json!({"spec": {"containers": containers("200m")}}));
    seen.pod(0, &pending("Deferred"));
    seen.pod(
        0,
        &json!({"status": {"containerStatuses": [{
            "name": "main", "ready": true, "image": "", "imageID": "", "restartCount": 0,
            "state": {"running": {}}, "resources": requests("100m"),
        }]}}),
    );
    seen
}

#[test]
fn a_pod_whose_node_has_no_room_now_serves_until_the_kubelet_resizes_it() {
    let mut seen = deferred(8, &json!([]));
    let name = seen.pods[0].name_any();
    let plan = seen.plan();
    let edits = || plan.edit.iter().zip(written(&plan.edit));
    let edit = edits().find(|(_, of)| *of == name).expect("an edit").0;
    assert_eq!(labels(edit), finished());
    let Effect::Patch { body, .. } = edit else {
        unreachable!("a patch")
    };
    assert!(body["metadata"]["annotations"].is_null(), "{body}");
    assert_eq!(plan.edit.len(), 2, "a quarter of the pods at a time");

    seen.pod(0, &serves());
    let plan = seen.plan();
    let begun = written(&plan.edit);
    assert_eq!(begun.len(), 2, "it does not keep others from being updated");
    assert!(!begun.contains(&name), "{begun:?}");
    let status = seen.conclude();
    let update = find(&status.conditions, "Update").expect("a condition");
    assert_eq!(
        (update.status.as_str(), update.reason.as_str()),
        ("False", "Waiting")
    );
    let words = format!(
        "The update of pod {name:?} waits for its node to have room for its new CPU and memory; until then the pod \
         serves with the previous ones: Deferred: node has 1 CPU"
    );
    assert!(update.message.ends_with(&words), "{}", update.message);
    seen.edit(|object| object.spec.paused = Some(true));
    let status = seen.conclude();
    let update = find(&status.conditions, "Update").expect("a condition");
    assert_eq!(update.status, "False", "{update:?}");
    seen.edit(|object| object.spec.paused = None);

    seen.pod(
        0,
        &json!({"status": {"conditions": [], "containerStatuses": [{
            "name": "main", "ready": true, "image": "", "imageID": "", "restartCount": 0,
            "state": {"running": {}}, "resources": requests("200m"),
        }]}}),
    );
    let plan = seen.plan();
    let edits = || plan.edit.iter().zip(written(&plan.edit));
    let Effect::Patch { body, .. } = edits().find(|(_, of)| *of == name).expect("an edit").0 else {
        unreachable!("a patch")
    };
    let note = json!({ keys::IN_PLACE_UPDATE: null });
    assert_eq!(body["metadata"], json!({"annotations": note}));
    assert!(plan.update_waits.is_empty(), "{:?}", plan.update_waits);
}

#[test]
fn a_pod_that_serves_and_whose_node_never_has_room_is_created_again_within_the_limit() {
    let mut seen = deferred(4, &json!([]));
    let name = seen.pods[0].name_any();
    seen.pod(0, &serves());
    seen.pod(0, &pending("Infeasible"));
    let plan = seen.plan();
    assert_eq!((written(&plan.edit), plan.delete.len()), (vec![name], 0));
    assert!(labels(&plan.edit[0])[PREPARING_TO_DELETE].is_string());
    seen.pod(
        1,
        &json!({"metadata": {"labels": {SERVICE_AVAILABLE: null}}}),
    );
    let plan = seen.plan();
    let written = written(&plan.edit);
    assert_eq!(written, [seen.pods[1].name_any()], "one at a time");
    seen.pod(1, &serves());
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
    );
    let plan = seen.plan();
    assert!(
        plan.edit
            .iter()
            .all(|edit| labels(edit)[Mark::Operating.of("collaset")].is_null()),
        "a new pod is on its way: {:?}",
        plan.edit
    );
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: null}}}),
    );
    seen.pod(0, &allowed());
    assert_eq!(seen.plan().delete.len(), 1);
}

#[test]
fn a_pod_whose_container_restarts_for_its_resize_stays_out_of_service_for_a_minute_and_is_created_again()
 {
    let restarts = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    let mut seen = deferred(1, &restarts);
    let since = |seconds: i64| {
        let time = Timestamp::from_second(NOW - seconds).expect("a time");
        let mut pending = pending("Deferred");
        pending["status"]["conditions"][0]["lastTransitionTime"] = json!(time.to_string());
        pending
    };
    seen.pod(0, &since(20));
    let plan = seen.plan();
    assert_eq!((plan.edit.len(), plan.delete.len()), (0, 0));
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(40)));
    let (_, what) = plan.update_waits.first().expect("a reason");
    assert!(what.contains("its container restarts"), "{what}");
    seen.pod(0, &since(60));
    let plan = seen.plan();
    assert_eq!((plan.edit.len(), plan.delete.len()), (0, 1));
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.pod_upgrade_policy = Some(PodUpgradePolicy::InPlaceOnly);
    });
    let plan = seen.plan();
    assert_eq!((plan.edit.len(), plan.delete.len()), (0, 0));
    assert_eq!(plan.update_waits.len(), 1);
    // The other resource is not the one that changes.
    let other = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    assert_eq!(labels(&deferred(1, &other).plan().edit[0]), finished());
}

#[test]
fn where_the_api_server_or_the_node_cannot_resize_the_pod_is_created_again() {
    let mut seen = resized(PodUpgradePolicy::InPlaceIfPossible);
    let running = |resources: Value| {
        json!({"status": {"containerStatuses": [{
            "name": "main", "ready": true, "image": "", "imageID": "", "restartCount": 0,
            "state": {"running": {}}, "resources": resources,
        }]}})
    };
    seen.pod(0, &running(Value::Null));
    let plan = seen.plan();
    assert_eq!((plan.edit.len(), plan.delete.len()), (0, 1), "the node");
    seen.pod(0, &running(requests("100m")));
    assert_eq!(seen.plan().edit.len(), 1);
    seen.can_resize = false;
    let plan = seen.plan();
    assert_eq!(
        (plan.edit.len(), plan.delete.len()),
        (0, 1),
        "the API server"
    );
}
