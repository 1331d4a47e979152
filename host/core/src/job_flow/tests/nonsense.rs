//! Nonsensical objects: they must not cause a panic.

use operon_api::job_flow::Phase;
use serde_json::json;

use super::world::{World, step_with};
use crate::driver::memory::Reconciles as _;

#[test]
fn a_status_that_nobody_would_write_is_no_reason_to_panic() {
    let nonsense = [
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Running"}]}),
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Running", "attempts": -5}]}),
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Running", "attempts": i32::MAX}]}),
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Failed"}, {"name": "a", "phase": "Waiting"}]}),
        json!({"state": "Failed", "completionTime": "1970-01-01T00:00:00Z"}),
        json!({"state": "Succeed", "steps": [{"name": "b", "phase": "Waiting"}]}),
        json!({"state": "Terminating", "retried": "x"}),
        json!({"state": "Failed", "completionTime": "9999-12-30T00:00:00Z", "steps": [{"name": "a", "phase": "Blocked"}]}),
    ];
    for status in nonsense {
        for more in [
            json!({"parallelism": -1, "ttlSecondsAfterFinished": -1}),
            json!({"parallelism": 0, "ttlSecondsAfterFinished": i32::MAX, "onExit": ""}),
            json!({"onExit": "a", "failurePolicy": "Cancel"}),
        ] {
            let mut spec = more;
            spec["flows"] = json!([step_with(
                "a",
                &[],
                json!({
                    "retry": {"limit": i32::MAX, "backoffSeconds": i32::MIN},
                    "timeoutSeconds": -1,
                })
            )]);
            let mut world = World::with(spec);
            world.flow.status = Some(serde_json::from_value(status.clone()).expect("a status"));
            for _ in 0..6 {
                world.pass();
                for name in world.jobs.keys().cloned().collect::<Vec<_>>() {
                    world.fail(&name);
                }
                world.now += 10;
                world.retry(&world.now.to_string());
            }
        }
    }
}

#[test]
fn a_flow_without_a_name_or_a_uid_or_a_namespace_is_no_reason_to_panic() {
    let mut world = World::of(json!([step_with("a", &[], json!({}))]));
    world.flow.metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta::default();
    world.pass();
    let phase = world.phase("a");
    assert!(matches!(
        phase,
        Phase::Running | Phase::Waiting | Phase::Blocked
    ));
}
