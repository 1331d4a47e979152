//! Objects that job-deploy-operator has run before.

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, STALLED},
    daemon_job::{DaemonJobStatus, FlowState},
    keys,
};
use serde_json::{Value, json};

use super::world::World;

/// The status as job-deploy-operator leaves it.
fn status(state: &str) -> DaemonJobStatus {
    let status = json!({"state": state, "jobStatusList": {"dj-a/default": {"succeeded": 1}}});
    serde_json::from_value(status).expect("a status")
}

/// A Job as the controller creates it.
fn add_job(world: &mut World, node: &str, status: &Value) {
    let job = json!({
        "metadata": {
            "name": format!("dj-{node}"),
            "namespace": "default",
            "uid": format!("old-{node}"),
            "creationTimestamp": "2023-01-01T00:00:00Z",
            "ownerReferences": [{
                "apiVersion": "api.practice.com/v1alpha1",
                "kind": "DaemonJob",
                "name": "dj",
                "uid": "object",
            }],
        },
        "spec": {"template": {"spec": {"nodeName": node, "containers": []}}},
        "status": status,
    });
    let job = serde_json::from_value(job).expect("a Job");
    world.jobs.insert(format!("dj-{node}"), job);
}

fn complete() -> Value {
    json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]})
}

#[test]
fn what_was_finished_stays_so_and_runs_nothing() {
    for (old, state, standing) in [
        (
            "Succeed",
            FlowState::Succeed,
            vec![(READY, "True", "Succeeded")],
        ),
        (
            "Failed",
            FlowState::Failed,
            vec![
                (READY, "False", "NodesFailed"),
                (STALLED, "True", "NodesFailed"),
            ],
        ),
    ] {
        let mut world = World::new(&["a", "b"]);
        world.object.status = Some(status(old));
        add_job(&mut world, "a", &complete());
        world.settle();
        world.join("c");
        world.settle();
        assert_eq!((world.made, world.state()), (0, state));
        assert_eq!(world.standing(), standing);
        assert_eq!(world.status_writes, 1);
        assert_eq!(world.events(), [""; 0]);
        assert!(world.status().job_status_list.contains_key("dj-a/default"));

        world.retry("1");
        world.settle();
        let expected = if old == "Failed" { 3 } else { 0 };
        assert_eq!(
            world.made, expected,
            "what is known to have failed runs again"
        );
    }
}

#[test]
fn what_was_finished_runs_again_when_it_is_edited_beside_the_old_jobs() {
    let mut world = World::new(&["a", "b"]);
    world.object.status = Some(status("Succeed"));
    add_job(&mut world, "a", &complete());
    world.settle();
    world.edit_image("alpine:2");
    world.settle();
    assert_eq!((world.made, world.progress()), (2, "0/2"));
    assert!(
        world.running("a").starts_with("dj-a-"),
        "the old result is not taken for the new one"
    );
    assert_eq!(world.running("b"), "dj-b");
}

#[test]
fn what_was_under_way_goes_on_with_the_jobs_that_there_are() {
    for old in ["Running", "Pending", ""] {
        let mut world = World::new(&["a", "b", "c"]);
        let state = (!old.is_empty()).then(|| status(old));
        world.object.status = state;
        add_job(&mut world, "a", &complete());
        add_job(&mut world, "b", &json!({"active": 1}));
        world.settle();
        assert_eq!(world.names(), ["dj-a", "dj-b", "dj-c"]);
        assert_eq!((world.made, world.progress()), (1, "1/3"));
        assert_eq!(world.job("dj-b").labels()[keys::OWNER_UID], "object");
        world.succeed("b");
        world.succeed("c");
        world.settle();
        assert_eq!(world.state(), FlowState::Succeed);
    }
}
