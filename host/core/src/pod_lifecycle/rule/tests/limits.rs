//! How many pods may be out of service.

use operon_api::PodTransitionRule;
use serde_json::json;

use super::{Scene, at_most};
use crate::pod_lifecycle::rule::read::{Check, Rules};

/// How many of so many pods may be out of service by this policy; none if it cannot be read.
fn most_out(policy: &serde_json::Value, total: usize) -> Option<usize> {
    let object: PodTransitionRule = serde_json::from_value(json!({
        "metadata": {}, "spec": {"selector": {}, "rules": [{"name": "a", "availablePolicy": policy}]},
    }))
    .expect("an object");
    let rules = Rules::read(&object.spec);
    let mut rules = rules.at(operon_api::pod_transition_rule::CheckStage::PreCheck);
    match rules.next()?.check.as_ref() {
        Ok(Check::Available(limit)) => Some(limit.most_out(total)),
        Ok(Check::Labels(_)) | Err(_) => None,
    }
}

#[test]
fn a_percentage_is_rounded_so_that_more_pods_serve_but_one_may_always_go() {
    for (policy, total, expected) in [
        (json!({"maxUnavailableValue": 0}), 4, Some(0)),
        (json!({"maxUnavailableValue": 3}), 4, Some(3)),
        (json!({"maxUnavailableValue": 9}), 4, Some(9)),
        (json!({"maxUnavailableValue": "0%"}), 4, Some(0)),
        (json!({"maxUnavailableValue": "1%"}), 4, Some(1)),
        (json!({"maxUnavailableValue": "25%"}), 4, Some(1)),
        (json!({"maxUnavailableValue": "49%"}), 4, Some(1)),
        (json!({"maxUnavailableValue": "50%"}), 4, Some(2)),
        (json!({"maxUnavailableValue": "100%"}), 4, Some(4)),
        (json!({"minAvailableValue": 0}), 4, Some(4)),
        (json!({"minAvailableValue": 3}), 4, Some(1)),
        (json!({"minAvailableValue": 4}), 4, Some(0)),
        (json!({"minAvailableValue": 9}), 4, Some(0)),
        (json!({"minAvailableValue": "0%"}), 4, Some(4)),
        (json!({"minAvailableValue": "51%"}), 4, Some(1)),
        (json!({"minAvailableValue": "50%"}), 4, Some(2)),
        (json!({"minAvailableValue": "99%"}), 4, Some(1)),
        (json!({"minAvailableValue": "100%"}), 4, Some(0)),
        (json!({"maxUnavailableValue": -1}), 4, None),
        (json!({"maxUnavailableValue": "101%"}), 4, None),
        (json!({"maxUnavailableValue": "many"}), 4, None),
        (json!({"maxUnavailableValue": "%"}), 4, None),
        (json!({"maxUnavailableValue": "5"}), 4, None),
        (json!({"minAvailableValue": "-1%"}), 4, None),
        (json!({}), 4, None),
        (
            json!({"maxUnavailableValue": 1, "minAvailableValue": 1}),
            4,
            None,
        ),
    ] {
        assert_eq!(most_out(&policy, total), expected, "{policy} of {total}");
    }
}

#[test]
fn a_rule_that_cannot_be_read_holds_the_pods_and_says_why_on_the_object_and_on_the_pods() {
    for (rule, why) in [
        (
            json!({"name": "r"}),
            "exactly one of availablePolicy and labelCheck",
        ),
        (
            json!({"name": "r", "availablePolicy": {}}),
            "exactly one of maxUnavailableValue",
        ),
        (
            json!({"name": "r", "availablePolicy": {"maxUnavailableValue": "101%"}}),
            "from \"0%\" to \"100%\", not \"101%\"",
        ),
        (
            json!({"name": "r", "webhook": {}}),
            "webhook is not supported",
        ),
        (
            json!({"name": "r", "conditions": ["a"], "labelCheck": {"requires": {}}}),
            "conditions are not supported",
        ),
        (
            json!({"name": "r", "labelCheck": {"requires": {"matchExpressions": [
                {"key": "a", "operator": "Like"}]}}}),
            "labelCheck.requires cannot be read",
        ),
        (
            json!({"name": "r", "labelCheck": {"requires": {}}, "filter": {"labelSelector":
                {"matchExpressions": [{"key": "a", "operator": "Like"}]}}}),
            "filter.labelSelector cannot be read",
        ),
    ] {
        let mut scene = Scene::new(2, &json!([rule]));
        scene.begin("a", "1");
        let reason = scene.reason("a");
        assert!(reason.contains(why), "{reason}");
        let status = scene.decide();
        let found = status.conditions.iter();
        let found: Vec<_> = found.map(|one| (&*one.type_, &*one.reason)).collect();
        assert_eq!(
            found,
            [("Ready", "InvalidRule"), ("Stalled", "InvalidRule")]
        );
        let message = &status.conditions[0].message;
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_disabled_rule_holds_nothing_even_if_it_cannot_be_read() {
    let mut scene = Scene::new(2, &json!([{"name": "r", "disabled": true}]));
    scene.begin("a", "1");
    let status = scene.decide();
    assert_eq!(status.conditions[0].status, "True");
    assert_eq!(scene.before("a"), super::Verdict::Allowed);
}

#[test]
fn an_object_whose_selector_cannot_be_read_selects_no_pod_and_says_so() {
    let mut scene = Scene::new(2, &at_most(1));
    scene.object["spec"]["selector"] =
        json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    scene.begin("a", "1");
    let status = scene.decide();
    assert_eq!(status.conditions[0].reason, "InvalidSelector");
    assert!(
        status.conditions[0]
            .message
            .ends_with("The object selects no pod"),
        "{:?}",
        status.conditions
    );
    assert_eq!(scene.before("a"), super::Verdict::Allowed);
}
