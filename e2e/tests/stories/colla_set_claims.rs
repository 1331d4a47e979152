//! PersistentVolumeClaims of a CollaSet: pods that come back find their data, and claims go with the pods that are
//! replaced.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use operon_api::{CollaSet, conditions::find, keys};
use operon_e2e::{
    colla_set::{colla_set, status},
    environment,
    prelude::*,
    workload::pod_spec,
};
use serde_json::Value;

/// A CollaSet whose pods write the name of the first pod that had a volume into it, and print what is there.
fn shop(class: &str, replicas: i32) -> Value {
    let mut pod = pod_spec();
    let script =
        "[ -f /data/first ] || echo $HOSTNAME > /data/first; cat /data/first; exec sleep 1000000";
    pod["containers"][0]["command"] = json!(["sh", "-c", script]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let mut object = colla_set("shop", replicas, &pod);
    object["spec"]["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }]);
    object["spec"]["updateStrategy"] = json!({"podUpgradePolicy": "Recreate"});
    object
}

/// PersistentVolumes of a class of the story's own, which no provisioner creates.
struct Volumes {
    api: Api<PersistentVolume>,
    class: String,
    count: usize,
}

impl Volumes {
    async fn create(world: &World, count: usize) -> Self {
        let class = world.named("class");
        let api = Api::all(world.client.clone());
        for index in 0..count {
            let volume = json!({
                "metadata": {"name": format!("{class}-{index}")},
                "spec": {
                    "capacity": {"storage": "1Mi"},
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": class,
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": format!("/tmp/{class}-{index}"), "type": "DirectoryOrCreate"},
                },
            });
            let volume = serde_json::from_value(volume).expect("a PersistentVolume");
            let created = api.create(&PostParams::default(), &volume).await;
            created.expect("a PersistentVolume of our own");
        }
        Self { api, class, count }
    }

    async fn delete(self) {
        for index in 0..self.count {
            let name = format!("{}-{index}", self.class);
            let _ = self.api.delete(&name, &DeleteParams::default()).await;
        }
    }
}

/// The claim of each pod, by the pod's instance id.
fn claims(pods: &[Pod]) -> BTreeMap<String, String> {
    let claim = |pod: &Pod| {
        let volumes = pod.spec.clone()?.volumes?;
        let mut claims = volumes
            .into_iter()
            .filter_map(|one| one.persistent_volume_claim);
        Some(claims.next()?.claim_name)
    };
    let id = |pod: &Pod| pod.labels().get(keys::INSTANCE_ID).cloned();
    let all = pods.iter().filter_map(|pod| Some((id(pod)?, claim(pod)?)));
    all.collect()
}

/// What a pod found in its volume: the name of the first pod that had it.
async fn found(world: &World, pod: &Pod) -> String {
    let said = world.kubectl_says(&["logs", &pod.name_any()]).await;
    said.trim().to_owned()
}

#[tokio::test]
async fn pods_find_their_data_again_and_a_replaced_pod_leaves_none() {
    story(async |world: &World| {
        let volumes = Volumes::create(world, 4).await;
        world.make::<CollaSet>(shop(&volumes.class, 2)).await;
        let first = world.colla_set_serves("shop", 2).await;
        let before = claims(&first);
        assert_eq!(before.len(), 2, "{before:?}");
        for name in before.values() {
            let claim: PersistentVolumeClaim = world.get(name).await.expect("a claim");
            assert!(name.starts_with("shop-data-"), "{name}");
            assert_eq!(claim.labels()[keys::CLAIM_TEMPLATE], "data");
            assert_eq!(claim.owner_references().len(), 1);
        }
        let mut spec = shop(&volumes.class, 2)["spec"]["template"].clone();
        spec["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let edited = json!({"spec": {"template": spec}});
        world.patch::<CollaSet>("shop", edited).await;
        world
            .eventually("all pods are created again", async || {
                let pods = world.colla_set_serves("shop", 2).await;
                let old = names(&first);
                ensure!(
                    !names(&pods).iter().any(|name| old.contains(name)),
                    "not yet"
                );
                Ok(())
            })
            .await;
        let second = world.colla_set_serves("shop", 2).await;
        assert_eq!(claims(&second), before, "the same claims");
        if environment::has_containers() {
            for pod in &second {
                assert!(names(&first).contains(&found(world, pod).await));
            }
        }

        let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain"}});
        let with_id = |id: &str| {
            second
                .iter()
                .find(|pod| pod.labels()[keys::INSTANCE_ID] == *id)
        };
        let leaving = with_id("1").expect("a pod with the id 1").name_any();
        let cost = json!({"controller.kubernetes.io/pod-deletion-cost": "-1"});
        let metadata = json!({"metadata": {"annotations": cost}});
        world.patch::<Pod>(&leaving, metadata).await;
        let to_one = json!({"spec": {"replicas": 1, "scaleStrategy": policy}});
        world.patch::<CollaSet>("shop", to_one).await;
        world.gone::<Pod>(&leaving).await;
        let to_two = json!({"spec": {"replicas": 2}});
        world.patch::<CollaSet>("shop", to_two).await;
        let second = world.colla_set_serves("shop", 2).await;
        assert_eq!(
            claims(&second),
            before,
            "the retained claim is mounted again"
        );

        let replaced = second[0].name_any();
        let id = second[0].labels()[keys::INSTANCE_ID].clone();
        let request = json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}});
        world.patch::<Pod>(&replaced, request).await;
        world.gone::<Pod>(&replaced).await;
        let third = world.colla_set_serves("shop", 2).await;
        assert!(!claims(&third).values().any(|name| *name == before[&id]));
        world.gone::<PersistentVolumeClaim>(&before[&id]).await;
        let new = third
            .iter()
            .find(|pod| pod.labels()[keys::INSTANCE_ID] == "2");
        let new = new.expect("a new pod with an id of its own");
        if environment::has_containers() {
            assert_eq!(found(world, new).await, new.name_any(), "an empty volume");
        }

        world.delete::<CollaSet>("shop").await;
        for name in claims(&third).values() {
            world.gone::<PersistentVolumeClaim>(name).await;
        }
        volumes.delete().await;
    })
    .await;
}

