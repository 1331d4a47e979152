//! The pods that the scale strategy names.

use std::time::Duration;

use kube::ResourceExt;
use operon_api::{colla_set::ScaleStrategy, conditions::find, keys};
use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{
    action::Effect,
    colla_set::Seen,
    pod_lifecycle::labels::{Mark, SERVICE_AVAILABLE},
};

/// A set of so many pods that serve.
fn serving(replicas: i32) -> Seen {
    let mut seen = set(replicas);
    seen.serve();
    seen
}

fn name(seen: &Seen, place: usize) -> String {
    seen.pods[place].name_any()
}

fn strategy(seen: &mut Seen, change: impl FnOnce(&mut ScaleStrategy)) {
    seen.edit(|object| change(object.spec.scale_strategy.get_or_insert_default()));
}

fn scaling_in(stage: &str) -> Value {
    json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): "1",
        Mark::OperationType.of("collaset"): "scale-in",
        stage: "1700000000000000000",
    }}})
}

fn owners(effect: &Effect) -> Value {
    let Effect::Patch { body, .. } = effect else {
        return Value::Null;
    };
    body["metadata"]["ownerReferences"].clone()
}

fn scale(seen: &Seen) -> (String, String) {
    let status = seen.conclude();
    let scale = find(&status.conditions, "Scale").expect("a condition");
    (scale.reason.clone(), scale.message.clone())
}

#[test]
fn a_pod_that_is_named_is_deleted_through_the_lifecycle_and_another_is_created_afterwards() {
    let mut seen = serving(2);
    let named = name(&seen, 0);
    strategy(&mut seen, |strategy| {
        strategy.pod_to_delete.push(named.clone());
    });
    let plan = seen.plan();
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    assert_eq!(written(&plan.edit), std::slice::from_ref(&named));
    assert_eq!(
        labels(&plan.edit[0])[Mark::OperationType.of("collaset")],
        "scale-in"
    );
    assert_eq!(scale(&seen).0, "Scaling");
    seen.pod(0, &scaling_in(&Mark::Operate.of("collaset")));
    assert_eq!(written(&seen.plan().delete), std::slice::from_ref(&named));
    seen.pods.remove(0);
    assert_eq!(seen.plan().create.len(), 1);
    seen.serve();
    assert!(seen.plan().edit.is_empty());
    let (reason, message) = scale(&seen);
    assert_eq!(reason, "Scaled");
    assert!(
        message.ends_with(&format!("podToDelete: {named}")),
        "{message}"
    );
}

#[test]
fn a_scale_in_deletes_named_pods_first_and_no_others_instead() {
    let mut seen = serving(3);
    let named = name(&seen, 2);
    // Without the name this one would go.
    seen.pod(
        0,
        &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    );
    strategy(&mut seen, |strategy| {
        strategy.pod_to_delete.push(named.clone());
    });
    seen.edit(|object| object.spec.replicas = 2);
    assert_eq!(written(&seen.plan().edit), [named]);
}

#[test]
fn a_name_that_is_removed_before_the_pod_is_deleted_keeps_the_pod() {
    let mut seen = serving(1);
    seen.pod(0, &scaling_in(&Mark::Operate.of("collaset")));
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(
        labels(&plan.edit[0])[Mark::UndoType.of("collaset")],
        "scale-in"
    );
}

#[test]
fn the_new_pod_of_a_pair_takes_the_place_of_the_old_one_that_is_named() {
    let mut seen = serving(1);
    seen.pod(
        0,
        &json!({"metadata": {"labels": {(keys::TO_REPLACE): "true"}}}),
    );
    seen.serve();
    seen.pod(
        1,
        &json!({"metadata": {"labels": {SERVICE_AVAILABLE: null}}}),
    );
    seen.pod(
        0,
        &json!({"metadata": {"labels": {(keys::PAIR_NEW_ID): "1"}}}),
    );
    let (old, new) = (name(&seen, 0), name(&seen, 1));
    strategy(&mut seen, |strategy| {
        strategy.pod_to_delete.push(old.clone());
    });
    assert_eq!(written(&seen.plan().edit), [old]);
    strategy(&mut seen, |strategy| {
        strategy.pod_to_delete = vec![new.clone()];
    });
    assert_eq!(written(&seen.plan().edit), [new]);
}

#[test]
fn pods_that_are_deleted_by_name_count_as_unavailable_for_an_update() {
    let mut seen = serving(4);
    let named = name(&seen, 0);
    seen.edit_template("spec/hostNetwork", json!(true));
    strategy(&mut seen, |strategy| {
        strategy.pod_to_delete.push(named.clone());
    });
    assert_eq!(written(&seen.plan().edit), [named]);
}

