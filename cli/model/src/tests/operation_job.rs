use serde_json::{Value, json};

use super::{drawn, object, pod};
use crate::{Kind, Outcome, Related};

fn target(name: &str, progress: &str, error: Option<(&str, &str)>) -> Value {
    let error = error.map(|(reason, message)| json!({"reason": reason, "message": message}));
    json!({"name": name, "progress": progress, "startTime": "2026-01-01T00:09:19Z", "error": error})
}

fn job(names: &[&str], partition: Option<i32>, details: &Value) -> crate::Object {
    let targets: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    let spec = json!({"action": "Restart", "targets": targets, "partition": partition});
    let status = json!({
        "observedGeneration": 2, "progress": "Processing", "succeededPodCount": 1, "totalPodCount": names.len(),
        "startTime": "2026-01-01T00:08:48Z", "targetDetails": details,
        "conditions": [{"type": "Reconciling", "status": "True", "reason": "Processing", "message": "", "lastTransitionTime": "2026-01-01T00:08:48Z"}],
    });
    object(Kind::OperationJob, &spec, &status)
}

#[test]
fn failed_and_waiting_targets_come_first_and_the_new_pod_is_below_its_target() {
    let mut replaced = target(
        "b",
        "Processing",
        Some(("NewPodNotReady", "b-2 is Pending")),
    );
    replaced["extraInfo"] = json!({"NewPod": "b-2"});
    let failed = target("c", "Failed", Some(("PodNotFound", "there is no pod c")));
    let details = json!([target("a", "Succeeded", None), replaced, failed]);
    let job = job(&["a", "b", "c", "d", "e"], Some(3), &details);
    assert_eq!(job.wanted().pod_names, ["b-2"]);
    let unscheduled = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient cpu."},
    ]});
    let related = Related {
        pods: vec![pod("b-2", &json!({}), &unscheduled)],
        ..Related::default()
    };
    let expected = "\
OperationJob default/web  Restart  █░░░░░░░  1/5  Processing  1m12s
  Processing
├─ ✗ c  Failed  41s  PodNotFound: there is no pod c
├─ ! b  Processing  41s  NewPodNotReady: b-2 is Pending
│  └─ ! Pod b-2  Pending  35s  0/3 nodes are available: 3 Insufficient cpu.
├─ ○ 2 targets wait  partition is 3. Next: kubectl operon promote opj/web
└─ ✓ 1 target succeeded
";
    assert_eq!(drawn(&job, &related), expected);
}

#[test]
fn more_than_twenty_targets_of_one_state_become_one_row() {
    let names: Vec<_> = (0..21).map(|index| format!("p{index}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let failed = |name: &&str| target(name, "Failed", Some(("Canceled", "the job was canceled")));
    let details: Vec<_> = names.iter().map(failed).collect();
    let tree = drawn(&job(&names, None, &json!(details)), &Related::default());
    assert!(
        tree.contains("✗ 21 targets  Failed  41s  the first is p0: Canceled"),
        "{tree}"
    );
    let tree = drawn(
        &job(&names[..20], None, &json!(details[..20])),
        &Related::default(),
    );
    assert_eq!(tree.matches('✗').count(), 20, "{tree}");
}

#[test]
fn an_omitted_target_waits_and_a_read_that_was_refused_is_named() {
    let related = Related {
        unread: vec!["pods are not shown: forbidden".to_owned()],
        ..Related::default()
    };
    let tree = drawn(&job(&["a", "b"], None, &json!([])), &related);
    assert!(tree.contains("○ 2 targets wait\n"), "{tree}");
    assert!(tree.contains("- pods are not shown: forbidden"), "{tree}");
}

#[test]
fn a_job_has_finished_when_its_status_is_about_its_spec() {
    let outcome = |progress: &str, observed: i32| {
        let status = json!({"observedGeneration": observed, "progress": progress});
        let spec = json!({"action": "Restart", "targets": [{"name": "a"}]});
        object(Kind::OperationJob, &spec, &status).outcome()
    };
    assert_eq!(outcome("Succeeded", 2), Outcome::Succeeded);
    assert_eq!(outcome("Failed", 2), Outcome::Failed);
    assert_eq!(outcome("Succeeded", 1), Outcome::Unfinished);
    assert_eq!(outcome("Processing", 2), Outcome::Unfinished);
}

#[test]
fn a_job_without_a_status_asks_whether_operon_runs() {
    let spec = json!({"action": "Restart", "targets": [{"name": "a"}]});
    let job = object(Kind::OperationJob, &spec, &Value::Null);
    assert!(drawn(&job, &Related::default()).contains("does Operon run?"));
}
