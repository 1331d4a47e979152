//! Labels are set and removed by one write, and a release puts back what is still as it was written.

use operon_action_label::Label;
use operon_action_schemas::accepts;
use operon_attributes::CHANGED;
use operon_sdk::prelude::*;
use operon_sdk::testing::{self, FakeCluster, FakeJob};

/// A pod with the labels `tier=blue` and `old=x`.
fn world() -> FakeCluster {
    let mut world = FakeCluster::new();
    let labels = json!({"tier": "blue", "old": "x", "app": "web"});
    world.add_pod("foo", &json!({"labels": labels}));
    world
}

/// A job that makes `tier` green, adds `new`, and removes `old`.
fn job() -> FakeJob<Label> {
    let set = json!({"tier": "green", "example.com/new": ""});
    FakeJob::<Label>::new("j1", &["foo"]).parameters(&json!({"set": set, "remove": ["old"]}))
}

fn labels(world: &FakeCluster) -> [Option<String>; 3] {
    let pod = world.expect_pod("foo");
    ["tier", "example.com/new", "old"].map(|key| pod.label(key).map(str::to_owned))
}

fn before() -> [Option<String>; 3] {
    [Some("blue".to_owned()), None, Some("x".to_owned())]
}

fn after() -> [Option<String>; 3] {
    [Some("green".to_owned()), Some(String::new()), None]
}

fn change(world: &mut FakeCluster, labels: &Value) {
    world.change_pod("foo", &json!({"metadata": {"labels": labels}}));
}

fn failure(job: &FakeJob<Label>) -> (&str, &str) {
    let failure = job.target("foo").failure.as_ref().expect("a failure");
    (&failure.reason, &failure.message)
}

#[test]
fn the_previous_values_are_remembered_before_one_write_changes_all_labels() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    assert_eq!(labels(&world), before(), "they are remembered first");
    let changed = r#"{"example.com/new":[null,""],"old":["x",null],"tier":["blue","green"]}"#;
    assert_eq!(job.target("foo").extra(CHANGED), Some(changed));
    assert_eq!(failure(&job).0, "WriteRequested");
    let again = job.target("foo").recheck_after;
    assert_eq!(again, Some(Duration::from_millis(100)));
    job.pass(&mut world);
    assert_eq!(labels(&world), after());
    assert_eq!(world.expect_pod("foo").label("app"), Some("web"));
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(job.target("foo").extra_info, [], "nothing is left to undo");
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn a_pod_that_is_as_the_job_wants_it_is_not_written() {
    let mut world = world();
    change(
        &mut world,
        &json!({"tier": "green", "example.com/new": "", "old": null}),
    );
    let mut job = job();
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.writes(), []);
}

#[test]
fn a_value_that_changes_before_the_write_is_the_one_that_is_remembered() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    change(&mut world, &json!({"tier": "red"}));
    job.pass(&mut world);
    assert_eq!(world.writes(), []);
    let changed = job.target("foo").extra(CHANGED).unwrap_or_default();
    assert!(changed.contains(r#""tier":["red","green"]"#), "{changed}");
    job.pass(&mut world);
    assert_eq!(labels(&world), after());
}

#[test]
fn a_release_puts_back_only_what_is_still_as_it_was_written() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    job.pass(&mut world);
    assert_eq!(labels(&world), after());
    change(&mut world, &json!({"tier": "red"}));
    job.cancel(&mut world);
    let [_, new, old] = before();
    assert_eq!(labels(&world), [Some("red".to_owned()), new, old]);
    assert_eq!(job.target("foo").extra_info, []);
    job.release(&mut world);
    assert_eq!(world.writes().len(), 2, "a second release changes nothing");
}

/// The target of a job that has remembered the previous values, and has written nothing.
fn remembered(world: &FakeCluster) -> (Target, Job) {
    let parameters = json!({"set": {"tier": "green", "example.com/new": ""}, "remove": ["old"]});
    let job = Job {
        parameters: parameters.to_string(),
        ..testing::job("j1", 0, "{}")
    };
    let mut target = testing::target_of(&world.expect_pod("foo"));
    target.extra_info = operation(world, &target, &job).extra_info;
    (target, job)
}

