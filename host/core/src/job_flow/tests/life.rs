//! A flow from its beginning to its end, when nothing goes wrong.

use std::{sync::Arc, time::Duration};

use operon_api::job_flow::{JobFlowStatus, Phase};
use serde_json::{Value, json};

use super::world::{World, running, step, step_with};
use crate::action::Failure;
use crate::driver::memory::Reconciles as _;

#[test]
fn a_step_has_succeeded_when_its_job_is_complete_and_not_before() {
    let mut world = World::of(json!([
        step_with(
            "a",
            &[],
            json!({"jobTemplate": {"completions": 3, "parallelism": 3}})
        ),
        step("b", &["a"]),
    ]));
    world.settle();
    for succeeded in [1, 2, 3] {
        world.set_status(
            "flow-a",
            json!({"succeeded": succeeded, "active": 3 - succeeded}),
        );
        world.settle();
        assert_eq!(world.phases(), "a Running, b Waiting");
    }
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running");
}

#[test]
fn the_status_that_the_crd_gives_a_new_flow_says_nothing() {
    let mut without = World::of(json!([step("a", &[])]));
    let mut with = without.clone();
    with.flow.status = Some(JobFlowStatus {
        observed_generation: Some(-1),
        ..JobFlowStatus::default()
    });
    for world in [&mut without, &mut with] {
        world.retry("1");
    }
    assert_eq!(with.settle(), without.settle());
}

#[test]
fn failed_pods_are_no_failed_job_and_parallel_pods_run() {
    let mut world = World::of(json!([step_with(
        "a",
        &[],
        json!({"jobTemplate": {"backoffLimit": 6}})
    )]));
    world.settle();
    world.set_status("flow-a", json!({"failed": 2, "active": 2}));
    world.settle();
    assert_eq!(
        (world.state(), world.phase("a")),
        ("Running", Phase::Running)
    );
}

#[test]
fn a_job_that_vanishes_after_success_is_not_made_again() {
    let mut world = World::of(json!([step("a", &[]), step("b", &["a"])]));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    world.delete_job("flow-a", false);
    world.settle();
    assert_eq!(world.names(), ["flow-b"]);
    assert_eq!(world.phases(), "a Succeeded, b Running");
    world.succeed("flow-b");
    world.settle();
    world.delete_job("flow-b", false);
    world.settle();
    assert_eq!((world.state(), world.made), ("Succeed", 2));
}

#[test]
fn a_ttl_of_a_second_on_every_step_still_ends_in_one_job_per_step() {
    for ttl in [0, 1] {
        let ttl = json!({"jobTemplate": {"ttlSecondsAfterFinished": ttl}});
        let mut world = World::of(json!([
            step_with("a", &[], ttl.clone()),
            step_with("b", &["a"], ttl.clone()),
            step_with("c", &["b"], ttl),
        ]));
        for name in ["flow-a", "flow-b", "flow-c"] {
            world.settle();
            let spec = world.job(name).spec.as_ref().expect("a spec");
            assert_eq!(spec.ttl_seconds_after_finished, None, "it is held back");
            world.succeed(name);
            world.wait(100);
            world.settle();
            world.wait(100);
        }
        world.settle();
        assert_eq!(world.state(), "Succeed");
        assert_eq!((world.names(), world.made), (vec![], 3));
        assert_eq!(
            world.writes - world.status_writes,
            6,
            "a create and a patch per step"
        );
    }
}

#[test]
fn a_step_without_a_ttl_is_one_write() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    assert_eq!((world.writes, world.status_writes), (3, 2));
}

#[test]
fn independent_steps_do_not_depend_on_their_order() {
    let mut world = World::with(json!({
        "failurePolicy": "Continue",
        "flows": [step("c", &["a"]), step("b", &[]), step("a", &[]), step("d", &["b"])],
    }));
    world.settle();
    world.fail("flow-a");
    world.succeed("flow-b");
    world.settle();
    assert_eq!(
        world.phases(),
        "c Skipped, b Succeeded, a Failed, d Running"
    );
}

#[test]
fn an_empty_flow_has_not_succeeded() {
    let mut world = World::of(json!([]));
    world.settle();
    assert_eq!(world.state(), "Pending");
    assert_eq!(world.standing()[1], ("Stalled", "True", "InvalidFlow"));
}

#[test]
fn each_transition_is_told_once() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    assert_eq!(world.events(), ["Created"]);
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.events(), ["Succeed"]);
    for _ in 0..3 {
        world.now += 60;
        world.settle();
    }
    assert_eq!(world.events(), [""; 0]);
}

#[test]
fn a_large_flow_has_summaries_only() {
    let steps = |count: usize| -> Vec<Value> {
        (0..count).map(|n| step(&format!("s{n:04}"), &[])).collect()
    };
    for (count, listed) in [(100, 100), (101, 0)] {
        let mut world = World::of(json!(steps(count)));
        world.settle();
        assert_eq!(world.made, count);
        assert_eq!(world.status().job_status_list.len(), listed);
    }
    let mut world = World::with(json!({"flows": steps(1000), "parallelism": 1}));
    world.settle();
    let waiting = json!(world.status().steps[999]);
    assert_eq!(waiting, json!({"name": "s0999", "phase": "Waiting"}));
    assert!(json!(world.status()).to_string().len() < 60_000);
}

