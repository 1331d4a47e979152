//! Hosts are killed in the middle of rollouts: no node gets two Jobs for one thing, no more run at a time
//! than may, and it ends.
//!
//! These stories run hosts of their own, so they run alone, after all others.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{DaemonJob, daemon_job::FlowState, keys};
use operon_e2e::{
    daemon_job::{Daemon, End, ZONE, is_at, node_of, status},
    host::{Host, alone},
    prelude::*,
    reactive_job::{Made, end},
};

/// How many nodes there are, and in how many zones.
const NODES: usize = 24;
const ZONES: usize = 3;

/// Starts a host that needs no Lease: it is killed before it could give one back.
fn host(world: &World, name: &str) -> Host {
    Host::start_with(world, name, &["--no-leader-election"])
}

async fn nodes(world: &World) -> Vec<String> {
    let name = |number: usize| world.named(&format!("n{number:02}"));
    let names: Vec<_> = (0..NODES).map(name).collect();
    for (number, name) in names.iter().enumerate() {
        let zone = format!("zone-{}", number % ZONES);
        world.add_node(name, json!({ZONE: zone})).await;
    }
    for name in &names {
        world.node_is_ready(name).await;
    }
    names
}

/// What a Job was made for: the DaemonJob, the node, the spec, and the attempt.
fn purpose(job: &BatchJob) -> [Option<String>; 4] {
    let (labels, annotations) = (job.labels(), job.annotations());
    [
        labels.get(keys::OWNER_UID),
        labels.get(keys::NODE_UID),
        annotations.get(keys::REVISION),
        annotations.get(keys::RUN_ATTEMPT),
    ]
    .map(Option::<&String>::cloned)
}

/// Asserts that no two Jobs were made for the same.
fn none_is_made_twice(made: &Made) {
    let mut by_purpose: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for job in made.all() {
        by_purpose
            .entry(purpose(&job))
            .or_default()
            .push(job.name_any());
    }
    let mut twice = by_purpose.values().filter(|names| names.len() > 1);
    assert_eq!(twice.next(), None, "Jobs for one purpose");
}

/// Kills hosts, each when so many more Jobs have been made, until the DaemonJobs of these names, which may
/// run so many Jobs at a time, are finished.
async fn kill_hosts_until_done(world: &World, made: &Made, objects: &[(&str, usize)]) {
    for round in 0.. {
        let host = host(world, &format!("host-{round}"));
        let enough = made.all().len() + 1 + round % 5;
        let is_done = world
            .eventually("the host makes Jobs, or is done", async || {
                let count = made.all().len();
                let is_done = are_done(world, objects).await?;
                ensure!(is_done || count >= enough, "{count} instead of {enough}");
                Ok(is_done)
            })
            .await;
        host.kill().await;
        if is_done {
            return;
        }
    }
}

/// Whether Kubernetes has given a Job up, and waits for its pods to terminate. Such a Job has failed.
fn is_given_up(job: &BatchJob) -> bool {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.flatten();
    conditions.any(|condition| condition.type_ == "FailureTarget" && condition.status == "True")
}

/// Whether they are finished. No more Jobs of each may run than it says.
async fn are_done(world: &World, objects: &[(&str, usize)]) -> Result<bool> {
    let mut are_done = true;
    for (name, limit) in objects {
        let mut jobs = world.jobs_of_daemon(name).await?;
        jobs.retain(|job| {
            end(job).is_none() && !is_given_up(job) && job.metadata.deletion_timestamp.is_none()
        });
        let count = jobs.len();
        assert!(count <= *limit, "{count} Jobs of {name} run, not {limit}");
        let object = world.daemon(name).await?;
        let status = status(&object);
        let is_of_now = status.observed_generation == object.metadata.generation;
        are_done &= is_of_now && status.completion_time.is_some();
    }
    Ok(are_done)
}

#[tokio::test]
async fn hosts_killed_during_rollouts_never_run_a_node_twice_and_the_rollouts_end() {
    alone(async |world: &World| {
        let nodes = nodes(world).await;
        let made = Made::watch(world);
        let failing: Vec<_> = nodes
            .iter()
            .step_by(5)
            .map(|n| format!("retried-{n}"))
            .collect();
        Daemon::of(world, "few")
            .rollout("parallelism", json!(3))
            .apply(world)
            .await;
        Daemon::of(world, "waves")
            .with("ttlSecondsAfterFinished", json!(0))
            .rollout("canary", json!({"count": 2}))
            .rollout("topologyKey", json!(ZONE))
            .rollout("parallelism", json!("20%"))
            .apply(world)
            .await;
        Daemon::of(world, "retried")
            .failing(&failing)
            .rollout("parallelism", json!(4))
            .rollout("retry", json!({"limit": 1, "backoffSeconds": 1}))
            .apply(world)
            .await;
        // A fifth of 24 is 4.8: five.
        let objects = [("few", 3), ("waves", 5), ("retried", 4)];
        kill_hosts_until_done(world, &made, &objects).await;
        none_is_made_twice(&made);
        let jobs_of = |name: &str| {
            let mut jobs = made.all();
            jobs.retain(|job| job.name_any().starts_with(&format!("{name}-")));
            jobs
        };
        for (name, _) in objects {
            let object = world.daemon(name).await.expect("the object");
            assert_eq!(status(&object).state, Some(FlowState::Succeed), "{name}");
            assert_eq!(status(&object).progress, Some(format!("{NODES}/{NODES}")));
        }
        assert_eq!(jobs_of("few").len(), NODES);
        assert_eq!(
            jobs_of("waves").len(),
            NODES,
            "a TTL is no reason to run again"
        );
        assert_eq!(jobs_of("retried").len(), NODES + failing.len());
    })
    .await;
}

