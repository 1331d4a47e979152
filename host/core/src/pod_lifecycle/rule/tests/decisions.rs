//! Which operations are allowed.

use serde_json::{Value, json};

use super::{super::allows_more, Change, Scene, at_most, pod};

#[test]
fn no_more_pods_leave_service_than_the_rule_allows() {
    let mut scene = Scene::new(4, &at_most(1));
    scene.begin("b", "20");
    scene.begin("a", "30");
    scene.begin("c", "10");
    assert_eq!(scene.allowed(), ["c"], "the one that began first");
    assert_eq!(
        scene.reason("a"),
        "most: 1 of 4 pods are out of service, at most 1 may be"
    );
    scene.leaves("c");
    assert_eq!(scene.allowed(), ["c"]);
    scene.returns("c");
    assert_eq!(scene.allowed(), ["b"]);
    assert_eq!(scene.decide().waiting_pods, 1);
}

#[test]
fn a_pod_that_is_out_of_service_already_may_go_and_leaves_no_room_for_another() {
    let breaks: [Change; 3] = [
        ("without the label", |scene| scene.serves_not("a")),
        ("not Ready", |scene| scene.is_ready("a", false)),
        ("finished", |scene| {
            scene.serves_not("a");
            scene.pod("a")["status"]["phase"] = json!("Failed");
        }),
    ];
    for (how, breaks) in breaks {
        let mut scene = Scene::new(4, &at_most(1));
        breaks(&mut scene);
        scene.begin("b", "1");
        assert_eq!(scene.allowed(), [""; 0], "{how}");
        scene.begin("a", "2");
        assert_eq!(scene.allowed(), ["a"], "{how}");
    }
}

#[test]
fn any_number_of_pods_that_do_not_serve_may_go() {
    let mut scene = Scene::new(4, &at_most(1));
    for name in ["a", "b", "c"] {
        scene.serves_not(name);
        scene.begin(name, "1");
    }
    assert_eq!(scene.allowed(), ["a", "b", "c"]);
}

#[test]
fn a_pod_that_is_not_ready_for_a_moment_does_not_go_beyond_the_limit() {
    let mut scene = Scene::new(4, &at_most(1));
    scene.serves_not("b");
    scene.is_ready("a", false);
    scene.begin("a", "1");
    assert_eq!(
        scene.reason("a"),
        "most: 2 of 4 pods are out of service, at most 1 may be"
    );
    scene.serves_not("a");
    assert_eq!(scene.allowed(), ["a"], "the lifecycle has noticed it");
}

#[test]
fn what_is_allowed_stays_allowed_until_the_operation_has_finished() {
    let mut scene = Scene::new(3, &at_most(1));
    scene.begin("a", "1");
    assert_eq!(scene.allowed(), ["a"]);
    scene.object["spec"]["rules"] = at_most(0);
    scene.object["metadata"]["generation"] = json!(2);
    assert_eq!(scene.allowed(), ["a"], "it may have left service already");
    scene.leaves("a");
    scene.mark("a", "operate", "collaset", Some("3"));
    assert_eq!(scene.allowed(), ["a"]);
    scene.mark("a", "operating", "collaset", None);
    assert_eq!(scene.allowed(), ["a"], "it acted, and returns");
    scene.returns("a");
    assert_eq!(scene.allowed(), [""; 0]);
}

#[test]
fn the_next_operation_of_a_pod_is_decided_anew() {
    let mut scene = Scene::new(3, &at_most(1));
    scene.begin("a", "1");
    assert_eq!(scene.allowed(), ["a"]);
    scene.returns("a");
    scene.begin("a", "5");
    scene.begin("b", "4");
    assert_eq!(scene.allowed(), ["b"], "the old decision is not about it");
}

#[test]
fn a_pod_of_the_same_name_does_not_inherit_a_decision() {
    let mut scene = Scene::new(3, &at_most(1));
    scene.begin("a", "1");
    assert_eq!(scene.allowed(), ["a"]);
    scene.pod("a")["metadata"]["uid"] = json!("another");
    scene.begin("b", "0");
    assert_eq!(scene.allowed(), ["b"]);
}

