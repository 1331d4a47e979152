//! An ephemeral container in a world with a kubelet: it is added once, and its end is the end of the target.

use operon_action_debug::{Debug, parameters::JOB};
use operon_action_schemas::accepts;
use operon_sdk::testing::{FakeCluster, FakeJob, job as call, target_of};
use operon_sdk::{Action, Effect, PatchKind, Progress, Value, json};

fn world() -> FakeCluster {
    let mut world = FakeCluster::new();
    world.add_pod("foo", &json!({}));
    world
}

fn job(uid: &str, more: &Value) -> FakeJob<Debug> {
    let mut parameters = json!({"image": "tools:1"});
    for (name, value) in more.as_object().into_iter().flatten() {
        parameters[name] = value.clone();
    }
    FakeJob::<Debug>::new(uid, &["foo"]).parameters(&parameters)
}

/// The ephemeral containers of the pod's spec.
fn added(world: &FakeCluster) -> Vec<Value> {
    let object = world.object("v1", "Pod", "foo").expect("the pod");
    let containers = object["spec"]["ephemeralContainers"].as_array();
    containers.cloned().unwrap_or_default()
}

/// The kubelet reports this state of a container.
fn reports(world: &mut FakeCluster, name: &str, state: &Value) {
    let statuses = json!([{"name": name, "state": state}]);
    world.change_pod(
        "foo",
        &json!({"status": {"ephemeralContainerStatuses": statuses}}),
    );
}

fn ends(world: &mut FakeCluster, name: &str, code: i32, message: &str) {
    let reason = if code == 0 { "Completed" } else { "Error" };
    let ended = json!({"exitCode": code, "reason": reason, "message": message});
    reports(world, name, &json!({"terminated": ended}));
}

fn reason(job: &FakeJob<Debug>) -> &str {
    job.target("foo").reason().unwrap_or_default()
}

fn message(job: &FakeJob<Debug>) -> &str {
    let failure = job.target("foo").failure.as_ref();
    failure.map_or("", |failure| failure.message.as_str())
}

#[test]
fn the_target_succeeds_when_its_container_has_ended_with_zero() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    assert_eq!(reason(&job), "ContainerNotStarted");
    let container = json!({"name": "debug-j1", "image": "tools:1",
        "env": [{"name": JOB, "value": "j1"}], "terminationMessagePolicy": "FallbackToLogsOnError"});
    assert_eq!(added(&world), [container]);
    reports(&mut world, "debug-j1", &json!({"running": {}}));
    job.pass(&mut world);
    assert_eq!(reason(&job), "ContainerRunning");
    ends(&mut world, "debug-j1", 0, "all is well");
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    let target = job.target("foo");
    assert_eq!(target.extra("Container"), Some("debug-j1"));
    assert_eq!(target.extra("ExitCode"), Some("0"));
    assert_eq!(target.extra("Message"), Some("all is well"));
    assert_eq!(world.writes().len(), 1, "it is added once");
}

#[test]
fn another_exit_code_fails_the_target_with_the_message() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    ends(&mut world, "debug-j1", 3, "no disk");
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(reason(&job), "DebugFailed");
    assert_eq!(
        message(&job),
        r#"container "debug-j1" exited with 3: no disk"#
    );
    assert_eq!(job.target("foo").extra("ExitCode"), Some("3"));
    assert_eq!(job.target("foo").extra("Message"), Some("no disk"));
    job.release(&mut world);
    assert_eq!(world.writes().len(), 1, "a release undoes nothing");
}

#[test]
fn the_kubelets_reason_of_a_failure_is_named() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    let ended = json!({"exitCode": 137, "reason": "OOMKilled"});
    reports(&mut world, "debug-j1", &json!({"terminated": ended}));
    job.pass(&mut world);
    assert!(
        message(&job).contains("exited with 137 (OOMKilled): it left no termination message"),
        "{}",
        message(&job)
    );
    assert_eq!(job.target("foo").extra("Message"), None);
}

#[test]
fn a_long_message_is_shortened_between_characters() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    ends(&mut world, "debug-j1", 0, &format!("a{}", "ä".repeat(500)));
    job.pass(&mut world);
    let kept = job.target("foo").extra("Message").expect("a message");
    assert_eq!(kept, format!("a{}", "ä".repeat(255)));
}

