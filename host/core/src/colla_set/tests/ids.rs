//! Which number each pod has, and what the ResourceContext remembers.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;
use operon_api::{ResourceContext, keys, resource_context::ContextDetail};
use serde_json::{Value, json};

use super::set::set;
use crate::{
    action::Effect,
    colla_set::{Driven, Seen, pods::instance_id},
    driver::{Kind as _, Needs, Start, Write},
};

fn id(start: &Start) -> &Value {
    &start.body["metadata"]["labels"][keys::INSTANCE_ID]
}

fn ids(starts: &[Start]) -> Vec<&Value> {
    starts.iter().map(id).collect()
}

fn entries(seen: &Seen) -> Vec<ContextDetail> {
    let context = seen.context.as_ref().expect("a context");
    context.spec.contexts.clone().unwrap_or_default()
}

/// What the context says of an id.
fn data(seen: &Seen, id: i64) -> BTreeMap<String, String> {
    let mut entries = entries(seen).into_iter();
    let found = entries.find(|entry| entry.id == id);
    found.and_then(|entry| entry.data).unwrap_or_default()
}

fn known(seen: &Seen) -> Vec<i64> {
    entries(seen).iter().map(|entry| entry.id).collect()
}

/// A context as a user or KusionStack's operator wrote it.
fn context(contexts: &Value) -> Arc<ResourceContext> {
    let context = json!({
        "metadata": {"name": "foo", "namespace": "shop", "uid": "context-uid", "resourceVersion": "1"},
        "spec": {"contexts": contexts},
    });
    Arc::new(serde_json::from_value(context).expect("a ResourceContext"))
}

fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

#[test]
fn pods_are_created_only_with_ids_that_the_context_reserves() {
    let mut seen = set(1000);
    let plan = seen.plan_now();
    assert!(plan.create.is_empty());
    let Some(Write::Make(start)) = plan.context else {
        unreachable!("the context is created")
    };
    assert_eq!(start.names, ["foo"]);
    let owner = &start.body["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["controller"]),
        (&json!("CollaSet"), &Value::Null)
    );
    assert!(seen.note_context());
    let plan = seen.plan_now();
    assert_eq!(plan.create.len(), 1000, "one write for all");
    assert!(plan.context.is_none());
    assert_eq!(id(&plan.create[999]), "999");
}

#[test]
fn a_set_that_is_as_desired_writes_no_context() {
    let mut seen = set(3);
    assert!(!set(0).note_context(), "there is nothing to say");
    seen.serve();
    assert_eq!(known(&seen), [0, 1, 2]);
    let expected = [("Owner", "foo".to_owned()), ("Revision", seen.revision())];
    let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key.to_owned(), value)).into();
    assert_eq!(data(&seen, 0), expected);
    assert!(!seen.note_context());
}

#[test]
fn a_pod_that_is_gone_comes_back_with_its_id_at_its_revision() {
    let mut seen = set(4);
    seen.serve();
    let before = seen.revision();
    let status = seen.conclude();
    seen.edit(|object| {
        object.status = Some(status);
        object.spec.update_strategy = serde_json::from_value(json!({
            "rollingUpdate": {"byPartition": {"partition": 2}},
        }))
        .expect("a strategy");
    });
    seen.edit_template("spec/hostNetwork", json!(true));
    let after = seen.revision();
    for place in [0, 3] {
        let label = json!({"metadata": {"labels": {keys::CONTROLLER_REVISION: after}}});
        seen.pod(place, &label);
    }
    seen.note_context();
    seen.pods.retain(|pod| instance_id(pod) == Some(1));
    let create = seen.plan().create;
    assert_eq!(ids(&create), ["0", "2", "3"]);
    let revisions = create
        .iter()
        .map(|start| &start.body["metadata"]["labels"][keys::CONTROLLER_REVISION]);
    assert_eq!(
        revisions.collect::<Vec<_>>(),
        [&*after, &*before, &*after],
        "the partition keeps two, of which one is gone"
    );
}