#[test]
fn a_label_is_checked_and_named() {
    let rules = json!([{"name": "approval", "labelCheck":
        {"requires": {"matchLabels": {"approved": "yes"}}}}]);
    let mut scene = Scene::new(2, &rules);
    scene.begin("a", "1");
    assert_eq!(
        scene.reason("a"),
        "approval: the labels of the pod do not match approved=yes"
    );
    scene.label("a", "approved", Some("yes"));
    assert_eq!(scene.allowed(), ["a"]);
}

#[test]
fn a_rule_sees_only_the_pods_that_the_previous_rules_allow_and_holds_no_place_for_others() {
    let label = json!({"name": "approval", "labelCheck":
        {"requires": {"matchLabels": {"approved": "yes"}}}});
    let most = at_most(1)[0].clone();
    for rules in [json!([label, most]), json!([most, label])] {
        let mut scene = Scene::new(3, &rules);
        scene.begin("a", "1");
        scene.begin("b", "2");
        scene.label("b", "approved", Some("yes"));
        let details = scene.decide().details;
        let found: Vec<_> = details
            .iter()
            .map(|one| (&*one.name, one.passed, one.passed_rules.len()))
            .collect();
        let before = usize::from(rules[0]["name"] == "most");
        assert_eq!(found, [("b", true, 2), ("a", false, before)], "{rules}");
        assert_eq!(details[1].reject_info[0].rule_name, "approval", "{rules}");
    }
}

#[test]
fn a_filter_and_an_annotation_of_the_pod_skip_a_rule() {
    let mut rules = at_most(0);
    rules[0]["filter"] = json!({"labelSelector": {"matchLabels": {"tier": "front"}}});
    let skip = |rule: &str| json!(format!("{{\"skipRules\":[\"{rule}\"]}}"));
    let key = "podtransitionrule.kusionstack.io/skip-rule-conditions";
    let cases: [(Option<&str>, Value, bool); 5] = [
        (None, Value::Null, true),
        (Some("front"), Value::Null, false),
        (Some("front"), skip("most"), true),
        (Some("front"), skip("other"), false),
        (Some("front"), json!("no JSON"), false),
    ];
    for (tier, annotation, is_allowed) in cases {
        let mut scene = Scene::new(2, &rules);
        scene.begin("a", "1");
        scene.label("a", "tier", tier);
        if annotation.is_string() {
            scene.pod("a")["metadata"]["annotations"][key] = annotation.clone();
        }
        let expected: &[&str] = if is_allowed { &["a"] } else { &[] };
        assert_eq!(scene.allowed(), expected, "{tier:?} {annotation}");
    }
}

#[test]
fn a_pod_of_a_collaset_that_is_created_again_counts_while_there_is_none() {
    let mut scene = Scene::new(3, &at_most(1));
    scene.owned_by_set(3);
    scene.begin("a", "1");
    assert_eq!(scene.allowed(), ["a"]);
    scene.leaves("a");
    scene.begin("b", "2");
    let time = json!("2026-01-01T00:00:00Z");
    scene.pod("a")["metadata"]["deletionTimestamp"] = time;
    assert_eq!(scene.allowed(), [""; 0], "its successor is missing");
    assert_eq!(
        scene.reason("b"),
        "most: 1 of 3 pods are out of service or not created yet, at most 1 may be"
    );
    let owner = scene.pods[1]["metadata"]["ownerReferences"].clone();
    let mut next = pod("d");
    next["metadata"]["ownerReferences"] = owner;
    scene.pods.push(next);
    scene.serves_not("d");
    assert_eq!(scene.allowed(), [""; 0], "its successor does not serve");
    scene.returns("d");
    scene.owned_by_set(3);
    assert_eq!(scene.allowed(), ["b"], "even while the old pod terminates");
}

