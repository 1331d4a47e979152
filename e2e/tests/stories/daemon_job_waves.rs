//! In which order the nodes of a DaemonJob go: canaries first, then one zone after the other.

use k8s_openapi::api::events::v1::Event;
use operon_api::daemon_job::FlowState;
use operon_e2e::{
    daemon_job::{Daemon, End, ZONE, status},
    prelude::*,
};

/// Makes nodes, each in a zone; returns their names when they are Ready.
async fn zones<const N: usize>(world: &World, nodes: [(&str, &str); N]) -> [String; N] {
    for (name, zone) in nodes {
        let labels = json!({ZONE: zone});
        world.add_node(&world.named(name), labels).await;
    }
    let names = nodes.map(|(name, _)| world.named(name));
    for name in &names {
        world.node_is_ready(name).await;
    }
    names
}

#[tokio::test]
async fn canaries_go_first_then_one_zone_after_the_other_with_a_pause_between() {
    story(async |world: &World| {
        let nodes = [("a", "two"), ("b", "two"), ("c", "one"), ("d", "one")];
        let [a, b, c, d] = zones(world, nodes).await;
        // It has no zone, and goes last.
        let [last] = world.add_nodes(["e"]).await;
        world
            .kubectl_says(&["label", "node", &b, "canary=yes"])
            .await;
        Daemon::of(world, "test")
            .held()
            .rollout(
                "canary",
                json!({"selector": {"matchLabels": {"canary": "yes"}}}),
            )
            .rollout("topologyKey", json!(ZONE))
            .rollout("pauseSeconds", json!(4))
            .apply(world)
            .await;
        world.jobs_are_on("test", &[&b]).await;
        world.jobs_stay_on("test", &[&b]).await;
        world.end_job_on("test", &b, End::Success).await;
        let zone = |name: &str| format!("{ZONE}={name}");
        let words = ["1 of 5 nodes succeeded", "zone=one\" starts at "];
        let object = world.daemon_says("test", "WavePause", &words).await;
        assert_eq!(wave(&object), ("canary".to_owned(), true));

        world.jobs_are_on("test", &[&b, &c, &d]).await;
        world
            .daemon_until("test", "is at the next wave", |object| {
                wave(object) == (zone("one"), false)
            })
            .await;
        world.end_job_on("test", &c, End::Success).await;
        world.jobs_stay_on("test", &[&b, &c, &d]).await;
        world.end_job_on("test", &d, End::Success).await;
        world
            .daemon_says("test", "WavePause", &["zone=two\" starts at "])
            .await;
        world.end_job_on("test", &a, End::Success).await;
        world
            .daemon_says("test", "WavePause", &["Wave \"rest\""])
            .await;
        world.end_job_on("test", &last, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(wave(&object), ("rest".to_owned(), true));
        for name in ["canary", &zone("one"), &zone("two"), "rest"] {
            let note = format!("wave \"{name}\" starts: ");
            world
                .eventually(&format!("an Event says {note}"), async || {
                    let events = world.list::<Event>().await?;
                    let mut told = events.iter().filter_map(|event| event.note.as_ref());
                    ensure!(told.any(|said| said.starts_with(&note)), "none does");
                    Ok(())
                })
                .await;
        }
        pauses_were_kept(world, &[[&b, &c], [&d, &a], [&a, &last]]).await;
    })
    .await;
}

/// The wave that the status reports, and whether it has finished.
fn wave(object: &operon_api::DaemonJob) -> (String, bool) {
    let wave = status(object).wave.unwrap_or_default();
    (wave.name, wave.completion_time.is_some())
}

/// Whether the pause was kept between the end of the Job of one node and the beginning of another's.
async fn pauses_were_kept(world: &World, waves: &[[&String; 2]]) {
    let jobs = world.jobs_of_daemon("test").await.expect("Jobs");
    let job_on = |node: &str| {
        let name = format!("test-{node}");
        let found = jobs.iter().find(|job| job.name_any() == name);
        found.expect("every node has its Job")
    };
    for [before, after] in waves {
        let status = job_on(before).status.as_ref();
        let end = status.and_then(|status| status.completion_time.as_ref());
        let begin = job_on(after).creation_timestamp();
        let pause = begin
            .expect("a time")
            .0
            .duration_since(end.expect("an end").0);
        // Both times are whole seconds.
        assert!(
            pause.as_secs() >= 3,
            "{pause:?} between {before} and {after}"
        );
    }
}

#[tokio::test]
async fn a_canary_that_fails_stops_the_others_whatever_max_failures_says() {
    story(async |world: &World| {
        let [a, b, c] = world.add_nodes(["a", "b", "c"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("canary", json!({"count": "34%"}))
            .rollout("maxFailures", json!("100%"))
            .apply(world)
            .await;
        // 34 % of three is 1.02: two.
        world.jobs_are_on("test", &[&a, &b]).await;
        world.end_job_on("test", &a, End::Failure).await;
        world.end_job_on("test", &b, End::Success).await;
        let object = world
            .daemon_says(
                "test",
                "NodesFailed",
                &["1 of 3 nodes succeeded", "A canary failed"],
            )
            .await;
        assert_eq!(status(&object).state, Some(FlowState::Failed));
        world.jobs_stay_on("test", &[&a, &b]).await;
        world
            .kubectl_says(&["annotate", "dj", "test", "operon.dev/retry=1"])
            .await;
        world.end_jobs_on("test", &[&a, &c], End::Success).await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_canary_nothing_starts_until_there_is_one() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout(
                "canary",
                json!({"selector": {"matchLabels": {"canary": "yes"}}}),
            )
            .apply(world)
            .await;
        let words = ["spec.rollout.canary.selector selects none of these nodes"];
        let object = world.daemon_says("test", "NoCanaryNodes", &words).await;
        assert_eq!(status(&object).state, Some(FlowState::Pending));
        world.jobs_stay_on::<&str>("test", &[]).await;
        world
            .kubectl_says(&["label", "node", &b, "canary=yes"])
            .await;
        world.jobs_are_on("test", &[&b]).await;
        world.end_jobs_on("test", &[&b, &a], End::Success).await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
    })
    .await;
}
