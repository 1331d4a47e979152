//! How the pods of older revisions get an edited template.

use operon_api::{
    colla_set::{ByPartition, PodUpgradePolicy, RollingUpdate, UpdateStrategy},
    conditions::find,
    keys,
};
use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{
    action::Effect,
    colla_set::Seen,
    pod_lifecycle::labels::{Mark, PREPARING_TO_DELETE, SERVICE_AVAILABLE},
};

/// A set of so many pods that serve, with an edited template.
fn edited(replicas: i32, policy: PodUpgradePolicy, path: &str, value: Value) -> Seen {
    let mut seen = set(replicas);
    seen.serve();
    let status = seen.conclude();
    seen.edit(|object| {
        object.status = Some(status);
        object.spec.update_strategy = Some(UpdateStrategy {
            pod_upgrade_policy: Some(policy),
            ..UpdateStrategy::default()
        });
    });
    seen.edit_template(path, value);
    seen
}

fn new_image() -> Value {
    json!([{"name": "main", "image": "busybox:2"}])
}

fn partition(seen: &mut Seen, partition: i32) {
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.rolling_update = Some(RollingUpdate {
            by_partition: Some(ByPartition {
                partition: Some(partition),
            }),
            by_label: None,
        });
    });
}

/// The operation of a pod, which may act.
pub(super) fn allowed() -> Value {
    json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): "1",
        Mark::OperationType.of("collaset"): "update",
        Mark::PreChecked.of("collaset"): "1",
        Mark::Operate.of("collaset"): "1",
        SERVICE_AVAILABLE: null,
    }}})
}

#[test]
fn a_quarter_of_the_pods_is_out_of_service_at_a_time() {
    for (replicas, at_once) in [(1, 1), (4, 1), (8, 2), (20, 5)] {
        let seen = edited(
            replicas,
            PodUpgradePolicy::Recreate,
            "spec/hostNetwork",
            json!(true),
        );
        assert_eq!(seen.plan().edit.len(), at_once, "of {replicas}");
    }
    let mut seen = edited(
        4,
        PodUpgradePolicy::Recreate,
        "spec/hostNetwork",
        json!(true),
    );
    seen.pod(
        2,
        &json!({"metadata": {"labels": {SERVICE_AVAILABLE: null}}}),
    );
    let name = seen.pods[2].metadata.name.clone().unwrap_or_default();
    assert_eq!(
        written(&seen.plan().edit),
        [name],
        "the one that does not serve anyway"
    );
}

