//! A CollaSet's life: its pods come and go as it says, each with a number, in and out of service by the
//! lifecycle.

use k8s_openapi::api::apps::v1::ControllerRevision;
use operon_api::{
    CollaSet,
    conditions::{POD_DECORATIONS_NOT_APPLIED, find},
};
use operon_e2e::{
    colla_set::{colla_set, instance_ids, status},
    kubectl::rows,
    prelude::*,
    workload::pod_spec,
};

const EXAMPLE: &str = include_str!("../../../examples/collaset/collaset.yaml");

const AVAILABLE: &str = "podopslifecycle.kusionstack.io/service-available";

#[tokio::test]
async fn the_example_is_printed_in_the_columns_of_the_documents() {
    story(async |world: &World| {
        let applied = world.kubectl_apply(EXAMPLE).await;
        assert!(applied.status.success(), "{applied:?}");
        world
            .kubectl_says(&[
                "wait",
                "--for=condition=Available",
                "cls/foo",
                "--timeout=120s",
            ])
            .await;
        let pods = world.colla_set_serves("foo", 2).await;
        let table = world.kubectl_says(&["get", "cls"]).await;
        let rows = rows(&table);
        let head = [
            "NAME",
            "DESIRED",
            "CURRENT",
            "AVAILABLE",
            "UPDATED",
            "UPDATED_READY",
            "UPDATED_AVAILABLE",
            "CURRENT_REVISION",
            "UPDATED_REVISION",
            "AGE",
        ];
        assert_eq!(rows[0], head);
        assert_eq!(rows[1][..7], ["foo", "2", "2", "2", "2", "2", "2"]);
        let revision = rows[1][7];
        assert_eq!(rows[1][8], revision);
        let digest = revision.strip_prefix("foo-").expect("the name of the set");
        assert_eq!(digest.len(), 10, "{revision}");
        for pod in &pods {
            let name = pod.name_any();
            assert_eq!(name.strip_prefix("foo-").map(str::len), Some(5), "{name}");
            assert!(pod.labels().contains_key(AVAILABLE), "{:?}", pod.labels());
            assert_eq!(pod.labels()["controller-revision-hash"], revision);
        }
        assert_eq!(instance_ids(&pods), [0, 1]);
        let wide = world.kubectl_says(&["get", "cls", "-o", "wide"]).await;
        assert!(wide.contains("localhost/busybox:1.35"), "{wide}");
        assert!(wide.contains("app=foo"), "{wide}");
    })
    .await;
}

