//! A set as KusionStack's controllers leave it: nothing restarts, and what is half done goes on.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use operon_api::keys;
use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{
    action::Effect,
    colla_set::Seen,
    pod_lifecycle::labels::{SERVICE_AVAILABLE, Stage},
};

/// The ControllerRevision of the template, in the words of the Go operator: with nulls, empty objects, and the
/// defaults that its webhook writes.
fn revision() -> ControllerRevision {
    let revision = json!({
        "metadata": {
            "name": "foo-7bdb974bc7", "namespace": "shop", "uid": "revision-uid", "resourceVersion": "1",
            "labels": {"app": "foo", "controller.kubernetes.io/hash": "7bdb974bc7"},
            "ownerReferences": [owner()],
        },
        "revision": 1,
        "data": {"spec": {"template": {
            "$patch": "replace",
            "metadata": {"creationTimestamp": null, "labels": {"app": "foo"}},
            "spec": {
                "containers": [{
                    "name": "main", "image": "busybox", "resources": {},
                    "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
            },
        }}},
    });
    serde_json::from_value(revision).expect("a ControllerRevision")
}

fn owner() -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet", "name": "foo", "uid": "set-uid",
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// A pod with this name and instance id, which serves; `more` is merged into it.
fn pod(name: &str, id: u32, more: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "generateName": "foo-", "generation": 1,
            "creationTimestamp": "2023-01-01T00:00:00Z",
            "labels": {
                "app": "foo",
                (keys::CONTROL): "true",
                (keys::INSTANCE_ID): id.to_string(),
                (keys::CONTROLLER_REVISION): "foo-7bdb974bc7",
                (SERVICE_AVAILABLE): "1699999000000000000",
            },
            "ownerReferences": [owner()],
        },
        "spec": {
            "nodeName": "n1",
            "readinessGates": [{"conditionType": "pod.kusionstack.io/service-ready"}],
            "containers": [{"name": "main", "image": "busybox"}],
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "pod.kusionstack.io/service-ready", "status": "True"},
            ],
        },
    });
    crate::driver::memory::merge(&mut pod, more);
    serde_json::from_value(pod).expect("a pod")
}

/// The set with these pods. Its status is not used: its generation is another.
fn left(replicas: i32, pods: Vec<Pod>) -> Seen {
    let mut seen = set(replicas);
    seen.revisions = vec![Arc::new(revision())];
    seen.pods = pods.into_iter().map(Arc::new).collect();
    seen
}

/// Labels of an operation on a pod: as far as it has got, in the words of KusionStack's webhook.
fn operation(id: &str, kind: &str, stage: Stage) -> Value {
    let label = |name: &str| format!("{name}.podopslifecycle.kusionstack.io/{id}");
    let permission = format!("operation-permission.podopslifecycle.kusionstack.io/{kind}");
    let mut labels = json!({
        (label("operating")): "1699999000000000000", (label("operation-type")): kind,
    });
    match stage {
        Stage::PreCheck => labels[label("pre-check")] = json!("1699999000000000001"),
        Stage::Preparing => {
            labels[label("pre-checked")] = json!("1699999000000000002");
            labels[permission] = json!("1699999000000000002");
            labels[label("preparing")] = json!("1699999000000000003");
            labels[SERVICE_AVAILABLE] = Value::Null;
        }
        _ => {
            labels[label("pre-checked")] = json!("1699999000000000002");
            labels[permission] = json!("1699999000000000002");
            labels[label("operate")] = json!("1699999000000000004");
            labels[SERVICE_AVAILABLE] = Value::Null;
        }
    }
    json!({"metadata": {"labels": labels}})
}

#[test]
fn a_set_that_is_at_rest_is_left_as_it_is() {
    let names = ["foo-jttd5", "foo-752sz"];
    let pods = names
        .iter()
        .zip(0..)
        .map(|(name, id)| pod(name, id, &json!({})));
    let seen = left(2, pods.collect());
    let plan = seen.plan();
    assert!(plan.revision.is_none() && plan.renumber.is_none());
    assert!(plan.create.is_empty() && plan.pair.is_empty());
    assert!(plan.edit.is_empty() && plan.delete.is_empty(), "{plan:?}");
    let status = seen.conclude();
    assert_eq!(status.updated_revision.as_deref(), Some("foo-7bdb974bc7"));
    assert_eq!((status.replicas, status.updated_available_replicas), (2, 2));
}

#[test]
fn the_context_that_kusionstack_wrote_says_which_ids_the_pods_have() {
    let data = |more: &Value| {
        let mut data = json!({"Owner": "foo", "Revision": "foo-7bdb974bc7"});
        crate::driver::memory::merge(&mut data, more);
        data
    };
    let context = json!({
        "metadata": {
            "name": "foo", "namespace": "shop", "uid": "context-uid", "resourceVersion": "1",
            "ownerReferences": [owner()],
        },
        "spec": {"contexts": [
            {"id": 0, "data": data(&json!({}))},
            {"id": 3, "data": data(&json!({"Other": "text"}))},
            {"id": 5, "data": data(&json!({}))},
        ]},
    });
    let names = [("foo-jttd5", 0), ("foo-752sz", 3), ("foo-mpl7n", 5)];
    let pods = names.map(|(name, id)| pod(name, id, &json!({})));
    let mut seen = left(3, pods.into());
    seen.context = Some(Arc::new(
        serde_json::from_value(context.clone()).expect("a ResourceContext"),
    ));
    let plan = seen.plan_now();
    assert!(plan.context.is_none() && plan.edit.is_empty() && plan.create.is_empty());
    // A pod that KusionStack's controller lost comes back with its id.
    seen.pods.remove(1);
    let create = seen.plan_now().create;
    let ids = create
        .iter()
        .map(|start| &start.body["metadata"]["labels"][keys::INSTANCE_ID]);
    assert_eq!(ids.collect::<Vec<_>>(), ["3"]);
    assert!(!seen.note_context(), "everything is known");
    assert_eq!(json!(seen.context.expect("it").spec), context["spec"]);
}

