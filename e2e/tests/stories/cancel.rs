//! Giving up: a deleted job, a passed deadline, a partition that never comes. What a job has begun is
//! undone, or finished where nothing can undo it; no pod too many stays, and none is lost.

use k8s_openapi::api::core::v1::Pod as PodObject;
use operon_e2e::{pods::identities, prelude::*, workload::pod_spec};

const RELEASED: &str = "replace.operon.dev/released-from";

fn is_released(pod: &Pod) -> bool {
    pod.labels().contains_key(RELEASED)
}

#[tokio::test]
async fn a_job_deleted_before_there_is_a_new_pod_leaves_everything_as_it_was() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let endpoints = world.service("foo", 2).await;
        world.set_quota(2).await;
        world
            .create(&Job::replace("opj", &names(&before)).object())
            .await;
        for pod in &before {
            world
                .pod_until(&pod.name_any(), "is released", is_released)
                .await;
        }
        world
            .job_until("opj", "says what it waits for", |found| {
                job::error(found, &before[0].name_any()).reason == "WaitingForNewPod"
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        let after = world.settled("foo", 2).await;
        assert_eq!(identities(&after), identities(&before));
        for pod in &before {
            world.assert_untouched(pod).await;
        }
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_job_deleted_before_the_new_pod_is_ready_keeps_the_old_one() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        world
            .job_until("opj", "has a new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        let after = world.settled("foo", 2).await;
        assert_eq!(
            identities(&after),
            identities(&before),
            "the new pod, not ready, is the surplus"
        );
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_job_deleted_when_the_new_pod_is_ready_leaves_no_pod_too_many() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2)
            .min_ready_seconds(300)
            .up(world)
            .await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        world
            .job_until("opj", "waits for the new pod to stay ready", |found| {
                job::error(found, &target).reason == "NewPodNotAvailable"
            })
            .await;
        assert_eq!(world.exactly("foo", 3, Pod::is_ready).await.len(), 3);
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_job_deleted_while_the_old_pod_goes_does_not_wait_for_it() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let target = &before[0];
        let hold = |finalizers: serde_json::Value| json!({"metadata": {"finalizers": finalizers}});
        world
            .patch::<PodObject>(&target.name_any(), hold(json!(["e2e.operon.dev/hold"])))
            .await;
        world
            .create(&Job::replace("opj", &[target.name_any()]).object())
            .await;
        world
            .pod_until(&target.name_any(), "is on its way out", |pod| {
                !pod.is_live()
            })
            .await;
        world
            .job_until("opj", "waits for it", |found| {
                job::error(found, &target.name_any()).reason == "OriginTerminating"
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        world
            .patch::<PodObject>(&target.name_any(), hold(json!(null)))
            .await;
        world.pod_gone(target).await;
        world.settled("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_deleted_before_the_copy_of_a_pod_of_nobody_is_ready_removes_the_copy() {
    story(async |world: &World| {
        let mut spec = pod_spec();
        spec["readinessGates"] = json!([{"conditionType": GATE}]);
        let solo: Pod = world
            .make(json!({"metadata": {"name": "solo", "labels": {"app": "solo"}}, "spec": spec}))
            .await;
        world.open(&solo).await;
        let solo = world
            .pod_until(&solo.name_any(), "is ready", Pod::is_ready)
            .await;
        world.create(&Job::replace("opj", &["solo"]).object()).await;
        let copy = world.another_pod("solo", std::slice::from_ref(&solo)).await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        world.pod_gone(&copy).await;
        world.assert_untouched(&solo).await;
        world.exactly("solo", 1, Pod::is_ready).await;
    })
    .await;
}

#[tokio::test]
async fn a_target_past_its_deadline_is_restored_and_failed() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).deadline(4).object())
            .await;
        world
            .job_until("opj", "has a new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        let status = job::status(&done);
        assert_eq!(
            (status.succeeded_pod_count, status.failed_pod_count),
            (None, Some(1))
        );
        assert!(status.end_time.is_some() && status.end_time == status.end_timestamp);
        assert_eq!(
            job::reason(&done, "Stalled").as_deref(),
            Some("DeadlineExceeded")
        );
        let detail = job::detail(&done, &target);
        assert_eq!(detail.progress, Progress::Failed);
        let error = detail.error.expect("an error");
        assert_eq!(error.reason, "DeadlineExceeded");
        assert!(error.message.contains("4 s"), "{}", error.message);
        world
            .job_until("opj", "has released its target", |found| {
                job::detail(found, &target)
                    .extra_info
                    .contains_key("Released")
            })
            .await;
        let after = world.settled("foo", 2).await;
        assert_eq!(identities(&after), identities(&before));
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
        let events = world.event_reasons("opj").await.expect("events");
        assert!(events.contains(&"Timeout".to_owned()), "{events:?}");
    })
    .await;
}

#[tokio::test]
async fn a_deadline_concerns_the_targets_that_started_only() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let targets = names(&before);
        world.set_quota(2).await;
        world
            .create(
                &Job::replace("opj", &targets)
                    .partition(1)
                    .deadline(3)
                    .object(),
            )
            .await;
        let half = world
            .job_until("opj", "the first target has failed", |found| {
                job::detail(found, &targets[0]).progress == Progress::Failed
            })
            .await;
        assert_eq!(job::progress(&half), Progress::Processing);
        assert_eq!(job::detail(&half, &targets[1]).progress, Progress::Pending);
        world.settled("foo", 2).await;
        for pod in &before {
            world.assert_untouched(pod).await;
        }
        world.lift_quota().await;
        world
            .patch::<OperationJob>(
                "opj",
                json!({"spec": {"partition": 2, "activeDeadlineSeconds": 600}}),
            )
            .await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Failed,
            "one target failed for good"
        );
        assert_eq!(
            job::detail(&done, &targets[1]).progress,
            Progress::Succeeded
        );
        let after = world.settled("foo", 2).await;
        assert!(identities(&after).contains(&before[0].uid().unwrap_or_default()));
        world.pod_gone(&before[1]).await;
    })
    .await;
}

#[tokio::test]
async fn targets_beyond_the_partition_are_never_touched() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        world
            .create(&Job::replace("opj", &names(&before)).partition(0).object())
            .await;
        let pending = world
            .job_until("opj", "is counted", |found| {
                job::status(found).total_pod_count == Some(2)
            })
            .await;
        assert_eq!(job::progress(&pending), Progress::Pending);
        assert_eq!(
            job::reason(&pending, "Reconciling").as_deref(),
            Some("WaitingForPartition")
        );
        let version = pending.resource_version();
        world
            .for_a_while("nothing happens", async || {
                let found = world.job("opj").await?;
                ensure!(found.resource_version() == version, "the job was written");
                Ok(())
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        for pod in &before {
            world.assert_untouched(pod).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_finished_job_is_deleted_when_its_time_is_over() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 1).up(world).await;
        world
            .create(&Job::replace("opj", &names(&before)).ttl(4).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let finished = std::time::Instant::now();
        world.gone::<OperationJob>("opj").await;
        let after = finished.elapsed();
        assert!(
            (2..=15).contains(&after.as_secs()),
            "deleted after {after:?}"
        );
        world.settled("foo", 1).await;
        let events = world.event_reasons("opj").await.expect("events");
        assert!(events.contains(&"TTL".to_owned()), "{events:?}");
    })
    .await;
}