#[test]
fn all_parameters_are_in_the_patch_of_the_subresource() {
    let mut world = FakeCluster::new();
    let pod = world.add_pod("foo", &json!({}));
    let mut call = call("j1", 0, "{}");
    call.parameters = json!({
        "image": "tools:1", "command": ["sh", "-c"], "args": ["true"], "name": "look",
        "env": [{"name": "A", "value": "b"}], "targetContainer": "app",
    })
    .to_string();
    let operation = Debug
        .operate_target(&target_of(&pod), &call, &world)
        .expect("it acts");
    let Some(Effect::Patch(patch)) = operation.effects.first() else {
        unreachable!("a patch: {operation:?}");
    };
    assert_eq!(patch.subresource.as_deref(), Some("ephemeralcontainers"));
    assert_eq!(patch.kind, PatchKind::Strategic);
    assert_eq!(patch.uid, Some(pod.uid));
    assert_eq!(patch.resource_version, Some(pod.resource_version));
    let body: Value = serde_json::from_str(&patch.body).expect("JSON");
    let container = json!({
        "name": "look", "image": "tools:1", "command": ["sh", "-c"], "args": ["true"],
        "env": [{"name": "A", "value": "b"}, {"name": JOB, "value": "j1"}],
        "targetContainerName": "app", "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    assert_eq!(body, json!({"spec": {"ephemeralContainers": [container]}}));
}

#[test]
fn an_addition_that_no_status_remembers_is_not_repeated() {
    for more in [json!({}), json!({"name": "look"})] {
        let mut world = world();
        job("j1", &more).pass(&mut world);
        let mut again = job("j1", &more);
        again.pass(&mut world);
        assert_eq!(reason(&again), "ContainerNotStarted");
        assert_eq!(world.writes().len(), 1, "{more}");
    }
}

#[test]
fn two_jobs_without_a_name_each_add_a_container() {
    let mut world = world();
    job("j1", &json!({})).pass(&mut world);
    job("j2", &json!({})).pass(&mut world);
    let names: Vec<_> = added(&world)
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["debug-j1", "debug-j2"]);
}

#[test]
fn a_name_that_is_taken_fails_the_target() {
    for name in ["look", "app"] {
        let mut world = world();
        let more = json!({"name": name});
        job("j1", &json!({"name": "look"})).pass(&mut world);
        let mut second = job("j2", &more);
        second.pass(&mut world);
        assert_eq!(reason(&second), "ContainerExists", "{name}");
        assert_eq!(added(&world).len(), 1, "{name}");
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_what_the_target_waits_for() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image"});
    reports(&mut world, "debug-j1", &json!({"waiting": waiting}));
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Processing)]);
    assert_eq!(reason(&job), "ImageNotPulled");
    assert_eq!(
        message(&job),
        r#"the image "tools:1" of container "debug-j1" is not pulled: ImagePullBackOff: Back-off pulling image"#
    );
    let waiting = json!({"reason": "InvalidImageName", "message": "no reference"});
    reports(&mut world, "debug-j1", &json!({"waiting": waiting}));
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(reason(&job), "InvalidImageName");
}

#[test]
fn nothing_is_added_to_a_pod_that_cannot_have_the_container() {
    let mut deleted = world();
    deleted.start_deleting("foo");
    let mut ended = world();
    ended.end_pod("foo", "Succeeded");
    let mut mirror = world();
    let annotations = json!({"kubernetes.io/config.mirror": "x"});
    mirror.change_pod("foo", &json!({"metadata": {"annotations": annotations}}));
    let elsewhere = json!({"targetContainer": "web"});
    for (mut world, more, expected) in [
        (deleted, json!({}), "PodTerminating"),
        (ended, json!({}), "PodTerminating"),
        (mirror, json!({}), "StaticPod"),
        (world(), elsewhere, "ContainerNotFound"),
        (FakeCluster::new(), json!({}), "PodNotFound"),
    ] {
        let mut job = job("j1", &more);
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Failed)], "{expected}");
        assert_eq!(reason(&job), expected);
        assert_eq!(world.writes(), []);
    }
}

#[test]
fn a_container_that_ended_before_its_pod_is_deleted_counts() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    ends(&mut world, "debug-j1", 0, "");
    world.start_deleting("foo");
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_cancelled_job_leaves_its_container() {
    let mut world = world();
    let mut job = job("j1", &json!({}));
    job.pass(&mut world);
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(added(&world).len(), 1);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn the_schema_refuses_what_is_not_a_parameter() {
    for more in [
        json!({}),
        json!({"command": ["sh", "-c"], "args": []}),
        json!({"env": [{"name": "A", "value": ""}, {"name": "B"}]}),
        json!({"name": "shell-1", "targetContainer": "app"}),
        json!({"name": "n".repeat(63)}),
    ] {
        let mut parameters = json!({"image": "busybox:1.35"});
        for (key, value) in more.as_object().expect("an object") {
            parameters[key] = value.clone();
        }
        assert!(accepts::<Debug>(&parameters), "{parameters}");
    }
    for (key, value) in [
        ("image", json!("")),
        ("image", json!(1)),
        ("command", json!("sh")),
        ("args", json!([1])),
        ("env", json!({"A": "b"})),
        ("env", json!([{"value": "b"}])),
        ("env", json!([{"name": ""}])),
        ("env", json!([{"name": JOB}])),
        ("env", json!([{"name": JOB, "value": "j2"}])),
        ("env", json!([{"name": "A", "valueFrom": {}}])),
        ("targetContainer", json!("App")),
        ("name", json!("-shell")),
        ("name", json!("n".repeat(64))),
        ("securityContext", json!({"privileged": true})),
    ] {
        let mut parameters = json!({"image": "busybox:1.35"});
        parameters[key] = value;
        assert!(!accepts::<Debug>(&parameters), "{parameters}");
    }
    assert!(!accepts::<Debug>(&json!({})), "there is no image");
}
