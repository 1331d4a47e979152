//! The built-in actions besides Replace, as the chart installs them.

use k8s_openapi::api::{
    apps::v1::StatefulSet, core::v1::ContainerStatus, policy::v1::PodDisruptionBudget,
};
use operon_e2e::{plugin::said, prelude::*, workload::pod_spec};

fn container(pod: &Pod) -> ContainerStatus {
    let status = pod.status.as_ref().expect("a status");
    let statuses = status.container_statuses.as_ref().expect("statuses");
    statuses.first().expect("a container").clone()
}

#[tokio::test]
async fn the_containers_of_a_deployment_restart_in_place() {
    story(async |world: &World| {
        let plugin = world.plugin_until("restart", "True", "Loaded").await;
        assert!(said(&plugin).contains("serves the action"));
        let before = Deployment::of("foo", 2).up(world).await;
        let targets = names(&before);
        world
            .create(&Job::of("opj", "Restart", &targets).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        let after = world.settled("foo", 2).await;
        assert_eq!(pods::identities(&after), pods::identities(&before));
        for (old, new) in before.iter().zip(&after) {
            let (old, new) = (container(old), container(new));
            assert_ne!(old.container_id, new.container_id);
            assert_eq!(old.image_id, new.image_id, "it is the same image");
            assert_eq!(new.restart_count, 1);
        }
        // The images of these nodes have no digest of a registry: a second restart has no other name for them.
        world
            .create(&Job::of("again", "Restart", &targets[..1]).object())
            .await;
        let again = world.finished("again").await;
        let error = job::error(&again, &targets[0]);
        assert_eq!(error.reason, "CannotRestartInPlace", "{error:?}");
        let untouched = world.settled("foo", 2).await;
        for (old, new) in after.iter().zip(&untouched) {
            assert_eq!(container(old).container_id, container(new).container_id);
        }
    })
    .await;
}

#[tokio::test]
async fn pods_of_a_deployment_and_of_a_stateful_set_are_recreated() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let spec = json!({"serviceName": "db", "replicas": 2,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": pod_spec()}});
        world
            .make::<StatefulSet>(json!({"metadata": {"name": "db"}, "spec": spec}))
            .await;
        let sets_pods = world.settled("db", 2).await;
        let mut targets = names(&before);
        targets.push("db-1".to_owned());
        world
            .create(&Job::of("opj", "Recreate", &targets).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        let after = world.settled("foo", 2).await;
        assert!(
            names(&after)
                .iter()
                .all(|name| !names(&before).contains(name))
        );
        let after = world.settled("db", 2).await;
        for (old, new) in sets_pods.iter().zip(&after) {
            assert_eq!(old.name_any(), new.name_any());
            assert_eq!(old.uid() == new.uid(), old.name_any() == "db-0");
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_evicted_when_its_budget_allows_it() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        world
            .make::<PodDisruptionBudget>(json!({"metadata": {"name": "keep"},
                "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "foo"}}}}))
            .await;
        let target = names(&before)[0].clone();
        world
            .create(&Job::of("opj", "Evict", &[&target]).object())
            .await;
        let refused = world
            .job_until("opj", "the budget refuses", |found| {
                job::error(found, &target).reason == "DisruptionBudget"
            })
            .await;
        let error = job::error(&refused, &target);
        assert!(error.message.contains("keep"), "{error:?}");
        world.assert_untouched(&before[0]).await;
        world.delete::<PodDisruptionBudget>("keep").await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let after = world.settled("foo", 2).await;
        assert!(!names(&after).contains(&target));
        assert!(names(&after).contains(&names(&before)[1]));
    })
    .await;
}