#[test]
fn an_excluded_pod_keeps_running_in_service_and_is_not_adopted_again() {
    let mut seen = serving(2);
    let named = name(&seen, 0);
    let mut updating = scaling_in(&Mark::Operate.of("collaset"));
    updating["metadata"]["labels"][Mark::OperationType.of("collaset")] = json!("update");
    seen.pod(0, &updating);
    strategy(&mut seen, |strategy| {
        strategy.pod_to_exclude.push(named.clone());
    });
    let plan = seen.plan();
    assert_eq!(written(&plan.edit), [named]);
    assert_eq!(owners(&plan.edit[0]), json!([]));
    let set = labels(&plan.edit[0]);
    assert_eq!(set[keys::ORPHANED], "true");
    assert_eq!(set[Mark::UndoType.of("collaset")], "update");
    assert!(plan.create.is_empty(), "not before it has left");
    let excluded = json!({"metadata": {"ownerReferences": null, "labels": {
        (keys::ORPHANED): "true", Mark::Operating.of("collaset"): null,
        Mark::OperationType.of("collaset"): null, Mark::Operate.of("collaset"): null,
    }}});
    seen.pod(0, &excluded);
    assert_eq!(seen.plan().create.len(), 1, "replicas is as before");
    seen.serve();
    assert!(seen.plan().edit.is_empty());
    strategy(&mut seen, |strategy| strategy.pod_to_exclude.clear());
    assert!(seen.plan().edit.is_empty());
    assert_eq!(
        scale(&seen),
        ("Scaled".to_owned(), "2 of 2 pods exist".to_owned())
    );
}

#[test]
fn a_scale_in_by_as_many_as_are_excluded_deletes_no_pod() {
    let mut seen = serving(3);
    let named = name(&seen, 1);
    strategy(&mut seen, |strategy| {
        strategy.pod_to_exclude.push(named.clone());
    });
    seen.edit(|object| object.spec.replicas = 2);
    let plan = seen.plan();
    assert_eq!(written(&plan.edit), [named]);
    assert_eq!(owners(&plan.edit[0]), json!([]));
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
}

#[test]
fn an_included_pod_is_adopted_whatever_its_labels_are_and_stays_while_it_is_named() {
    let mut seen = serving(1);
    let stray = json!({"metadata": {"ownerReferences": null, "name": "stray", "labels": {
        "app": "bar", (keys::ORPHANED): "true", (keys::INSTANCE_ID): null,
    }}});
    let pod = crate::driver::memory::patched(&*seen.pods[0], &stray);
    seen.pods.push(std::sync::Arc::new(pod));
    assert!(seen.plan().edit.is_empty());
    strategy(&mut seen, |strategy| {
        strategy.pod_to_include.push("stray".to_owned());
    });
    seen.edit(|object| object.spec.replicas = 2);
    let plan = seen.plan();
    assert!(plan.create.is_empty());
    assert_eq!(written(&plan.edit), ["stray"]);
    assert_eq!(owners(&plan.edit[0])[0]["uid"], "set-uid");
    let set = labels(&plan.edit[0]);
    assert_eq!(set[keys::ORPHANED], Value::Null);
    assert_eq!(set[keys::INSTANCE_ID], "1");
    let owner = json!([owners(&plan.edit[0])[0]]);
    seen.pod(
        1,
        &json!({"metadata": {"ownerReferences": owner, "labels": {
            (keys::INSTANCE_ID): "1", (keys::ORPHANED): null,
        }}}),
    );
    assert!(seen.plan().edit.is_empty());
    strategy(&mut seen, |strategy| strategy.pod_to_include.clear());
    assert_eq!(owners(&seen.plan().edit[0]), json!([]));
}

#[test]
fn names_of_pods_that_do_not_exist_are_said_and_nothing_else_happens() {
    let mut seen = serving(1);
    strategy(&mut seen, |strategy| {
        strategy.pod_to_delete.push("gone".to_owned());
        strategy.pod_to_exclude.push("never".to_owned());
        strategy.pod_to_include.push("others".to_owned());
    });
    let plan = seen.plan();
    assert_eq!(
        (plan.edit.len(), plan.create.len(), plan.delete.len()),
        (0, 0, 0)
    );
    let (reason, message) = scale(&seen);
    assert_eq!(reason, "Scaled");
    assert_eq!(
        message,
        "1 of 1 pods exist. spec.scaleStrategy names pods that do not exist or belong to another controller: \
         podToDelete: gone; podToExclude: never; podToInclude: others"
    );
}

#[test]
fn a_scale_in_waits_for_its_delay_after_the_pod_left_service() {
    let mut seen = serving(1);
    seen.edit(|object| object.spec.replicas = 0);
    strategy(&mut seen, |strategy| {
        strategy.operation_delay_seconds = Some(30);
    });
    seen.pod(0, &scaling_in(&Mark::Operate.of("collaset")));
    seen.now += Duration::from_secs(10);
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(20)));
    seen.now += Duration::from_secs(20);
    assert_eq!(seen.plan().delete.len(), 1);
}

#[test]
fn a_pair_whose_new_pod_is_excluded_gets_another_when_that_one_has_left() {
    let mut seen = serving(1);
    seen.pod(
        0,
        &json!({"metadata": {"labels": {(keys::TO_REPLACE): "true"}}}),
    );
    seen.serve();
    let new = name(&seen, 1);
    strategy(&mut seen, |strategy| strategy.pod_to_exclude.push(new));
    assert!(seen.plan().pair.is_empty());
    seen.pod(
        1,
        &json!({"metadata": {"ownerReferences": null, "labels": {(keys::ORPHANED): "true"}}}),
    );
    assert_eq!(seen.plan().pair.len(), 1);
}