#[tokio::test]
async fn hosts_killed_while_the_spec_is_edited_run_every_node_once_by_the_last() {
    alone(async |world: &World| {
        let nodes = nodes(world).await;
        let made = Made::watch(world);
        let daemon = Daemon::of(world, "test").rollout("parallelism", json!(6));
        for edit in 0..6 {
            let edit = format!("{edit}");
            daemon
                .clone()
                .container("args", json!([edit]))
                .apply(world)
                .await;
            let host = host(world, &format!("host-{edit}"));
            let enough = made.all().len() + 3;
            world
                .eventually("the host makes Jobs", async || {
                    let count = made.all().len();
                    ensure!(count >= enough, "{count} instead of {enough}");
                    Ok(())
                })
                .await;
            host.kill().await;
        }
        daemon.container("args", json!(["last"])).apply(world).await;
        kill_hosts_until_done(world, &made, &[("test", 6)]).await;
        none_is_made_twice(&made);
        let object = world.daemon("test").await.expect("the object");
        assert_eq!(status(&object).progress, Some(format!("{NODES}/{NODES}")));
        let revision = status(&object).revision;
        let of_last = |job: &BatchJob| job.annotations().get(keys::REVISION) == revision.as_ref();
        let mut last: Vec<_> = made.all().into_iter().filter(of_last).collect();
        last.sort_by_key(|job| node_of(job).to_owned());
        assert_eq!(last.iter().map(node_of).collect::<Vec<_>>(), nodes);
    })
    .await;
}

#[tokio::test]
async fn what_changed_while_no_host_ran_is_seen_afterwards() {
    alone(async |world: &World| {
        let [a, b, c] = world.add_nodes(["a", "b", "c"]).await;
        let first = host(world, "first");
        Daemon::of(world, "test").held().apply(world).await;
        Daemon::of(world, "deleted").held().apply(world).await;
        world.jobs_are_on("test", &[&a, &b, &c]).await;
        world.jobs_are_on("deleted", &[&a, &b, &c]).await;
        first.kill().await;
        world.end_job_on("test", &a, End::Success).await;
        world.delete_node(&b).await;
        world.delete_node(&c).await;
        let [c] = world.add_nodes(["c"]).await;
        world.delete::<DaemonJob>("deleted").await;
        let second = host(world, "second");
        // The Jobs of the nodes that are gone go, and the new node gets one.
        world.jobs_are_on("test", &[&a, &c]).await;
        world.end_job_on("test", &c, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
        world.gone::<DaemonJob>("deleted").await;
        second.kill().await;
    })
    .await;
}

#[tokio::test]
async fn nodes_that_come_and_go_while_hosts_are_killed_are_served_once_each() {
    alone(async |world: &World| {
        let mut nodes = nodes(world).await;
        let made = Made::watch(world);
        Daemon::of(world, "test")
            .rollout("completionPolicy", json!("Never"))
            .rollout("parallelism", json!(2))
            .apply(world)
            .await;
        for round in 0..6 {
            let host = host(world, &format!("host-{round}"));
            let enough = made.all().len() + 3;
            world
                .eventually("the host makes Jobs", async || {
                    let count = made.all().len();
                    ensure!(count >= enough, "{count} instead of {enough}");
                    Ok(())
                })
                .await;
            host.kill().await;
            // Of nodes that had their Job and of those that had none: one goes, one is made again under
            // its name, one is cordoned; and one comes.
            for place in [0, nodes.len() / 2] {
                world.delete_node(&nodes.remove(place)).await;
                let again = &nodes[place + 1];
                world.delete_node(again).await;
                world.add_node(again, json!({})).await;
                world.kubectl_says(&["cordon", &nodes[place + 2]]).await;
                let new = world.named(&format!("new-{round}-{place}"));
                world.add_node(&new, json!({})).await;
                nodes.push(new);
            }
        }
        for node in &nodes {
            world.kubectl_says(&["uncordon", node]).await;
            world.node_is_ready(node).await;
        }
        let last = host(world, "host-last");
        let all = format!("{0}/{0}", nodes.len());
        world
            .daemon_until("test", "has served every node", |object| {
                is_at(object, FlowState::Succeed) && status(object).progress.as_ref() == Some(&all)
            })
            .await;
        last.kill().await;
        none_is_made_twice(&made);
        for node in &nodes {
            let node = world.nodes().get(node).await.expect("the node");
            let is_for = |job: &&BatchJob| job.labels().get(keys::NODE_UID) == node.uid().as_ref();
            let jobs = made.all();
            let jobs: Vec<_> = jobs.iter().filter(is_for).map(end).collect();
            assert_eq!(jobs, [Some("Complete")], "{}", node.name_any());
        }
    })
    .await;
}
