//! When pods may return to service.

use serde_json::{Value, json};

use super::{Scene, Verdict, at_most};

/// A pod returns when it is warm.
fn warm() -> Value {
    json!([{"name": "warm", "stage": "PostCheck",
        "labelCheck": {"requires": {"matchLabels": {"warm": "yes"}}}}])
}

/// An operation on a pod has acted, and all others have.
fn acted(scene: &mut Scene, name: &str, id: &str, time: &str) {
    scene.serves_not(name);
    scene.mark(name, "operated", id, Some(time));
    scene.mark(name, "done-operation-type", id, Some("update"));
    scene.mark(name, "post-check", id, Some(time));
}

#[test]
fn a_pod_waits_after_its_operation_until_a_rule_allows_it_to_return() {
    let mut scene = Scene::new(2, &warm());
    acted(&mut scene, "a", "collaset", "5");
    assert_eq!(scene.answers("a").after, Verdict::Waits, "undecided");
    assert_eq!(
        scene.reason("a"),
        "warm: the labels of the pod do not match warm=yes"
    );
    let said = scene.answers("a");
    assert_eq!(
        (said.before, said.after),
        (Verdict::Allowed, Verdict::Waits)
    );
    assert_eq!(said.waits.len(), 1);
    scene.label("a", "warm", Some("yes"));
    assert_eq!(scene.allowed(), ["a"]);
    assert_eq!(scene.answers("a").after, Verdict::Allowed);
    scene.mark("a", "operated", "collaset", Some("9"));
    assert_eq!(
        scene.answers("a").after,
        Verdict::Waits,
        "the next operation"
    );
}

#[test]
fn a_rule_is_checked_in_its_stage_only() {
    let mut scene = Scene::new(2, &warm());
    scene.begin("a", "1");
    assert_eq!(scene.before("a"), Verdict::Allowed);
    assert!(
        scene.decide().details.is_empty(),
        "there is nothing to decide"
    );
    let mut scene = Scene::new(2, &at_most(0));
    acted(&mut scene, "a", "collaset", "5");
    assert_eq!(scene.answers("a").after, Verdict::Allowed);
    assert!(scene.decide().details.is_empty());
}

#[test]
fn an_operation_that_is_about_to_be_over_is_not_covered_by_the_decision_about_another() {
    let mut scene = Scene::new(2, &warm());
    scene.label("a", "warm", Some("yes"));
    acted(&mut scene, "a", "first", "5");
    assert_eq!(scene.allowed(), ["a"]);
    assert_eq!(scene.answers("a").after, Verdict::Allowed);
    scene.mark("a", "operate", "second", Some("6"));
    scene.mark("a", "operation-type", "second", Some("update"));
    assert_eq!(scene.answers("a").after, Verdict::Waits);
    assert_eq!(
        scene.allowed(),
        [""; 0],
        "the lifecycle brings it to the stage first"
    );
    assert_eq!(scene.answers("a").after, Verdict::Waits);
}
