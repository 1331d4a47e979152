//! The options of a ReactiveJob besides its template: when a Job is made, what happens to those before
//! it, and what else makes one.

use std::collections::BTreeSet;

use k8s_openapi::api::{batch::v1::Job as BatchJob, core::v1::ConfigMap};
use operon_api::{
    ReactiveJob,
    reactive_job::{Outcome, RunReason, State},
};
use operon_e2e::{
    prelude::*,
    reactive_job::{Reactive, digests, run, said, status},
};
use serde_json::Value;

/// Sets a field of the spec, or takes it away.
async fn set(world: &World, field: &str, value: Value) {
    world
        .patch::<ReactiveJob>("test", json!({"spec": {field: value}}))
        .await;
}

#[tokio::test]
async fn while_it_is_suspended_nothing_runs_and_then_the_last_change_does() {
    story(async |world: &World| {
        Reactive::of("test")
            .with("suspend", json!(true))
            .apply(world)
            .await;
        let object = world.comes_to("test", State::New).await;
        let reconciling = said(&object, "Reconciling");
        assert!(reconciling.starts_with("True Suspended: "), "{reconciling}");
        world.edit("test", "2").await;
        world.edit("test", "3").await;
        world.no_other_job("test", &[]).await;
        set(world, "suspend", json!(false)).await;
        world.comes_to("test", State::Ready).await;
        world.jobs_have("test", &["3"]).await;

        set(world, "suspend", json!(true)).await;
        world.comes_to("test", State::Ready).await;
        world.edit("test", "4").await;
        world.comes_to("test", State::Processing).await;
        world.jobs_have("test", &["3"]).await;
        set(world, "suspend", json!(null)).await;
        world.comes_to("test", State::Ready).await;
        world.jobs_have("test", &["3", "4"]).await;
    })
    .await;
}

/// The Jobs that have a pod which may still run.
async fn running(world: &World) -> Result<BTreeSet<String>> {
    let mut pods = world.all_pods().await?;
    pods.retain(|pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        phase == Some("Running")
    });
    Ok(pods::by_controller(&pods).into_keys().collect())
}

#[tokio::test]
async fn with_the_policy_replace_the_old_pods_are_gone_before_the_new_job_runs() {
    story(async |world: &World| {
        Reactive::of("test")
            .with("concurrencyPolicy", json!("Replace"))
            .endless()
            .apply(world)
            .await;
        world
            .eventually("the first runs", async || {
                ensure!(running(world).await?.len() == 1, "not yet");
                Ok(())
            })
            .await;
        let first = world.jobs_are("test", 1).await.remove(0).name_any();
        world.edit("test", "2").await;
        let second = world
            .eventually("the second runs", async || {
                let running = running(world).await?;
                assert!(running.len() < 2, "two run at once: {running:?}");
                let second = running.into_iter().find(|job| *job != first);
                second.context("not yet")
            })
            .await;
        let object = world
            .reactive_until("test", "knows what became of the first", |object| {
                run(object, 1).outcome == Some(Outcome::Lost)
            })
            .await;
        assert_eq!(status(&object).current_job_name, Some(second));
        assert_eq!(status(&object).state, Some(State::Processing));
        world.gone::<BatchJob>(&first).await;
        world.jobs_have("test", &["2"]).await;
    })
    .await;
}

#[tokio::test]
async fn with_the_policy_queue_the_last_change_runs_when_the_old_job_is_finished() {
    story(async |world: &World| {
        Reactive::of("test")
            .with("concurrencyPolicy", json!("Queue"))
            .gated()
            .apply(world)
            .await;
        let first = world.jobs_are("test", 1).await.remove(0);
        for digest in ["2", "3", "4"] {
            world.edit("test", digest).await;
        }
        let object = world
            .reactive_until("test", "waits", |object| {
                said(object, "Reconciling").starts_with("True Waiting: ")
            })
            .await;
        let ready = said(&object, "Ready");
        assert!(
            ready.starts_with("Unknown Processing: ") && ready.contains(&first.name_any()),
            "{ready}"
        );
        world
            .no_other_job("test", std::slice::from_ref(&first))
            .await;
        world.let_run(&first).await;
        let jobs = world.jobs_have("test", &["1", "4"]).await;
        world.let_run(&jobs[1]).await;
        world.comes_to("test", State::Ready).await;
        world.jobs_have("test", &["1", "4"]).await;
    })
    .await;
}

