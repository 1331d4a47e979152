//! Rules decide when operations may take pods out of service.

use operon_api::{
    CollaSet, PodTransitionRule, colla_set::CollaSetStatus, conditions::find, keys,
    pod_transition_rule::PodTransitionRuleStatus,
};
use operon_e2e::{colla_set, prelude::*, workload::pod_spec};
use serde_json::Value;

/// The rules of the example.
const EXAMPLE: &str = include_str!("../../../examples/collaset/podtransitionrule.yaml");

/// The rules of the pods of one app.
fn rules(name: &str, app: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1",
        "kind": "PodTransitionRule",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}, "rules": rules},
    })
}

fn message<'a>(status: &'a CollaSetStatus, type_: &str) -> &'a str {
    find(&status.conditions, type_).map_or("", |condition| &condition.message)
}

#[tokio::test]
async fn an_update_in_place_takes_no_more_pods_out_of_service_than_a_rule_allows() {
    story(async |world: &World| {
        // By itself it would update two pods at a time.
        let before = world.colla_set_up("shop", 8).await;
        let endpoints = world.service("shop", 8).await;
        let most = json!([{"name": "one", "availablePolicy": {"maxUnavailableValue": 1}}]);
        world
            .make::<PodTransitionRule>(rules("shop", "shop", &most))
            .await;
        let mut pod = pod_spec();
        pod["containers"][0]["image"] = json!("localhost/busybox:1.36");
        let edit = json!({"spec": {"template": {"spec": pod}}});
        let edited = world.patch::<CollaSet>("shop", edit).await;
        let mut is_named = false;
        world
            .eventually("all pods are updated and serve", async || {
                let status = colla_set::status(&world.get::<CollaSet>("shop").await?);
                let reason = "waits for PodTransitionRule shop, rule one: 1 of 8 pods are out of \
                              service, at most 1 may be";
                is_named |= message(&status, "Update").contains(reason);
                ensure!(
                    status.observed_generation == edited.metadata.generation,
                    "{status:?}"
                );
                ensure!(status.updated_available_replicas == 8, "{status:?}");
                Ok(())
            })
            .await;
        let after = world.colla_set_serves("shop", 8).await;
        assert_eq!(pods::identities(&after), pods::identities(&before));
        assert_eq!(endpoints.least(), 7);
        assert!(is_named, "the CollaSet names the rule");
        world
            .eventually("nothing waits, and nothing is left", async || {
                let object = world.get::<PodTransitionRule>("shop").await?;
                let status: PodTransitionRuleStatus = object.status.unwrap_or_default();
                ensure!(status.details.is_empty(), "{status:?}");
                ensure!(status.selected_pods == 8, "{status:?}");
                Ok(())
            })
            .await;
        for pod in world.pods("shop").await.expect("pods") {
            let left = pod
                .annotations()
                .keys()
                .filter(|key| key.contains("podtransitionrule"));
            assert_eq!(left.count(), 0, "{:?}", pod.annotations());
        }
    })
    .await;
}

