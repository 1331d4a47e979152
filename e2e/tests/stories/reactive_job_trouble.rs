//! Jobs that do not get on, or failed: their object says why in words that are still there when the pods
//! are not.

use k8s_openapi::api::core::v1::ConfigMap;
use operon_api::{ReactiveJob, reactive_job::State};
use operon_e2e::{
    environment,
    job_flow::{Flow, Step, step_said},
    prelude::*,
    reactive_job::{Reactive, said, status},
};

/// Waits until the condition Stalled names this reason, and these words.
async fn stalled(world: &World, name: &str, reason: &str, words: &str) -> ReactiveJob {
    let wanted = format!("True {reason}: ");
    let object = world
        .reactive_until(name, &format!("stalls: {words}"), |object| {
            let said = said(object, "Stalled");
            said.starts_with(&wanted) && said.contains(words)
        })
        .await;
    assert_eq!(status(&object).state, Some(State::Processing));
    object
}

#[tokio::test]
async fn a_job_that_finds_no_node_or_no_quota_says_so_until_it_may_go_on() {
    story(async |world: &World| {
        let hasty = |name: &str| Reactive::of(name).with("progressDeadlineSeconds", json!(1));
        hasty("lost")
            .pod("nodeSelector", json!({"no-node": "has-this"}))
            .apply(world)
            .await;
        let lost = world.jobs_are("lost", 1).await.remove(0);
        let pod = world.pod_of(&lost).await;
        world.set_quota(1).await;
        hasty("crowded").apply(world).await;
        let object = stalled(world, "lost", "Unschedulable", &pod.name_any()).await;
        stalled(world, "crowded", "FailedCreate", "exceeded quota").await;
        world.nothing_is_written(&object).await;
        world.lift_quota().await;
        hasty("lost").apply(world).await;
        for name in ["lost", "crowded"] {
            let object = world.comes_to(name, State::Ready).await;
            assert_eq!(said(&object, "Stalled"), "");
        }
    })
    .await;
}

#[tokio::test]
async fn a_step_whose_pod_the_quota_refuses_quotes_the_event_that_says_so() {
    story(async |world: &World| {
        world.set_quota(0).await;
        Flow::of("flow", [Step::of("a")]).apply(world).await;
        let refused = "FailedCreate: no pod of the Job has been created: ";
        let flow = world
            .flow_until("flow", "quotes the Event", |flow| {
                let said = step_said(flow, "a");
                said.contains(refused) && said.contains("exceeded quota")
            })
            .await;
        world.flow_is_left_alone(&flow).await;
        world.lift_quota().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_lacks_a_config_map_or_an_image_says_so_until_it_is_there() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let hasty = |name: &str| Reactive::of(name).with("progressDeadlineSeconds", json!(1));
        hasty("unset")
            .container("envFrom", json!([{"configMapRef": {"name": "settings"}}]))
            .apply(world)
            .await;
        hasty("unseen")
            .container("image", json!("localhost/nowhere:1"))
            .apply(world)
            .await;
        // The kubelet may say at first that it has not looked for the ConfigMap yet.
        stalled(world, "unset", "CreateContainerConfigError", "settings").await;
        let image = "localhost/nowhere:1";
        let object = stalled(world, "unseen", "ImagePullBackOff", image).await;
        world.nothing_is_written(&object).await;
        world
            .make::<ConfigMap>(json!({"metadata": {"name": "settings"}}))
            .await;
        hasty("unseen").apply(world).await;
        for name in ["unset", "unseen"] {
            let object = world.comes_to(name, State::Ready).await;
            assert_eq!(said(&object, "Stalled"), "");
        }
    })
    .await;
}

#[tokio::test]
async fn how_a_container_failed_is_known_when_its_pod_is_gone() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        Reactive::of("test")
            .failing("echo first; echo last; exit 3")
            .apply(world)
            .await;
        world.comes_to("test", State::Error).await;
        let job = world.jobs_are("test", 1).await.remove(0);
        let pod = world.pod_of(&job).await;
        world.delete_pod(&pod).await;
        world.pod_gone(&pod).await;
        let object = world.comes_to("test", State::Error).await;
        let failure = status(&object).last_failure.expect("it is known");
        assert_eq!(failure.job_name, job.name_any());
        assert_eq!(failure.reason, "BackoffLimitExceeded");
        assert_eq!(failure.pod_name, Some(pod.name_any()));
        assert_eq!(failure.container.as_deref(), Some("main"));
        assert_eq!(failure.exit_code, Some(3));
        assert_eq!(failure.container_reason.as_deref(), Some("Error"));
        assert_eq!(failure.log.as_deref(), Some("first\nlast"));
        world.nothing_is_written(&object).await;
    })
    .await;
}

#[tokio::test]
async fn of_several_tries_of_a_pod_the_last_one_is_told() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        // The container is started again in its pod, which goes with the Job's failure.
        Reactive::of("test")
            .failing("echo no; exit 4")
            .pod("restartPolicy", json!("OnFailure"))
            .apply(world)
            .await;
        let object = world.comes_to("test", State::Error).await;
        let failure = status(&object).last_failure.expect("it is known");
        assert_eq!(failure.reason, "BackoffLimitExceeded");
        assert_eq!(failure.exit_code, Some(4));
        assert_eq!(failure.log.as_deref(), Some("no"));
    })
    .await;
}
