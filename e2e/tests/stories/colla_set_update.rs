//! An edited template reaches the pods of a CollaSet: in place, by creating pods again, or by replacing them.

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::ContainerStatus};
use operon_api::{CollaSet, keys};
use operon_e2e::{
    colla_set::{colla_set, status},
    prelude::*,
    workload::pod_spec,
};

/// Edits the template, and waits until all pods have it and serve.
async fn update(world: &World, spec: serde_json::Value, replicas: i32) -> Vec<Pod> {
    let edited = world.patch::<CollaSet>("shop", json!({"spec": spec})).await;
    let generation = edited.metadata.generation;
    world
        .eventually("all pods are updated and serve", async || {
            let object = world.get::<CollaSet>("shop").await?;
            let status = status(&object);
            ensure!(status.observed_generation == generation, "{status:?}");
            ensure!(status.updated_available_replicas == replicas, "{status:?}");
            ensure!(
                status.current_revision == status.updated_revision,
                "{status:?}"
            );
            Ok(())
        })
        .await;
    world.colla_set_serves("shop", replicas).await
}

fn main_container(pod: &Pod) -> ContainerStatus {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| &status.container_statuses);
    let mut statuses = statuses.flatten();
    statuses.next().expect("a container").clone()
}

#[tokio::test]
async fn an_image_is_changed_in_place_one_pod_at_a_time() {
    story(async |world: &World| {
        let before = world.colla_set_up("shop", 3).await;
        let endpoints = world.service("shop", 3).await;
        let mut pod = pod_spec();
        pod["containers"][0]["image"] = json!("localhost/busybox:1.36");
        let after = update(world, json!({"template": {"spec": pod}}), 3).await;
        assert_eq!(pods::identities(&after), pods::identities(&before));
        for (old, new) in before.iter().zip(&after) {
            let (old, new) = (main_container(old), main_container(new));
            assert_ne!(old.container_id, new.container_id);
            assert_eq!(new.restart_count, 1);
        }
        for pod in &after {
            let image = pod.spec.as_ref().expect("a spec").containers[0]
                .image
                .clone();
            assert_eq!(image.as_deref(), Some("localhost/busybox:1.36"));
            let left = pod
                .labels()
                .keys()
                .filter(|key| key.contains("collaset") && key.contains("podopslifecycle"));
            assert_eq!(left.count(), 0, "{:?}", pod.labels());
        }
        assert!(
            endpoints.least() >= 2,
            "{} endpoints for a while",
            endpoints.least()
        );
    })
    .await;
}

#[tokio::test]
async fn cpu_and_memory_are_changed_in_place_without_a_restart() {
    story(async |world: &World| {
        let before = world.colla_set_up("shop", 2).await;
        let endpoints = world.service("shop", 2).await;
        let sized = |cpu: &str, memory: &str| {
            let mut pod = pod_spec();
            let requests = json!({"cpu": cpu, "memory": memory});
            pod["containers"][0]["resources"] = json!({"requests": requests});
            json!({"template": {"spec": pod}})
        };
        // Pods without requests are of another class, so they are created again.
        let first = update(world, sized("10m", "16Mi"), 2).await;
        assert_ne!(pods::identities(&first), pods::identities(&before));
        let after = update(world, sized("20m", "24Mi"), 2).await;
        assert_eq!(pods::identities(&after), pods::identities(&first));
        for (old, new) in first.iter().zip(&after) {
            let (old, new) = (main_container(old), main_container(new));
            assert_eq!(old.container_id, new.container_id);
            assert_eq!(new.restart_count, 0);
        }
        for pod in &after {
            let spec = json!(pod.spec);
            let requests = &spec["containers"][0]["resources"]["requests"];
            assert_eq!(*requests, json!({"cpu": "20m", "memory": "24Mi"}));
        }
        assert!(
            endpoints.least() >= 1,
            "{} endpoints for a while",
            endpoints.least()
        );
    })
    .await;
}