#[tokio::test]
async fn an_operation_waits_for_a_label_and_everybody_says_so() {
    story(async |world: &World| {
        let pods = world.colla_set_up("foo", 2).await;
        let applied = world.kubectl_apply(EXAMPLE).await;
        assert!(applied.status.success(), "{applied:?}");
        let name = pods[0].name_any();
        let mark = json!({"metadata": {"labels": {(keys::TO_DELETE): "true"}}});
        world.patch::<Pod>(&name, mark).await;
        let words = "PodTransitionRule foo, rule approved: the labels of the pod do not match \
                     example.com/approved=true";
        world
            .eventually(
                "the CollaSet and the pod say what they wait for",
                async || {
                    let status = colla_set::status(&world.get::<CollaSet>("foo").await?);
                    let said = message(&status, "Scale");
                    ensure!(said.contains(words), "{said:?}");
                    let reasons = world.event_reasons(&name).await?;
                    ensure!(
                        reasons.iter().any(|reason| reason == "WaitsForRule"),
                        "{reasons:?}"
                    );
                    Ok(())
                },
            )
            .await;
        let rows = world.kubectl_says(&["get", "ptr", "foo"]).await;
        let columns = rows.lines().nth(1).unwrap_or_default().split_whitespace();
        assert_eq!(
            columns.take(4).collect::<Vec<_>>(),
            ["foo", "2", "1", "True"],
            "{rows}"
        );
        let pod = world.get::<Pod>(&name).await.expect("the pod");
        assert!(pod.metadata.deletion_timestamp.is_none());
        let approve = json!({"metadata": {"labels": {"example.com/approved": "true"}}});
        world.patch::<Pod>(&name, approve).await;
        world.pod_gone(&pod).await;
        world.colla_set_serves("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_returns_to_service_when_a_rule_allows_it() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 1).await;
        let warm = json!([{"name": "warm", "stage": "PostCheck", "labelCheck":
            {"requires": {"matchLabels": {"warm": "yes"}}}}]);
        world
            .make::<PodTransitionRule>(rules("shop", "shop", &warm))
            .await;
        let mut pod = pod_spec();
        pod["containers"][0]["image"] = json!("localhost/busybox:1.36");
        world
            .patch::<CollaSet>("shop", json!({"spec": {"template": {"spec": pod}}}))
            .await;
        world
            .eventually("the updated pod waits", async || {
                let status = colla_set::status(&world.get::<CollaSet>("shop").await?);
                let said = message(&status, "Available");
                ensure!(
                    said.contains("PodTransitionRule shop, rule warm"),
                    "{status:?}"
                );
                ensure!(status.updated_replicas == 1, "{status:?}");
                Ok(())
            })
            .await;
        let warm = json!({"metadata": {"labels": {"warm": "yes"}}});
        world.patch::<Pod>(&pods[0].name_any(), warm).await;
        let after = world.colla_set_serves("shop", 1).await;
        assert_eq!(pods::identities(&after), pods::identities(&pods));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_reason() {
    story(async |world: &World| {
        let most = |value: Value| json!({"availablePolicy": {"maxUnavailableValue": value}});
        let both = json!({"availablePolicy": {"maxUnavailableValue": 1, "minAvailableValue": 1}});
        let table = [
            (
                json!({"webhook": {"clientConfig": {"url": "https://example.com"}}}),
                "webhook is not supported, because users of a namespace could make the operator call any address",
            ),
            (json!({}), "exactly one of availablePolicy and labelCheck"),
            (both, "exactly one of maxUnavailableValue and minAvailableValue"),
            (most(json!("101%")), "should match '^(100|[0-9]{1,2})%$'"),
            (most(json!("5")), "should match '^(100|[0-9]{1,2})%$'"),
            (most(json!(-1)), "greater than or equal to 0"),
            (
                json!({"conditions": ["a"], "labelCheck": {"requires": {}}}),
                "conditions are not supported",
            ),
        ];
        for (mut rule, reason) in table {
            rule["name"] = json!("rule");
            let object = rules("shop", "shop", &json!([rule]));
            let applied = world.kubectl_apply(&object.to_string()).await;
            let said = String::from_utf8_lossy(&applied.stderr);
            assert!(!applied.status.success(), "{rule}");
            assert!(said.contains(reason), "{rule}: {said}");
        }
        let mut twice = most(json!(1));
        twice["name"] = json!("rule");
        let object = rules("shop", "shop", &json!([twice, twice]));
        let applied = world.kubectl_apply(&object.to_string()).await;
        let said = String::from_utf8_lossy(&applied.stderr);
        assert!(said.contains("Duplicate value"), "{said}");
        let fine = json!([{"name": "rule", "availablePolicy": {"maxUnavailableValue": "100%"}}]);
        world.make::<PodTransitionRule>(rules("shop", "shop", &fine)).await;
    })
    .await;
}
