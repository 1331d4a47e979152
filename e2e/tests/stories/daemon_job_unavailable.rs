//! Nodes that die, or are cordoned, in the middle of a rollout: nothing waits for ever, and nothing is
//! forgotten.

use operon_api::daemon_job::FlowState;
use operon_e2e::{
    daemon_job::{Daemon, End, failed_node, status},
    prelude::*,
};

#[tokio::test]
async fn a_node_that_dies_in_the_middle_of_its_job_does_not_hold_up_the_others() {
    story(async |world: &World| {
        let [a, b, c] = world.add_nodes(["a", "b", "c"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("parallelism", json!(1))
            .rollout("failurePolicy", json!("Continue"))
            .rollout("maxFailures", json!(1))
            .rollout("timeoutSeconds", json!(10))
            .apply(world)
            .await;
        let jobs = world.jobs_are_on("test", &[&a]).await;
        let pod = world.pod_of(&jobs[0]).await;
        world.hold_pod(&pod.name_any(), true).await;
        world.break_node(&a).await;
        let words = [&*format!("Waiting for node {a:?} (not Ready)")];
        world.daemon_says("test", "Running", &words).await;
        world.end_jobs_on("test", &[&b, &c], End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/3"));
        let failed = failed_node(&object);
        assert_eq!(
            (failed.name, &*failed.reason),
            (a.clone(), "DeadlineExceeded")
        );
        assert!(
            failed.message.contains("is not Ready"),
            "{}",
            failed.message
        );
        assert!(world.find::<Pod>(&pod.name_any()).await.is_some());
        world.hold_pod(&pod.name_any(), false).await;
    })
    .await;
}

#[tokio::test]
async fn nodes_that_are_cordoned_before_their_turn_are_waited_for() {
    story(async |world: &World| {
        let [a, b, c] = world.add_nodes(["a", "b", "c"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("parallelism", json!(1))
            .nodes("unavailableTimeoutSeconds", json!(5))
            .apply(world)
            .await;
        world.jobs_are_on("test", &[&a]).await;
        for node in [&b, &c] {
            world.kubectl_says(&["cordon", node]).await;
        }
        world.end_job_on("test", &a, End::Success).await;
        let (b_waits, c_waits) = (format!("{b:?} (cordoned)"), format!("{c:?} (cordoned)"));
        let object = world
            .daemon_says("test", "NodesSkipped", &[&b_waits, &c_waits])
            .await;
        assert_eq!(status(&object).state, Some(FlowState::Failed));

        // With more time they are served.
        Daemon::of(world, "test")
            .held()
            .rollout("parallelism", json!(1))
            .nodes("unavailableTimeoutSeconds", json!(600))
            .apply(world)
            .await;
        world
            .kubectl_says(&["annotate", "dj/test", "operon.dev/retry=1"])
            .await;
        world.daemon_says("test", "Running", &[&b_waits]).await;
        for node in [&b, &c] {
            world.kubectl_says(&["uncordon", node]).await;
            world.end_job_on("test", node, End::Success).await;
        }
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("3/3"));
    })
    .await;
}
