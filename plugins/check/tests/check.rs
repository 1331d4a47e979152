//! A target waits until its pod is as the job wants it, and nothing is written.

use operon_action_check::Check;
use operon_action_schemas::accepts;
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, Value, json};

/// A ready pod with the container `app`, which is reported to be in this state.
fn world(state: &Value, ready: bool) -> FakeCluster {
    let mut world = FakeCluster::new();
    world.add_pod("foo", &json!({"labels": {"tier": "blue"}}));
    reports(&mut world, state, ready);
    world
}

fn reports(world: &mut FakeCluster, state: &Value, ready: bool) {
    let status = json!([{"name": "app", "ready": ready, "state": state}]);
    world.change_pod("foo", &json!({"status": {"containerStatuses": status}}));
}

fn conditions(world: &mut FakeCluster, conditions: &Value) {
    world.change_pod("foo", &json!({"status": {"conditions": conditions}}));
}

fn runs() -> Value {
    json!({"running": {}})
}

fn ended(exit_code: i32) -> Value {
    json!({"terminated": {"exitCode": exit_code, "reason": "Error"}})
}

fn job(parameters: &Value) -> FakeJob<Check> {
    FakeJob::<Check>::new("j1", &["foo"]).parameters(parameters)
}

/// One reconcile: the progress of the target, the reason and the message. Nothing is written, remembered or polled.
fn pass(job: &mut FakeJob<Check>, world: &mut FakeCluster) -> (Progress, String, String) {
    job.pass(world);
    let target = job.target("foo");
    assert_eq!(world.writes(), []);
    assert_eq!(target.extra_info, []);
    assert_eq!(target.recheck_after, None, "a change of the pod wakes it");
    let failure = target.failure.clone();
    let (reason, message) = failure.map_or_else(Default::default, |one| (one.reason, one.message));
    (target.progress.expect("it has started"), reason, message)
}

#[track_caller]
fn assert_waits(job: &mut FakeJob<Check>, world: &mut FakeCluster, reason: &str, message: &str) {
    let expected = (Progress::Processing, reason.to_owned(), message.to_owned());
    assert_eq!(pass(job, world), expected);
}

#[track_caller]
fn assert_fails(job: &mut FakeJob<Check>, world: &mut FakeCluster, reason: &str, message: &str) {
    let expected = (Progress::Failed, reason.to_owned(), message.to_owned());
    assert_eq!(pass(job, world), expected);
}

#[track_caller]
fn assert_succeeds(job: &mut FakeJob<Check>, world: &mut FakeCluster) {
    assert_eq!(pass(job, world).0, Progress::Succeeded);
}

#[test]
fn a_condition_is_waited_for() {
    let mut world = world(&runs(), true);
    let mut job = job(&json!({"condition": {"type": "example.com/loaded", "status": "True"}}));
    let absent = r#"waiting: condition "example.com/loaded" is absent, and not True yet"#;
    assert_waits(&mut job, &mut world, "WaitingForCondition", absent);
    let loading = json!([{"type": "example.com/loaded", "status": "False",
        "reason": "Loading", "message": "3 of 5 shards"}]);
    conditions(&mut world, &loading);
    let now = r#"waiting: condition "example.com/loaded" is False (Loading: 3 of 5 shards), and not True yet"#;
    assert_waits(&mut job, &mut world, "WaitingForCondition", now);
    conditions(
        &mut world,
        &json!([{"type": "example.com/loaded", "status": "True"}]),
    );
    assert_succeeds(&mut job, &mut world);
}

#[test]
fn a_condition_that_is_false_can_be_waited_for() {
    let mut world = world(&runs(), true);
    let mut job = job(&json!({"condition": {"type": "Ready", "status": "False"}}));
    let message = r#"waiting: condition "Ready" is True, and not False yet"#;
    assert_waits(&mut job, &mut world, "WaitingForCondition", message);
    world.make_unready("foo");
    assert_succeeds(&mut job, &mut world);
}

#[test]
fn a_label_is_waited_for() {
    let mut world = world(&runs(), true);
    let mut job = job(&json!({"label": {"key": "tier", "value": "green"}}));
    let message = r#"waiting: label "tier" is "blue", and not "green" yet"#;
    assert_waits(&mut job, &mut world, "WaitingForLabel", message);
    world.change_pod("foo", &json!({"metadata": {"labels": {"tier": null}}}));
    let message = r#"waiting: label "tier" is absent, and not "green" yet"#;
    assert_waits(&mut job, &mut world, "WaitingForLabel", message);
    world.change_pod("foo", &json!({"metadata": {"labels": {"tier": "green"}}}));
    assert_succeeds(&mut job, &mut world);
}

