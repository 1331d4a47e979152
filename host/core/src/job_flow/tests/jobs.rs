//! The Jobs themselves: their names, and their content.

use operon_api::{job_flow::Phase, keys};
use serde_json::json;

use super::world::{World, step, step_with, template};
use crate::driver::memory::Reconciles as _;

#[test]
fn another_flows_job_of_the_same_name_is_not_taken() {
    // Flow `a` with a step `b-c`, and flow `a-b` with a step `c`.
    let mut one = World::named("a", json!({"flows": [step("b-c", &[])]}));
    let mut other = World::named("a-b", json!({"flows": [step("c", &[])]}));
    one.settle();
    other.jobs = one.jobs.clone();
    other.settle();
    assert_eq!(other.names().len(), 2);
    let name = other.step("c").job_name.clone().expect("a Job");
    assert!(name.starts_with("a-b-c-"), "{name}");
    other.succeed(&name);
    other.settle();
    assert_eq!(other.state(), "Succeed");
}

#[test]
fn the_second_attempt_of_a_step_is_not_the_first_of_another() {
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": [
        step_with("b", &[], json!({"retry": {"limit": 1}})),
        step("b-2", &[]),
    ]}));
    world.settle();
    world.fail("flow-b");
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 3);
    let second = world.step("b").job_name.clone().expect("a Job");
    assert!(second.starts_with("flow-b-2-"), "{second}");
    world.succeed("flow-b-2");
    world.settle();
    assert_eq!(world.phases(), "b Running, b-2 Succeeded");
}

#[test]
fn a_job_that_goes_with_the_flow_that_had_the_name_before_is_waited_for_a_minute() {
    let steps = json!([step("a", &[])]);
    let mut former = World::of(steps.clone());
    former.flow.metadata.uid = Some("former".to_owned());
    former.settle();
    for goes in [true, false] {
        let mut world = World::of(steps.clone());
        world.jobs.clone_from(&former.jobs);
        // The clock of the API server may be another one.
        let skew = if goes { 3600 } else { -3600 };
        world.flow.metadata.creation_timestamp = Some(super::world::time(world.now + skew));
        world.settle();
        world.now += 59;
        world.settle();
        assert_eq!((world.made, world.phase("a")), (0, Phase::Waiting));
        world.now += 1;
        if goes {
            world.jobs.clear();
        }
        world.settle();
        let name = world.step("a").job_name.clone().expect("a Job");
        assert_eq!(name == "flow-a", goes, "{name}");
    }
}

#[test]
fn a_long_name_is_cut_and_told_apart() {
    let steps: Vec<_> = ["x", "y"]
        .map(|end| step(&format!("{}{end}", "s".repeat(60)), &[]))
        .into();
    let mut world = World::of(json!(steps));
    world.settle();
    assert_eq!(world.made, 2);
    assert!(world.names().iter().all(|name| name.len() <= 63));
}

#[test]
fn a_name_that_is_taken_keeps_no_other_step_from_running() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    let foreign = json!({"metadata": {"name": "flow-a", "namespace": "default"}});
    let foreign = serde_json::from_value(foreign).expect("a Job");
    world.jobs.insert("flow-a".to_owned(), foreign);
    world.pass();
    assert_eq!(world.made, 2);
    assert_eq!(world.phases(), "a Running, b Running");
    assert_eq!(world.step("b").job_name.as_deref(), Some("flow-b"));
}

#[test]
fn the_pods_of_an_indexed_job_have_its_name_as_host_name() {
    let long = "s".repeat(56);
    let indexed = json!({"jobTemplate": {"completionMode": "Indexed", "completions": 100}});
    let mut world = World::of(json!([
        step_with("a.b", &[], indexed.clone()),
        step("c.d", &[]),
        step_with(&long, &[], indexed),
    ]));
    world.settle();
    assert_eq!(world.made, 3);
    let name = |step: &str| world.step(step).job_name.clone().expect("a Job");
    assert_eq!(name("a.b"), "flow-a-b");
    assert_eq!(name("c.d"), "flow-c.d");
    let long = name(&long);
    assert!(format!("{long}-99").len() <= 63, "{long}");
    // Its Jobs are recognized by their marks, whatever the spec contains by then.
    world.edit(|spec| spec["flows"][2]["jobTemplate"] = template());
    world.flow.status = None;
    world.settle();
    assert_eq!(world.made, 3);
}

