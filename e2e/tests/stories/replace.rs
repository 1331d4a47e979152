//! Replace, when nothing gets in its way: the new pod is ready before the old one goes, partition by
//! partition, for every kind of owner.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, ReplicaSet, StatefulSet},
    batch::v1::Job as BatchJob,
};
use operon_e2e::{
    kubectl::rows,
    prelude::*,
    workload::{gated_pod_spec, pod_spec},
};

#[tokio::test]
async fn two_pods_are_replaced_one_partition_at_a_time() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let endpoints = world.service("foo", 2).await;
        let targets = names(&before);
        let (first, second) = (&before[0], &before[1]);
        world
            .create(
                &Job::replace("opj", &targets)
                    .partition(1)
                    .deadline(3600)
                    .ttl(18_000)
                    .object(),
            )
            .await;

        let half = world
            .job_until("opj", "the first target has succeeded", |found| {
                job::status(found).succeeded_pod_count == Some(1)
            })
            .await;
        assert_half_done(&half, first, second);
        world
            .for_a_while("the second pod waits for the partition", async || {
                let pods = world.pods("foo").await?;
                ensure!(pods.len() == 2 && pods.iter().any(|pod| pod.uid() == second.uid()));
                Ok(())
            })
            .await;
        world.assert_untouched(second).await;

        world
            .patch::<OperationJob>("opj", json!({"spec": {"partition": 2}}))
            .await;
        let whole = world.finished("opj").await;
        let status = job::status(&whole);
        assert_eq!(status.progress, Some(Progress::Succeeded));
        assert_eq!(
            (
                status.total_pod_count,
                status.succeeded_pod_count,
                status.failed_pod_count
            ),
            (Some(2), Some(2), None)
        );
        assert!(status.end_time.is_some());
        assert_eq!(status.end_time, status.end_timestamp);
        assert_eq!(job::reason(&whole, "Ready").as_deref(), Some("Succeeded"));
        assert!(
            status
                .target_details
                .iter()
                .map(|detail| &detail.name)
                .eq(&targets)
        );

        let after = world.settled("foo", 2).await;
        let new: BTreeSet<_> = targets
            .iter()
            .filter_map(|target| job::new_pod(&whole, target))
            .collect();
        assert_eq!(new, names(&after).into_iter().collect());
        for target in &targets {
            assert_eq!(
                job::detail(&whole, target).extra_info.len(),
                1,
                "NewPod and nothing else"
            );
        }
        world.pod_gone(first).await;
        world.pod_gone(second).await;
        assert!(
            endpoints.least() >= 2,
            "at least there were {} ready endpoints",
            endpoints.least()
        );
        world.events_about("opj", &["Succeeded"]).await;
    })
    .await;
}

/// What the job says between its two partitions.
fn assert_half_done(half: &OperationJob, first: &Pod, second: &Pod) {
    let status = job::status(half);
    assert_eq!(status.progress, Some(Progress::Processing));
    assert_eq!(
        (status.total_pod_count, status.failed_pod_count),
        (Some(2), None)
    );
    assert_eq!(status.observed_generation, half.metadata.generation);
    assert!(
        status.start_time.is_some() && status.end_time.is_none() && status.end_timestamp.is_none()
    );
    assert_eq!(
        job::reason(half, "Reconciling").as_deref(),
        Some("WaitingForPartition")
    );
    let done = job::detail(half, &first.name_any());
    assert_eq!(done.progress, Progress::Succeeded);
    assert_eq!(done.pod_uid, first.uid());
    assert!(done.start_time.is_some() && done.end_time.is_some() && done.error.is_none());
    let waiting = job::detail(half, &second.name_any());
    assert_eq!(waiting.progress, Progress::Pending);
    assert!(
        waiting.start_time.is_none() && waiting.extra_info.is_empty() && waiting.error.is_none()
    );
}

#[tokio::test]
async fn kubectl_prints_a_job_as_its_users_know_it() {
    story(async |world: &World| {
        let pods = Deployment::of("foo", 1).up(world).await;
        let manifest = format!(
            "apiVersion: apps.kusionstack.io/v1alpha1\nkind: OperationJob\nmetadata: {{name: opj-replace}}\n\
             spec:\n  action: Replace\n  activeDeadlineSeconds: 3600\n  TTLSecondsAfterFinished: 18000\n  \
             partition: 1\n  targets:\n  - name: {}\n",
            pods[0].name_any()
        );
        let applied = world.kubectl_apply(&manifest).await;
        let said = String::from_utf8_lossy(&applied.stdout).into_owned();
        assert_eq!(said.trim(), "operationjob.apps.kusionstack.io/opj-replace created", "{applied:?}");
        world.finished("opj-replace").await;
        let waited = world.kubectl(&["wait", "opj/opj-replace", "--for=condition=Ready"]).await;
        assert!(waited.status.success(), "{waited:?}");
        let table = world.kubectl_says(&["get", "opj"]).await;
        let rows = rows(&table);
        assert_eq!(rows[0], ["NAME", "PROGRESS", "AGE"]);
        assert_eq!(rows[1][..2], ["opj-replace", "Succeeded"]);
    })
    .await;
}