#[test]
fn a_thousand_messages_have_room_as_the_api_server_stores_them() {
    let names: Vec<_> = (0..1000).map(|n| format!("s{n:0>50}")).collect();
    for character in ["\u{1F980}", "\"", "<", "\u{1}"] {
        let mut world = World::of(names.iter().map(|name| step(name, &[])).collect());
        let refusal = Failure::new("Forbidden", character.repeat(5000));
        let all = names.iter().map(|name| (name.clone(), refusal.clone()));
        world.refusals = all.collect();
        world.pass();
        assert_eq!(world.reason(&names[999]), "Forbidden");
        let stored = json!(world.status()).to_string().replace('<', "\\u003c");
        assert!(stored.len() < 1_000_000, "{}", stored.len());
    }
}

#[test]
fn what_a_job_says_at_length_is_not_listed() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    let long = "m".repeat(5000);
    let condition = json!({"type": "Failed", "status": "True", "reason": "R", "message": long});
    world.set_status("flow-a", json!({"failed": 1, "conditions": [condition]}));
    world.settle();
    let listed = json!(world.status().job_status_list["flow-a/default"]);
    let conditions = json!([{"type": "Failed", "status": "True", "reason": "R"}]);
    assert_eq!(listed, json!({"failed": 1, "conditions": conditions}));
}

#[test]
fn a_thousand_starts_are_not_a_thousand_events() {
    let steps: Vec<_> = (0..1000).map(|n| step(&format!("s{n}"), &[])).collect();
    let mut world = World::of(json!(steps));
    world.settle();
    assert_eq!(world.made, 1000);
    assert_eq!(world.events.len(), 21);
    assert_eq!(
        world.events[20].message,
        "… and 980 more steps; see status.steps"
    );
}

#[test]
fn no_more_steps_run_than_parallelism_allows_in_the_order_of_the_spec() {
    let mut world = World::with(json!({
        "parallelism": 2,
        "flows": [step("d", &[]), step("b", &[]), step("a", &["d"]), step("c", &[])],
    }));
    world.settle();
    assert_eq!(world.phases(), "d Running, b Running, a Waiting, c Waiting");
    world.succeed("flow-d");
    world.settle();
    assert_eq!(
        world.phases(),
        "d Succeeded, b Running, a Running, c Waiting"
    );
    world.edit(|spec| spec["parallelism"] = json!(1));
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.phase("c"), Phase::Waiting, "b runs");
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.phase("c"), Phase::Running);
}

#[test]
fn a_suspended_flow_starts_nothing_and_what_ends_nevertheless_has_ended() {
    let mut world = World::with(json!({
        "suspend": true,
        "flows": [step("a", &[]), step("b", &["a"]), step("c", &["b"])],
    }));
    world.settle();
    assert_eq!((world.made, world.state()), (0, "Pending"));
    assert_eq!(world.standing()[1], ("Reconciling", "True", "Suspended"));
    world.edit(|spec| spec["suspend"] = json!(false));
    world.settle();
    world.edit(|spec| spec["suspend"] = json!(true));
    world.settle();
    assert_eq!(world.phase("a"), Phase::Running);
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Waiting, c Waiting");
    world.edit(|spec| spec["suspend"] = Value::Null);
    world.settle();
    assert_eq!(world.phase("b"), Phase::Running);
}

#[test]
fn what_runs_last_runs_when_all_others_are_over() {
    let mut world = World::with(json!({
        "onExit": "tidy",
        "flows": [step("tidy", &[]), step("a", &[]), step("b", &["a"])],
    }));
    world.settle();
    assert_eq!(world.phases(), "tidy Waiting, a Running, b Waiting");
    world.succeed("flow-a");
    world.settle();
    world.succeed("flow-b");
    world.settle();
    assert_eq!(
        (world.phase("tidy"), world.state()),
        (Phase::Running, "Running")
    );
    world.succeed("flow-tidy");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

/// A flow of one step that has just finished, and is deleted a minute later.
fn finished_with_ttl() -> World {
    let mut world = World::with(json!({
        "ttlSecondsAfterFinished": 60,
        "flows": [step("a", &[])],
    }));
    world.settle();
    world.succeed("flow-a");
    world.settle();
    world
}

#[test]
fn a_finished_flow_is_deleted_when_its_time_is_over() {
    let mut world = finished_with_ttl();
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_mins(1)));
    world.now += 59;
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(1)));
    world.now += 1;
    world.settle();
    assert!(world.is_gone);
}

#[test]
fn a_flow_that_failed_and_still_runs_is_not_deleted() {
    let mut world = World::with(json!({
        "ttlSecondsAfterFinished": 0,
        "flows": [step("a", &[]), step("b", &[])],
    }));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.now += 100;
    world.settle();
    assert_eq!((world.state(), world.is_gone), ("Failed", false));
    world.succeed("flow-b");
    world.settle();
    assert!(world.is_gone);
}