#[test]
fn recreate_deletes_a_pod_that_is_out_of_service_and_creates_it_from_the_new_template() {
    let mut seen = edited(
        1,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    let plan = seen.plan();
    let begun = labels(&plan.edit[0]);
    assert_eq!(begun[Mark::OperationType.of("collaset")], "update");
    assert!(begun.get(PREPARING_TO_DELETE).is_some());
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    seen.pod(0, &allowed());
    assert_eq!(seen.plan().delete.len(), 1);
    assert_eq!(seen.conclude().operating_replicas, 1);
    seen.pods.clear();
    let create = seen.plan().create;
    assert_eq!(
        create[0].body["spec"]["containers"][0]["image"],
        "busybox:2"
    );
}

#[test]
fn in_place_changes_the_image_of_a_pod_that_is_out_of_service_and_lets_it_serve_again() {
    let mut seen = edited(
        1,
        PodUpgradePolicy::InPlaceIfPossible,
        "spec/containers",
        new_image(),
    );
    let begun = labels(&seen.plan().edit[0]);
    assert!(begun.get(PREPARING_TO_DELETE).is_none());
    seen.pod(0, &allowed());
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    let Effect::Patch { body, .. } = &plan.edit[0] else {
        unreachable!("a patch")
    };
    assert_eq!(
        body["spec"],
        json!({"containers": [{"name": "main", "image": "busybox:2"}]})
    );
    let noted = json!({"metadata": body["metadata"]});
    seen.pod(0, &noted);
    assert!(seen.plan().edit.is_empty(), "the container has not changed");
    let status = json!({"status": {"containerStatuses": [
        {"name": "main", "containerID": "c://9", "ready": true, "image": "", "imageID": "", "restartCount": 1},
    ]}});
    seen.pod(0, &status);
    let plan = seen.plan();
    assert_eq!(
        labels(&plan.edit[0])[Mark::Operating.of("collaset")],
        Value::Null
    );
    let Effect::Patch { body, .. } = &plan.edit[0] else {
        unreachable!("a patch")
    };
    assert_eq!(
        body["metadata"]["annotations"][keys::IN_PLACE_UPDATE],
        Value::Null
    );
}

#[test]
fn what_cannot_be_done_in_place_is_recreated_or_named() {
    let field = ("spec/hostNetwork", json!(true));
    let mut seen = edited(
        1,
        PodUpgradePolicy::InPlaceIfPossible,
        field.0,
        field.1.clone(),
    );
    seen.pod(0, &allowed());
    assert_eq!(seen.plan().delete.len(), 1);
    let seen = edited(1, PodUpgradePolicy::InPlaceOnly, field.0, field.1);
    assert!(seen.plan().edit.is_empty());
    let status = seen.conclude();
    let stalled = find(&status.conditions, "Stalled").expect("it is stalled");
    assert_eq!(stalled.reason, "InPlaceImpossible");
    assert!(
        stalled.message.contains("spec.hostNetwork"),
        "{}",
        stalled.message
    );
}

#[test]
fn replace_creates_a_pod_of_the_new_revision_beside_the_old_one() {
    let mut seen = edited(1, PodUpgradePolicy::Replace, "spec/containers", new_image());
    let plan = seen.plan();
    let requested = labels(&plan.edit[0]);
    assert_eq!(requested[keys::REPLACED_BY_UPDATE], seen.revision());
    assert!(requested[keys::TO_REPLACE].is_string());
    seen.pod(0, &json!({"metadata": {"labels": requested}}));
    let create = seen.plan().pair;
    assert_eq!(
        create[0].body["spec"]["containers"][0]["image"],
        "busybox:2"
    );
    seen.serve();
    let gone = seen.plan().edit;
    assert!(labels(&gone[0])[keys::TO_DELETE].is_string());
}

#[test]
fn the_partition_keeps_pods_and_a_pod_that_is_deleted_comes_back_at_the_revision_before() {
    let mut seen = edited(
        3,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    partition(&mut seen, 3);
    assert!(seen.plan().edit.is_empty());
    let update = |seen: &Seen| {
        let status = seen.conclude();
        let update = find(&status.conditions, "Update").expect("a condition");
        (update.status.clone(), update.reason.clone())
    };
    assert_eq!(
        update(&seen),
        ("True".to_owned(), "PartitionReached".to_owned())
    );
    seen.pods.pop();
    let create = seen.plan().create;
    assert_eq!(create[0].body["spec"]["containers"][0]["image"], "busybox");
    partition(&mut seen, 2);
    let create = seen.plan().create;
    assert_eq!(
        create[0].body["spec"]["containers"][0]["image"],
        "busybox:2"
    );
}

#[test]
fn an_old_template_that_is_applied_again_ends_updates_that_have_not_acted() {
    let mut seen = edited(
        2,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    seen.pod(0, &allowed());
    assert_eq!(seen.plan().delete.len(), 1);
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox"}]),
    );
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(
        labels(&plan.edit[0])[Mark::UndoType.of("collaset")],
        "update"
    );

    let mut seen = edited(1, PodUpgradePolicy::Replace, "spec/containers", new_image());
    let requested = labels(&seen.plan().edit[0]);
    seen.pod(0, &json!({"metadata": {"labels": requested}}));
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox"}]),
    );
    let taken_back = labels(&seen.plan().edit[0]);
    let expected = json!({keys::REPLACED_BY_UPDATE: null, keys::TO_REPLACE: null});
    assert_eq!(taken_back, expected);
}

#[test]
fn an_update_gives_way_to_a_scale_in_a_replacement_and_a_deletion() {
    for label in [keys::TO_REPLACE, keys::TO_DELETE] {
        let mut seen = edited(
            1,
            PodUpgradePolicy::Recreate,
            "spec/containers",
            new_image(),
        );
        seen.pod(0, &allowed());
        seen.pod(0, &json!({"metadata": {"labels": {label: "true"}}}));
        let plan = seen.plan();
        assert!(plan.delete.is_empty());
        assert_eq!(
            labels(&plan.edit[0])[Mark::UndoType.of("collaset")],
            "update"
        );
    }
    let mut seen = edited(
        1,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    seen.pod(0, &allowed());
    seen.edit(|object| object.spec.replicas = 0);
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(
        labels(&plan.edit[0])[Mark::UndoType.of("collaset")],
        "update"
    );
}

#[test]
fn the_delay_passes_before_a_pod_that_is_out_of_service_is_updated() {
    let mut seen = edited(
        1,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.operation_delay_seconds = Some(30);
    });
    seen.pod(0, &allowed());
    let since = (seen.now.as_nanosecond() - 10_000_000_000).to_string();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {Mark::Operate.of("collaset"): since}}}),
    );
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(plan.requeue_after, Some(std::time::Duration::from_secs(20)));
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.operation_delay_seconds = Some(10);
    });
    assert_eq!(seen.plan().delete.len(), 1);
}

