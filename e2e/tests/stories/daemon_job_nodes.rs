//! Which nodes get a Job of a DaemonJob, why others get none, and what is when nodes come, go and change.

use k8s_openapi::api::{batch::v1::Job as BatchJob, core::v1::Pod};
use operon_api::daemon_job::FlowState;
use operon_e2e::{
    daemon_job::{Daemon, End, said, status},
    prelude::*,
};
use serde_json::Value;

/// Node selector terms with one requirement.
fn terms(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({"nodeSelectorTerms": [{"matchExpressions": [
        {"key": key, "operator": operator, "values": values}
    ]}]})
}

#[tokio::test]
async fn labels_affinity_and_the_templates_own_rules_select_nodes() {
    story(async |world: &World| {
        let [fast, slow, plain] = ["fast", "slow", "plain"].map(|name| world.named(name));
        world
            .add_node(&fast, json!({"disk": "ssd", "size": "8"}))
            .await;
        world
            .add_node(&slow, json!({"disk": "hdd", "size": "2"}))
            .await;
        world.add_node(&plain, json!({})).await;
        for node in [&fast, &slow, &plain] {
            world.node_is_ready(node).await;
        }
        let required = |terms: Value| {
            let key = "requiredDuringSchedulingIgnoredDuringExecution";
            json!({"nodeAffinity": {key: terms}})
        };
        let of = |name: &str| Daemon::of(world, name);
        let table = [
            (
                of("in").nodes("affinity", terms("disk", "In", &["ssd"])),
                vec![&fast],
            ),
            (
                of("gt").nodes("affinity", terms("size", "Gt", &["1"])),
                vec![&fast, &slow],
            ),
            (
                of("absent").nodes("affinity", terms("disk", "DoesNotExist", &[])),
                vec![&plain],
            ),
            (
                of("template").pod("nodeSelector", json!({"disk": "hdd"})),
                vec![&slow],
            ),
            (
                of("required").pod("affinity", required(terms("disk", "Exists", &[]))),
                vec![&fast, &slow],
            ),
            (
                // Spaces anywhere, empty entries, and a name that no node has.
                of("excluded").with(
                    "excludeNodeList",
                    json!(format!(" {fast} ,,{slow} , nobody,")),
                ),
                vec![&plain],
            ),
        ];
        for (daemon, _) in &table {
            daemon.apply(world).await;
        }
        for (daemon, nodes) in table {
            let manifest = daemon.manifest();
            let name = manifest["metadata"]["name"].as_str().expect("a name");
            world.daemon_comes_to(name, FlowState::Succeed).await;
            world.jobs_are_on(name, &nodes).await;
        }
        let object = world.daemon("excluded").await.expect("the object");
        let said = said(&object, "Ready");
        assert!(said.contains("2 excluded"), "{said}");
        assert!(
            said.contains("spec.excludeNodeList names nodes that do not exist: \"nobody\""),
            "{said}"
        );
    })
    .await;
}

#[tokio::test]
async fn tainted_cordoned_and_broken_nodes_get_no_job_unless_it_is_asked_for() {
    story(async |world: &World| {
        let [sound, tainted, cordoned, broken] = world
            .add_nodes(["sound", "tainted", "cordoned", "broken"])
            .await;
        world.break_node(&broken).await;
        world
            .kubectl_says(&["taint", "node", &tainted, "for=others:NoSchedule"])
            .await;
        world.kubectl_says(&["cordon", &cordoned]).await;

        Daemon::of(world, "careful").held().apply(world).await;
        world
            .daemon_says(
                "careful",
                "Running",
                &["1 not Ready", "1 cordoned", "1 tainted"],
            )
            .await;
        world.jobs_stay_on("careful", &[&sound]).await;
        let toleration = json!([{"key": "for", "value": "others", "effect": "NoSchedule"}]);
        Daemon::of(world, "tolerant")
            .pod("tolerations", toleration)
            .apply(world)
            .await;
        world.daemon_comes_to("tolerant", FlowState::Succeed).await;
        world.jobs_are_on("tolerant", &[&sound, &tainted]).await;
        Daemon::of(world, "all")
            .nodes("includeUnschedulable", json!(true))
            .apply(world)
            .await;
        world
            .jobs_are_on("all", &[&sound, &tainted, &cordoned, &broken])
            .await;
        // A simulated node runs its pods, however it is.
        let object = world.daemon_comes_to("all", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("4/4"));

        // They become what they should be.
        world.mend_node(&broken).await;
        world.kubectl_says(&["uncordon", &cordoned]).await;
        world
            .kubectl_says(&["taint", "node", &tainted, "for-"])
            .await;
        world
            .jobs_are_on("careful", &[&sound, &tainted, &cordoned, &broken])
            .await;
    })
    .await;
}

