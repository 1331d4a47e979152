//! The ids of a CollaSet's pods, and what the ResourceContext remembers of them.

use operon_api::{CollaSet, ResourceContext};
use operon_e2e::{
    colla_set::{colla_set, instance_ids, status},
    prelude::*,
    workload::pod_spec,
};

/// The ids that a ResourceContext has of a CollaSet.
async fn remembered(world: &World, context: &str, owner: &str) -> anyhow::Result<Vec<i64>> {
    let context = world.get::<ResourceContext>(context).await?;
    let entries = context.spec.contexts.into_iter().flatten();
    let of_owner = entries.filter(|entry| {
        let data = entry.data.as_ref();
        data.and_then(|data| data.get("Owner")).map(String::as_str) == Some(owner)
    });
    Ok(of_owner.map(|entry| entry.id).collect())
}

async fn remembers(world: &World, context: &str, owner: &str, ids: &[i64]) {
    world
        .eventually(
            &format!("{context} to remember {ids:?} of {owner}"),
            async || {
                let found = remembered(world, context, owner).await?;
                ensure!(found == ids, "{found:?}");
                Ok(())
            },
        )
        .await;
}

#[tokio::test]
async fn pods_come_back_with_their_ids_even_if_the_set_and_its_context_were_deleted() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 3).await;
        remembers(world, "shop", "shop", &[0, 1, 2]).await;
        // Pods whose ids are not the smallest.
        world.delete_pod(&pods[0]).await;
        world.pod_gone(&pods[0]).await;
        let again = world.colla_set_serves("shop", 3).await;
        assert_eq!(instance_ids(&again), [0, 1, 2]);
        world
            .kubectl_says(&["delete", "cls", "shop", "--cascade=orphan"])
            .await;
        world.gone::<CollaSet>("shop").await;
        remembers(world, "shop", "shop", &[0, 1, 2]).await;
        let second = again
            .iter()
            .find(|pod| instance_ids(std::slice::from_ref(pod)) == [1]);
        let second = second.expect("a pod with id 1");
        world.delete_pod(second).await;
        world.pod_gone(second).await;
        let after = world.colla_set_up("shop", 3).await;
        assert_eq!(instance_ids(&after), [0, 1, 2]);
        let kept = names(&after)
            .into_iter()
            .filter(|name| names(&again).contains(name));
        assert_eq!(kept.count(), 2, "nothing restarted");
        world
            .kubectl_says(&["delete", "resourcecontext", "shop"])
            .await;
        remembers(world, "shop", "shop", &[0, 1, 2]).await;
        let spoilt = json!([{"id": 0, "data": {"Owner": "ghost"}}, {"id": -1}, {"id": 0}]);
        world
            .patch::<ResourceContext>("shop", json!({"spec": {"contexts": spoilt}}))
            .await;
        remembers(world, "shop", "shop", &[0, 1, 2]).await;
        let same = world.colla_set_serves("shop", 3).await;
        assert_eq!(names(&same), names(&after));
        world.kubectl_says(&["delete", "cls", "shop"]).await;
        world.gone::<ResourceContext>("shop").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_comes_back_at_the_revision_that_is_remembered_of_it() {
    story(async |world: &World| {
        let before = world.colla_set_up("shop", 3).await;
        let old = before[0].labels()["controller-revision-hash"].clone();
        let mut pod = pod_spec();
        pod["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let partition = json!({"rollingUpdate": {"byPartition": {"partition": 1}}});
        let spec = json!({"template": {"spec": pod}, "updateStrategy": partition});
        world.patch::<CollaSet>("shop", json!({"spec": spec})).await;
        world
            .eventually("the update to reach the partition", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                ensure!(status.updated_available_replicas == 2, "{status:?}");
                ensure!(status.available_replicas == 3, "{status:?}");
                Ok(())
            })
            .await;
        let revisions = async || {
            let pods = world.colla_set_serves("shop", 3).await;
            let of = |pod: &Pod| {
                let labels = pod.labels();
                let id = labels["collaset.kusionstack.io/instance-id"].clone();
                (id, labels["controller-revision-hash"].clone())
            };
            (
                pods.iter()
                    .map(of)
                    .collect::<std::collections::BTreeMap<_, _>>(),
                pods,
            )
        };
        let (expected, pods) = revisions().await;
        assert_eq!(expected.values().filter(|one| **one == old).count(), 1);
        remembers(world, "shop", "shop", &[0, 1, 2]).await;
        for pod in &pods {
            world.delete_pod(pod).await;
        }
        for pod in &pods {
            world.pod_gone(pod).await;
        }
        assert_eq!(revisions().await.0, expected);
    })
    .await;
}