#[test]
fn a_pod_that_is_scaled_in_does_not_come_back_but_one_that_is_lost_meanwhile_does() {
    let mut seen = set(3);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 2);
    let cost = json!({"metadata": {"annotations": {
        "controller.kubernetes.io/pod-deletion-cost": "-1",
    }}});
    seen.pod(0, &cost);
    assert!(seen.note_context(), "it is known before the pod is gone");
    assert_eq!(data(&seen, 0)["ScaleIn"], "true");
    seen.pods.retain(|pod| instance_id(pod) == Some(1));
    assert_eq!(ids(&seen.plan().create), ["2"]);
    seen.serve();
    assert_eq!(known(&seen), [1, 2]);
    seen.edit(|object| object.spec.replicas = 3);
    assert_eq!(ids(&seen.plan().create), ["0"], "the id is free again");
}

#[test]
fn the_new_pod_of_a_pair_has_a_reserved_id_and_the_one_of_the_old_pod_is_free_afterwards() {
    let mut seen = set(2);
    seen.serve();
    let to_replace = json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}});
    seen.pod(0, &to_replace);
    assert!(seen.plan_now().pair.is_empty());
    seen.serve();
    assert_eq!(seen.pods.len(), 3);
    assert_eq!(data(&seen, 0)["ReplaceNewPodID"], "2");
    assert_eq!(data(&seen, 2)["ReplaceOriginPodID"], "0");
    let mut again = seen.clone();
    again.pods.pop();
    let pair = again.plan_now().pair;
    assert_eq!(ids(&pair), ["2"], "a new pod that is gone comes back");
    seen.pods.remove(0);
    seen.note_context();
    assert_eq!(known(&seen), [1, 2]);
    assert!(!data(&seen, 2).contains_key("ReplaceOriginPodID"));
    let mut cancelled = again;
    cancelled.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: null}}}),
    );
    cancelled.note_context();
    assert_eq!(known(&cancelled), [0, 1]);
}

#[test]
fn a_pod_that_is_lost_while_another_is_replaced_comes_back_and_not_the_replaced_one() {
    let mut seen = set(2);
    seen.serve();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
    );
    seen.serve();
    seen.pods.retain(|pod| instance_id(pod) == Some(2));
    assert_eq!(ids(&seen.plan().create), ["1"]);
}

#[test]
fn many_pods_that_change_are_noted_together() {
    let mut seen = set(100);
    seen.serve();
    let status = seen.conclude();
    seen.edit(|object| object.status = Some(status));
    seen.edit_template(
        "spec/containers",
        json!([{"name": "main", "image": "busybox:2"}]),
    );
    let after = seen.revision();
    let updated = json!({"metadata": {"labels": {keys::CONTROLLER_REVISION: after}}});
    let begun = seen.plan().edit.into_iter().next();
    let Some(Effect::Patch { body, object, .. }) = begun else {
        unreachable!("an update begins")
    };
    let place = seen
        .pods
        .iter()
        .position(|pod| pod.name_any() == object.name);
    seen.pod(place.expect("the pod"), &body);
    let mut writes = 0;
    for place in 0..50 {
        seen.pod(place, &updated);
        writes += usize::from(seen.note_context());
    }
    assert!((3..=4).contains(&writes), "{writes} writes");
}

#[test]
fn a_context_that_is_deleted_is_created_again_from_the_labels() {
    let mut seen = set(3);
    seen.serve();
    let before = entries(&seen);
    seen.context = None;
    assert!(seen.plan_now().edit.is_empty(), "no pod changes");
    assert!(seen.note_context());
    assert_eq!(entries(&seen), before);
}

