//! Updates of pods that have a label.

use kube::ResourceExt;
use operon_api::{
    colla_set::{ByLabel, PodUpgradePolicy, RollingUpdate},
    conditions::find,
    keys,
};
use serde_json::{Value, json};

use super::set::{labels, set, written};
use crate::{colla_set::Seen, pod_lifecycle::labels::Mark};

/// A set of so many pods that serve and have not the template, which only labelled pods get.
fn outdated(replicas: i32) -> Seen {
    let mut seen = set(replicas);
    seen.serve();
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox:2"}]),
    );
    seen.edit(|object| {
        let strategy = object.spec.update_strategy.get_or_insert_default();
        strategy.rolling_update = Some(RollingUpdate {
            by_label: Some(ByLabel {}),
            ..RollingUpdate::default()
        });
    });
    seen
}

fn include(seen: &mut Seen, place: usize) {
    seen.pod(
        place,
        &json!({"metadata": {"labels": {(keys::UPDATE_INCLUDED): "true"}}}),
    );
}

fn update(seen: &Seen) -> (String, String) {
    let status = seen.conclude();
    let update = find(&status.conditions, "Update").expect("a condition");
    (update.status.clone(), update.reason.clone())
}

#[test]
fn only_pods_with_the_label_are_updated() {
    let mut seen = outdated(3);
    assert!(seen.plan().edit.is_empty());
    assert_eq!(
        update(&seen),
        ("True".to_owned(), "LabelledUpdated".to_owned())
    );
    include(&mut seen, 1);
    assert_eq!(written(&seen.plan().edit), [seen.pods[1].name_any()]);
    assert_eq!(update(&seen).1, "Updating");
}

#[test]
fn a_pod_that_loses_the_label_before_its_update_acts_returns_to_service() {
    let mut seen = outdated(1);
    let begun = json!({"metadata": {"labels": {
        Mark::Operating.of("collaset"): "1", Mark::OperationType.of("collaset"): "update",
    }}});
    seen.pod(0, &begun);
    let set = labels(&seen.plan().edit[0]);
    assert_eq!(set[Mark::UndoType.of("collaset")], "update");
}

#[test]
fn the_label_is_dropped_when_the_update_of_the_pod_has_finished() {
    let mut seen = outdated(1);
    include(&mut seen, 0);
    let revision = seen.revision();
    let noted =
        json!({"generation": null, "containers": {"main": {"id": "a", "image": "busybox"}}});
    let written = json!({
        "metadata": {
            "labels": {(keys::CONTROLLER_REVISION): revision},
            "annotations": {(keys::IN_PLACE_UPDATE): noted.to_string()},
        },
        "spec": {"containers": [{"name": "main", "image": "busybox:2"}]},
        "status": {"containerStatuses": [{
            "name": "main", "containerID": "a", "ready": true,
            "image": "", "imageID": "", "restartCount": 0,
        }]},
    });
    seen.pod(0, &written);
    assert!(seen.plan().edit.is_empty(), "the old container still runs");
    let mut done = written;
    done["status"]["containerStatuses"][0]["containerID"] = json!("b");
    seen.pod(0, &done);
    let set = labels(&seen.plan().edit[0]);
    assert_eq!(set.get(keys::UPDATE_INCLUDED), Some(&Value::Null));
}

#[test]
fn a_pod_that_is_created_again_has_the_newest_revision() {
    for policy in [PodUpgradePolicy::Recreate, PodUpgradePolicy::Replace] {
        let mut seen = outdated(2);
        seen.edit(|object| {
            let strategy = object.spec.update_strategy.get_or_insert_default();
            strategy.pod_upgrade_policy = Some(policy);
        });
        seen.pods.pop();
        let plan = seen.plan();
        let made = &plan.create[0].body["metadata"]["labels"];
        assert_eq!(made[keys::CONTROLLER_REVISION], json!(seen.revision()));
        assert!(made.get(keys::UPDATE_INCLUDED).is_none());
    }
}
