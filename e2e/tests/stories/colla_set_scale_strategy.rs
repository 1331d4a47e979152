//! Pods that a CollaSet's scale strategy names: they are deleted, excluded and included.

use operon_api::{CollaSet, conditions::find, keys};
use operon_e2e::{
    colla_set::{colla_set, instance_ids, status},
    pods::identities,
    prelude::*,
    workload::pod_spec,
};

#[tokio::test]
async fn named_pods_leave_service_are_deleted_and_others_are_created() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 2).await;
        let named = pods[0].name_any();
        let strategy = json!({"podToDelete": [named], "operationDelaySeconds": 2});
        let patch = json!({"spec": {"scaleStrategy": strategy}});
        world.patch::<CollaSet>("shop", patch).await;
        world.gone::<Pod>(&named).await;
        let again = world.colla_set_serves("shop", 2).await;
        assert!(names(&again).contains(&pods[1].name_any()));
        assert_eq!(instance_ids(&again), [0, 1]);
        world.events_about(&named, &["ServiceNotReady"]).await;
        world
            .eventually("the name that fits no pod is said", async || {
                let conditions = status(&world.get::<CollaSet>("shop").await?).conditions;
                let scale = find(&conditions, "Scale").context("no condition")?;
                let words = format!("podToDelete: {named}");
                ensure!(scale.message.ends_with(&words), "{scale:?}");
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_moves_from_one_set_to_another_and_keeps_running() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 2).await;
        world.colla_set_up("other", 1).await;
        let moved = &pods[0];
        let exclude = json!({"podToExclude": [moved.name_any()]});
        let patch = json!({"spec": {"replicas": 1, "scaleStrategy": exclude}});
        world.patch::<CollaSet>("shop", patch).await;
        world
            .eventually("the pod has left", async || {
                let pod: Pod = world.get(&moved.name_any()).await?;
                ensure!(pod.controller().is_none() && pod.is_ready());
                ensure!(pod.labels().contains_key(keys::ORPHANED));
                Ok(())
            })
            .await;
        let include = json!({"podToInclude": [moved.name_any()]});
        let update = json!({"rollingUpdate": {"byPartition": {"partition": 2}}});
        let spec = json!({"replicas": 2, "scaleStrategy": include, "updateStrategy": update});
        world
            .patch::<CollaSet>("other", json!({"spec": spec}))
            .await;
        world
            .eventually("the other set has it", async || {
                let pod: Pod = world.get(&moved.name_any()).await?;
                let owner = pod.controller().context("no controller")?;
                ensure!(owner.name == "other" && pod.is_ready());
                ensure!(!pod.labels().contains_key(keys::ORPHANED));
                let status = status(&world.get::<CollaSet>("other").await?);
                ensure!(status.available_replicas == 2, "{status:?}");
                Ok(())
            })
            .await;
        let left = world.pods("shop").await.expect("the pods");
        assert_eq!(
            identities(&left),
            identities(&pods),
            "nothing was created or deleted"
        );
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_named_in_two_lists_is_refused() {
    story(async |world: &World| {
        let mut object = colla_set("shop", 0, &pod_spec());
        object["spec"]["scaleStrategy"] = json!({"podToDelete": ["a"], "podToInclude": ["b", "a"]});
        let refused = world.kubectl_apply(&object.to_string()).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let words = "podToDelete and podToInclude must not name the same pod";
        assert!(said.contains(words), "{said}");
    })
    .await;
}