fn operation(world: &FakeCluster, target: &Target, job: &Job) -> Operation {
    let operation = Label::new(NoSettings {}).operate_target(target, job, world);
    operation.expect("the action operates its target")
}

/// The target sees the pod as it is now, and is released.
fn release(world: &mut FakeCluster, target: &mut Target, job: &Job) {
    target.pod = world.pod("foo");
    let operation = Label::new(NoSettings {}).release_target(target, job, world);
    let operation = operation.expect("the action releases its target");
    let performed = world.perform_operation(&operation);
    performed.expect("the effects of a release are not refused");
    assert_eq!(operation.extra_info, []);
}

#[test]
fn a_value_that_another_client_set_is_not_undone_if_the_write_was_refused() {
    let mut world = world();
    let (mut target, job) = remembered(&world);
    change(&mut world, &json!({"tier": "green"}));
    let write = operation(&world, &target, &job);
    let refusal = world.perform_operation(&write).expect_err("it is stale");
    assert_eq!(refusal.reason, "Conflict");
    release(&mut world, &mut target, &job);
    let [_, new, old] = before();
    assert_eq!(labels(&world), [Some("green".to_owned()), new, old]);
    assert_eq!(world.writes(), []);
}

#[test]
fn a_write_that_no_status_remembers_is_undone_if_all_its_values_are_there() {
    for (changed, expected) in [
        (json!({}), before()),
        (json!({"tier": "red"}), {
            let [_, new, old] = after();
            [Some("red".to_owned()), new, old]
        }),
    ] {
        let mut world = world();
        let (mut target, job) = remembered(&world);
        let write = operation(&world, &target, &job);
        let performed = world.perform_operation(&write);
        performed.expect("the write is not refused");
        assert_eq!(labels(&world), after());
        change(&mut world, &changed);
        release(&mut world, &mut target, &job);
        assert_eq!(labels(&world), expected, "{changed}");
    }
}

#[test]
fn a_cancelled_target_is_as_before_or_as_the_job_wants_it() {
    for (passes, expected, progress) in [
        (0, before(), Progress::Failed),
        (1, before(), Progress::Failed),
        (2, after(), Progress::Succeeded),
    ] {
        let mut world = world();
        let mut job = job();
        for _ in 0..passes {
            job.pass(&mut world);
        }
        job.cancel(&mut world);
        assert_eq!(labels(&world), expected, "{passes}");
        assert_eq!(job.progress(), [Some(progress)], "{passes}");
    }
}

#[test]
fn a_release_needs_no_parameters_and_no_pod() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    job.pass(&mut world);
    change(&mut world, &json!({"old": "y"}));
    let mut gone = job.clone();
    job = job.parameters(&json!({"set": {"other": "z"}}));
    job.cancel(&mut world);
    let [tier, new, _] = before();
    assert_eq!(labels(&world), [tier, new, Some("y".to_owned())]);
    world.remove_pod("foo");
    let writes = world.writes().len();
    gone.cancel(&mut world);
    assert_eq!(world.writes().len(), writes);
}

#[test]
fn a_later_pod_of_the_same_name_is_not_labelled() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    world.remove_pod("foo");
    world.add_pod("foo", &json!({"labels": {"tier": "blue", "old": "x"}}));
    job.pass(&mut world);
    assert_eq!(failure(&job).0, "PodNotFound");
    job.release(&mut world);
    assert_eq!(labels(&world), before());
}