#[test]
fn a_context_that_was_edited_badly_is_mended_and_changes_no_pod() {
    let mut seen = set(2);
    seen.serve();
    let before = entries(&seen);
    let owner = |name: &str| json!({"Owner": name});
    for contexts in [
        Value::Null,
        json!([]),
        json!([{"id": -1, "data": owner("foo")}, {"id": 9_999_999_999_i64, "data": owner("foo")}]),
        json!([{"id": 0, "data": owner("foo")}, {"id": 0, "data": owner("foo")}, {"id": 0}]),
        json!([{"id": 0, "data": owner("ghost")}, {"id": 1, "data": {}}, {"id": 5}]),
        json!([{"id": 0, "data": {"Owner": "foo", "ScaleIn": "true", "ReplaceNewPodID": "x"}},
               {"id": 1, "data": {"Owner": "foo", "ReplaceOriginPodID": "1", "ReplaceNewPodID": "1"}},
               {"id": 7, "data": {"Owner": "foo", "Revision": "no-such"}}]),
    ] {
        seen.context = Some(context(&contexts));
        let plan = seen.plan_now();
        assert!(plan.create.is_empty() && plan.edit.is_empty() && plan.delete.is_empty());
        assert!(seen.note_context());
        assert_eq!(entries(&seen), before, "{contexts}");
        assert!(!seen.note_context());
    }
}

#[test]
fn a_pod_that_is_gone_comes_back_even_if_its_revision_is_not_known() {
    let mut seen = set(1);
    seen.context = Some(context(&json!([
        {"id": 4, "data": {"Owner": "foo", "Revision": "no-such"}},
    ])));
    let create = seen.plan().create;
    assert_eq!(ids(&create), ["4"]);
    assert_eq!(
        create[0].body["metadata"]["labels"][keys::CONTROLLER_REVISION],
        seen.revision()
    );
}

#[test]
fn ids_of_a_set_that_was_deleted_without_its_pods_are_kept() {
    let mut seen = set(3);
    seen.serve();
    let before = known(&seen);
    seen.edit(|object| object.metadata.uid = Some("another-uid".to_owned()));
    for pod in &mut seen.pods {
        Arc::make_mut(pod).metadata.owner_references = None;
    }
    seen.pods.remove(1);
    seen.note_revision();
    assert!(seen.note_context());
    assert_eq!(known(&seen), before, "the pod that is gone comes back too");
    assert_eq!(ids(&seen.plan_now().create), ["1"]);
    let owners = seen.context.as_ref().expect("a context").owner_references();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].uid, "another-uid");
}

#[test]
fn keys_of_others_in_the_context_are_kept_and_kusionstacks_marks_are_understood() {
    let mut seen = set(3);
    seen.serve();
    let revision = seen.revision();
    seen.pods.retain(|pod| instance_id(pod) == Some(0));
    seen.context = Some(context(&json!([
        {"id": 0, "data": {"Owner": "foo", "Revision": revision, "PodDecorationRevisions": "{}"}},
        {"id": 3, "data": {"Owner": "foo", "Revision": "gone", "PodRecreateUpdate": "true"}},
        {"id": 4, "data": {"Owner": "foo", "Revision": "gone", "ScaleIn": "true"}},
        {"id": 5, "data": {"Owner": "foo", "Revision": "gone", "PodJustCreate": "true"}},
    ])));
    assert!(seen.note_context(), "it belongs to the set now");
    assert_eq!(ids(&seen.plan_now().create), ["3", "5"]);
    assert_eq!(data(&seen, 0)["PodDecorationRevisions"], "{}");
}

#[test]
fn a_pod_that_is_being_deleted_gives_its_id_to_the_next_one() {
    let mut seen = set(2);
    seen.serve();
    seen.pod(1, &deleted());
    assert_eq!(
        ids(&seen.plan_now().create),
        ["1"],
        "without a write before"
    );
}

#[test]
fn a_context_that_cannot_be_written_keeps_the_rest_from_nothing() {
    let mut seen = set(2);
    seen.serve();
    seen.edit(|object| object.spec.replicas = 1);
    let batches = Driven::batches(&seen, &seen.plan_now());
    let place = |wanted: &Write| {
        batches
            .iter()
            .position(|batch| batch.writes.contains(wanted))
    };
    let plan = seen.plan_now();
    let context = plan.context.expect("a scale-in is noted");
    assert_eq!(
        batches[place(&context).expect("written")].needs,
        Needs::Nothing
    );
    let edit = Write::Do(plan.edit[0].clone());
    assert_eq!(
        batches[place(&edit).expect("written")].needs,
        Needs::Nothing
    );
}

