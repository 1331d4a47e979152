//! What the API server refuses of a DaemonJob and in which words, what only shows when Jobs are made, and
//! what kubectl makes of its CustomResourceDefinition.

use operon_api::{DaemonJob, daemon_job::FlowState};
use operon_e2e::{
    daemon_job::{Daemon, said, status},
    environment,
    prelude::*,
};
use serde_json::Value;

const CRD: &str = "daemonjobs.api.practice.com";

/// What kubectl says of applying this, which must be refused.
async fn refusal(world: &World, manifest: &Value) -> String {
    let applied = world.kubectl_apply(&manifest.to_string()).await;
    assert!(!applied.status.success(), "{manifest}");
    String::from_utf8_lossy(&applied.stderr).into_owned()
}

#[tokio::test]
async fn a_misspelt_field_is_refused_with_its_path() {
    story(async |world: &World| {
        let table = [
            ("/spec", "paralelism", "spec.paralelism"),
            ("/spec", "excludeNodes", "spec.excludeNodes"),
            ("/spec/nodes", "selectors", "spec.nodes.selectors"),
            (
                "/spec/template/spec",
                "nodeSelecter",
                "spec.template.spec.nodeSelecter",
            ),
            (
                "/spec/template/spec/containers/0",
                "comand",
                "spec.template.spec.containers[0].comand",
            ),
        ];
        for (part, field, path) in table {
            let mut manifest = Daemon::of(world, "test").manifest();
            manifest.pointer_mut(part).expect("a part of it")[field] = json!("a");
            let said = refusal(world, &manifest).await;
            assert!(
                said.contains(&format!("unknown field \"{path}\"")),
                "{said}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_refused_with_what_would() {
    story(async |world: &World| {
        let amount = "must be a number that is not negative, or a percentage such as 10%";
        let table = [
            ("parallelism", json!("ten%"), "parallelism", amount),
            ("parallelism", json!("10"), "parallelism", amount),
            ("parallelism", json!(-1), "parallelism", amount),
            ("maxFailures", json!("-1%"), "maxFailures", amount),
            ("maxFailures", json!(1.5), "maxFailures", "integer"),
            ("canary", json!({"count": "1.5%"}), "canary.count", amount),
            (
                "failurePolicy",
                json!("Stop"),
                "failurePolicy",
                "\"FailFast\", \"Continue\", \"Pause\"",
            ),
            (
                "completionPolicy",
                json!("Once"),
                "completionPolicy",
                "\"Always\", \"Never\"",
            ),
            (
                "timeoutSeconds",
                json!(0),
                "timeoutSeconds",
                "greater than or equal to 1",
            ),
            (
                "pauseSeconds",
                json!(-1),
                "pauseSeconds",
                "greater than or equal to 0",
            ),
            (
                "retry",
                json!({"limit": -1}),
                "retry.limit",
                "greater than or equal to 1",
            ),
            ("retry", json!({}), "retry.limit", "Required value"),
            (
                "topologyKey",
                json!(""),
                "topologyKey",
                "at least 1 chars long",
            ),
            ("paused", json!("yes"), "paused", "must be of type boolean"),
        ];
        for (field, value, path, words) in table {
            let daemon = Daemon::of(world, "test").rollout(field, value.clone());
            let said = refusal(world, &daemon.manifest()).await;
            let path = format!("spec.rollout.{path}");
            assert!(
                said.contains(&path) && said.contains(words),
                "{value}: {said}"
            );
        }
        let said = refusal(
            world,
            &Daemon::of(world, "test")
                .with("excludeNodeList", json!(["a"]))
                .manifest(),
        )
        .await;
        assert!(
            said.contains("spec.excludeNodeList in body must be of type string"),
            "{said}"
        );
        let said = refusal(
            world,
            &Daemon::of(world, "test")
                .with("template", json!(null))
                .manifest(),
        )
        .await;
        assert!(said.contains("spec.template"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn what_only_shows_later_stalls_it_in_the_words_of_who_refuses_it() {
    story(async |world: &World| {
        world.add_nodes(["a"]).await;
        let of = |name: &str| Daemon::of(world, name);
        let like = json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]});
        let table = [
            (
                of("selector").nodes("selector", like),
                ("InvalidSpec", "spec.nodes.selector can't be read"),
            ),
            (
                of("volume").container("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])),
                (
                    "Invalid",
                    "spec.template.spec.containers[0].volumeMounts[0].name",
                ),
            ),
            (
                of("negative").with("parallelism", json!(-1)),
                ("Invalid", "spec.parallelism"),
            ),
        ];
        for (daemon, _) in &table {
            daemon.apply(world).await;
        }
        for (daemon, (reason, words)) in table {
            let manifest = daemon.manifest();
            let name = manifest["metadata"]["name"].as_str().expect("a name");
            let object = world.daemon_says(name, reason, &[words]).await;
            assert!(said(&object, "Stalled").starts_with(&format!("True {reason}: ")));
            assert_ne!(status(&object).state, Some(FlowState::Failed));
            assert!(world.jobs_of_daemon(name).await.expect("Jobs").is_empty());
        }
        Daemon::of(world, "volume").apply(world).await;
        let object = world.daemon_comes_to("volume", FlowState::Succeed).await;
        assert_eq!(said(&object, "Stalled"), "");
    })
    .await;
}

#[tokio::test]
async fn jobs_that_a_quota_forbids_are_made_as_soon_as_they_may() {
    story(async |world: &World| {
        let [a, b, c] = world.add_nodes(["a", "b", "c"]).await;
        world.set_quota_of("count/jobs.batch", 1).await;
        Daemon::of(world, "test").apply(world).await;
        let object = world
            .daemon_says("test", "Forbidden", &["exceeded quota"])
            .await;
        assert_eq!(status(&object).state, Some(FlowState::Running));
        world.lift_quota().await;
        world.daemon_comes_to("test", FlowState::Succeed).await;
        world.jobs_are_on("test", &[&a, &b, &c]).await;
    })
    .await;
}

#[tokio::test]
async fn names_that_are_too_long_for_a_job_are_shortened() {
    story(async |world: &World| {
        let long = format!("{}.{}", world.named("n"), "n.".repeat(60) + "n");
        world.add_node(&long, json!({})).await;
        world.node_is_ready(&long).await;
        let name = "d".repeat(63);
        Daemon::of(world, &name).apply(world).await;
        world.daemon_comes_to(&name, FlowState::Succeed).await;
        let jobs = world.jobs_are_on(&name, &[&long]).await;
        assert!(jobs[0].name_any().len() <= 63);
        world.delete::<DaemonJob>(&name).await;
    })
    .await;
}

#[tokio::test]
async fn the_definition_can_be_applied_by_kubectl_and_explains_its_fields() {
    story(async |world: &World| {
        let file = environment::repository().join(format!("crds/{CRD}.yaml"));
        let file = file.to_string_lossy();
        // Nothing is changed: other stories go on.
        let applied = world
            .kubectl_says(&["apply", "--dry-run=server", "-f", &file])
            .await;
        assert!(applied.contains(CRD), "{applied}");
        let fields = [
            ("excludeNodeList", "separated by commas"),
            ("rollout.failurePolicy", "FailFast"),
            ("rollout.canary.count", "10%"),
            (
                "nodes.affinity.nodeSelectorTerms.matchExpressions",
                "operator",
            ),
            ("template.spec.containers.env.valueFrom", "configMapKeyRef"),
        ];
        for (field, text) in fields {
            let path = format!("daemonjob.spec.{field}");
            let explained = world.kubectl_says(&["explain", &path]).await;
            assert!(explained.contains(text), "{path}: {explained}");
        }
    })
    .await;
}
