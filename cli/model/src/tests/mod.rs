mod decision;
mod job_kinds;
mod kind;
mod operation_job;
mod page;
mod reasons;
mod render;
mod run;
mod verb;
mod why;
mod why_causes;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use serde_json::{Value, json};

use crate::{Kind, Object, Related, Screen, Tree, draw};

/// The moment at which everything is looked at.
fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn object(kind: Kind, spec: &Value, status: &Value) -> Object {
    let metadata = json!({
        "name": "web", "namespace": "default", "uid": "u1", "generation": 2, "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let mut object = json!({"metadata": metadata, "spec": spec, "status": status});
    object["apiVersion"] = json!(format!("{}/v1alpha1", kind.group()));
    object["kind"] = json!(kind.name());
    Object::parse(kind, object).expect("an object of the kind")
}

/// The object with an annotation.
fn annotated(mut object: Object, key: &str, value: &str) -> Object {
    let annotations = metadata(&mut object).annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned());
    object
}

fn metadata(object: &mut Object) -> &mut ObjectMeta {
    match object {
        Object::OperationJob(job) => &mut job.metadata,
        Object::JobFlow(flow) => &mut flow.metadata,
        Object::DaemonJob(job) => &mut job.metadata,
        Object::ReactiveJob(job) => &mut job.metadata,
        Object::CollaSet(set) => &mut set.metadata,
    }
}

fn pod(name: &str, labels: &Value, status: &Value) -> k8s_openapi::api::core::v1::Pod {
    let owner =
        json!({"apiVersion": "v1", "kind": "x", "name": "web", "uid": "u1", "controller": true});
    let metadata = json!({
        "name": name, "labels": labels, "ownerReferences": [owner],
        "creationTimestamp": "2026-01-01T00:09:25Z",
    });
    serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a pod")
}

fn job(
    name: &str,
    labels: &Value,
    annotations: &Value,
    status: &Value,
) -> k8s_openapi::api::batch::v1::Job {
    let metadata = json!({
        "name": name, "labels": labels, "annotations": annotations,
        "creationTimestamp": "2026-01-01T00:09:00Z",
    });
    serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a Job")
}

/// The tree as a wide terminal without colours shows it.
fn drawn(object: &Object, related: &Related) -> String {
    draw(&Tree::of(object, related), now(), Screen::default())
}