#[test]
fn five_thousand_ids_fit_into_one_object() {
    let mut seen = set(5000);
    seen.serve();
    let bytes = json!(seen.context.as_deref()).to_string().len();
    assert!(bytes < 1_500_000 / 2, "{bytes} bytes");
}

#[test]
fn the_id_of_an_excluded_pod_is_free_once_the_pod_has_left_the_set() {
    let mut seen = set(3);
    seen.serve();
    let excluded = seen.pods[0].name_any();
    let include = excluded.clone();
    seen.edit(|object| {
        let strategy = object.spec.scale_strategy.get_or_insert_default();
        strategy.pod_to_exclude.push(excluded);
    });
    seen.pods.remove(2);
    let plan = seen.plan();
    assert_eq!(ids(&plan.create), ["2"], "the excluded pod still has 0");
    seen.note_context();
    assert_eq!(data(&seen, 0)["Owner"], "foo");
    let left = json!({"metadata": {
        "ownerReferences": [], "labels": {keys::ORPHANED: "true"},
    }});
    seen.pod(0, &left);
    assert_eq!(ids(&seen.plan().create), ["0", "2"]);
    let mut fewer = seen.clone();
    fewer.edit(|object| object.spec.replicas = 1);
    fewer.note_context();
    assert_eq!(known(&fewer), [1]);
    // A pod that comes back does not share its former id.
    seen.serve();
    seen.edit(|object| {
        object.spec.replicas = 4;
        let strategy = object.spec.scale_strategy.get_or_insert_default();
        strategy.pod_to_exclude.clear();
        strategy.pod_to_include.push(include);
    });
    let plan = seen.plan();
    assert!(plan.create.is_empty());
    let labels = super::set::labels(&plan.edit[0]);
    assert_eq!(labels[keys::INSTANCE_ID], "3");
}

#[test]
fn an_entry_of_a_set_that_does_not_exist_is_not_kept_for_a_pod_that_was_excluded() {
    let mut seen = set(2);
    seen.serve();
    let before = entries(&seen);
    let excluded = json!({"metadata": {
        "name": "foo-excluded", "ownerReferences": [], "labels": {keys::ORPHANED: "true"},
    }});
    let mut pods = seen.pods.clone();
    pods[0] = std::sync::Arc::new(crate::driver::memory::patched(&*pods[0], &excluded));
    seen.pods.push(pods.swap_remove(0));
    let ghost = json!([{"id": 0, "data": {"Owner": "ghost"}}, {"id": 1, "data": {"Owner": "foo"}}]);
    seen.context = Some(context(&ghost));
    let plan = seen.plan_now();
    assert!(plan.edit.is_empty(), "the pod with the id keeps it");
    assert!(seen.note_context());
    assert_eq!(entries(&seen), before);
}

#[test]
fn no_pod_is_created_with_the_id_of_a_pod_that_is_being_released() {
    let mut seen = set(2);
    seen.serve();
    seen.pod(0, &json!({"metadata": {"labels": {"app": "other"}}}));
    assert_eq!(ids(&seen.plan().create), ["2"]);
}

#[test]
fn the_creation_of_a_pod_that_has_been_excluded_is_not_repeated() {
    let mut seen = set(2);
    seen.edit(|object| object.status = Some(operon_api::colla_set::CollaSetStatus::default()));
    seen.serve();
    let left = json!({"metadata": {
        "ownerReferences": [], "labels": {keys::ORPHANED: "true"},
    }});
    seen.pod(0, &left);
    let create = seen.plan().create;
    let subjects = create.iter().map(|start| &*start.subject);
    assert_eq!(subjects.collect::<Vec<_>>(), ["3"]);
}