#[test]
fn keys_that_controllers_depend_on_are_refused_with_the_reason() {
    for (key, depends) in [
        ("pod-template-hash", "ReplicaSet"),
        ("controller-revision-hash", "StatefulSets"),
        ("kusionstack.io/control", "PodOpsLifecycle"),
        (
            "podopslifecycle.kusionstack.io/stay-offline",
            "PodOpsLifecycle",
        ),
        ("replace.operon.dev/job", "Operon"),
        ("batch.kubernetes.io/job-name", "Job"),
    ] {
        for parameters in [json!({"set": {key: "x"}}), json!({"remove": [key]})] {
            let mut world = world();
            let mut job = FakeJob::<Label>::new("j1", &["foo"]).parameters(&parameters);
            job.pass(&mut world);
            let (reason, message) = failure(&job);
            assert_eq!(reason, "ReservedKey", "{parameters}");
            assert!(
                message.contains(key) && message.contains(depends),
                "{message}"
            );
            assert_eq!(world.writes(), []);
        }
    }
}

#[test]
fn a_key_that_is_set_and_removed_is_refused() {
    let mut world = world();
    let parameters = json!({"set": {"tier": "green"}, "remove": ["tier"]});
    let mut job = FakeJob::<Label>::new("j1", &["foo"]).parameters(&parameters);
    job.pass(&mut world);
    let (reason, message) = failure(&job);
    assert_eq!(reason, "BadParameters");
    assert!(message.contains("\"tier\" is in both"), "{message}");
}

#[test]
fn more_than_a_target_can_remember_is_refused_before_the_write() {
    let mut world = world();
    let domain = "a".repeat(60);
    let keys = (0..10).map(|number| (format!("{domain}/key-{number}"), json!("v".repeat(60))));
    let set: Value = Value::Object(keys.collect());
    let mut job = FakeJob::<Label>::new("j1", &["foo"]).parameters(&json!({"set": set}));
    job.pass(&mut world);
    let (reason, message) = failure(&job);
    assert_eq!(reason, "TooMuchToRemember");
    assert!(message.contains("at most 1024"), "{message}");
    assert_eq!(world.writes(), []);
}

#[test]
fn the_schema_has_the_syntax_of_kubernetes() {
    let name = "n".repeat(63);
    let domain = format!("{}.com", "d".repeat(249));
    for (key, value) in [
        ("tier", "blue"),
        ("example.com/Tier_1.x", ""),
        (&*format!("{domain}/{name}"), &*"v".repeat(63)),
        ("a-b.example.com/x", "v_1.2-x"),
        ("1", "1"),
    ] {
        assert!(
            accepts::<Label>(&json!({"set": {key: value}})),
            "{key}={value}"
        );
        assert!(accepts::<Label>(&json!({"remove": [key]})), "{key}");
    }
    for key in [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "tier!",
        "-tier",
        "tier-",
        "Example.com/tier",
        "example..com/tier",
        "-a.com/tier",
        "a\n",
        &format!("{name}n"),
        &format!("d{domain}/tier"),
    ] {
        assert!(!accepts::<Label>(&json!({"set": {key: "x"}})), "{key:?}");
        assert!(!accepts::<Label>(&json!({"remove": [key]})), "{key:?}");
    }
    for value in ["-a", "a-", "a b", "a/b", "ä", &"v".repeat(64)] {
        assert!(
            !accepts::<Label>(&json!({"set": {"tier": value}})),
            "{value:?}"
        );
    }
}

#[test]
fn the_schema_refuses_unknown_wrong_and_missing_parameters() {
    assert!(accepts::<Label>(
        &json!({"set": {"a": "b"}, "remove": ["c"]})
    ));
    let many = (0..17).map(|number| format!("key-{number}"));
    for parameters in [
        json!({}),
        json!({"sett": {"a": "b"}}),
        json!({"set": {"a": "b"}, "other": 1}),
        json!({"set": {}}),
        json!({"remove": []}),
        json!({"set": {"a": 1}}),
        json!({"set": {"a": null}}),
        json!({"set": ["a"]}),
        json!({"remove": "a"}),
        json!({"remove": ["a", "a"]}),
        json!({"remove": many.collect::<Vec<_>>()}),
    ] {
        assert!(!accepts::<Label>(&parameters), "{parameters}");
    }
}