#[test]
fn a_collaset_that_is_scaled_in_or_deleted_misses_no_pod() {
    let cases: [fn(&mut Scene); 2] = [
        |scene| scene.sets[0]["spec"]["replicas"] = json!(2),
        |scene| scene.sets[0]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
    ];
    for change in cases {
        let mut scene = Scene::new(2, &at_most(1));
        scene.owned_by_set(3);
        scene.begin("a", "1");
        assert_eq!(scene.allowed(), [""; 0]);
        change(&mut scene);
        assert_eq!(scene.allowed(), ["a"]);
    }
}

#[test]
fn a_new_pod_does_not_count_before_it_serves_while_the_pod_that_it_replaces_does() {
    let mut scene = Scene::new(4, &at_most(1));
    scene.owned_by_set(3);
    scene.label(
        "d",
        "collaset.kusionstack.io/replace-pair-origin-name",
        Some("a"),
    );
    scene.serves_not("d");
    scene.begin("b", "1");
    assert_eq!(scene.allowed(), [""; 0], "it served once");
    scene.label("d", "podopslifecycle.kusionstack.io/creating", Some("1"));
    assert_eq!(scene.allowed(), ["b"]);
    scene.returns("b");
    scene.owned_by_set(3);
    scene.serves_not("a");
    scene.begin("b", "2");
    assert_eq!(scene.allowed(), [""; 0], "neither of the pair serves");
}

#[test]
fn a_new_pod_counts_while_an_operation_that_was_allowed_is_on_it() {
    let mut scene = Scene::new(4, &at_most(1));
    scene.owned_by_set(3);
    let origin = "collaset.kusionstack.io/replace-pair-origin-name";
    scene.label("d", origin, Some("a"));
    scene.begin("d", "1");
    assert_eq!(scene.allowed(), ["d"]);
    scene.leaves("d");
    scene.begin("b", "2");
    assert_eq!(scene.allowed(), ["d"]);
}

#[test]
fn a_pod_without_a_collaset_counts_until_it_is_gone() {
    let mut scene = Scene::new(3, &at_most(1));
    scene.pod("a")["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    scene.begin("b", "1");
    assert_eq!(scene.allowed(), [""; 0]);
    scene.pods.remove(0);
    assert_eq!(scene.allowed(), ["b"]);
}

#[test]
fn a_pod_that_has_finished_counts_only_if_no_controller_creates_another() {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set",
        "controller": true});
    for (owners, expected) in [(json!([]), vec![]), (json!([owner]), vec!["b"])] {
        let mut scene = Scene::new(3, &at_most(1));
        scene.serves_not("a");
        scene.pod("a")["status"]["phase"] = json!("Failed");
        scene.pod("a")["metadata"]["ownerReferences"] = owners.clone();
        scene.begin("b", "1");
        assert_eq!(scene.allowed(), expected, "{owners}");
    }
}

#[test]
fn a_status_is_not_written_again_when_nothing_happened() {
    let mut scene = Scene::new(3, &at_most(1));
    scene.begin("a", "1");
    scene.begin("b", "1");
    let first = scene.decide();
    assert_eq!(scene.decide(), first);
    scene.leaves("a");
    assert_eq!(
        scene.decide(),
        first,
        "a pod that leaves is no new decision"
    );
}

#[test]
fn the_lifecycle_waits_only_for_a_status_that_allows_an_operation() {
    let mut scene = Scene::new(4, &at_most(1));
    let allows = |scene: &mut Scene| {
        let before = scene.object().status.clone();
        let status = scene.decide();
        allows_more(before.as_ref(), &status)
    };
    assert!(!allows(&mut scene), "no operation has begun");
    scene.begin("a", "1");
    assert!(allows(&mut scene));
    assert!(!allows(&mut scene), "it is known");
    scene.begin("b", "2");
    assert!(!allows(&mut scene), "it waits");
    scene.leaves("a");
    assert!(!allows(&mut scene));
    scene.returns("a");
    assert!(allows(&mut scene), "the next one may go");
    scene.object["metadata"]["generation"] = json!(2);
    assert!(
        allows(&mut scene),
        "what was decided by the previous spec does not count"
    );
    scene.returns("b");
    assert!(!allows(&mut scene), "there is less to say");
}