#[test]
fn a_running_container_is_waited_for() {
    for (wanted, state, ready, missing) in [
        (json!({}), runs(), false, None),
        (json!({"ready": true}), runs(), true, None),
        (json!({"ready": false}), runs(), false, None),
        (
            json!({"ready": true}),
            runs(),
            false,
            Some("Running and not ready, and not Running and ready"),
        ),
        (
            json!({"ready": false}),
            runs(),
            true,
            Some("Running and ready, and not Running and not ready"),
        ),
        (
            json!({}),
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            false,
            Some("Waiting (CrashLoopBackOff: back-off 10s), and not Running"),
        ),
        (
            json!({}),
            ended(1),
            false,
            Some("Terminated with exit code 1 (Error), and not Running"),
        ),
    ] {
        let mut container = json!({"name": "app", "state": "Running"});
        container["ready"] = wanted["ready"].clone();
        let mut world = world(&state, ready);
        let mut job = job(&json!({"container": container}));
        match missing {
            Some(missing) => {
                let message = format!(r#"waiting: container "app" is {missing} yet"#);
                assert_waits(&mut job, &mut world, "WaitingForContainer", &message);
            }
            None => assert_succeeds(&mut job, &mut world),
        }
    }
}

#[test]
fn a_terminated_container_is_waited_for_with_its_exit_code() {
    let mut world = world(&runs(), true);
    let parameters = json!({"container": {"name": "app", "state": "Terminated", "exitCode": 0}});
    let mut job = job(&parameters);
    let message =
        r#"waiting: container "app" is Running and ready, and not Terminated with exit code 0 yet"#;
    assert_waits(&mut job, &mut world, "WaitingForContainer", message);
    reports(&mut world, &ended(1), false);
    let message = r#"waiting: container "app" is Terminated with exit code 1 (Error), and not Terminated with exit code 0 yet"#;
    assert_waits(&mut job, &mut world, "WaitingForContainer", message);
    reports(&mut world, &ended(0), false);
    assert_succeeds(&mut job, &mut world);
}

#[test]
fn all_that_is_given_must_hold_and_the_message_names_all_that_is_missing() {
    let mut world = world(&json!({"waiting": {}}), false);
    world.make_unready("foo");
    let mut job = job(&json!({
        "condition": {"type": "Ready", "status": "True"},
        "label": {"key": "tier", "value": "green"},
        "container": {"name": "app", "state": "Running"},
    }));
    let label = r#"label "tier" is "blue", and not "green" yet"#;
    let message = format!(
        r#"waiting: condition "Ready" is False, and not True yet; {label}; container "app" is Waiting, and not Running yet"#
    );
    assert_waits(&mut job, &mut world, "WaitingForCondition", &message);
    world.make_ready("foo");
    reports(&mut world, &runs(), true);
    let message = format!("waiting: {label}");
    assert_waits(&mut job, &mut world, "WaitingForLabel", &message);
    world.make_unready("foo");
    world.change_pod("foo", &json!({"metadata": {"labels": {"tier": "green"}}}));
    assert_eq!(pass(&mut job, &mut world).1, "WaitingForCondition");
    world.make_ready("foo");
    assert_succeeds(&mut job, &mut world);
}

#[test]
fn a_container_that_does_not_exist_can_still_be_added_while_the_pod_runs() {
    let mut world = world(&runs(), true);
    let mut job = job(&json!({"container": {"name": "shell", "state": "Terminated"}}));
    let absent = r#"there is no container "shell" yet; the pod has app"#;
    let message = format!("waiting: {absent}");
    assert_waits(&mut job, &mut world, "ContainerNotFound", &message);
    let mut ended_pod = world.clone();
    let mut other = job.clone();
    ended_pod.end_pod("foo", "Failed");
    let message = format!(r#"pod "foo" has ended (Failed): {absent}"#);
    assert_fails(&mut other, &mut ended_pod, "PodEnded", &message);
    let spec = json!({"ephemeralContainers": [{"name": "shell", "image": "shell:1"}]});
    let status = json!([{"name": "shell", "state": ended(0)}]);
    world.change_pod(
        "foo",
        &json!({"spec": spec, "status": {"ephemeralContainerStatuses": status}}),
    );
    assert_succeeds(&mut job, &mut world);
}

#[test]
fn a_pod_that_is_gone_fails_the_target_and_a_later_one_is_another() {
    let mut world = world(&runs(), true);
    let mut job = job(&json!({"label": {"key": "tier", "value": "green"}}));
    assert_eq!(pass(&mut job, &mut world).1, "WaitingForLabel");
    world.start_deleting("foo");
    let message =
        r#"waiting: label "tier" is "blue", and not "green" yet; the pod is being deleted"#;
    assert_waits(&mut job, &mut world, "WaitingForLabel", message);
    world.finish_deletions();
    world.add_pod("foo", &json!({"labels": {"tier": "green"}}));
    let message = r#"pod "foo" was deleted before it was as the job wants it"#;
    assert_fails(&mut job, &mut world, "PodNotFound", message);
}

#[test]
fn a_pod_that_has_ended_fails_the_target_unless_only_a_label_is_missing() {
    let ready = json!({"condition": {"type": "Ready", "status": "True"}});
    let not_ready = json!({"condition": {"type": "Ready", "status": "False"}});
    let label = json!({"label": {"key": "tier", "value": "green"}});
    let running = json!({"container": {"name": "app", "state": "Running"}});
    let evicted = json!({"container": {"name": "app", "state": "Terminated"}});
    for (parameters, expected) in [
        (ready, "PodEnded"),
        (not_ready, ""),
        (label, "WaitingForLabel"),
        (running, "PodEnded"),
        (evicted, "PodEnded"),
    ] {
        let mut world = world(&json!({"waiting": {}}), false);
        world.end_pod("foo", "Failed");
        let mut job = job(&parameters);
        assert_eq!(pass(&mut job, &mut world).1, expected, "{parameters}");
    }
    let mut world = world(&ended(0), false);
    world.end_pod("foo", "Succeeded");
    let parameters = json!({"container": {"name": "app", "state": "Terminated", "exitCode": 0}});
    assert_succeeds(&mut job(&parameters), &mut world);
}

#[test]
fn a_container_that_is_not_started_again_fails_the_target() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]);
    for (pod, own, code, is_final) in [
        ("Never", json!({}), 1, true),
        ("OnFailure", json!({}), 0, true),
        ("OnFailure", json!({}), 1, false),
        ("Always", json!({}), 0, false),
        ("Always", json!({"restartPolicy": "Never"}), 0, true),
        (
            "Never",
            json!({"restartPolicy": "Never", "restartPolicyRules": rules}),
            1,
            false,
        ),
    ] {
        let mut world = world(&ended(code), false);
        let mut container = json!({"name": "app", "image": "app:1"});
        for (key, value) in own.as_object().expect("an object") {
            container[key] = value.clone();
        }
        let spec = json!({"restartPolicy": pod, "containers": [container]});
        world.change_pod("foo", &json!({"spec": spec}));
        let mut job = job(&json!({"container": {"name": "app", "state": "Running"}}));
        let (progress, reason, message) = pass(&mut job, &mut world);
        if is_final {
            assert_eq!((progress, &*reason), (Progress::Failed, "ContainerEnded"));
            let expected = format!(
                r#"container "app" is Terminated with exit code {code} (Error), and is not started again, so it is never Running"#
            );
            assert_eq!(message, expected);
        } else {
            assert_eq!(reason, "WaitingForContainer", "{pod} {own}");
        }
    }
}