#[test]
fn an_edit_of_the_image_reaches_the_pods_in_place() {
    let operate = operation("collaset", "update", Stage::Operate);
    let mut seen = left(1, vec![pod("foo-jttd5", 0, &operate)]);
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox:2"}]),
    );
    let plan = seen.plan();
    assert!(
        plan.impossible.is_empty() && plan.delete.is_empty(),
        "{plan:?}"
    );
    let [Effect::Patch { body, .. }] = &*plan.edit else {
        unreachable!("one write, not {:?}", plan.edit);
    };
    let images = json!([{"name": "main", "image": "busybox:2"}]);
    assert_eq!(body["spec"], json!({"containers": images}));
}

#[test]
fn a_template_that_is_applied_again_is_a_revision_that_kusionstack_wrote() {
    let mut seen = left(1, vec![pod("foo-jttd5", 0, &json!({}))]);
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox:2"}]),
    );
    assert_eq!(seen.revisions.len(), 2);
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox"}]),
    );
    assert_eq!(seen.revisions.len(), 2);
    assert_eq!(seen.revision(), "foo-7bdb974bc7");
    assert!(seen.plan().edit.is_empty(), "the pod has it");
}

#[test]
fn a_scale_in_goes_on_or_is_taken_back_wherever_it_is() {
    for stage in [Stage::PreCheck, Stage::Preparing, Stage::Operate] {
        let leaving = operation("collaset", "scale-in", stage);
        let pods = vec![
            pod("foo-jttd5", 0, &json!({})),
            pod("foo-752sz", 1, &leaving),
        ];
        let plan = left(1, pods.clone()).plan();
        let expected: &[&str] = if stage == Stage::Operate {
            &["foo-752sz"]
        } else {
            &[]
        };
        assert_eq!(written(&plan.delete), expected, "{stage:?}");
        assert!(plan.edit.is_empty(), "{stage:?}: {plan:?}");
        let plan = left(2, pods).plan();
        assert_eq!(written(&plan.edit), ["foo-752sz"], "{stage:?}");
        assert_eq!(
            labels(&plan.edit[0])["undo-operation-type.podopslifecycle.kusionstack.io/collaset"],
            "scale-in"
        );
    }
}

#[test]
fn an_update_by_creating_again_deletes_the_pod_that_is_out_of_service() {
    let operate = operation("collaset", "update", Stage::Operate);
    let mut seen = left(1, vec![pod("foo-jttd5", 0, &operate)]);
    seen.edit_template("spec/hostNetwork", json!(true));
    assert_eq!(written(&seen.plan().delete), ["foo-jttd5"]);
    assert!(seen.plan().create.is_empty());
}

#[test]
fn an_update_in_place_is_finished_when_the_containers_run_another_image() {
    let noted = json!({"containerStates": {"main": {
        "latestImage": "busybox", "lastImageID": "sha256:old",
    }}});
    let status = |id: &str, image: &str, ready: bool| json!({"name": "main", "image": image, "imageID": id, "ready": ready, "restartCount": 1});
    for (status, is_done) in [
        (status("sha256:old", "docker.io/library/other", true), false),
        (
            status("sha256:new", "docker.io/library/busybox", false),
            false,
        ),
        (
            status("sha256:new", "docker.io/library/busybox", true),
            true,
        ),
        // Two names of one image.
        (
            status("sha256:old", "docker.io/library/busybox", true),
            true,
        ),
    ] {
        let mut more = operation("collaset", "update", Stage::Operate);
        more["metadata"]["annotations"] = json!({(keys::LAST_POD_STATUS): noted.to_string()});
        more["status"] = json!({"containerStatuses": [status]});
        let seen = left(1, vec![pod("foo-jttd5", 0, &more)]);
        let plan = seen.plan();
        assert!(plan.delete.is_empty());
        if !is_done {
            assert!(plan.edit.is_empty(), "{status}: {plan:?}");
            continue;
        }
        let [Effect::Patch { body, .. }] = &*plan.edit else {
            unreachable!("one write, not {:?}", plan.edit);
        };
        let metadata = &body["metadata"];
        assert_eq!(
            metadata["annotations"],
            json!({(keys::LAST_POD_STATUS): null})
        );
        let operating = "operating.podopslifecycle.kusionstack.io/collaset";
        assert_eq!(metadata["labels"], json!({operating: null}));
    }
}

#[test]
fn a_replacement_that_has_its_new_pod_gets_no_other_one() {
    let origin = json!({"metadata": {
        "labels": {(keys::TO_REPLACE): "true", (keys::PAIR_NEW_ID): "2"},
        "finalizers": ["finalizer.operationjob.kusionstack.io/replace-protected"],
    }});
    let new = |serves: Option<&str>| {
        json!({"metadata": {"labels": {
            (keys::PAIR_ORIGIN_NAME): "foo-jttd5", (SERVICE_AVAILABLE): serves,
        }}})
    };
    for (serves, edited) in [(None, vec![]), (Some("1"), vec!["foo-jttd5"])] {
        let pods = vec![
            pod("foo-jttd5", 0, &origin),
            pod("foo-752sz", 1, &json!({})),
            pod("foo-mpl7n", 2, &new(serves)),
        ];
        let plan = left(2, pods).plan();
        assert!(plan.create.is_empty() && plan.pair.is_empty() && plan.delete.is_empty());
        assert_eq!(written(&plan.edit), edited);
    }
}
