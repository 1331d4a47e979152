//! The manifests of both READMEs, unchanged, and the runs that they show.

use operon_api::{JobFlow, JobTemplate, job_flow::Phase, keys};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::world::World;

const ENGLISH: &str = include_str!("jobflow-en.yaml");
const CHINESE: &str = include_str!("jobflow-zh.yaml");

/// The objects of this kind in a text of manifests.
fn objects<T: DeserializeOwned>(text: &str, kind: &str) -> Vec<T> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let values = documents.map(|document| {
        serde::Deserialize::deserialize(document).expect("YAML that a JSON object can be made of")
    });
    values
        .filter(|value: &Value| value["kind"] == kind)
        .map(|value| serde_json::from_value(value).expect("an object of this kind"))
        .collect()
}

fn world(flow: &JobFlow) -> World {
    World::named(
        flow.metadata.name.as_deref().expect("a name"),
        json!(flow.spec),
    )
}

#[test]
fn the_readme_runs_as_it_says() {
    for text in [ENGLISH, CHINESE] {
        let flow = &objects::<JobFlow>(text, "JobFlow")[0];
        let mut world = world(flow);
        world.settle();
        let job = |number: u8| format!("jobflow-example-job{number}");
        assert_eq!(world.names(), [job(1), job(4)], "job1 and job4 start first");
        assert_eq!(world.state(), "Running");
        world.now += 10;
        world.succeed(&job(1));
        world.succeed(&job(4));
        world.settle();
        assert_eq!(world.names(), [job(1), job(2), job(4)]);
        world.now += 100;
        world.succeed(&job(2));
        world.settle();
        assert_eq!(world.names().len(), 5, "job3 and job5 start together");
        assert_eq!(world.status().progress.as_deref(), Some("3/5"));
        for number in [3, 5] {
            world.succeed(&job(number));
        }
        world.settle();
        assert_eq!(world.state(), "Succeed");
        assert_eq!(world.standing(), [("Ready", "True", "Succeed")]);
        assert_eq!(world.made, 5);
        let list = &world.status().job_status_list;
        assert_eq!(list.len(), 5);
        assert!(
            list.contains_key("jobflow-example-job1/default"),
            "name first"
        );
        let events = world.events();
        assert_eq!(
            events.iter().filter(|reason| **reason == "Created").count(),
            5
        );
        assert_eq!(events.last(), Some(&"Succeed"));
    }
}

#[test]
fn every_job_and_pod_gets_the_global_parameters() {
    let flow = &objects::<JobFlow>(ENGLISH, "JobFlow")[0];
    let body = world(flow).start("job1").body;
    let pod = &body["spec"]["template"];
    for metadata in [&body["metadata"], &pod["metadata"]] {
        for kind in ["labels", "annotations"] {
            assert_eq!(metadata[kind]["key1"], "value1");
            assert_eq!(metadata[kind]["key2"], "value2");
        }
    }
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([{"name": "FOO", "value": "bar"}, {"name": "QUE", "value": "pasa"}])
    );
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(body["spec"]["backoffLimit"], 0);
}

#[test]
fn a_node_is_chosen_by_affinity_and_the_scheduler_is_asked() {
    let flow = &objects::<JobFlow>(ENGLISH, "JobFlow")[0];
    let body = world(flow).start("job1").body;
    let pod = &body["spec"]["template"]["spec"];
    assert_eq!(pod["nodeName"], Value::Null);
    assert_eq!(
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        json!({"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["minikube"]},
        ]}]})
    );
}

#[test]
fn the_chinese_readme_refers_to_templates() {
    let templates = objects::<JobTemplate>(CHINESE, "JobTemplate");
    let flow = &objects::<JobFlow>(CHINESE, "JobFlow")[1];
    let mut world = world(flow);
    for template in &templates {
        let name = template.metadata.name.as_deref().expect("a name");
        world.add_template(name, json!(template.spec.job_template));
    }
    world.settle();
    assert_eq!(world.names(), ["jobflow-example-template-job1"]);
    let job = world.job("jobflow-example-template-job1");
    let annotations = job.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations[keys::JOB_TEMPLATE], "default.job1-template");
    world.succeed("jobflow-example-template-job1");
    world.settle();
    world.succeed("jobflow-example-template-job2");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

/// The shipped example: job3 depends on `job2`, which is no step of it.
fn error_example() -> World {
    let step = |name: &str, dependencies: &[&str]| super::world::step(name, dependencies);
    World::named(
        "jobflow-example-error",
        json!({"flows": [
            step("job1", &[]),
            step("job2-error-container", &["job1"]),
            step("job3", &["job1", "job2"]),
            step("job4", &[]),
        ]}),
    )
}

const UNKNOWN: &str = "it depends on \"job2\", which is not a step of this flow; did you mean \"job2-error-container\"?";

#[test]
fn the_error_example_runs_what_it_can_and_says_that_a_step_is_unknown() {
    let mut world = error_example();
    world.settle();
    let warnings = |world: &mut World| {
        let events = world.events();
        events
            .iter()
            .filter(|reason| **reason == "StepBlocked")
            .count()
    };
    assert_eq!(world.phase("job3"), Phase::Blocked);
    assert_eq!(
        (world.reason("job3"), world.message("job3")),
        ("UnknownDependency", UNKNOWN)
    );
    assert_eq!(world.ready(), format!("step \"job3\": {UNKNOWN}"));
    assert_eq!(warnings(&mut world), 1);
    world.succeed("jobflow-example-error-job1");
    world.succeed("jobflow-example-error-job4");
    world.settle();
    world.fail("jobflow-example-error-job2-error-container");
    world.settle();
    assert_eq!(
        world.phases(),
        "job1 Succeeded, job2-error-container Failed, job3 Skipped, job4 Succeeded"
    );
    assert_eq!(world.state(), "Failed");
    assert!(world.status().completion_time.is_some());
    assert!(
        world.message("job3").starts_with(UNKNOWN),
        "{}",
        world.message("job3")
    );
    assert_eq!((world.made, warnings(&mut world)), (3, 0));
}

#[test]
fn a_flow_with_an_unknown_dependency_does_not_succeed_and_goes_on_when_the_name_is_put_right() {
    let mut world = error_example();
    world.settle();
    for job in ["job1", "job4", "job2-error-container"] {
        world.succeed(&format!("jobflow-example-error-{job}"));
        world.settle();
    }
    assert_eq!(world.state(), "Running");
    assert_eq!(
        world.standing()[1],
        ("Stalled", "True", "UnknownDependency")
    );
    world.edit(|spec| spec["flows"][2]["dependencies"][1] = json!("job2-error-container"));
    world.settle();
    assert_eq!(world.phase("job3"), Phase::Running);
    world.succeed("jobflow-example-error-job3");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

#[test]
fn an_unknown_dependency_does_not_keep_on_exit_from_running_after_a_failure() {
    let mut world = World::named(
        "flow",
        json!({"onExit": "tidy", "flows": [
            super::world::step("a", &[]),
            super::world::step_with("b", &["c"], json!({"when": "steps.c.phase == 'Failed'"})),
            super::world::step("tidy", &[]),
        ]}),
    );
    world.settle();
    world.fail("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Failed, b Skipped, tidy Running");
}
