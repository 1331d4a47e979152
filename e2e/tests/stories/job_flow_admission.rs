//! What the API server refuses of a JobFlow and of a JobTemplate, with the messages that a user reads.

use operon_api::{JobFlow, JobTemplate};
use operon_e2e::{
    environment,
    job_flow::{self, Flow, Step},
    prelude::*,
};
use serde_json::Value;

/// What kubectl says of a manifest that the API server refuses.
async fn refusal(world: &World, manifest: &Value) -> String {
    let applied = world.kubectl_apply(&manifest.to_string()).await;
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(!applied.status.success(), "it was taken: {manifest}");
    said
}

/// Asserts that a flow is refused, and that each of these is said of it.
async fn assert_refused(world: &World, flow: &Flow, faults: &[&str]) {
    let said = refusal(world, &flow.manifest()).await;
    for fault in faults {
        assert!(said.contains(fault), "{fault:?} is not in {said}");
    }
}

/// A flow of one step with this field, beside those that it has.
fn with_step(field: &str, value: Value) -> Flow {
    Flow::of("refused", [Step::of("a").with(field, value)])
}

#[tokio::test]
async fn steps_that_no_flow_can_be_made_of_are_refused_with_the_step_at_fault() {
    story(async |world: &World| {
        let flow = |steps: Vec<Step>| Flow::of("refused", steps);
        let none = flow(vec![]).with("flows", json!([{"name": "a"}]));
        let missing = Flow::of("refused", []).with("flows", json!(null));
        let table = [
            (flow(vec![]), "spec.flows in body should have at least 1 items"),
            (missing, "spec.flows: Required value"),
            (
                flow(vec![Step::of("a"), Step::of("b"), Step::of("a")]),
                "spec.flows[2]: Duplicate value: {\"name\":\"a\"}",
            ),
            (
                flow(vec![Step::of("a"), Step::of("b").after(&["a", "b"])]),
                "spec.flows[1].dependencies: Invalid value: \"object\": a step can't depend on itself",
            ),
            (
                none,
                "spec.flows[0]: Invalid value: \"object\": a step needs jobTemplate or jobTemplateRef",
            ),
            (
                flow(vec![Step::of("A_b")]),
                "spec.flows[0].name: Invalid value: \"A_b\"",
            ),
            (
                with_step("jobTemplate", json!({})),
                "spec.flows[0].jobTemplate.template: Required value",
            ),
        ];
        for (flow, fault) in table {
            assert_refused(world, &flow, &[fault]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_thousand_steps_are_taken_and_two_thousand_are_refused() {
    story(async |world: &World| {
        // Small steps: an etcd holds an object of at most 1.5 MiB.
        let flow = |count: usize| {
            let container = json!({"name": "main", "image": "i"});
            let steps = (0..count).map(|number| {
                json!({
                    "name": format!("s{number}"),
                    "jobTemplate": {"template": {"spec": {"containers": [container]}}}
                })
            });
            let steps: Vec<_> = steps.collect();
            Flow::of("many", [])
                .with("flows", json!(steps))
                .with("suspend", json!(true))
        };
        let fault = "spec.flows: Too many: 2000: must have at most 1000 items";
        assert_refused(world, &flow(2000), &[fault]).await;
        flow(1000).apply(world).await;
        let flow = world
            .flow_says("many", "Reconciling", "True Suspended: ")
            .await;
        assert_eq!(job_flow::status(&flow).progress.as_deref(), Some("0/1000"));
    })
    .await;
}

#[tokio::test]
async fn a_step_may_join_all_others_and_more_than_that_is_refused_with_the_limit() {
    story(async |world: &World| {
        let join = |count: usize| {
            let names: Vec<_> = (0..count).map(|number| format!("s{number}")).collect();
            let inputs = names.iter().enumerate();
            // Two of each name.
            let inputs = inputs.map(|(place, name)| {
                json!({"env": format!("E{}", place / 2), "step": name, "output": "x"})
            });
            let when = names.iter().take(600);
            let when = when.map(|name| format!("steps.{name}.phase == \"Succeeded\""));
            let template =
                json!({"template": {"spec": {"containers": [{"name": "main", "image": "i"}]}}});
            let steps = names.iter().take(999);
            let steps =
                steps.map(|name| json!({"name": name, "jobTemplate": template, "outputs": ["x"]}));
            let last = json!({
                "name": "join",
                "jobTemplate": template,
                "dependencies": names,
                "inputs": inputs.collect::<Vec<_>>(),
                "when": when.collect::<Vec<_>>().join(" && "),
            });
            let steps: Vec<_> = steps.chain([last]).collect();
            Flow::of("join", [])
                .with("flows", json!(steps))
                .with("suspend", json!(true))
        };
        let faults = [
            "spec.flows[999].dependencies: Too many: 1001: must have at most 1000 items",
            "spec.flows[999].inputs: Too many: 1001: must have at most 1000 items",
        ];
        assert_refused(world, &join(1001), &faults).await;
        join(999).apply(world).await;
        world
            .flow_says("join", "Reconciling", "True Suspended: ")
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_misspelt_field_is_refused_with_its_name() {
    story(async |world: &World| {
        let step = Step::of("a")
            .with("dependancies", json!(["b"]))
            .job("backofLimit", json!(1))
            .container("comand", json!(["true"]));
        let flow = Flow::of("refused", [step]).with("failurPolicy", json!("Continue"));
        let faults = [
            "unknown field \"spec.failurPolicy\"",
            "unknown field \"spec.flows[0].dependancies\"",
            "unknown field \"spec.flows[0].jobTemplate.backofLimit\"",
            "unknown field \"spec.flows[0].jobTemplate.template.spec.containers[0].comand\"",
        ];
        assert_refused(world, &flow, &faults).await;
        let mut template = job_flow::template("refused");
        template["spec"]["jobTemplate"]["ttlSeconds"] = json!(1);
        let said = refusal(world, &template).await;
        assert!(
            said.contains("unknown field \"spec.jobTemplate.ttlSeconds\""),
            "{said}"
        );
        assert!(world.find::<JobFlow>("refused").await.is_none());
        assert!(world.find::<JobTemplate>("refused").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_value_of_a_wrong_type_or_out_of_range_is_refused_with_its_field() {
    story(async |world: &World| {
        let wrong = with_step("dependencies", json!("b")).with("parallelism", json!("2"));
        let faults = [
            "spec.flows[0].dependencies in body must be of type array: \"string\"",
            "spec.parallelism in body must be of type integer: \"string\"",
        ];
        assert_refused(world, &wrong, &faults).await;
        let mut template = job_flow::template("refused");
        template["spec"]["jobTemplate"]["completions"] = json!("3");
        let said = refusal(world, &template).await;
        let fault = "spec.jobTemplate.completions in body must be of type integer: \"string\"";
        assert!(said.contains(fault), "{said}");
        let of_flow = [
            ("failurePolicy", json!("Ignore")),
            ("parallelism", json!(0)),
            ("suspend", json!("yes")),
            ("ttlSecondsAfterFinished", json!(-1)),
            ("globalParams", json!({"labels": {"a": 1}})),
        ];
        for (field, value) in of_flow {
            let flow = Flow::of("refused", [Step::of("a")]).with(field, value);
            assert_refused(world, &flow, &[&format!("spec.{field}")]).await;
        }
        let of_step = [
            ("retry", json!({"limit": 0})),
            ("retry", json!({"limit": 1, "backoffSeconds": 3601})),
            ("timeoutSeconds", json!(0)),
            ("when", json!("")),
            ("outputs", json!(["a", "a"])),
            ("inputs", json!([{"env": "A", "step": "b"}])),
        ];
        for (field, value) in of_step {
            let fault = format!("spec.flows[0].{field}");
            assert_refused(world, &with_step(field, value), &[&fault]).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_other_manifests_have_is_taken_and_ignored() {
    story(async |world: &World| {
        let handler = json!({"script": "echo", "jobTemplateRef": "t", "containers": [1]});
        let flow = Flow::of("handled", [Step::of("a").gated()]).with("ErrorHandler", handler);
        let applied = world.kubectl_apply(&flow.manifest().to_string()).await;
        assert!(applied.status.success(), "{applied:?}");
        world.flow_stands("handled", "a Running").await;
    })
    .await;
}

#[tokio::test]
async fn the_definitions_can_be_applied_by_kubectl_and_explain_their_fields() {
    story(async |world: &World| {
        for name in ["jobflows", "jobtemplates"] {
            let file = format!("crds/{name}.api.practice.com.yaml");
            let file = environment::repository().join(file);
            // Nothing is changed: other stories go on.
            let file = file.to_string_lossy();
            let applied = world
                .kubectl_says(&["apply", "--dry-run=server", "-f", &file])
                .await;
            assert!(applied.contains(name), "{applied}");
        }
        let fields = [
            ("jobflow.spec.failurePolicy", "Continue"),
            ("jobflow.spec.flows.when", "CEL"),
            ("jobflow.spec.flows.retry.limit", "more Jobs"),
            ("jobflow.spec.globalParams.nodeName", "every pod"),
            (
                "jobflow.spec.flows.jobTemplate.template.spec.containers.env.valueFrom",
                "configMapKeyRef",
            ),
            ("jobtemplate.spec.jobTemplate", "batch/v1"),
        ];
        for (field, text) in fields {
            let explained = world.kubectl_says(&["explain", field]).await;
            assert!(explained.contains(text), "{field}: {explained}");
        }
    })
    .await;
}