#[test]
fn a_pod_does_not_stay_out_of_service_for_an_update_that_is_not_possible_any_more() {
    let mut seen = edited(
        1,
        PodUpgradePolicy::InPlaceOnly,
        "spec/containers",
        new_image(),
    );
    seen.pod(0, &allowed());
    seen.edit_template("spec/hostNetwork", json!(true));
    let plan = seen.plan();
    assert_eq!(
        labels(&plan.edit[0])[Mark::UndoType.of("collaset")],
        "update"
    );
}

#[test]
fn a_pause_gives_back_the_pods_that_are_out_of_service() {
    let mut seen = edited(
        1,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    seen.pod(0, &allowed());
    seen.edit(|object| object.spec.paused = Some(true));
    let plan = seen.plan();
    assert!(plan.delete.is_empty());
    assert_eq!(
        labels(&plan.edit[0])[Mark::UndoType.of("collaset")],
        "update"
    );
}

#[test]
fn a_pod_that_is_replaced_anyway_uses_up_no_room_for_updates() {
    let mut seen = edited(
        3,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    for place in 0..2 {
        seen.pod(
            place,
            &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
        );
    }
    let last = seen.pods[2].metadata.name.clone().unwrap_or_default();
    assert_eq!(written(&seen.plan().edit), [last]);
}

#[test]
fn a_scale_in_that_does_not_get_on_stops_no_update() {
    let mut seen = edited(
        4,
        PodUpgradePolicy::Recreate,
        "spec/containers",
        new_image(),
    );
    seen.edit(|object| object.spec.replicas = 3);
    let scaling_in = json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): "1",
        Mark::OperationType.of("collaset"): "scale-in",
        SERVICE_AVAILABLE: null,
    }}});
    seen.pod(3, &scaling_in);
    let begun = seen.plan().edit;
    assert_eq!(begun.len(), 1);
    assert_eq!(
        labels(&begun[0])[Mark::OperationType.of("collaset")],
        "update"
    );
}

#[test]
fn of_a_pair_whose_revisions_changed_only_one_pod_goes() {
    let mut seen = edited(1, PodUpgradePolicy::Replace, "spec/containers", new_image());
    let requested = labels(&seen.plan().edit[0]);
    seen.pod(0, &json!({"metadata": {"labels": requested}}));
    seen.serve();
    let [origin, new_pod] =
        [0, 1].map(|place| seen.pods[place].metadata.name.clone().unwrap_or_default());
    seen.edit_template("spec/hostNetwork", json!(true));
    let plan = seen.plan();
    let going: Vec<_> = plan
        .edit
        .iter()
        .filter(|edit| labels(edit)[keys::TO_DELETE].is_string())
        .cloned()
        .collect();
    assert_eq!(written(&going), [new_pod], "not {origin}");
}

#[test]
fn a_replacement_by_a_revision_that_is_old_is_withdrawn_when_the_policy_is_another_one() {
    let mut seen = edited(1, PodUpgradePolicy::Replace, "spec/containers", new_image());
    let requested = labels(&seen.plan().edit[0]);
    seen.pod(0, &json!({"metadata": {"labels": requested}}));
    seen.serve();
    seen.edit_template("spec/hostNetwork", json!(true));
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.pod_upgrade_policy = Some(PodUpgradePolicy::Recreate);
    });
    let edits = seen.plan().edit;
    let origin = seen.pods[0].metadata.name.clone().unwrap_or_default();
    let edit = edits
        .iter()
        .find(|edit| written(std::slice::from_ref(*edit)) == [&*origin]);
    let changed = labels(edit.expect("a change of the old pod"));
    for key in [keys::REPLACED_BY_UPDATE, keys::TO_REPLACE] {
        assert_eq!(changed.get(key), Some(&Value::Null), "{changed}");
    }
}

#[test]
fn a_pod_that_was_to_be_created_again_and_is_changed_in_place_is_not_marked_for_deletion() {
    let mut seen = edited(
        1,
        PodUpgradePolicy::InPlaceIfPossible,
        "spec/containers",
        new_image(),
    );
    seen.pod(0, &allowed());
    seen.pod(
        0,
        &json!({"metadata": {"labels": {PREPARING_TO_DELETE: "1"}}}),
    );
    let plan = seen.plan();
    let Effect::Patch { body, .. } = &plan.edit[0] else {
        unreachable!("a patch")
    };
    seen.pod(0, &json!({"metadata": body["metadata"]}));
    seen.pod(0, &json!({"status": {"containerStatuses": [
        {"name": "main", "containerID": "c://9", "ready": true, "image": "", "imageID": "", "restartCount": 1},
    ]}}));
    let finished = labels(&seen.plan().edit[0]);
    assert_eq!(finished[PREPARING_TO_DELETE], Value::Null);
    assert_eq!(finished[Mark::Operating.of("collaset")], Value::Null);
}