#[tokio::test]
async fn of_the_jobs_before_the_newest_so_many_are_kept_as_the_limits_say() {
    story(async |world: &World| {
        let limits = |reactive: Reactive| {
            reactive
                .with("successfulHistoryLimit", json!(1))
                .with("failedHistoryLimit", json!(0))
        };
        let test = |digest: &str| limits(Reactive::of("test")).digest(digest);
        for digest in ["1", "2", "3"] {
            test(digest).apply(world).await;
            world.comes_to("test", State::Ready).await;
        }
        world.jobs_have("test", &["2", "3"]).await;
        test("4").failing("exit 1").apply(world).await;
        world.comes_to("test", State::Error).await;
        world.jobs_have("test", &["3", "4"]).await;
        test("5").apply(world).await;
        let object = world.comes_to("test", State::Ready).await;
        world.jobs_have("test", &["3", "5"]).await;
        let outcomes: Vec<_> = status(&object)
            .runs
            .iter()
            .filter_map(|run| run.outcome)
            .collect();
        let (good, bad) = (Outcome::Succeeded, Outcome::Failed);
        assert_eq!(
            outcomes,
            [good, bad, good, good, good],
            "what is deleted is told of"
        );
    })
    .await;
}

#[tokio::test]
async fn a_failed_job_is_run_again_as_often_as_it_may() {
    story(async |world: &World| {
        Reactive::of("test")
            .failing("exit 1")
            .with("retry", json!({"limit": 2, "backoffSeconds": 1}))
            .apply(world)
            .await;
        let object = world.comes_to("test", State::Error).await;
        let jobs = world.jobs_are("test", 3).await;
        assert_eq!(digests(&jobs), ["1"; 3]);
        let attempts: Vec<_> = status(&object)
            .runs
            .iter()
            .map(|run| (run.reason, run.attempt))
            .collect();
        assert_eq!(
            attempts,
            [
                (RunReason::Retry, Some(3)),
                (RunReason::Retry, Some(2)),
                (RunReason::Created, Some(1))
            ]
        );
        let stalled = said(&object, "Stalled");
        assert!(stalled.starts_with("True JobFailed: "), "{stalled}");
        world.no_other_job("test", &jobs).await;
    })
    .await;
}

