//! Rules decide when operations may take pods out of service.

use operon_api::{
    CollaSet, PodTransitionRule, colla_set::CollaSetStatus, conditions::find,
    pod_transition_rule::PodTransitionRuleStatus,
};
use operon_e2e::{colla_set, prelude::*, workload::pod_spec};
use serde_json::Value;

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
