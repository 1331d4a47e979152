//! Replace, when the owner of the pods changes its mind meanwhile: rolled out, scaled, deleted. The job
//! ends, and there are as many pods as the owner asks for.

use k8s_openapi::api::{apps::v1::Deployment as DeploymentObject, core::v1::Namespace};
use kube::api::DeleteParams;
use operon_e2e::{prelude::*, workload::pod_spec};

#[tokio::test]
async fn a_rollout_during_a_replacement_ends_both() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
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
        world
            .patch::<DeploymentObject>(
                "foo",
                json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}),
            )
            .await;
        let next = |pod: &Pod| pod.annotations().contains_key("version");
        world
            .eventually("the rollout and the job end", async || {
                for pod in world
                    .pods("foo")
                    .await?
                    .iter()
                    .filter(|pod| next(pod) && !pod.is_ready())
                {
                    world.open(pod).await;
                }
                let found = world.job("opj").await?;
                ensure!(job::progress(&found).is_finished(), "{:?}", found.status);
                let pods = world.pods("foo").await?;
                ensure!(
                    pods.len() == 2 && pods.iter().all(|pod| next(pod) && pod.is_ready()),
                    "{:?}",
                    names(&pods)
                );
                Ok(())
            })
            .await;
        world.pod_gone(&new).await;
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_deployment_scaled_down_during_a_replacement_has_as_many_pods_as_it_asks_for() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 3).gated().up(world).await;
        let targets = names(&before[..2]);
        world.create(&Job::replace("opj", &targets).object()).await;
        for target in &targets {
            world
                .job_until("opj", "knows the new pod", |found| {
                    job::new_pod(found, target).is_some()
                })
                .await;
        }
        world.scale("foo", 1).await.expect("scaled");
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        for target in &targets {
            assert_eq!(
                job::error(&done, target).reason,
                "OwnerScaledDown",
                "{:?}",
                done.status
            );
        }
        world.settled("foo", 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_deployment_scaled_to_nothing_during_a_replacement_has_no_pod_left() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        world.scale("foo", 0).await.expect("scaled");
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        assert_eq!(job::error(&done, &target).reason, "OwnerScaledDown");
        world.exactly("foo", 0, |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn a_deployment_deleted_during_a_replacement_leaves_no_pod() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        world.delete::<DeploymentObject>("foo").await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        assert_eq!(job::error(&done, &target).reason, "OwnerScaledDown");
        world.exactly("foo", 0, |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_and_its_deployment_deleted_together_leave_no_pod() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let targets = names(&before);
        world.create(&Job::replace("opj", &targets).object()).await;
        for target in &targets {
            world
                .job_until("opj", "knows the new pod", |found| {
                    job::new_pod(found, target).is_some()
                })
                .await;
        }
        tokio::join!(
            world.delete::<DeploymentObject>("foo"),
            world.delete::<OperationJob>("opj")
        );
        world.gone::<OperationJob>("opj").await;
        world.exactly("foo", 0, |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_deleted_during_a_replacement_goes() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        world
            .make::<Pod>(json!({"metadata": {"name": "solo"}, "spec": pod_spec()}))
            .await;
        let mut targets = names(&before);
        targets.push("solo".to_owned());
        world.set_quota(5).await;
        world.create(&Job::replace("opj", &targets).object()).await;
        world
            .job_until("opj", "knows a new pod", |found| {
                job::new_pod(found, &targets[0]).is_some()
            })
            .await;
        let namespaces: kube::Api<Namespace> = kube::Api::all(world.client.clone());
        namespaces
            .delete(&world.namespace, &DeleteParams::default())
            .await
            .expect("deleted");
        world
            .eventually("the namespace is gone", async || {
                let found = namespaces.get_opt(&world.namespace).await?;
                ensure!(found.is_none(), "{:?}", found.and_then(|n| n.status));
                Ok(())
            })
            .await;
    })
    .await;
}
