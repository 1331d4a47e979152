//! Replace and other actions, when the pods or the action are not what the job names: missing, deleted,
//! made anew. A job always ends, and says why it waits or failed.

use k8s_openapi::api::apps::v1::StatefulSet;
use operon_e2e::{
    plugin::Plugin,
    prelude::*,
    workload::{gated_pod_spec, pod_spec},
};

const RELEASED: &str = "replace.operon.dev/released-from";

fn is_released(pod: &Pod) -> bool {
    pod.labels().contains_key(RELEASED)
}

#[tokio::test]
async fn a_missing_pod_fails_its_target_only() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 1).up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &["nobody".to_owned(), target.clone()]).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        let status = job::status(&done);
        assert_eq!(
            (status.succeeded_pod_count, status.failed_pod_count),
            (Some(1), Some(1))
        );
        let error = job::error(&done, "nobody");
        assert_eq!(error.reason, "PodNotFound");
        assert!(error.message.contains("nobody"), "{}", error.message);
        assert_eq!(job::detail(&done, &target).progress, Progress::Succeeded);
        world.settled("foo", 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_of_an_unknown_action_says_so_and_starts_when_the_action_comes() {
    story(async |world: &World| {
        let pods = Deployment::of("foo", 1).up(world).await;
        let plugin = Plugin::annotate(world);
        world
            .create(&Job::of("opj", &plugin.action, &names(&pods)).object())
            .await;
        let blocked = world
            .job_until("opj", "says what it waits for", |found| {
                job::reason(found, "Reconciling").as_deref() == Some("ActionNotFound")
            })
            .await;
        assert_eq!(job::progress(&blocked), Progress::Pending);
        plugin.up(world).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let pod: Pod = world.get(&pods[0].name_any()).await.expect("the pod");
        assert!(pod.annotations().contains_key("operon.dev/annotated"));
    })
    .await;
}

#[tokio::test]
async fn a_job_of_an_unknown_action_can_be_deleted_at_once() {
    story(async |world: &World| {
        world
            .create(&Job::of("opj", "NoSuchAction", &["any"]).object())
            .await;
        world
            .job_until("opj", "is looked at", job::is_observed)
            .await;
        world.delete::<OperationJob>("opj").await;
        let deleted = std::time::Instant::now();
        world.gone::<OperationJob>("opj").await;
        assert!(
            deleted.elapsed() < Duration::from_secs(5),
            "{:?}",
            deleted.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn a_job_of_an_action_that_never_comes_fails() {
    story(async |world: &World| {
        world
            .create(&Job::of("opj", "NoSuchAction", &["any"]).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        let error = job::error(&done, "any");
        assert_eq!(error.reason, "ActionNotFound");
        assert!(error.message.contains("NoSuchAction"), "{}", error.message);
        assert_eq!(
            job::reason(&done, "Stalled").as_deref(),
            Some("ActionNotFound")
        );
        world
            .eventually("an Event says so", async || {
                ensure!(
                    world
                        .event_reasons("opj")
                        .await?
                        .contains(&"Failed".to_owned()),
                    "none"
                );
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_nobody_made_anew_under_the_same_name_is_not_the_target() {
    story(async |world: &World| {
        let solo = json!({
            "metadata": {"name": "solo", "labels": {"app": "solo"}}, "spec": gated_pod_spec()
        });
        let origin: Pod = world.make(solo.clone()).await;
        world.create(&Job::replace("opj", &["solo"]).object()).await;
        let copy = world
            .another_pod("solo", std::slice::from_ref(&origin))
            .await;
        world.delete_pod(&origin).await;
        world.pod_gone(&origin).await;
        let successor: Pod = world.make(solo).await;
        world
            .job_until("opj", "waits for the copy", |found| {
                job::error(found, "solo").reason == "NewPodNotReady"
            })
            .await;
        world.open(&copy).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert_eq!(job::new_pod(&done, "solo"), Some(copy.name_any()));
        world
            .for_a_while("the successor is left alone", async || {
                let pod: Pod = world.get("solo").await?;
                ensure!(pod.uid() == successor.uid() && pod.is_live(), "{pod:?}");
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_a_stateful_set_made_anew_is_not_operated_again() {
    story(async |world: &World| {
        // This action annotates its target, evicts it, and never says that it is done.
        let plugin = Plugin::hostile(world).up(world).await;
        world
            .make::<StatefulSet>(json!({"metadata": {"name": "web"}, "spec": {
                "replicas": 1, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()}
            }}))
            .await;
        let before = world.exactly("web", 1, Pod::is_ready).await;
        world
            .create(
                &Job::of("opj", &plugin.action, &["web-0"])
                    .deadline(10)
                    .object(),
            )
            .await;
        world.pod_gone(&before[0]).await;
        let after = world.exactly("web", 1, Pod::is_ready).await;
        let done = world.finished("opj").await;
        assert_eq!(job::detail(&done, "web-0").pod_uid, before[0].uid());
        assert_eq!(job::error(&done, "web-0").reason, "DeadlineExceeded");
        world.assert_untouched(&after[0]).await;
    })
    .await;
}

#[tokio::test]
async fn the_old_pod_deleted_by_its_user_before_there_is_a_new_one_counts_as_replaced() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        world.set_quota(2).await;
        let target = &before[0];
        world
            .create(&Job::replace("opj", &[target.name_any()]).object())
            .await;
        world
            .pod_until(&target.name_any(), "is released", is_released)
            .await;
        world.delete_pod(target).await;
        world.pod_gone(target).await;
        world.lift_quota().await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world.settled("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn the_old_pod_deleted_by_its_user_before_the_new_one_is_ready_counts_as_replaced() {
    story(async |world: &World| {
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
        world.delete_pod(&before[0]).await;
        world.pod_gone(&before[0]).await;
        world
            .for_a_while("the job waits for the new pod", async || {
                let found = world.job("opj").await?;
                ensure!(
                    job::progress(&found) == Progress::Processing,
                    "{:?}",
                    found.status
                );
                Ok(())
            })
            .await;
        world.open(&new).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert_eq!(job::new_pod(&done, &target), Some(new.name_any()));
        world.settled("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_new_pod_that_goes_before_it_is_ready_is_followed_by_another() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let first = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target) == Some(first.name_any())
            })
            .await;
        world.delete_pod(&first).await;
        let known: Vec<Pod> = before.iter().cloned().chain([first]).collect();
        let second = world.another_pod("foo", &known).await;
        world
            .job_until("opj", "follows the second", |found| {
                job::new_pod(found, &target) == Some(second.name_any())
            })
            .await;
        world.open(&second).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let after = world.settled("foo", 2).await;
        assert!(names(&after).contains(&second.name_any()));
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_new_pod_that_goes_after_the_old_one_is_followed_by_another() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let first = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        world.delete_pod(&before[0]).await;
        world.pod_gone(&before[0]).await;
        world.delete_pod(&first).await;
        let known: Vec<Pod> = before.iter().cloned().chain([first]).collect();
        let second = world.another_pod("foo", &known).await;
        world.open(&second).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert_eq!(job::new_pod(&done, &target), Some(second.name_any()));
        world.settled("foo", 2).await;
    })
    .await;
}
