//! What the API server refuses of a ReactiveJob, what only shows when its Job is made, and what kubectl
//! makes of its CustomResourceDefinition.

use kube::api::PostParams;
use operon_api::reactive_job::State;
use operon_e2e::{
    environment,
    prelude::*,
    reactive_job::{Reactive, said},
};
use serde_json::Value;

const CRD: &str = "reactivejobs.batch.cs.sap.com";

/// What the API server says of creating this, if it refuses it.
async fn refusal(world: &World, object: Value) -> Option<String> {
    let object: kube::core::DynamicObject = serde_json::from_value(object).expect("an object");
    let resource = kube::core::ApiResource::erase::<operon_api::ReactiveJob>(&());
    let api: kube::Api<kube::core::DynamicObject> =
        kube::Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let created = api.create(&PostParams::default(), &object).await;
    created.err().map(|error| error.to_string())
}

/// Asserts that a ReactiveJob with this in this part of it is refused, and why.
async fn assert_refused(world: &World, part: &str, (field, value, fault): (&str, Value, &str)) {
    let mut object = Reactive::of("test").manifest();
    object.pointer_mut(part).expect("a part of it")[field] = value;
    let said = refusal(world, object).await;
    assert!(
        said.as_ref().is_some_and(|said| said.contains(fault)),
        "{part}/{field}: {said:?}"
    );
}

#[tokio::test]
async fn a_template_that_says_which_job_it_is_or_is_none_is_refused_with_the_field_at_fault() {
    story(async |world: &World| {
        let metadata = [
            ("name", json!("n"), "name must not be specified"),
            ("generateName", json!("n-"), "generateName must not be"),
            ("namespace", json!("n"), "namespace must not be"),
            ("finalizers", json!(["n.n/n"]), "finalizers must not be"),
            ("labels", json!({"a": 1}), "metadata.labels.a"),
        ];
        for row in metadata {
            assert_refused(world, "/spec/jobTemplate/metadata", row).await;
        }
        let (template, job) = ("/spec/jobTemplate", "/spec/jobTemplate/spec");
        let pod = "/spec/jobTemplate/spec/template/spec";
        let twice = json!([{"name": "a"}, {"name": "a"}]);
        assert_refused(world, template, ("spec", json!({}), "spec.template")).await;
        assert_refused(world, job, ("parallelism", json!("2"), "spec.parallelism")).await;
        assert_refused(world, pod, ("containers", twice, "Duplicate value")).await;
        let name = ("name", json!("n".repeat(58)), "at most 57 characters");
        assert_refused(world, "/metadata", name).await;
    })
    .await;
}

#[tokio::test]
async fn an_option_that_makes_no_sense_is_refused_with_the_field_at_fault() {
    story(async |world: &World| {
        let table = [
            ("concurrencyPolicy", json!("Forbid")),
            ("suspend", json!("yes")),
            ("successfulHistoryLimit", json!(-1)),
            ("failedHistoryLimit", json!(-1)),
            ("progressDeadlineSeconds", json!(0)),
            ("retry", json!({})),
            ("retry", json!({"limit": 0})),
            ("retry", json!({"limit": 101})),
            ("retry", json!({"limit": 1, "backoffSeconds": 0})),
            ("triggers", json!({"template": "Pod"})),
            ("triggers", json!({"debounceSeconds": -1})),
        ];
        for (field, value) in table {
            let fault = format!("spec.{field}");
            assert_refused(world, "/spec", (field, value, &fault)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_misspelt_field_is_refused_by_kubectl_with_its_name() {
    story(async |world: &World| {
        let sane = Reactive::of("test");
        let table = [
            (
                sane.clone().with("concurencyPolicy", json!("Queue")),
                "spec.concurencyPolicy",
            ),
            (
                sane.clone().job("ttlSeconds", json!(1)),
                "spec.jobTemplate.spec.ttlSeconds",
            ),
            (
                sane.container("comand", json!(["true"])),
                "spec.jobTemplate.spec.template.spec.containers[0].comand",
            ),
        ];
        for (reactive, fault) in table {
            let applied = world.kubectl_apply(&reactive.manifest().to_string()).await;
            let said = String::from_utf8_lossy(&applied.stderr);
            assert!(!applied.status.success() && said.contains(fault), "{said}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_longest_name_names_a_job_that_runs() {
    story(async |world: &World| {
        let name = "n".repeat(57);
        Reactive::of(&name).apply(world).await;
        world.comes_to(&name, State::Ready).await;
        assert_eq!(world.jobs_are(&name, 1).await[0].name_any().len(), 63);
    })
    .await;
}

#[tokio::test]
async fn a_template_of_which_no_job_can_be_made_says_why_and_waits_for_a_change() {
    story(async |world: &World| {
        let label = json!({"matchLabels": {"a": "b"}});
        let table = [
            (
                "policy",
                Reactive::of("policy").pod("restartPolicy", json!("Always")),
                "restartPolicy",
            ),
            (
                "selector",
                Reactive::of("selector").job("selector", label),
                "selector",
            ),
            (
                "volume",
                Reactive::of("volume")
                    .container("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])),
                "volumeMounts",
            ),
        ];
        for (_, reactive, _) in &table {
            reactive.apply(world).await;
        }
        for (name, _, fault) in &table {
            let object = world.comes_to(name, State::Error).await;
            let (ready, stalled) = (said(&object, "Ready"), said(&object, "Stalled"));
            assert!(
                ready.starts_with("False Error: ") && ready.contains(fault),
                "{ready}"
            );
            assert!(
                stalled.starts_with("True Invalid: ") && stalled.contains(fault),
                "{stalled}"
            );
            assert!(world.jobs_of(name).await.expect("Jobs").is_empty());
        }
        let object = world.reactive("policy").await.expect("the object");
        world.nothing_is_written(&object).await;
        Reactive::of("policy").apply(world).await;
        let object = world.comes_to("policy", State::Ready).await;
        assert_eq!(said(&object, "Stalled"), "");
        world.jobs_are("policy", 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_the_quota_forbids_is_made_as_soon_as_it_may() {
    story(async |world: &World| {
        world.set_quota_of("count/jobs.batch", 0).await;
        Reactive::of("test").apply(world).await;
        let object = world.comes_to("test", State::Error).await;
        let stalled = said(&object, "Stalled");
        assert!(
            stalled.starts_with("True Forbidden: ") && stalled.contains("exceeded quota"),
            "{stalled}"
        );
        world.nothing_is_written(&object).await;
        world.lift_quota().await;
        world.comes_to("test", State::Ready).await;
        world.jobs_are("test", 1).await;
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
            ("concurrencyPolicy", "Queue"),
            ("retry.limit", "Jobs run"),
            ("triggers.configMaps", "ConfigMap"),
            ("jobTemplate", "batch/v1"),
            (
                "jobTemplate.spec.template.spec.containers.env.valueFrom",
                "configMapKeyRef",
            ),
        ];
        for (field, text) in fields {
            let path = format!("reactivejob.spec.{field}");
            let explained = world.kubectl_says(&["explain", &path]).await;
            assert!(explained.contains(text), "{path}: {explained}");
        }
    })
    .await;
}
