//! How many pods come and go, and which.

use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{
    colla_set::Driven,
    driver::{Kind as _, Needs},
    pod_lifecycle::labels::{Mark, PREPARING_TO_DELETE},
};

fn operating() -> Value {
    json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): "1",
        Mark::OperationType.of("collaset"): "scale-in",
        PREPARING_TO_DELETE: "1",
    }}})
}

#[test]
fn missing_pods_are_created_in_growing_batches() {
    let seen = set(10);
    let batches = Driven::batches(&seen, &seen.plan());
    let creations = batches
        .iter()
        .filter(|batch| batch.needs == Needs::Previous);
    let sizes: Vec<_> = creations.map(|batch| batch.writes.len()).collect();
    assert_eq!(sizes, [1, 2, 4, 3, 0]);
}

#[test]
fn no_pod_is_created_before_its_revision_exists_or_while_the_set_is_paused_or_deleted() {
    let mut seen = set(2);
    let revision = seen.revisions.pop();
    assert!(seen.plan().revision.is_some());
    assert!(seen.plan().create.is_empty());
    seen.revisions.extend(revision);
    assert_eq!(seen.plan().create.len(), 2);
    seen.edit(|object| object.spec.paused = Some(true));
    assert!(seen.plan().create.is_empty());
    seen.edit(|object| object.spec.paused = None);
    let deleted = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(seen.now);
    seen.edit(|object| object.metadata.deletion_timestamp = Some(deleted));
    assert!(seen.plan().create.is_empty());
}

#[test]
fn a_pod_is_deleted_only_when_the_lifecycle_allows_it() {
    let mut seen = set(1);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 0);
    let plan = seen.plan();
    assert_eq!(plan.delete, []);
    let begun = labels(&plan.edit[0]);
    assert!(begun.get(Mark::Operating.of("collaset")).is_some());
    assert_eq!(begun[Mark::OperationType.of("collaset")], "scale-in");
    assert!(begun.get(PREPARING_TO_DELETE).is_some());

    seen.pod(0, &operating());
    assert_eq!((seen.plan().edit, seen.plan().delete), (vec![], vec![]));
    assert_eq!(seen.conclude().operating_replicas, 1);

    let allowed = json!({"metadata": {"labels": {Mark::Operate.of("collaset"): "1"}}});
    seen.pod(0, &allowed);
    assert_eq!(written(&seen.plan().delete).len(), 1);
}

#[test]
fn a_scale_in_is_taken_back_when_the_pod_is_wanted_again() {
    let mut seen = set(2);
    seen.serve();
    seen.pod(1, &operating());
    let plan = seen.plan();
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    let undone = labels(&plan.edit[0]);
    assert_eq!(undone[Mark::UndoType.of("collaset")], "scale-in");
    assert_eq!(undone[PREPARING_TO_DELETE], Value::Null);
}

#[test]
fn the_pod_that_serves_least_goes_first_and_one_that_goes_already_before_it() {
    let mut seen = set(3);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 2);
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    seen.pod(1, &not_ready);
    let name = |place: usize| seen.pods[place].metadata.name.clone().unwrap_or_default();
    assert_eq!(written(&seen.plan().edit), [name(1)]);
    let (cheap, leaving) = (name(0), name(2));
    seen.pod(
        1,
        &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let cost =
        json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}});
    seen.pod(0, &cost);
    assert_eq!(written(&seen.plan().edit), [cheap]);
    seen.pod(2, &operating());
    let allowed = json!({"metadata": {"labels": {Mark::Operate.of("collaset"): "1"}}});
    seen.pod(2, &allowed);
    assert_eq!(written(&seen.plan().delete), [leaving]);
    assert!(seen.plan().edit.is_empty());
}

#[test]
fn a_scale_in_waits_for_another_operation_and_names_it() {
    let mut seen = set(1);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 0);
    let other = json!({"metadata": {"labels": {Mark::Operating.of("other"): "1"}}});
    seen.pod(0, &other);
    assert!(seen.plan().edit.is_empty());
    let status = seen.conclude();
    let scale = status.conditions.iter().find(|one| one.type_ == "Scale");
    let message = &scale.expect("a condition").message;
    assert!(
        message.ends_with("waits for other operations on the pod: other"),
        "{message}"
    );
}

#[test]
fn finished_pods_are_deleted_and_created_again() {
    let mut seen = set(1);
    seen.serve();
    let created = seen.now.to_string();
    seen.pod(
        0,
        &json!({"metadata": {"creationTimestamp": created}, "status": {"phase": "Failed"}}),
    );
    let plan = seen.plan();
    assert_eq!(
        (plan.create.len(), plan.delete.len()),
        (0, 0),
        "not without end"
    );
    assert_eq!(plan.requeue_after, Some(std::time::Duration::from_secs(10)));
    seen.now += std::time::Duration::from_secs(10);
    let plan = seen.plan();
    assert_eq!((plan.create.len(), plan.delete.len()), (1, 1));
    assert_eq!(
        plan.create[0].body["metadata"]["labels"]["collaset.kusionstack.io/instance-id"],
        "0"
    );
}

#[test]
fn the_finalizers_that_a_scale_in_waits_for_are_named() {
    let mut seen = set(1);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 0);
    let mut preparing = operating();
    preparing["metadata"]["labels"][Mark::PreChecked.of("collaset")] = json!("1");
    preparing["metadata"]["finalizers"] =
        json!(["prot.podopslifecycle.kusionstack.io/lb", "other"]);
    seen.pod(0, &preparing);
    let status = seen.conclude();
    let scale = status.conditions.iter().find(|one| one.type_ == "Scale");
    let message = &scale.expect("a condition").message;
    let words =
        "waits for the removal of finalizers of the pod: prot.podopslifecycle.kusionstack.io/lb";
    assert!(message.ends_with(words), "{message}");
}

#[test]
fn the_rule_that_a_scale_in_waits_for_is_named() {
    let mut seen = set(1);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 0);
    let mut waiting = operating();
    waiting["metadata"]["annotations"]["detail.podtransitionrule.kusionstack.io/web"] = json!(
        r#"{"stage":"PreCheck","passed":false,"rejectInfo":[{"ruleName":"most","reason":"1 of 3 are out"}]}"#
    );
    seen.pod(0, &waiting);
    let status = seen.conclude();
    let scale = status.conditions.iter().find(|one| one.type_ == "Scale");
    let message = &scale.expect("a condition").message;
    let words = "waits for PodTransitionRule web, rule most: 1 of 3 are out";
    assert!(message.ends_with(words), "{message}");
}