#[test]
fn a_deleted_flow_is_terminating_and_writes_nothing_else() {
    let mut world = World::of(json!([step("a", &[]), step("b", &["a"])]));
    world.settle();
    world.succeed("flow-a");
    let writes = world.writes;
    world.delete();
    world.settle();
    assert_eq!((world.state(), world.writes), ("Terminating", writes + 1));
    assert_eq!(world.phases(), "a Running, b Waiting");
    assert_eq!(world.standing()[1], ("Reconciling", "True", "Terminating"));
}

#[test]
fn flows_of_one_name_in_two_namespaces_do_not_know_each_other() {
    let mut one = World::of(json!([step("a", &[]), step("b", &["a"])]));
    let mut other = one.clone();
    other.flow.metadata.namespace = Some("other".to_owned());
    other.flow.metadata.uid = Some("other".to_owned());
    one.settle();
    // Even if a cache gave them: a Job belongs to a uid, and not to a name.
    other.jobs = one.jobs.clone();
    assert_eq!(other.starts(), ["a"]);
    one.succeed("flow-a");
    other.jobs.clear();
    other.settle();
    one.settle();
    assert_eq!(one.phases(), "a Succeeded, b Running");
    assert_eq!(other.phases(), "a Running, b Waiting");
}

#[test]
fn a_flow_of_the_old_operator_that_has_finished_stays_as_it_is() {
    for (state, ready) in [("Succeed", "True"), ("Failed", "False")] {
        let mut world = World::of(json!([step("a", &[]), step("b", &["a"])]));
        let list = json!({"flow-a/default": {"succeeded": 1}});
        let status = json!({"state": state, "jobStatusList": list});
        world.flow.status = Some(serde_json::from_value(status).expect("a status"));
        world.settle();
        assert_eq!((world.made, world.state()), (0, state));
        assert_eq!(world.standing()[0].1, ready);
        assert_eq!(world.events(), [""; 0]);
    }
}

#[test]
fn a_flow_of_the_old_operator_that_runs_keeps_its_jobs() {
    let mut old = World::of(json!([
        step("a", &[]),
        step("b", &["a"]),
        step("c", &["b"])
    ]));
    old.settle();
    old.succeed("flow-a");
    old.settle();
    let mut world = old.clone();
    for job in world.jobs.values_mut() {
        job.metadata.labels = None;
        job.metadata.annotations = None;
        for owner in job.metadata.owner_references.iter_mut().flatten() {
            owner.controller = None;
        }
    }
    let status = json!({"state": "Running"});
    world.flow.status = Some(serde_json::from_value(status).expect("a status"));
    world.settle();
    assert_eq!(world.made, 2, "those that it had");
    assert_eq!(world.phases(), "a Succeeded, b Running, c Waiting");
    let owner = &world
        .job("flow-b")
        .metadata
        .owner_references
        .as_ref()
        .expect("one")[0];
    assert_eq!(owner.controller, Some(true));
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.phase("c"), Phase::Running);
}

#[test]
fn a_pod_that_runs_is_nothing_to_tell() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.add_pod("flow-a", "pod", running());
    let writes = world.writes;
    world.settle();
    assert_eq!(world.writes, writes);
}

#[test]
fn a_step_whose_turn_comes_while_the_status_is_written_starts_at_once() {
    let mut world = World::of(json!([
        step("a", &[]),
        step("b", &["a"]),
        step("c", &[]),
        step("d", &["c"]),
    ]));
    world.settle();
    world.succeed("flow-a");
    world.meanwhile = Some(Arc::new(|world| world.succeed("flow-c")));
    world.pass();
    assert_eq!(world.names(), ["flow-a", "flow-b", "flow-c", "flow-d"]);
    assert_eq!(world.phase("d"), Phase::Waiting);
    world.settle();
    assert_eq!(world.phase("d"), Phase::Running);
}

#[test]
fn nothing_starts_that_the_status_on_its_way_has_settled() {
    let mut world = World::with(json!({"failurePolicy": "Continue", "flows": [
        step("c", &[]),
        step("d", &[]),
        step("b", &["c", "d"]),
        step_with("x", &["b"], json!({"when": "steps['d'].phase == 'Failed'"})),
    ]}));
    world.settle();
    world.fail("flow-c");
    world.meanwhile = Some(Arc::new(|world| world.fail("flow-d")));
    world.pass();
    world.settle();
    assert_eq!(world.phases(), "c Failed, d Failed, b Skipped, x Skipped");
    assert_eq!(world.names(), ["flow-c", "flow-d"]);
}

#[test]
fn a_flow_that_may_not_be_deleted_after_its_ttl_does_not_say_that_it_was() {
    let mut world = finished_with_ttl();
    world.now += 60;
    world.denied = Some(Failure::new("Forbidden", "no deletions today"));
    world.pass();
    assert_eq!((world.is_gone, world.sent_events.len()), (false, 0));
    world.denied = None;
    world.pass();
    assert!(world.is_gone);
    assert_eq!(world.sent_events, ["TTL"]);
}