#[test]
fn a_copy_of_a_job_under_another_name_is_not_its() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    let mut copy = world.job("flow-a").clone();
    copy.metadata.name = Some("by-hand".to_owned());
    copy.metadata.uid = Some("copy".to_owned());
    let annotations = copy.metadata.annotations.as_mut().expect("some");
    annotations.insert(keys::RUN_ATTEMPT.to_owned(), "7".to_owned());
    world.jobs.insert("by-hand".to_owned(), copy);
    world.fail("by-hand");
    world.settle();
    assert_eq!(
        (world.phase("a"), world.step("a").attempts),
        (Phase::Running, Some(1))
    );
}

#[test]
fn a_job_is_the_flows_and_our_keys_win() {
    let ours = [
        keys::OWNER_UID,
        keys::STEP,
        keys::JOB_TEMPLATE,
        keys::RUN_ATTEMPT,
        keys::REVISION,
        keys::TTL,
    ];
    let theirs: serde_json::Map<_, _> = ours
        .iter()
        .map(|key| ((*key).to_owned(), json!("theirs")))
        .collect();
    let mut world = World::with(json!({
        "globalParams": {"labels": theirs, "annotations": theirs},
        "flows": [step("a", &[]), {"name": "b", "jobTemplateRef": "t"}],
    }));
    let mut with_ttl = template();
    with_ttl["ttlSecondsAfterFinished"] = json!(60);
    world.add_template("t", with_ttl);
    let a = world.start("a").body;
    assert_eq!(a["metadata"]["labels"][keys::OWNER_UID], "uid-of-flow");
    assert_eq!(a["metadata"]["labels"][keys::STEP], "a");
    let revision = &a["metadata"]["annotations"][keys::REVISION];
    assert_ne!(*revision, "theirs");
    assert_eq!(
        a["metadata"]["annotations"],
        json!({
            (keys::RUN_ATTEMPT): "1",
            (keys::FAILURES): "0",
            (keys::REVISION): revision,
            (keys::OWNER_UID): "theirs",
            (keys::STEP): "theirs",
        })
    );
    assert_eq!(
        a["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "api.practice.com/v1alpha1",
            "kind": "JobFlow",
            "name": "flow",
            "uid": "uid-of-flow",
            "controller": true,
            "blockOwnerDeletion": true,
        }])
    );
    let b = world.start("b").body;
    let annotations = &b["metadata"]["annotations"];
    assert_eq!(annotations[keys::JOB_TEMPLATE], "default.t");
    assert_eq!(annotations[keys::TTL], "60");
    assert_eq!(b["spec"].get("ttlSecondsAfterFinished"), None);
}

#[test]
fn what_a_user_wrote_survives_the_global_parameters() {
    let world = World::with(json!({
        "globalParams": {
            "env": [{"name": "SHARED", "value": "global"}, {"name": "GLOBAL", "value": "1"}],
            "labels": {"shared": "global"},
            "annotations": {"shared": "global"},
        },
        "flows": [{"name": "a", "jobTemplate": {
            "backoffLimit": 4,
            "template": {
                "metadata": {
                    "labels": {"own": "1", "shared": "own"},
                    "annotations": {"own": "1", "shared": "own"},
                },
                "spec": {
                    "restartPolicy": "OnFailure",
                    "initContainers": [{"name": "init", "image": "i"}],
                    "containers": [{"name": "main", "image": "i", "env": [
                        {"name": "OWN", "value": "1"}, {"name": "SHARED", "value": "own"},
                    ]}],
                },
            },
        }}],
    }));
    let spec = world.start("a").body["spec"].clone();
    assert_eq!(spec["backoffLimit"], 4);
    let template = &spec["template"];
    for kind in ["labels", "annotations"] {
        assert_eq!(
            template["metadata"][kind],
            json!({"own": "1", "shared": "global"})
        );
    }
    let pod = &template["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    let value = |container: &serde_json::Value, name: &str| {
        let env = container["env"].as_array().expect("a list");
        let of_name: Vec<_> = env.iter().filter(|v| v["name"] == name).collect();
        assert!(of_name.len() <= 1, "{name} is there once");
        of_name.first().map(|variable| variable["value"].clone())
    };
    let main = &pod["containers"][0];
    assert_eq!(value(main, "OWN"), Some(json!("1")));
    assert_eq!(value(main, "SHARED"), Some(json!("global")));
    assert_eq!(value(&pod["initContainers"][0], "GLOBAL"), Some(json!("1")));
}

#[test]
fn a_timeout_is_the_jobs_deadline_unless_that_is_lower() {
    for (own, wanted) in [(None, 60), (Some(30), 30), (Some(90), 60)] {
        let step = step_with(
            "a",
            &[],
            json!({"timeoutSeconds": 60, "jobTemplate": {"activeDeadlineSeconds": own}}),
        );
        let body = World::of(json!([step])).start("a").body;
        assert_eq!(body["spec"]["activeDeadlineSeconds"], wanted);
    }
}
