//! The life of a DaemonJob: how many nodes at a time, what an edit does, what is done only once, and its
//! end. On simulated nodes of each story's own.

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{DaemonJob, daemon_job::FlowState};
use operon_e2e::{
    daemon_job::{Daemon, End, said, status},
    prelude::*,
    reactive_job::end,
};

/// How many nodes are to get a Job, and on how many it runs, succeeded, and failed.
fn counts(object: &DaemonJob) -> [Option<i32>; 4] {
    let status = status(object);
    [
        status.desired,
        status.active,
        status.succeeded,
        status.failed,
    ]
}

#[tokio::test]
async fn so_many_nodes_run_at_a_time_as_parallelism_says_until_that_is_raised() {
    story(async |world: &World| {
        let nodes = world.add_nodes(["a", "b", "c", "d", "e"]).await;
        // 30 % of 5 is 1.5: two.
        let daemon = Daemon::of(world, "test").held();
        let daemon = daemon.rollout("parallelism", json!("30%"));
        daemon.apply(world).await;
        world.jobs_are_on("test", &nodes[..2]).await;
        world.jobs_stay_on("test", &nodes[..2]).await;
        let object = world.daemon("test").await.expect("the object");
        assert_eq!(counts(&object), [5, 2, 0, 0].map(Some));
        world.end_job_on("test", &nodes[0], End::Success).await;
        world.jobs_are_on("test", &nodes[..3]).await;
        let object = world
            .daemon_until("test", "knows of it", |object| {
                status(object).succeeded == Some(1) && status(object).active == Some(2)
            })
            .await;
        assert_eq!(status(&object).progress.as_deref(), Some("1/5"));
        daemon.rollout("parallelism", json!(4)).apply(world).await;
        world.jobs_are_on("test", &nodes).await;
        world.end_jobs_on("test", &nodes[1..], End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(counts(&object), [5, 0, 5, 0].map(Some));
        let ready = said(&object, "Ready");
        assert!(
            ready.starts_with("True Succeeded: 5 of 5 nodes succeeded"),
            "{ready}"
        );
    })
    .await;
}

#[tokio::test]
async fn while_it_is_paused_no_further_node_starts() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        let daemon = Daemon::of(world, "test").held();
        let daemon = daemon.rollout("parallelism", json!(1));
        daemon.apply(world).await;
        world.jobs_are_on("test", &[&a]).await;
        let paused = daemon.clone().rollout("paused", json!(true));
        paused.apply(world).await;
        world.end_job_on("test", &a, End::Success).await;
        world
            .daemon_says("test", "Paused", &["1 of 2 nodes succeeded"])
            .await;
        world.jobs_stay_on("test", &[&a]).await;
        daemon.apply(world).await;
        world.end_job_on("test", &b, End::Success).await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_done_stays_done_when_its_jobs_go_by_their_ttl_and_when_nodes_come() {
    story(async |world: &World| {
        world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test")
            .with("ttlSecondsAfterFinished", json!(1))
            .apply(world)
            .await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
        world.jobs_are_on::<&str>("test", &[]).await;
        world.add_nodes(["c"]).await;
        let object = world.daemon("test").await.expect("the object");
        world.daemon_is_not_written(&object).await;
        assert!(world.jobs_of_daemon("test").await.expect("Jobs").is_empty());
        assert_eq!(counts(&object), [2, 0, 2, 0].map(Some));
    })
    .await;
}

#[tokio::test]
async fn one_that_never_completes_serves_nodes_that_come_and_is_ready_in_between() {
    story(async |world: &World| {
        let [a] = world.add_nodes(["a"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("completionPolicy", json!("Never"))
            .apply(world)
            .await;
        world.end_job_on("test", &a, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert!(said(&object, "Ready").starts_with("True Succeeded"));
        let [b] = world.add_nodes(["b"]).await;
        world.jobs_are_on("test", &[&a, &b]).await;
        let object = world.daemon_comes_to("test", FlowState::Running).await;
        assert_eq!(status(&object).progress.as_deref(), Some("1/2"));
        world.end_job_on("test", &b, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
        world.delete_node(&a).await;
        world
            .daemon_until("test", "forgets a node that is gone", |object| {
                status(object).progress.as_deref() == Some("1/1")
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_edited_template_begins_anew_on_every_node_and_other_edits_do_not() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        let daemon = Daemon::of(world, "test").held();
        daemon.apply(world).await;
        world.end_job_on("test", &a, End::Success).await;
        let first = world.jobs_are_on("test", &[&a, &b]).await;
        let options = daemon.clone().rollout("maxFailures", json!(1));
        let options = options.with("excludeNodeList", json!("nobody"));
        let options = options.nodes("includeUnschedulable", json!(false));
        let object = options.apply(world).await;
        world
            .daemon_until("test", "has seen the options", |now| {
                status(now).observed_generation == object.metadata.generation
            })
            .await;
        let same = world.jobs_are_on("test", &[&a, &b]).await;
        assert_eq!(uids(&same), uids(&first), "options run nothing again");

        let edited = options.container("args", json!(["edited"]));
        edited.apply(world).await;
        for job in &first {
            // Its name may be taken by the next one meanwhile.
            let uid = job.uid();
            let name = job.name_any();
            world
                .eventually(&format!("the first Job {name} goes"), async || {
                    let found = world.find::<BatchJob>(&name).await;
                    ensure!(found.and_then(|found| found.uid()) != uid, "it is there");
                    Ok(())
                })
                .await;
        }
        world.end_jobs_on("test", &[&a, &b], End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
        let second = world.jobs_are_on("test", &[&a, &b]).await;
        for job in &second {
            assert_eq!(end(job), Some("Complete"));
            let pod = job
                .spec
                .as_ref()
                .and_then(|spec| spec.template.spec.as_ref());
            let arguments = pod.and_then(|pod| pod.containers[0].args.clone());
            assert_eq!(arguments, Some(vec!["edited".to_owned()]));
        }

        // Finished, it begins anew by an edit, too.
        let again = Daemon::of(world, "test").container("args", json!(["again"]));
        again.apply(world).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
        let third = world.jobs_are_on("test", &[&a, &b]).await;
        assert!(third.iter().all(|job| !uids(&second).contains(&job.uid())));
    })
    .await;
}

fn uids(jobs: &[BatchJob]) -> Vec<Option<String>> {
    jobs.iter().map(kube::ResourceExt::uid).collect()
}

#[tokio::test]
async fn its_running_jobs_and_their_pods_go_with_it() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test").held().apply(world).await;
        let jobs = world.jobs_are_on("test", &[&a, &b]).await;
        for job in &jobs {
            world.pod_of(job).await;
        }
        world.kubectl_says(&["delete", "dj", "test"]).await;
        world.gone::<DaemonJob>("test").await;
        for job in jobs {
            world.gone::<BatchJob>(&job.name_any()).await;
        }
        world
            .eventually("the pods are gone", async || {
                let pods = world.all_pods().await?;
                ensure!(pods.is_empty(), "{:?}", names(&pods));
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn one_that_is_deleted_and_applied_again_at_once_has_jobs_of_the_same_names() {
    story(async |world: &World| {
        let [a] = world.add_nodes(["a"]).await;
        let object = Daemon::of(world, "test").held();
        object.apply(world).await;
        world.jobs_are_on("test", &[&a]).await;
        world.delete::<DaemonJob>("test").await;
        object.apply(world).await;
        let jobs = world.jobs_are_on("test", &[&a]).await;
        assert_eq!(jobs[0].name_any(), format!("test-{a}"));
        world.end_job_on("test", &a, End::Success).await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_somebody_deletes_is_made_again_unless_it_was_done() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test").held().apply(world).await;
        world.end_job_on("test", &a, End::Success).await;
        world
            .daemon_until("test", "knows that one is done", |object| {
                status(object).succeeded == Some(1)
            })
            .await;
        let jobs = world.jobs_are_on("test", &[&a, &b]).await;
        for job in &jobs {
            world.delete::<BatchJob>(&job.name_any()).await;
        }
        let left = world
            .eventually("only the Job of b is made again", async || {
                let left = world.jobs_are_on("test", &[&b]).await;
                ensure!(!uids(&jobs).contains(&left[0].uid()), "not yet");
                Ok(left)
            })
            .await;
        assert_eq!(left[0].name_any(), format!("test-{b}-2"));
        world.end_job_on("test", &b, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
    })
    .await;
}

#[tokio::test]
async fn events_and_the_wide_table_tell_of_it() {
    story(async |world: &World| {
        let [a] = world.add_nodes(["a"]).await;
        Daemon::of(world, "test")
            .with("globalParams", json!({"nodeName": "other"}))
            .failing(&[format!("test-{a}")])
            .apply(world)
            .await;
        world.daemon_comes_to("test", FlowState::Failed).await;
        let expected = ["Created", "NodeFailed", "Failed"];
        world
            .eventually("Events tell of it", async || {
                let reasons = world.event_reasons("test").await?;
                let are_there = expected.iter().all(|e| reasons.contains(&(*e).to_owned()));
                ensure!(are_there, "{reasons:?}");
                Ok(())
            })
            .await;
        let table = world.kubectl_says(&["get", "dj", "--output=wide"]).await;
        for text in [
            "FAILED",
            "MESSAGE",
            "1 failed",
            &a,
            "nodeName has no effect",
        ] {
            assert!(table.contains(text), "{text}: {table}");
        }
    })
    .await;
}
