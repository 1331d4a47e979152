//! Who owns a pod while it is replaced, as only a real control plane shows it: what a drain says, what the
//! garbage collector does with the pod, and what a budget allows.

use k8s_openapi::api::{
    apps::v1::{Deployment as DeploymentObject, ReplicaSet},
    policy::v1::PodDisruptionBudget,
};
use kube::api::DeleteParams;
use operon_e2e::{
    plugin::{Plugin, REPLACE_VERBS},
    prelude::*,
};

/// A Deployment of two pods, of which the first is released and its new pod is not ready yet.
async fn replacing(world: &World) -> (Vec<Pod>, String, Pod) {
    let before = Deployment::of("foo", 2).gated().up(world).await;
    let target = before[0].name_any();
    world
        .create(&Job::replace("opj", &[&target]).object())
        .await;
    let new = world.another_pod("foo", &before).await;
    world
        .job_until("opj", "knows the new pod", |found| {
            job::new_pod(found, &target).is_some()
        })
        .await;
    (before, target, new)
}

#[tokio::test]
async fn a_drain_of_the_node_of_a_released_pod_is_not_refused() {
    story(async |world: &World| {
        let (_, target, _) = replacing(world).await;
        let pod: Pod = world.get(&target).await.expect("the old pod is there");
        let owner = pod.controller().map(|owner| owner.kind.clone());
        assert_eq!(owner.as_deref(), Some("Deployment"));
        let node = pod.spec.and_then(|spec| spec.node_name);
        let node = node.expect("it runs on a node");
        let output = world
            .kubectl(&[
                "drain",
                &node,
                "--pod-selector=app=foo",
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--dry-run=server",
            ])
            .await;
        // Pods of other stories are on the node too, and some of those have no controller.
        let said = String::from_utf8_lossy(&output.stderr);
        let pod = format!("{}/{target}", world.namespace);
        let refusals = said.lines().filter(|line| line.contains("cannot delete"));
        for refusal in refusals {
            assert!(!refusal.contains(&pod), "{refusal}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_released_pod_goes_with_its_deployment_deleted_in_the_background() {
    story(async |world: &World| goes_with_its_deployment(world, DeleteParams::background()).await)
        .await;
}

#[tokio::test]
async fn a_released_pod_goes_with_its_deployment_deleted_in_the_foreground() {
    story(async |world: &World| goes_with_its_deployment(world, DeleteParams::foreground()).await)
        .await;
}

async fn goes_with_its_deployment(world: &World, how: DeleteParams) {
    replacing(world).await;
    let deployments = world.api::<DeploymentObject>();
    deployments.delete("foo", &how).await.expect("deleted");
    let done = world.finished("opj").await;
    assert_eq!(job::progress(&done), Progress::Failed);
    world.exactly("foo", 0, |_| true).await;
    world.gone::<DeploymentObject>("foo").await;
}

#[tokio::test]
async fn a_deployment_deleted_with_orphans_keeps_all_pods_and_the_replacement_ends() {
    story(async |world: &World| {
        let (before, target, new) = replacing(world).await;
        let deployments = world.api::<DeploymentObject>();
        let orphaned = deployments.delete("foo", &DeleteParams::orphan()).await;
        orphaned.expect("deleted");
        world.gone::<DeploymentObject>("foo").await;
        world
            .for_a_while("all pods stay", async || {
                let pods = world.pods("foo").await?;
                ensure!(pods.len() == 3, "{:?}", names(&pods));
                Ok(())
            })
            .await;
        world.open(&new).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert_eq!(job::new_pod(&done, &target), Some(new.name_any()));
        let after = world.settled("foo", 2).await;
        assert!(names(&after).contains(&before[1].name_any()));
        assert_eq!(world.list::<ReplicaSet>().await.expect("listed").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_job_deleted_after_its_deployment_was_orphaned_puts_the_pod_back() {
    story(async |world: &World| {
        let (before, _, _) = replacing(world).await;
        let deployments = world.api::<DeploymentObject>();
        let orphaned = deployments.delete("foo", &DeleteParams::orphan()).await;
        orphaned.expect("deleted");
        world.gone::<DeploymentObject>("foo").await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        let after = world.settled("foo", 2).await;
        assert_eq!(names(&after), names(&before));
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_a_paused_deployment_is_replaced_and_the_rollout_comes_when_it_goes_on() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let target = before[0].name_any();
        let paused = json!({"spec": {"paused": true, "template": {"metadata": {"annotations": {
            "version": "2"}}}}});
        world.patch::<DeploymentObject>("foo", paused).await;
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let new = job::new_pod(&done, &target).expect("a new pod");
        let new: Pod = world.get(&new).await.expect("the new pod is there");
        let old_version = !new.annotations().contains_key("version");
        assert!(old_version, "a paused Deployment makes no new revision");
        world.settled("foo", 2).await;
        let resumed = json!({"spec": {"paused": false}});
        world.patch::<DeploymentObject>("foo", resumed).await;
        world
            .exactly("foo", 2, |pod| pod.annotations().contains_key("version"))
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_account_that_may_not_block_the_deletion_of_a_replica_set_says_so_until_it_may() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS);
        let rules = plugin.rules().to_vec();
        let lesser = rules
            .iter()
            .filter(|rule| rule["resources"] != json!(["replicasets/finalizers"]));
        let plugin = plugin.with_rules(lesser.cloned().collect()).up(world).await;
        let before = Deployment::of("foo", 1).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::of("opj", &plugin.action, &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world.delete::<OperationJob>("opj").await;
        world
            .job_until("opj", "names what may not be set", |found| {
                let error = job::detail(found, &target).error;
                error.is_some_and(|error| error.message.contains("cannot set blockOwnerDeletion"))
            })
            .await;
        world.set_rules(&plugin.name, rules.into()).await;
        world.gone::<OperationJob>("opj").await;
        world.pod_gone(&new).await;
        let after = world.settled("foo", 1).await;
        assert_eq!(names(&after), names(&before));
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_replacement_keeps_the_old_pod_though_its_deletion_cost_is_low() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2)
            .gated()
            .min_ready_seconds(300)
            .up(world)
            .await;
        let target = before[0].name_any();
        let cheap = json!({"metadata": {"annotations": {
            "controller.kubernetes.io/pod-deletion-cost": "-100"}}});
        world.patch::<Pod>(&target, cheap).await;
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world.open(&new).await;
        world
            .job_until("opj", "waits for the new pod to stay ready", |found| {
                job::error(found, &target).reason == "NewPodNotAvailable"
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        world.pod_gone(&new).await;
        let after = world.settled("foo", 2).await;
        assert_eq!(names(&after), names(&before));
    })
    .await;
}

#[tokio::test]
async fn a_budget_keeps_the_old_pod_and_is_named_until_it_allows_the_eviction() {
    story(async |world: &World| {
        let budget = json!({"metadata": {"name": "two-must-serve"}, "spec": {
            "minAvailable": 3, "selector": {"matchLabels": {"app": "foo"}}}});
        world.make::<PodDisruptionBudget>(budget).await;
        let (_, target, new) = replacing(world).await;
        world.open(&new).await;
        let waiting = world
            .job_until("opj", "is held back by the budget", |found| {
                job::error(found, &target).reason == "DisruptionBudget"
            })
            .await;
        let message = job::error(&waiting, &target).message.clone();
        assert!(message.contains("two-must-serve"), "{message}");
        let relaxed = json!({"spec": {"minAvailable": 2}});
        world
            .patch::<PodDisruptionBudget>("two-must-serve", relaxed)
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world.settled("foo", 2).await;
    })
    .await;
}
