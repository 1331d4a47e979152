//! What a new pod is, and which pods belong to a set.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::keys;
use serde_json::{Value, json};

use super::set::{created, set, written};
use crate::{
    action::Effect,
    colla_set::{Driven, pods::instance_id},
    driver::{Claim, Class, Done, Kind as _, Refusal},
    pod_lifecycle::labels::GATE,
};

fn bare_pod(name: &str, labels: &Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": labels},
        "spec": {"containers": []},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

#[test]
fn a_new_pod_has_the_template_and_the_marks_of_its_set() {
    let seen = set(2);
    let [first, second] = &*seen.plan().create else {
        unreachable!("two pods")
    };
    let pod: Pod = created(first, "uid");
    assert_eq!(pod.name_any().len(), "foo-12345".len());
    assert_ne!(first.names[0], second.names[0]);
    let labels = pod.labels();
    assert_eq!(labels["app"], "foo");
    assert_eq!(labels[keys::CONTROL], "true");
    assert_eq!(labels[keys::INSTANCE_ID], "0");
    assert_eq!(labels[keys::CONTROLLER_REVISION], seen.revision());
    assert!(labels.contains_key("podopslifecycle.kusionstack.io/creating"));
    let spec = pod.spec.as_ref().expect("a spec");
    let gates = spec.readiness_gates.as_ref().expect("gates");
    assert_eq!(gates[0].condition_type, GATE);
    let owner = &pod.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller),
        ("CollaSet", Some(true))
    );
}

#[test]
fn numbers_of_pods_that_are_gone_are_used_again_but_their_names_are_not() {
    let mut seen = set(3);
    seen.serve();
    let known: BTreeSet<_> = seen.pods.iter().map(|pod| pod.name_any()).collect();
    let gone = seen.pods.remove(0);
    assert_eq!(instance_id(&gone), Some(0));
    let plan = seen.plan();
    assert_eq!(
        plan.create[0].body["metadata"]["labels"][keys::INSTANCE_ID],
        "0"
    );
    assert!(!known.contains(&plan.create[0].names[0]));
    // The last of them goes too: the status remembers how many there were.
    let status = seen.conclude();
    assert_eq!(status.created_pods, 3);
    seen.edit(|object| object.status = Some(status));
    seen.pods.clear();
    for start in seen.plan().create {
        assert!(!known.contains(&start.names[0]));
    }
}

#[test]
fn a_creation_that_is_repeated_finds_the_pod() {
    let seen = set(1);
    let start = &seen.plan().create[0];
    let pod = |patch: &Value| {
        let mut pod = json!(created::<Pod>(start, "uid"));
        crate::driver::memory::merge(&mut pod, patch);
        pod
    };
    let claim = |patch: &Value| Driven::claim(&seen, start, &pod(patch));
    assert_eq!(claim(&json!({})), Claim::Mine);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(claim(&deleted), Claim::Others);
    assert_eq!(
        claim(&json!({"metadata": {"ownerReferences": null}})),
        Claim::Others
    );
    let later = json!({"metadata": {"annotations": {keys::CREATION: "set-uid/2"}}});
    assert_eq!(claim(&later), Claim::Others);
}

#[test]
fn a_creation_without_an_answer_is_repeated_before_other_pods_are_created() {
    let mut seen = set(5);
    let status = seen.conclude();
    seen.edit(|object| object.status = Some(status));
    let before = seen.plan().create;
    seen.serve();
    let lost = seen.pods.remove(2);
    let lost_answer = Refusal {
        code: 0,
        reason: "Unavailable".to_owned(),
        message: "no answer".to_owned(),
        class: Class::Unavailable,
    };
    let status = seen.conclude_after(&Done {
        failure: Some(lost_answer),
        ..Done::default()
    });
    seen.edit(|object| {
        object.status = Some(status);
        object.spec.replicas = 7;
    });
    let create = seen.plan().create;
    assert_eq!(create.len(), 1, "{create:?}");
    assert_eq!(create[0].names, before[2].names);
    let found = json!(*lost);
    assert_eq!(Driven::claim(&seen, &create[0], &found), Claim::Mine);
    seen.pods.push(lost);
    assert_eq!(seen.plan().create.len(), 2);
}