#[test]
fn an_init_container_that_has_succeeded_is_not_started_again() {
    for (code, expected) in [(0, "ContainerEnded"), (1, "WaitingForContainer")] {
        let mut world = world(&runs(), true);
        let spec = json!({"restartPolicy": "Always", "initContainers": [{"name": "init"}]});
        let status = json!([{"name": "init", "state": ended(code)}]);
        world.change_pod(
            "foo",
            &json!({"spec": spec, "status": {"initContainerStatuses": status}}),
        );
        let mut job = job(&json!({"container": {"name": "init", "state": "Running"}}));
        assert_eq!(pass(&mut job, &mut world).1, expected);
    }
}

#[test]
fn a_cancelled_target_needs_nothing_undone() {
    let mut world = world(&runs(), true);
    let mut job = job(&json!({"label": {"key": "tier", "value": "green"}}));
    job.pass(&mut world);
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(world.writes(), []);
}

#[test]
fn the_schema_refuses_unknown_wrong_and_missing_parameters() {
    for parameters in [
        json!({"condition": {"type": "Ready", "status": "Unknown"}}),
        json!({"condition": {"type": "example.com/loaded", "status": "True"}}),
        json!({"label": {"key": "a/b", "value": ""}}),
        json!({"container": {"name": "app", "state": "Running", "ready": false}}),
        json!({"container": {"name": "app", "state": "Terminated", "exitCode": 137}}),
        json!({"label": {"key": "a", "value": "b"}, "container": {"name": "app", "state": "Running"}}),
    ] {
        assert!(accepts::<Check>(&parameters), "{parameters}");
    }
    for parameters in [
        json!({}),
        json!({"conditions": []}),
        json!({"condition": {"type": "Ready"}}),
        json!({"condition": {"status": "True"}}),
        json!({"condition": {"type": "Ready", "status": true}}),
        json!({"condition": {"type": "Ready", "status": "true"}}),
        json!({"condition": {"type": "", "status": "True"}}),
        json!({"condition": {"type": "Ready", "status": "True", "reason": "x"}}),
        json!({"label": {"key": "a"}}),
        json!({"label": {"key": "a!", "value": "b"}}),
        json!({"label": {"key": "a", "value": 1}}),
        json!({"label": {"key": "a", "value": "b c"}}),
        json!({"container": {"name": "app"}}),
        json!({"container": {"name": "App", "state": "Running"}}),
        json!({"container": {"name": "app", "state": "Waiting"}}),
        json!({"container": {"name": "app", "state": "Terminated", "exitCode": "0"}}),
        json!({"container": {"name": "app", "state": "Terminated", "ready": true}}),
        json!({"container": {"name": "app", "state": "Running", "exitCode": 0}}),
        json!({"container": {"name": "app", "state": "Running", "ready": "true"}}),
    ] {
        assert!(!accepts::<Check>(&parameters), "{parameters}");
    }
}
