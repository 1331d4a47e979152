//! How a CollaSet is deleted: what becomes of its pods, and what is said while something is left.

use operon_api::{CollaSet, conditions::find, keys};
use operon_e2e::{
    colla_set::{colla_set, instance_ids, status},
    pods::identities,
    prelude::*,
    workload::{gated_pod_spec, pod_spec},
};

/// The finalizer of a controller that sends requests to pods.
const PROTECTION: &str = "prot.podopslifecycle.kusionstack.io/e2e";

/// Waits until the CollaSet that is being deleted says this.
async fn says(world: &World, name: &str, words: &str) {
    world
        .eventually(&format!("CollaSet {name} says {words:?}"), async || {
            let status = status(&world.get::<CollaSet>(name).await?);
            let ready = find(&status.conditions, "Ready").context("no condition")?;
            ensure!(ready.reason == "Deleting", "{ready:?}");
            ensure!(ready.message.contains(words), "{ready:?}");
            Ok(())
        })
        .await;
}

async fn set_finalizers(world: &World, pod: &Pod, finalizers: &[&str]) {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    world.patch::<Pod>(&pod.name_any(), patch).await;
}

#[tokio::test]
async fn the_pods_of_a_deleted_set_leave_service_first_and_one_that_is_held_is_named() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 2).await;
        let object: CollaSet = world.get("shop").await.expect("the CollaSet");
        assert_eq!(object.finalizers(), [keys::COLLA_SET_FINALIZER]);
        set_finalizers(world, &pods[0], &[PROTECTION]).await;
        world.delete::<CollaSet>("shop").await;
        world.gone::<Pod>(&pods[1].name_any()).await;
        let words = format!(
            "Pod {:?} waits for the removal of finalizers of the pod: {PROTECTION}",
            pods[0].name_any()
        );
        says(world, "shop", &words).await;
        let held: Pod = world.get(&pods[0].name_any()).await.expect("the pod");
        assert!(held.metadata.deletion_timestamp.is_none() && !held.is_ready());
        set_finalizers(world, &held, &[]).await;
        world.gone::<CollaSet>("shop").await;
        world.gone::<Pod>(&pods[0].name_any()).await;
        // Only the pod that a finalizer held reports that it left service before it was deleted.
        for (pod, expected) in [
            (&pods[0], &["ServiceNotReady", "PodDeletion"][..]),
            (&pods[1], &["PodDeletion"]),
        ] {
            world.events_about(&pod.name_any(), expected).await;
            let reasons = world.event_reasons(&pod.name_any()).await.expect("Events");
            for reason in ["ServiceNotReady", "PodDeletion"] {
                let is_reported = reasons.contains(&reason.to_owned());
                assert_eq!(is_reported, expected.contains(&reason), "{reasons:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_set_that_is_deleted_while_it_is_paused_or_replaces_a_pod_goes_with_all_its_pods() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 1).await;
        let gated = json!({"spec": {"template": {"spec": gated_pod_spec()},
            "updateStrategy": {"rollingUpdate": {"byPartition": {"partition": 1}}}}});
        world.patch::<CollaSet>("shop", gated).await;
        let replace = json!({"metadata": {"labels": {(keys::TO_REPLACE): "true"}}});
        world.patch::<Pod>(&pods[0].name_any(), replace).await;
        world
            .eventually("there is a new pod", async || {
                ensure!(world.pods("shop").await?.len() == 2);
                Ok(())
            })
            .await;
        let paused = json!({"spec": {"paused": true}});
        world.patch::<CollaSet>("shop", paused).await;
        world.delete::<CollaSet>("shop").await;
        world.gone::<CollaSet>("shop").await;
        assert_eq!(world.pods("shop").await.expect("the pods").len(), 0);
    })
    .await;
}

#[tokio::test]
async fn orphaned_pods_return_to_service_and_the_next_set_adopts_them_with_their_numbers() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 2).await;
        for pod in &pods {
            set_finalizers(world, pod, &[PROTECTION]).await;
        }
        // A pod is on its way out, and another is to be replaced.
        world
            .kubectl_says(&["scale", "cls/shop", "--replicas=1"])
            .await;
        world
            .eventually("a pod is out of service", async || {
                let pods = world.pods("shop").await?;
                ensure!(pods.iter().any(|pod| !pod.is_ready()));
                Ok(())
            })
            .await;
        world
            .kubectl_says(&["delete", "cls", "shop", "--cascade=orphan"])
            .await;
        world.gone::<CollaSet>("shop").await;
        world
            .eventually("both pods serve, and nothing is left on them", async || {
                let left = world.pods("shop").await?;
                ensure!(left.len() == 2);
                for pod in &left {
                    ensure!(pod.is_live() && pod.is_ready() && pod.controller().is_none());
                    let labels = pod.labels();
                    let mut operations = labels.keys().filter(|key| {
                        key.contains(".podopslifecycle") || key.contains("preparing-to-delete")
                    });
                    ensure!(operations.next().is_none(), "{labels:?}");
                    ensure!(labels.contains_key(keys::CONTROL), "{labels:?}");
                }
                ensure!(instance_ids(&left) == [0, 1]);
                Ok(())
            })
            .await;
        let again = world.colla_set_up("shop", 2).await;
        assert_eq!(identities(&again), identities(&pods));
        assert_eq!(instance_ids(&again), [0, 1]);
        let restarts = again.iter().filter_map(|pod| pod.status.as_ref());
        let restarts = restarts.flat_map(|status| status.container_statuses.iter().flatten());
        assert_eq!(restarts.map(|one| one.restart_count).sum::<i32>(), 0);
        for pod in &again {
            set_finalizers(world, pod, &[]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_foreground_deletion_ends_when_the_garbage_collector_has_deleted_the_pods() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 1).await;
        set_finalizers(world, &pods[0], &["e2e.operon.dev/hold"]).await;
        let shop = [
            "delete",
            "cls",
            "shop",
            "--cascade=foreground",
            "--wait=false",
        ];
        world.kubectl_says(&shop).await;
        says(world, "shop", "e2e.operon.dev/hold").await;
        says(world, "shop", "without the PodOpsLifecycle").await;
        set_finalizers(world, &pods[0], &[]).await;
        world.gone::<CollaSet>("shop").await;
        world.gone::<Pod>(&pods[0].name_any()).await;
    })
    .await;
}

#[tokio::test]
async fn a_set_of_before_that_nothing_held_is_held() {
    story(async |world: &World| {
        world
            .make::<CollaSet>(colla_set("shop", 0, &pod_spec()))
            .await;
        let is_held = async || {
            let object = world.get::<CollaSet>("shop").await?;
            ensure!(object.finalizers() == [keys::COLLA_SET_FINALIZER]);
            Ok(())
        };
        world.eventually("it is held", is_held).await;
        let none = json!({"metadata": {"finalizers": null}});
        world.patch::<CollaSet>("shop", none).await;
        world.eventually("it is held again", is_held).await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_goes_with_its_collasets() {
    story(async |world: &World| {
        world.colla_set_up("shop", 2).await;
        world.delete_namespace().await;
    })
    .await;
}
