//! Jobs of a DaemonJob that fail: how many may, what then becomes of the other nodes, retries, and what is
//! reported of the nodes that failed.

use operon_api::{DaemonJob, daemon_job::FlowState};
use operon_e2e::{
    daemon_job::{Daemon, End, failed_node, node_of, said, status},
    prelude::*,
};

/// The names of the first Jobs of `test` on these nodes.
fn jobs_on<N: AsRef<str>>(nodes: &[N]) -> Vec<String> {
    let name = |node: &N| format!("test-{}", node.as_ref());
    nodes.iter().map(name).collect()
}

/// Sets the annotation that runs again what failed.
async fn retry(world: &World, token: &str) {
    let annotation = format!("operon.dev/retry={token}");
    world
        .kubectl_says(&["annotate", "dj/test", &annotation, "--overwrite"])
        .await;
}

#[tokio::test]
async fn a_node_whose_pod_the_quota_refuses_quotes_the_event_that_says_so() {
    story(async |world: &World| {
        let [node] = world.add_nodes(["a"]).await;
        world.set_quota(0).await;
        Daemon::of(world, "test").apply(world).await;
        let words = ["(FailedCreate)", &node, "exceeded quota"];
        world.daemon_says("test", "Running", &words).await;
        world.lift_quota().await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_node_stops_the_others_until_it_is_retried() {
    story(async |world: &World| {
        let [a, b, c, d] = world.add_nodes(["a", "b", "c", "d"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("parallelism", json!(2))
            .apply(world)
            .await;
        world.jobs_are_on("test", &[&a, &b]).await;
        world.end_job_on("test", &a, End::Failure).await;
        world
            .daemon_says("test", "NodesFailed", &["1 running, 1 failed", &a])
            .await;
        world.jobs_stay_on("test", &[&a, &b]).await;
        // What runs goes on, and counts.
        world.end_job_on("test", &b, End::Success).await;
        let words = [
            "1 of 4 nodes succeeded, 1 failed",
            "More nodes failed than spec.rollout.maxFailures, which is 0",
            "BackoffLimitExceeded",
            "container \"main\" of pod",
            "operon.dev/retry",
        ];
        let object = world.daemon_says("test", "NodesFailed", &words).await;
        assert_eq!(status(&object).state, Some(FlowState::Failed));
        assert!(said(&object, "Stalled").starts_with("True NodesFailed: "));
        let failed = failed_node(&object);
        assert_eq!((failed.name, failed.attempts), (a.clone(), Some(1)));
        assert_eq!(failed.reason, "BackoffLimitExceeded");
        assert_eq!(failed.job_name, Some(format!("test-{a}")));
        assert_eq!(failed.exit_code, Some(1));
        world.jobs_stay_on("test", &[&a, &b]).await;

        retry(world, "1").await;
        world.end_jobs_on("test", &[&a, &c, &d], End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("4/4"));
        assert!(status(&object).failed_nodes.is_empty());
        let jobs = world.jobs_of_daemon("test").await.expect("Jobs");
        let names: Vec<_> = jobs.iter().map(kube::ResourceExt::name_any).collect();
        let again = format!("test-{a}-2");
        assert!(names.len() == 5 && names.contains(&again), "{names:?}");
    })
    .await;
}

/// Waits until it is finished, and returns it.
async fn finished(world: &World, name: &str) -> DaemonJob {
    world
        .daemon_until(name, "is finished", |object| {
            status(object).completion_time.is_some()
        })
        .await
}

#[tokio::test]
async fn so_many_nodes_may_fail_as_max_failures_says() {
    story(async |world: &World| {
        let nodes = world.add_nodes(["a", "b", "c", "d", "e"]).await;
        // Half of five is two, rounded down.
        let table = [
            ("number", json!(2), 2, FlowState::Succeed),
            ("too-many", json!(1), 2, FlowState::Failed),
            ("percent", json!("50%"), 2, FlowState::Succeed),
            ("too-much", json!("50%"), 3, FlowState::Failed),
        ];
        for (name, limit, failures, _) in &table {
            let failing: Vec<_> = nodes[..*failures]
                .iter()
                .map(|node| format!("{name}-{node}"))
                .collect();
            Daemon::of(world, name)
                .failing(&failing)
                .rollout("maxFailures", limit.clone())
                .rollout("failurePolicy", json!("Continue"))
                .apply(world)
                .await;
        }
        for (name, _, failures, state) in table {
            let object = finished(world, name).await;
            let status = status(&object);
            assert_eq!(status.state, Some(state), "{name}");
            assert_eq!(
                status.failed.and_then(|n| usize::try_from(n).ok()),
                Some(failures)
            );
            assert_eq!(status.failed_nodes.len(), failures);
            let ready = said(&object, "Ready");
            let is_ready = state == FlowState::Succeed;
            assert_eq!(ready.starts_with("True Succeeded: "), is_ready, "{ready}");
            world.jobs_are_on(name, &nodes).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_pause_after_failures_lasts_until_they_are_retried() {
    story(async |world: &World| {
        let [a, b, c] = world.add_nodes(["a", "b", "c"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("parallelism", json!(1))
            .rollout("failurePolicy", json!("Pause"))
            .apply(world)
            .await;
        world.end_job_on("test", &a, End::Failure).await;
        let object = world.daemon_says("test", "TooManyFailures", &[&a]).await;
        assert_eq!(status(&object).state, Some(FlowState::Running));
        assert!(said(&object, "Stalled").starts_with("True TooManyFailures: "));
        world.jobs_stay_on("test", &[&a]).await;
        // Another failure is another pause.
        retry(world, "1").await;
        world.end_job_on("test", &a, End::Failure).await;
        world
            .daemon_until("test", "has failed twice", |object| {
                status(object)
                    .failed_nodes
                    .iter()
                    .any(|failed| failed.attempts == Some(2))
            })
            .await;
        retry(world, "2").await;
        world.end_jobs_on("test", &[&a, &b, &c], End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(said(&object, "Stalled"), "");
    })
    .await;
}

#[tokio::test]
async fn a_node_is_tried_again_as_often_as_retry_says() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        // The first try fails on both, the second on b only.
        let failing = [jobs_on(&[&a, &b]), vec![format!("test-{b}-2")]].concat();
        Daemon::of(world, "test")
            .failing(&failing)
            .rollout("retry", json!({"limit": 1, "backoffSeconds": 2}))
            .apply(world)
            .await;
        let object = world
            .daemon_until("test", "waits to try again", |object| {
                said(object, "Ready").contains("2 to run again")
            })
            .await;
        assert_eq!(status(&object).state, Some(FlowState::Running));
        let object = finished(world, "test").await;
        assert_eq!(status(&object).state, Some(FlowState::Failed));
        assert_eq!(status(&object).progress.as_deref(), Some("1/2"));
        let failed = failed_node(&object);
        assert_eq!((failed.name, failed.attempts), (b.clone(), Some(2)));
        let jobs = world.jobs_of_daemon("test").await.expect("Jobs");
        let names: Vec<_> = jobs.iter().map(kube::ResourceExt::name_any).collect();
        let [first, second] = [jobs_on(&[&a]), jobs_on(&[&b])].map(|names| names[0].clone());
        let again = |name: &str| format!("{name}-2");
        assert_eq!(
            names,
            [first.clone(), again(&first), second.clone(), again(&second)]
        );
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_job_takes_too_long_has_failed() {
    story(async |world: &World| {
        let [a] = world.add_nodes(["a"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("timeoutSeconds", json!(1))
            .apply(world)
            .await;
        let object = finished(world, "test").await;
        let failed = failed_node(&object);
        assert_eq!(
            (failed.name, failed.reason.as_str()),
            (a, "DeadlineExceeded")
        );
    })
    .await;
}

#[tokio::test]
async fn of_many_failed_nodes_all_are_counted_and_some_are_told_of() {
    story(async |world: &World| {
        let names: Vec<_> = (10..35)
            .map(|number| world.named(&format!("n{number}")))
            .collect();
        for name in &names {
            world.add_node(name, json!({})).await;
        }
        for name in &names {
            world.node_is_ready(name).await;
        }
        Daemon::of(world, "test")
            .failing(&jobs_on(&names))
            .rollout("failurePolicy", json!("Continue"))
            .apply(world)
            .await;
        let object = finished(world, "test").await;
        let jobs = world.jobs_are_on("test", &names).await;
        let status = status(&object);
        assert_eq!((status.failed, status.succeeded), (Some(25), Some(0)));
        let told: Vec<_> = status.failed_nodes.iter().map(|f| f.name.clone()).collect();
        assert_eq!(told.len(), 20);
        let nodes: Vec<_> = jobs.iter().map(node_of).collect();
        assert!(told.iter().all(|name| nodes.contains(&name.as_str())));
        let said = said(&object, "Ready");
        assert!(
            said.contains("25 failed") && said.contains("and 15 more"),
            "{said}"
        );
    })
    .await;
}