#[tokio::test]
async fn a_claim_without_a_volume_is_named_and_one_that_is_retained_outlives_its_set() {
    story(async |world: &World| {
        let class = world.named("class");
        let mut object = shop(&class, 1);
        object["spec"]["scaleStrategy"] =
            json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}});
        world.make::<CollaSet>(object.clone()).await;
        let words = "which is Pending: ProvisioningFailed: ";
        world
            .eventually("the claim is named", async || {
                let conditions = status(&world.get::<CollaSet>("shop").await?).conditions;
                let available = find(&conditions, "Available").context("no condition")?;
                ensure!(available.message.contains(words), "{available:?}");
                Ok(())
            })
            .await;
        let pods = world.pods("shop").await.expect("pods");
        let claim = claims(&pods)["0"].clone();
        let waiting = world.get::<PersistentVolumeClaim>(&claim).await;
        assert!(waiting.expect("a claim").owner_references().is_empty());
        world.delete::<CollaSet>("shop").await;
        world.gone::<CollaSet>("shop").await;
        let volume = json!({
            "metadata": {"name": class},
            "spec": {
                "capacity": {"storage": "1Mi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": class,
                "hostPath": {"path": format!("/tmp/{class}"), "type": "DirectoryOrCreate"},
            },
        });
        let api: Api<PersistentVolume> = Api::all(world.client.clone());
        let volume = serde_json::from_value(volume).expect("a PersistentVolume");
        let created = api.create(&PostParams::default(), &volume).await;
        created.expect("a PersistentVolume of our own");
        world.make::<CollaSet>(object).await;
        let pods = world.colla_set_serves("shop", 1).await;
        assert_eq!(claims(&pods)["0"], claim, "the claim that was retained");
        let _ = api.delete(&class, &DeleteParams::default()).await;
    })
    .await;
}

#[tokio::test]
async fn claim_templates_that_cannot_be_used_are_refused() {
    story(async |world: &World| {
        let template =
            json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        let unnamed = json!({"spec": {"accessModes": ["ReadWriteOnce"]}});
        let modeless = json!({"metadata": {"name": "data"}, "spec": {}});
        for (templates, words) in [
            (
                json!([template, template]),
                "two volumeClaimTemplates have the same metadata.name",
            ),
            (
                json!([unnamed]),
                "volumeClaimTemplates[0].metadata: Required value",
            ),
            (
                json!([modeless]),
                "volumeClaimTemplates[0].spec.accessModes: Required value",
            ),
        ] {
            let mut object = colla_set("shop", 0, &pod_spec());
            object["spec"]["volumeClaimTemplates"] = templates;
            let refused = world.kubectl_apply(&object.to_string()).await;
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(said.contains(words), "{said}");
        }
    })
    .await;
}