#[tokio::test]
async fn the_annotation_rerun_runs_the_job_once_for_each_value() {
    story(async |world: &World| {
        let annotate = async |annotation: &str| {
            world
                .kubectl_says(&["annotate", "--overwrite", "reactivejob/test", annotation])
                .await;
        };
        Reactive::of("test").apply(world).await;
        world.comes_to("test", State::Ready).await;
        annotate("operon.dev/rerun=now").await;
        let jobs = world.jobs_are("test", 2).await;
        let object = world
            .reactive_until("test", "the second Job is done", |object| {
                status(object).current_job_name == Some(jobs[1].name_any())
                    && status(object).state == Some(State::Ready)
            })
            .await;
        assert_eq!(run(&object, 0).reason, RunReason::RerunRequested);
        annotate("operon.dev/rerun=now").await;
        annotate("operon.dev/rerun-").await;
        world.no_other_job("test", &jobs).await;
        annotate("operon.dev/rerun=again").await;
        world.jobs_are("test", 3).await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_config_map_runs_the_job_once_when_it_has_come_to_rest() {
    story(async |world: &World| {
        let content = |value: &str| json!({"metadata": {"name": "settings"}, "data": {"a": value}});
        let change = async |value: &str| {
            world.patch::<ConfigMap>("settings", content(value)).await;
        };
        let pending = |object: &ReactiveJob| status(object).pending.is_some();
        world.make::<ConfigMap>(content("1")).await;
        Reactive::of("test")
            .container("envFrom", json!([{"configMapRef": {"name": "settings"}}]))
            .with(
                "triggers",
                json!({"configMaps": true, "debounceSeconds": 2}),
            )
            .apply(world)
            .await;
        world.comes_to("test", State::Ready).await;
        change("2").await;
        world.reactive_until("test", "sees it", pending).await;
        change("3").await;
        let jobs = world.jobs_are("test", 2).await;
        let object = world.comes_to("test", State::Ready).await;
        assert_eq!(status(&object).current_job_name, Some(jobs[1].name_any()));
        assert_eq!(run(&object, 0).reason, RunReason::ConfigChanged);
        assert_eq!(run(&object, 0).changes, ["ConfigMap/settings changed"]);
        // Changed and changed back.
        change("4").await;
        world.reactive_until("test", "sees it", pending).await;
        change("3").await;
        world
            .reactive_until("test", "sees that nothing changed", |object| {
                !pending(object)
            })
            .await;
        world.no_other_job("test", &jobs).await;
    })
    .await;
}

#[tokio::test]
async fn a_trigger_that_the_host_may_not_look_at_is_named_and_the_other_works() {
    story(async |world: &World| {
        let content = |value: &str| json!({"metadata": {"name": "settings"}, "data": {"a": value}});
        world.make::<ConfigMap>(content("1")).await;
        Reactive::of("test")
            .container(
                "envFrom",
                json!([
                    {"configMapRef": {"name": "settings"}},
                    {"secretRef": {"name": "keys", "optional": true}},
                ]),
            )
            .with(
                "triggers",
                json!({"configMaps": true, "secrets": true, "debounceSeconds": 0}),
            )
            .apply(world)
            .await;
        let names = |object: &ReactiveJob| {
            let ready = said(object, "Ready");
            ready.contains("cannot list resource \"secrets\"")
                && ready.contains("reactiveJob.triggers.secrets")
        };
        let object = world
            .reactive_until("test", "says what it does not see", |object| {
                status(object).state == Some(State::Ready) && names(object)
            })
            .await;
        assert_eq!(said(&object, "Reconciling"), "");
        assert!(!said(&object, "Ready").contains("ErrorResponse"));
        world.jobs_are("test", 1).await;
        world.patch::<ConfigMap>("settings", content("2")).await;
        world.jobs_are("test", 2).await;
    })
    .await;
}

#[tokio::test]
async fn if_the_pod_template_counts_the_rest_is_changed_in_place() {
    story(async |world: &World| {
        let reactive = Reactive::of("test")
            .gated()
            .job("completions", json!(1))
            .with("triggers", json!({"template": "PodTemplate"}));
        reactive.apply(world).await;
        let first = world.jobs_are("test", 1).await.remove(0);
        world.pod_of(&first).await;
        let is_suspended = |suspended: bool| {
            let reactive = reactive
                .clone()
                .digest("2")
                .job("suspend", json!(suspended));
            reactive
                .job("parallelism", json!(2))
                .job("backoffLimit", json!(7))
                .job("activeDeadlineSeconds", json!(500))
                .job("ttlSecondsAfterFinished", json!(600))
        };
        for suspended in [true, false] {
            is_suspended(suspended).apply(world).await;
            world
                .eventually("the Job is as it should be", async || {
                    let job: BatchJob = world.get(&first.name_any()).await?;
                    let spec = job.spec.clone().unwrap_or_default();
                    let pods = job.status.and_then(|s| s.active).unwrap_or(0);
                    ensure!(
                        spec.suspend == Some(suspended)
                            && spec.parallelism == Some(2)
                            && spec.backoff_limit == Some(7)
                            && spec.active_deadline_seconds == Some(500)
                            && spec.ttl_seconds_after_finished == Some(600)
                            && (pods == 0) == suspended,
                        "{spec:?}, {pods} pods"
                    );
                    Ok(())
                })
                .await;
        }
        world
            .no_other_job("test", std::slice::from_ref(&first))
            .await;
        is_suspended(false)
            .container("command", json!(["echo"]))
            .apply(world)
            .await;
        let jobs = world.jobs_have("test", &["1", "2"]).await;
        world.let_run(&jobs[1]).await;
        world.comes_to("test", State::Ready).await;
    })
    .await;
}
