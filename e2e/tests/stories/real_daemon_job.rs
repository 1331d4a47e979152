//! A DaemonJob on nodes on which containers run. The other stories of DaemonJobs are on simulated nodes.

use operon_api::daemon_job::FlowState;
use operon_e2e::{
    daemon_job::{Daemon, node_of, status},
    environment,
    prelude::*,
    reactive_job::end,
};

#[tokio::test]
async fn a_script_that_fails_is_told_of_node_by_node_and_runs_again_when_it_is_corrected() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let daemon = Daemon::of(world, "test").with("nodes", json!({}));
        let script = |script: &str| json!(["sh", "-c", script]);
        daemon
            .clone()
            .container("command", script("echo first; echo no disk; exit 3"))
            .container("terminationMessagePolicy", json!("FallbackToLogsOnError"))
            .apply(world)
            .await;
        let object = world
            .daemon_says("test", "NodesFailed", &["BackoffLimitExceeded"])
            .await;
        let told = status(&object);
        assert_eq!(
            (told.state, told.failed),
            (Some(FlowState::Failed), told.desired)
        );
        let jobs = world.jobs_of_daemon("test").await.expect("Jobs");
        assert_eq!(jobs.len(), told.failed_nodes.len());
        for (job, failed) in jobs.iter().zip(&told.failed_nodes) {
            assert_eq!(end(job), Some("Failed"));
            assert_eq!(
                (node_of(job), Some(job.name_any())),
                (&*failed.name, failed.job_name.clone())
            );
            assert_eq!(job.name_any(), format!("test-{}", failed.name));
            let pod = world.pod_of(job).await;
            assert_eq!(
                pod.spec.and_then(|spec| spec.node_name),
                Some(failed.name.clone())
            );
            assert_eq!(failed.exit_code, Some(3));
            let words = ["exited with 3", "first\nno disk"];
            for word in words {
                assert!(failed.message.contains(word), "{}", failed.message);
            }
        }

        let node = json!([{
            "name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}
        }]);
        daemon
            .with("globalParams", json!({"env": node}))
            .container("command", script("test -n \"$NODE\""))
            .apply(world)
            .await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        let count = jobs.len();
        assert_eq!(status(&object).progress, Some(format!("{count}/{count}")));
    })
    .await;
}