#[tokio::test]
async fn two_sets_that_share_a_context_never_have_the_same_id() {
    story(async |world: &World| {
        for name in ["blue", "green"] {
            let mut object = colla_set(name, 4, &pod_spec());
            object["spec"]["scaleStrategy"] = json!({"context": "pool"});
            world.make::<CollaSet>(object).await;
        }
        let both = async |each: i32| {
            let mut pods = world.colla_set_serves("blue", each).await;
            pods.extend(world.colla_set_serves("green", each).await);
            instance_ids(&pods)
        };
        assert_eq!(both(4).await, [0, 1, 2, 3, 4, 5, 6, 7]);
        for name in ["cls/blue", "cls/green"] {
            world.kubectl_says(&["scale", name, "--replicas=6"]).await;
        }
        let ids = both(6).await;
        assert_eq!(ids, (0..12).collect::<Vec<_>>());
        let edit = json!({"spec": {"scaleStrategy": {"context": "other"}}}).to_string();
        let refused = world
            .kubectl(&["patch", "cls", "blue", "--type=merge", "-p", &edit])
            .await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            said.contains("scaleStrategy.context can't be changed"),
            "{said}"
        );
        world.kubectl_says(&["delete", "cls", "blue"]).await;
        world.gone::<CollaSet>("blue").await;
        world
            .kubectl_says(&["scale", "cls/green", "--replicas=12"])
            .await;
        let green = world.colla_set_serves("green", 12).await;
        assert_eq!(
            instance_ids(&green),
            (0..12).collect::<Vec<_>>(),
            "its ids are free again"
        );
    })
    .await;
}

#[tokio::test]
async fn pods_that_are_named_by_their_ids_come_back_with_their_names() {
    story(async |world: &World| {
        let mut object = colla_set("shop", 3, &pod_spec());
        object["spec"]["namingStrategy"] = json!({"podNamingSuffixPolicy": "PersistentSequence"});
        world.make::<CollaSet>(object).await;
        let sorted = |pods: &[Pod]| {
            let mut all = names(pods);
            all.sort();
            all
        };
        let pods = world.colla_set_serves("shop", 3).await;
        assert_eq!(sorted(&pods), ["shop-0", "shop-1", "shop-2"]);
        world.delete_pod(&pods[0]).await;
        world.pod_gone(&pods[0]).await;
        let again = world.colla_set_serves("shop", 3).await;
        assert_eq!(sorted(&again), ["shop-0", "shop-1", "shop-2"]);
        world
            .kubectl_says(&[
                "label",
                "pod",
                "shop-1",
                "collaset.kusionstack.io/to-replace=true",
            ])
            .await;
        world
            .pod_gone(
                again
                    .iter()
                    .find(|pod| pod.name_any() == "shop-1")
                    .expect("the pod"),
            )
            .await;
        let replaced = world.colla_set_serves("shop", 3).await;
        assert_eq!(sorted(&replaced), ["shop-0", "shop-2", "shop-3"]);
        let mut pod = pod_spec();
        pod["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        world
            .patch::<CollaSet>("shop", json!({"spec": {"template": {"spec": pod}}}))
            .await;
        world
            .eventually("all pods to be created again", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                ensure!(status.updated_available_replicas == 3, "{status:?}");
                Ok(())
            })
            .await;
        let updated = world.colla_set_serves("shop", 3).await;
        assert_eq!(sorted(&updated), ["shop-0", "shop-2", "shop-3"]);
    })
    .await;
}