#[test]
fn pods_without_a_controller_are_adopted_and_counted_before_others_are_created() {
    let mut seen = set(2);
    seen.pods = vec![
        bare_pod("stray", &json!({"app": "foo", (keys::INSTANCE_ID): "7"})),
        bare_pod("other", &json!({"app": "bar"})),
    ];
    let plan = seen.plan();
    assert_eq!(plan.create.len(), 1);
    let id = &plan.create[0].body["metadata"]["labels"][keys::INSTANCE_ID];
    assert_eq!(id, "0");
    assert_eq!(written(&plan.edit), ["stray"]);
    let Effect::Patch { body, .. } = &plan.edit[0] else {
        unreachable!("a patch")
    };
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "set-uid");
    assert_eq!(body["metadata"]["labels"], json!({keys::CONTROL: "true"}));
}

#[test]
fn pods_that_another_set_created_are_not_counted_as_created_by_this_one() {
    let mut seen = set(1);
    seen.serve();
    let other = json!({"metadata": {"annotations": {keys::CREATION: "other-uid/9"}}});
    seen.pod(0, &other);
    assert_eq!(seen.conclude().created_pods, 0);
}

#[test]
fn labels_that_only_controllers_set_are_refused_in_the_template() {
    for key in [
        keys::TO_DELETE,
        "podopslifecycle.kusionstack.io/service-available",
        "operating.podopslifecycle.kusionstack.io/mine",
    ] {
        let mut seen = set(1);
        seen.edit_template(
            &format!("metadata/labels/{}", key.replace('/', "~")),
            json!("1"),
        );
        assert!(seen.plan().create.is_empty());
        let status = seen.conclude();
        assert_eq!(status.conditions[0].reason, "InvalidTemplate");
    }
    let mut seen = set(1);
    seen.edit_template("spec/restartPolicy", json!("Never"));
    assert!(seen.plan().create.is_empty());
}

#[test]
fn two_pods_of_one_number_get_different_ones() {
    let mut seen = set(2);
    seen.serve();
    seen.pod(
        1,
        &json!({"metadata": {"labels": {keys::INSTANCE_ID: "0"}}}),
    );
    let plan = seen.plan();
    let name = seen.pods[1].name_any();
    assert_eq!(written(&plan.edit), [name]);
    assert_eq!(super::set::labels(&plan.edit[0])[keys::INSTANCE_ID], "1");
}

#[test]
fn a_pod_that_the_selector_does_not_select_any_more_is_released() {
    let mut seen = set(1);
    seen.serve();
    seen.pod(0, &json!({"metadata": {"labels": {"app": "debug"}}}));
    let plan = seen.plan();
    assert_eq!(plan.create.len(), 1);
    let Effect::Patch { body, .. } = &plan.edit[0] else {
        unreachable!("a patch")
    };
    assert_eq!(body["metadata"]["ownerReferences"], json!([]));
}

#[test]
fn a_selector_that_selects_all_or_not_the_template_stops_the_set() {
    for (selector, words) in [
        (json!({}), "selects every pod"),
        (
            json!({"matchLabels": {"app": "bar"}}),
            "does not match spec.template.metadata.labels",
        ),
        (
            json!({"matchExpressions": [{"key": "app", "operator": "Near", "values": []}]}),
            "cannot be read",
        ),
    ] {
        let mut seen = set(1);
        seen.edit(|object| {
            object.spec.selector = serde_json::from_value(selector).expect("a selector");
        });
        assert!(seen.plan().create.is_empty());
        let status = seen.conclude();
        let stalled = status.conditions.iter().find(|one| one.type_ == "Stalled");
        let message = &stalled.expect("it is stalled").message;
        assert!(message.contains(words), "{message}");
    }
}