#[tokio::test]
async fn the_old_pod_serves_until_the_new_one_is_ready() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "waits for the new pod and says so", |found| {
                job::new_pod(found, &target) == Some(new.name_any())
                    && job::error(found, &target).reason == "NewPodNotReady"
            })
            .await;
        world
            .for_a_while("the old pod serves", async || {
                let pod: Pod = world.get(&target).await?;
                ensure!(
                    pod.is_live() && pod.is_ready() && endpoints.now() == 2,
                    "it does not"
                );
                Ok(())
            })
            .await;
        world.open(&new).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert!(job::detail(&done, &target).error.is_none());
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn the_new_pod_has_to_stay_ready_for_as_long_as_its_owner_asks() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 1)
            .min_ready_seconds(5)
            .up(world)
            .await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .pod_until(&new.name_any(), "is ready", Pod::is_ready)
            .await;
        let ready = std::time::Instant::now();
        let done = world.finished("opj").await;
        assert!(
            ready.elapsed() >= Duration::from_secs(3),
            "the old pod went after {:?}",
            ready.elapsed()
        );
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world.settled("foo", 1).await;
    })
    .await;
}

#[tokio::test]
async fn all_pods_of_a_deployment_of_five_are_replaced_at_once() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 5).up(world).await;
        let endpoints = world.service("foo", 5).await;
        let targets = names(&before);
        world.create(&Job::replace("opj", &targets).object()).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        let after = world.settled("foo", 5).await;
        let mut new: Vec<_> = targets
            .iter()
            .filter_map(|target| job::new_pod(&done, target))
            .collect();
        new.sort();
        assert_eq!(new, names(&after), "each target has a new pod of its own");
        assert!(endpoints.least() >= 5, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn pods_of_two_replica_sets_are_replaced_by_one_job() {
    story(async |world: &World| {
        let foo = Deployment::of("foo", 2).up(world).await;
        let bar = Deployment::of("bar", 2).up(world).await;
        let endpoints = [world.service("foo", 2).await, world.service("bar", 2).await];
        let targets: Vec<String> = names(foo.iter().chain(&bar));
        world.create(&Job::replace("opj", &targets).object()).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        for (app, before) in [("foo", &foo), ("bar", &bar)] {
            let after = names(&world.settled(app, 2).await);
            let mut new: Vec<_> = names(before)
                .iter()
                .filter_map(|target| job::new_pod(&done, target))
                .collect();
            new.sort();
            assert_eq!(new, after);
        }
        assert!(endpoints.iter().all(|watch| watch.least() >= 2));
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_nobody_is_replaced_by_its_copy() {
    story(async |world: &World| {
        let solo: Pod = world
            .make(json!({
                "metadata": {"name": "solo", "labels": {"app": "solo"}, "annotations": {"note": "kept"}},
                "spec": gated_pod_spec()
            }))
            .await;
        world.open(&solo).await;
        let endpoints = world.service("solo", 1).await;
        world.create(&Job::replace("opj", &["solo"]).object()).await;
        let copy = world.another_pod("solo", std::slice::from_ref(&solo)).await;
        assert_eq!(copy.annotations().get("note").map(String::as_str), Some("kept"));
        assert!(copy.controller().is_none());
        world.for_a_while("the old pod stays", async || {
            let pod: Pod = world.get("solo").await?;
            ensure!(pod.is_live(), "it goes");
            Ok(())
        })
        .await;
        world.open(&copy).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert_eq!(job::new_pod(&done, "solo"), Some(copy.name_any()));
        let after = world.exactly("solo", 1, Pod::is_ready).await;
        assert_eq!(after[0].uid(), copy.uid());
        assert_eq!(endpoints.least(), 1);
    })
    .await;
}

#[tokio::test]
async fn pods_that_have_one_place_are_refused_with_a_reason() {
    story(async |world: &World| {
        let workload = |name: &str, mut spec: serde_json::Value| {
            spec["selector"] = json!({"matchLabels": {"app": name}});
            spec["template"] = json!({"metadata": {"labels": {"app": name}}, "spec": pod_spec()});
            json!({"metadata": {"name": name}, "spec": spec})
        };
        world
            .make::<StatefulSet>(workload(
                "stateful",
                json!({"replicas": 1, "serviceName": "s"}),
            ))
            .await;
        world.make::<DaemonSet>(workload("daemon", json!({}))).await;
        let mut template = pod_spec();
        template["restartPolicy"] = json!("Never");
        let batch = json!({"metadata": {"name": "batch"}, "spec": {
            "template": {"metadata": {"labels": {"app": "batch"}}, "spec": template}
        }});
        world.make::<BatchJob>(batch).await;
        // A ReplicaSet without a Deployment: its pods have no hash label to take away.
        world
            .make::<ReplicaSet>(workload("plain", json!({"replicas": 1})))
            .await;
        let mut targets = Vec::new();
        for app in ["stateful", "daemon", "batch", "plain"] {
            targets.push(
                world
                    .eventually(&format!("{app} has a pod"), async || {
                        world.pods(app).await?.into_iter().next().context("none")
                    })
                    .await,
            );
        }
        world
            .create(&Job::replace("opj", &names(&targets)).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        assert_eq!(job::status(&done).failed_pod_count, Some(4));
        assert_eq!(
            job::reason(&done, "Stalled").as_deref(),
            Some("UnsupportedOwner")
        );
        for (pod, kind) in targets
            .iter()
            .zip(["StatefulSet", "DaemonSet", "Job", "ReplicaSet"])
        {
            let error = job::error(&done, &pod.name_any());
            assert_eq!(error.reason, "UnsupportedOwner");
            assert!(
                error.message.contains(kind) && error.message.contains("delete the pod"),
                "{}",
                error.message
            );
            world.assert_untouched(pod).await;
        }
    })
    .await;
}