#[tokio::test]
async fn what_cannot_change_in_place_is_created_again_and_rolled_back_without_touching_pods_that_have_it()
 {
    story(async |world: &World| {
        let before = world.colla_set_up("shop", 3).await;
        let endpoints = world.service("shop", 3).await;
        let mut pod = pod_spec();
        pod["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let partition = json!({"rollingUpdate": {"byPartition": {"partition": 2}}});
        let spec = json!({"template": {"spec": pod}, "updateStrategy": partition});
        world.patch::<CollaSet>("shop", json!({"spec": spec})).await;
        world
            .eventually("one pod is updated", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                ensure!(status.updated_available_replicas == 1, "{status:?}");
                ensure!(status.available_replicas == 3, "{status:?}");
                Ok(())
            })
            .await;
        let half = names(&world.colla_set_serves("shop", 3).await);
        let kept = before.iter().filter(|pod| half.contains(&pod.name_any()));
        assert_eq!(kept.count(), 2);
        let back = json!({
            "template": {"spec": {"containers": pod_spec()["containers"]}},
            "updateStrategy": null,
        });
        let after = update(world, back, 3).await;
        for pod in before.iter().filter(|pod| half.contains(&pod.name_any())) {
            assert!(
                names(&after).contains(&pod.name_any()),
                "it had the template already"
            );
        }
        assert!(
            endpoints.least() >= 2,
            "{} endpoints for a while",
            endpoints.least()
        );
    })
    .await;
}

#[tokio::test]
async fn a_template_with_characters_that_json_may_escape_is_rolled_back_and_its_revisions_orphaned()
{
    story(async |world: &World| {
        let mut pod = pod_spec();
        let script = "true && sleep 1000000 </dev/null >/dev/null";
        pod["containers"][0]["command"] = json!(["sh", "-c", script]);
        world.make::<CollaSet>(colla_set("shop", 1, &pod)).await;
        let first = world.colla_set_serves("shop", 1).await;
        let image = pod["containers"][0]["image"].take();
        for image in [json!("localhost/busybox:1.36"), image] {
            pod["containers"][0]["image"] = image;
            update(world, json!({"template": {"spec": pod}}), 1).await;
        }
        let revisions = world.list::<ControllerRevision>().await.expect("revisions");
        assert_eq!(
            revisions.len(),
            2,
            "the first template is its revision again"
        );
        world
            .kubectl_says(&["delete", "cls", "shop", "--cascade=orphan"])
            .await;
        world.gone::<CollaSet>("shop").await;
        let left = world.pods("shop").await.expect("the pods");
        assert_eq!(pods::identities(&left), pods::identities(&first));
    })
    .await;
}

#[tokio::test]
async fn pods_are_replaced_by_new_ones_of_the_new_template_and_the_service_never_has_fewer() {
    story(async |world: &World| {
        let before = world.colla_set_up("shop", 2).await;
        let endpoints = world.service("shop", 2).await;
        let mut pod = pod_spec();
        pod["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let strategy = json!({"podUpgradePolicy": "Replace"});
        let spec = json!({"template": {"spec": pod}, "updateStrategy": strategy});
        let after = update(world, spec, 2).await;
        assert!(
            names(&after)
                .iter()
                .all(|name| !names(&before).contains(name))
        );
        assert!(
            endpoints.least() >= 2,
            "{} endpoints for a while",
            endpoints.least()
        );
    })
    .await;
}

#[tokio::test]
async fn by_label_only_labelled_pods_are_updated_and_they_lose_the_label() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 2).await;
        let mut pod = pod_spec();
        pod["containers"][0]["image"] = json!("localhost/busybox:1.36");
        let by_label = json!({"rollingUpdate": {"byLabel": {}}});
        let both = json!({"rollingUpdate": {"byLabel": {}, "byPartition": {"partition": 1}}});
        let mut refused = colla_set("both", 0, &pod);
        refused["spec"]["updateStrategy"] = both;
        let refused = world.kubectl_apply(&refused.to_string()).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let words = "byLabel and byPartition must not both be set";
        assert!(said.contains(words), "{said}");
        let spec = json!({"template": {"spec": pod}, "updateStrategy": by_label});
        world.patch::<CollaSet>("shop", json!({"spec": spec})).await;
        let included = json!({"metadata": {"labels": {(keys::UPDATE_INCLUDED): "true"}}});
        world.patch::<Pod>(&pods[0].name_any(), included).await;
        world
            .eventually("one pod is updated", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                ensure!(status.updated_available_replicas == 1, "{status:?}");
                ensure!(status.available_replicas == 2, "{status:?}");
                let pod: Pod = world.get(&pods[0].name_any()).await?;
                let labels = pod.labels();
                ensure!(!labels.contains_key(keys::UPDATE_INCLUDED), "{labels:?}");
                Ok(())
            })
            .await;
        let other: Pod = world.get(&pods[1].name_any()).await.expect("the pod");
        assert_eq!(main_container(&other).restart_count, 0);
        world.colla_set_serves("shop", 2).await;
    })
    .await;
}