#[tokio::test]
async fn kubectl_scale_brings_pods_and_takes_them_out_of_service_before_they_go() {
    story(async |world: &World| {
        let two = world.colla_set_up("shop", 2).await;
        world
            .kubectl_says(&["scale", "cls/shop", "--replicas=5"])
            .await;
        let five = world.colla_set_serves("shop", 5).await;
        assert_eq!(instance_ids(&five), [0, 1, 2, 3, 4]);
        for pod in &two {
            assert!(names(&five).contains(&pod.name_any()), "it was kept");
        }
        world
            .kubectl_says(&["scale", "cls/shop", "--replicas=1"])
            .await;
        let one = world.colla_set_serves("shop", 1).await;
        world
            .events_about("shop", &["PodsCreated", "ScaledIn"])
            .await;
        for pod in five
            .iter()
            .filter(|pod| pod.name_any() != one[0].name_any())
        {
            world
                .events_about(&pod.name_any(), &["ServiceNotReady"])
                .await;
        }
        world
            .kubectl_says(&["scale", "cls/shop", "--replicas=2"])
            .await;
        let again = world.colla_set_serves("shop", 2).await;
        assert_eq!(instance_ids(&again).len(), 2);
        let known = names(&five);
        let fresh = names(&again)
            .into_iter()
            .filter(|name| !known.contains(name));
        assert_eq!(fresh.count(), 1, "no name is used again");
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pod_is_created_again_at_the_revision_that_the_partition_keeps() {
    story(async |world: &World| {
        let before = world.colla_set_up("shop", 2).await;
        let revision = before[0].labels()["controller-revision-hash"].clone();
        let mut pod = pod_spec();
        pod["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let partition = json!({"rollingUpdate": {"byPartition": {"partition": 2}}});
        let spec = json!({"template": {"spec": pod}, "updateStrategy": partition});
        world.patch::<CollaSet>("shop", json!({"spec": spec})).await;
        world
            .eventually("the revision of the new template", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                ensure!(
                    status.updated_revision.as_ref() != Some(&revision),
                    "{status:?}"
                );
                Ok(())
            })
            .await;
        world.delete_pod(&before[0]).await;
        world.pod_gone(&before[0]).await;
        for pod in world.colla_set_serves("shop", 2).await {
            assert_eq!(pod.labels()["controller-revision-hash"], revision);
        }
        let none = json!({"spec": {"updateStrategy": null}});
        world.patch::<CollaSet>("shop", none).await;
        for pod in world.colla_set_serves("shop", 2).await {
            assert_ne!(pod.labels()["controller-revision-hash"], revision);
        }
        let revisions = world.list::<ControllerRevision>().await.expect("revisions");
        assert_eq!(revisions.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_work_is_named_in_the_condition() {
    story(async |world: &World| {
        let mut object = colla_set("shop", 1, &pod_spec());
        object["spec"]["selector"] = json!({"matchLabels": {"app": "other"}});
        world.make::<CollaSet>(object).await;
        says(
            world,
            "shop",
            "InvalidSelector",
            "does not match spec.template.metadata.labels",
        )
        .await;
        let mut pod = pod_spec();
        pod["containers"][0]["name"] = json!("No_Name");
        world.make::<CollaSet>(colla_set("refused", 1, &pod)).await;
        says(
            world,
            "refused",
            "RequestRefused",
            "spec.containers[0].name",
        )
        .await;
    })
    .await;
}

/// Waits until `Ready` has this reason, and these words in its message.
async fn says(world: &World, name: &str, reason: &str, words: &str) {
    world
        .eventually(&format!("CollaSet {name} to say {reason}"), async || {
            let object = world.get::<CollaSet>(name).await?;
            let status = status(&object);
            let ready = operon_api::conditions::find(&status.conditions, "Ready");
            let ready = ready.context("no condition")?;
            ensure!(
                ready.reason == reason && ready.message.contains(words),
                "{ready:?}"
            );
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn pods_are_adopted_by_labels_and_kept_when_the_set_is_deleted_with_orphans() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 2).await;
        world
            .kubectl_says(&["delete", "cls", "shop", "--cascade=orphan"])
            .await;
        world.gone::<CollaSet>("shop").await;
        let left = world.pods("shop").await.expect("the pods");
        assert_eq!(left.len(), 2);
        let again = world.colla_set_up("shop", 2).await;
        assert_eq!(names(&again), names(&pods));
        assert_eq!(instance_ids(&again), [0, 1]);
    })
    .await;
}

/// KusionStack's kind, with the fields that count here.
const POD_DECORATIONS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: poddecorations.apps.kusionstack.io
spec:
  group: apps.kusionstack.io
  scope: Namespaced
  names: {kind: PodDecoration, plural: poddecorations, singular: poddecoration, shortNames: [pd]}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

const DECORATION: &str = r#"
apiVersion: apps.kusionstack.io/v1alpha1
kind: PodDecoration
metadata:
  name: sidecar
spec:
  selector:
    matchLabels: {app: shop}
  template:
    containers: [{name: sidecar, image: "localhost/busybox:1.35"}]
"#;

/// Waits until the CollaSet says that this PodDecoration is not applied, or says nothing of the kind.
async fn says_decorated(world: &World, by: Option<&str>) {
    world
        .eventually("what is said of PodDecorations", async || {
            let status = status(&world.get::<CollaSet>("shop").await?);
            let found = find(&status.conditions, POD_DECORATIONS_NOT_APPLIED);
            let message = found.map(|found| found.message.as_str());
            let is_said = match by {
                Some(name) => message.is_some_and(|message| message.contains(name)),
                None => message.is_none(),
            };
            ensure!(is_said, "{status:?}");
            Ok(())
        })
        .await;
}

#[tokio::test]
async fn pod_decorations_are_named_as_not_applied_while_their_kind_exists_and_they_select_the_pods()
{
    story(async |world: &World| {
        world.colla_set_up("shop", 1).await;
        let applied = world.kubectl_apply(POD_DECORATIONS).await;
        assert!(applied.status.success(), "{applied:?}");
        let crd = "crd/poddecorations.apps.kusionstack.io";
        world
            .kubectl_says(&["wait", "--for=condition=Established", crd])
            .await;
        world
            .eventually("the PodDecoration to be accepted", async || {
                let applied = world.kubectl_apply(DECORATION).await;
                ensure!(applied.status.success(), "{applied:?}");
                Ok(())
            })
            .await;
        says_decorated(world, Some("sidecar")).await;
        let select = async |app: &str| {
            let patch = format!(r#"{{"spec":{{"selector":{{"matchLabels":{{"app":"{app}"}}}}}}}}"#);
            let patch = ["patch", "pd/sidecar", "--type=merge", "--patch", &patch];
            world.kubectl_says(&patch).await;
        };
        select("other").await;
        says_decorated(world, None).await;
        select("shop").await;
        says_decorated(world, Some("sidecar")).await;
        world
            .events_about("shop", &[POD_DECORATIONS_NOT_APPLIED])
            .await;
        world.kubectl_says(&["delete", crd]).await;
        says_decorated(world, None).await;
        world.colla_set_serves("shop", 1).await;
    })
    .await;
}