#[tokio::test]
async fn without_an_eligible_node_it_is_pending_and_goes_on_when_one_comes() {
    story(async |world: &World| {
        Daemon::of(world, "test").apply(world).await;
        let object = world
            .daemon_says("test", "NoEligibleNodes", &["No node gets a Job"])
            .await;
        assert_eq!(status(&object).state, Some(FlowState::Pending));
        let table = world
            .kubectl_says(&["get", "dj", "test", "--output=wide"])
            .await;
        assert!(
            table.contains("Pending") && table.contains("No node gets a Job"),
            "{table}"
        );
        world.add_nodes(["a"]).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("1/1"));
    })
    .await;
}

#[tokio::test]
async fn a_node_that_goes_while_its_job_runs_is_not_waited_for() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test").held().apply(world).await;
        let jobs = world.jobs_are_on("test", &[&a, &b]).await;
        world.pod_of(&jobs[0]).await;
        world.end_job_on("test", &b, End::Success).await;
        world.kubectl_says(&["delete", "node", &a]).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("1/1"));
        world.jobs_are_on("test", &[&b]).await;
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_made_again_under_its_name_is_another_and_runs_again() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test")
            .held()
            .rollout("completionPolicy", json!("Never"))
            .apply(world)
            .await;
        world.end_jobs_on("test", &[&a, &b], End::Success).await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
        let first = world.jobs_are_on("test", &[&a, &b]).await;
        world.delete_node(&a).await;
        world.add_nodes(["a"]).await;
        world.end_job_on("test", &a, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
        let all = world.jobs_of_daemon("test").await.expect("Jobs");
        let names: Vec<_> = all.iter().map(kube::ResourceExt::name_any).collect();
        // The Job of the node before is still there, under the name that the other would have got.
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[0], first[0].name_any());
        let salted = names[1].strip_prefix(&format!("test-{a}-"));
        assert_eq!(salted.map(str::len), Some(5), "{names:?}");
    })
    .await;
}

#[tokio::test]
async fn a_node_that_becomes_unfit_while_its_job_runs_goes_on() {
    story(async |world: &World| {
        let [a, b] = world.add_nodes(["a", "b"]).await;
        Daemon::of(world, "test").held().apply(world).await;
        world.jobs_are_on("test", &[&a, &b]).await;
        let pod: Pod = {
            let job: BatchJob = world.get(&format!("test-{a}")).await.expect("the Job");
            world.pod_of(&job).await
        };
        world.kubectl_says(&["cordon", &a]).await;
        world.end_job_on("test", &b, End::Success).await;
        world
            .daemon_says("test", "Running", &["1 of 2 nodes succeeded, 1 running"])
            .await;
        world.end_job_on("test", &a, End::Success).await;
        let object = world.daemon_comes_to("test", FlowState::Succeed).await;
        assert_eq!(status(&object).progress.as_deref(), Some("2/2"));
        assert!(world.find::<Pod>(&pod.name_any()).await.is_some());
    })
    .await;
}
