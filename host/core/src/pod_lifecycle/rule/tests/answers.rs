//! What the decisions mean for the pods.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use serde_json::{Value, json};

use super::{Change, Scene, Verdict, at_most, read};
use crate::{
    action::Effect,
    pod_lifecycle::{
        pod::step,
        rule::{Answers, answers, waits_for},
    },
};

#[test]
fn an_operation_waits_until_the_decision_about_it_is_stored() {
    let mut scene = Scene::new(2, &at_most(1));
    scene.begin("a", "1");
    assert_eq!(scene.before("a"), Verdict::Waits);
    scene.decide();
    assert_eq!(scene.before("a"), Verdict::Allowed);
}

#[test]
fn a_decision_is_about_one_pod_one_operation_and_one_spec() {
    let changes: [Change; 4] = [
        ("another pod of this name", |scene| {
            scene.pod("a")["metadata"]["uid"] = json!("another");
        }),
        ("the next operation", |scene| scene.begin("a", "2")),
        ("a second operation", |scene| {
            scene.mark("a", "operating", "other", Some("2"));
        }),
        ("an edited spec", |scene| {
            scene.object["metadata"]["generation"] = json!(2);
        }),
    ];
    for (what, change) in changes {
        let mut scene = Scene::new(2, &at_most(1));
        scene.begin("a", "1");
        scene.decide();
        assert_eq!(scene.before("a"), Verdict::Allowed);
        change(&mut scene);
        assert_eq!(scene.before("a"), Verdict::Waits, "{what}");
        scene.decide();
        assert_eq!(scene.before("a"), Verdict::Allowed, "{what}");
    }
}

#[test]
fn only_objects_that_select_the_pod_and_have_a_rule_for_the_stage_are_asked() {
    let changes: [Change; 5] = [
        ("of another namespace", |scene| {
            scene.object["metadata"]["namespace"] = json!("other");
        }),
        ("selects others", |scene| {
            scene.label("a", "app", Some("db"));
        }),
        ("is being deleted", |scene| {
            scene.object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }),
        ("for the other stage", |scene| {
            scene.object["spec"]["rules"][0]["stage"] = json!("PostCheck");
        }),
        ("without rules", |scene| {
            scene.object["spec"]["rules"] = json!([]);
        }),
    ];
    for (what, change) in changes {
        let mut scene = Scene::new(2, &at_most(0));
        scene.begin("a", "1");
        assert_eq!(scene.before("a"), Verdict::Waits);
        change(&mut scene);
        assert_eq!(scene.before("a"), Verdict::Allowed, "{what}");
    }
}

#[test]
fn every_object_that_selects_a_pod_must_allow_it() {
    let mut one = Scene::new(2, &at_most(1));
    one.begin("a", "1");
    one.decide();
    let mut other = Scene::new(2, &at_most(0));
    other.begin("a", "1");
    other.object["metadata"]["name"] = json!("other");
    other.decide();
    let pod: Arc<Pod> = read(&one.pods[0]);
    let said = answers(&pod, &[one.object(), other.object()]);
    assert_eq!(said.before, Verdict::Waits);
    let keys: Vec<_> = said.waits.keys().collect();
    assert_eq!(keys, ["detail.podtransitionrule.kusionstack.io/other"]);
}

/// The changes of labels and annotations of the next step of a pod, which get into it.
fn take(pod: &mut Value, answers: &Answers) -> Value {
    let typed: Arc<Pod> = read(pod);
    let (next, _) = step(&typed, |_| answers.clone(), Timestamp::UNIX_EPOCH);
    let Some(Effect::Patch { body, .. }) = next.write(&typed, Timestamp::UNIX_EPOCH) else {
        return Value::Null;
    };
    for field in ["labels", "annotations"] {
        for (key, value) in body["metadata"][field].as_object().into_iter().flatten() {
            let all = pod["metadata"][field].as_object_mut().expect("an object");
            match value {
                Value::Null => drop(all.remove(key)),
                value => drop(all.insert(key.clone(), value.clone())),
            }
        }
    }
    match &body["metadata"] {
        Value::Object(changes) if changes.is_empty() => Value::Null,
        changes => changes.clone(),
    }
}

#[test]
fn the_pod_says_what_it_waits_for_until_it_may_go() {
    let mut scene = Scene::new(2, &at_most(0));
    scene.begin("a", "1");
    scene.decide();
    let said = scene.answers("a");
    let changes = take(scene.pod("a"), &said);
    let key = "detail.podtransitionrule.kusionstack.io/web";
    assert_eq!(
        changes["annotations"][key],
        r#"{"stage":"PreCheck","passed":false,"rejectInfo":[{"ruleName":"most","reason":"0 of 2 pods are out of service, at most 0 may be"}]}"#
    );
    let pod: Arc<Pod> = read(scene.pod("a"));
    assert_eq!(
        waits_for(&pod).as_deref(),
        Some("PodTransitionRule web, rule most: 0 of 2 pods are out of service, at most 0 may be")
    );
    assert_eq!(take(scene.pod("a"), &said), Value::Null, "once");
    scene.object["spec"]["rules"] = at_most(1);
    scene.decide();
    let said = scene.answers("a");
    let changes = take(scene.pod("a"), &said);
    assert_eq!(changes["annotations"], json!({key: null}));
    let operate = "pre-checked.podopslifecycle.kusionstack.io/collaset";
    assert!(changes["labels"][operate].is_string(), "in the same write");
    let pod: Arc<Pod> = read(scene.pod("a"));
    assert_eq!(waits_for(&pod), None);
}

#[test]
fn the_event_says_so_once() {
    let mut scene = Scene::new(2, &at_most(0));
    scene.begin("a", "1");
    scene.decide();
    let said = scene.answers("a");
    let pod: Arc<Pod> = read(scene.pod("a"));
    let (first, _) = step(&pod, |_| said.clone(), Timestamp::UNIX_EPOCH);
    assert_eq!(
        first.waits(),
        Some("PodTransitionRule web, rule most: 0 of 2 pods are out of service, at most 0 may be")
    );
    take(scene.pod("a"), &said);
    let pod: Arc<Pod> = read(scene.pod("a"));
    assert_eq!(
        step(&pod, |_| said.clone(), Timestamp::UNIX_EPOCH)
            .0
            .waits(),
        None
    );
}

#[test]
fn what_a_pod_waited_for_is_removed_when_the_object_is_deleted() {
    let mut scene = Scene::new(2, &at_most(0));
    scene.begin("a", "1");
    scene.decide();
    let said = scene.answers("a");
    take(scene.pod("a"), &said);
    let pod: Arc<Pod> = read(scene.pod("a"));
    let said = answers(&pod, &[]);
    assert_eq!(said.before, Verdict::Allowed);
    take(scene.pod("a"), &said);
    assert_eq!(scene.pod("a")["metadata"]["annotations"], json!({}));
}

#[test]
fn the_annotation_of_an_object_with_a_long_name_has_a_valid_key() {
    let mut scene = Scene::new(2, &at_most(0));
    scene.begin("a", "1");
    let keys: BTreeMap<_, _> = [("x".repeat(200), "y"), ("x".repeat(201), "z")].into();
    let mut found = std::collections::BTreeSet::new();
    for name in keys.keys() {
        scene.object["metadata"]["name"] = json!(name);
        scene.decide();
        let said = scene.answers("a");
        let key = said.waits.keys().next().expect("a note").clone();
        let (_, name) = key.split_once('/').expect("a prefix");
        assert!(name.len() <= 63, "{name}");
        assert!(found.insert(key), "keys differ");
    }
}
