//! The kinds that own Jobs or pods.

use serde_json::json;

use super::{drawn, job, object, pod};
use crate::{Kind, Outcome, Related};

#[test]
fn a_flow_nests_steps_jobs_and_pods() {
    let status = json!({
        "observedGeneration": 2, "state": "Running", "progress": "1/3",
        "steps": [
            {"name": "build", "phase": "Succeeded", "jobName": "web-build"},
            {"name": "test", "phase": "Running", "reason": "JobPending", "message": "no node", "jobName": "web-test-2"},
            {"name": "deploy", "phase": "Waiting"},
        ],
    });
    let flow = object(Kind::JobFlow, &json!({"flows": []}), &status);
    let wanted = flow.wanted();
    assert_eq!(wanted.jobs.as_deref(), Some("operon.dev/owner-uid=u1"));
    assert_eq!(
        wanted.pods.as_deref(),
        Some("batch.kubernetes.io/job-name in (web-test-2)")
    );
    let of_step = |name: &str, attempt: &str, failed: bool| {
        let failed = failed
            .then(|| json!({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}));
        let status = json!({"conditions": failed.into_iter().collect::<Vec<_>>()});
        let annotations = json!({"operon.dev/run-attempt": attempt});
        job(
            name,
            &json!({"operon.dev/step": "test"}),
            &annotations,
            &status,
        )
    };
    let pulling = json!({"phase": "Pending", "containerStatuses": [{
        "name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
    }]});
    let related = Related {
        jobs: vec![
            of_step("web-test-2", "2", false),
            of_step("web-test", "1", true),
        ],
        pods: vec![pod(
            "web-test-2-x",
            &json!({"batch.kubernetes.io/job-name": "web-test-2"}),
            &pulling,
        )],
        ..Related::default()
    };
    let expected = "\
├─ ! test  Running  JobPending: no node
│  ├─ ✗ Job web-test  Failed  1m  BackoffLimitExceeded
│  └─ ● Job web-test-2  Running  1m  attempt 2
│     └─ ! Pod web-test-2-x  Pending  35s  container main ImagePullBackOff: no such image
├─ ○ deploy  Waiting
└─ ✓ build  Succeeded
";
    let tree = drawn(&flow, &related);
    assert!(tree.ends_with(expected), "{tree}");
}

#[test]
fn a_flow_has_failed_only_when_no_job_of_it_runs() {
    let outcome = |end: Option<&str>| {
        let status = json!({"observedGeneration": 2, "state": "Failed", "completionTime": end});
        object(Kind::JobFlow, &json!({"flows": []}), &status).outcome()
    };
    assert_eq!(outcome(None), Outcome::Unfinished);
    assert_eq!(outcome(Some("2026-01-01T00:09:00Z")), Outcome::Failed);
}

#[test]
fn a_daemon_job_nests_wave_node_job_and_pod() {
    let status = json!({
        "observedGeneration": 2, "state": "Running", "progress": "3/7", "desired": 7, "active": 2, "succeeded": 3,
        "failed": 1, "skipped": 1, "wave": {"name": "zone=a"},
        "failedNodes": [{"name": "n1", "reason": "JobFailed", "message": "exit code 1"}],
        "blockedNodes": [{"name": "n2", "jobName": "web-n2", "reason": "Unschedulable", "message": "no room",
            "since": "2026-01-01T00:09:00Z"}],
    });
    let daemon_job = object(Kind::DaemonJob, &json!({"template": {}}), &status);
    let of_node = |node: &str, type_: &str| {
        let status = json!({"conditions": [{"type": type_, "status": "True"}]});
        job(
            &format!("web-{node}"),
            &json!({}),
            &json!({"operon.dev/node-name": node}),
            &status,
        )
    };
    let jobs = ["n2", "n3"].map(|node| of_node(node, "Other"));
    let related = Related {
        jobs: [
            jobs.to_vec(),
            vec![of_node("n1", "Failed"), of_node("n4", "Complete")],
        ]
        .concat(),
        ..Related::default()
    };
    let expected = "\
├─ ✗ wave zone=a
│  ├─ ✗ node n1  Failed  1m  JobFailed: exit code 1
│  │  └─ ✗ Job web-n1  Failed  1m
│  ├─ ! node n2  Running  1m  Unschedulable: no room
│  │  └─ ● Job web-n2  Running  1m
│  └─ ● node n3  Running  1m
│     └─ ● Job web-n3  Running  1m
├─ ○ 1 node without a Job yet
├─ - 1 node without a Job: excluded, not selected or not available
└─ ✓ 3 nodes succeeded
";
    let tree = drawn(&daemon_job, &related);
    assert!(tree.ends_with(expected), "{tree}");
}

#[test]
fn a_reactive_job_lists_its_runs_with_their_reasons() {
    let status = json!({
        "observedGeneration": 2, "state": "Error",
        "lastFailure": {"jobName": "web-1", "reason": "BackoffLimitExceeded", "message": "it failed"},
        "runs": [
            {"jobName": "web-2", "reason": "TemplateChanged", "changes": ["image: a → b"]},
            {"jobName": "web-1", "reason": "Created", "outcome": "Failed"},
        ],
    });
    let job = object(Kind::ReactiveJob, &json!({"jobTemplate": {}}), &status);
    assert_eq!(job.outcome(), Outcome::Failed);
    let tree = drawn(&job, &Related::default());
    let expected = "\
├─ ✗ Job web-1  Failed  BackoffLimitExceeded: it failed; Created
└─ ● Job web-2  Running  TemplateChanged: image: a → b
";
    assert!(tree.ends_with(expected), "{tree}");
}

#[test]
fn a_colla_set_shows_a_new_pod_below_the_pod_that_it_replaces() {
    let status = json!({"observedGeneration": 2, "availableReplicas": 2, "selector": "app=web"});
    let spec = json!({"replicas": 2, "selector": {}, "template": {}});
    let set = object(Kind::CollaSet, &spec, &status);
    assert_eq!(set.wanted().pods.as_deref(), Some("app=web"));
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let origin = "collaset.kusionstack.io/replace-pair-origin-name";
    let related = Related {
        pods: vec![
            pod(
                "web-a",
                &json!({"collaset.kusionstack.io/to-replace": "true"}),
                &ready,
            ),
            pod("web-b", &json!({}), &ready),
            pod(
                "web-c",
                &json!({origin: "web-a"}),
                &json!({"phase": "Pending"}),
            ),
        ],
        ..Related::default()
    };
    let expected = "\
├─ ● Pod web-a  Ready  35s  being replaced
│  └─ ● Pod web-c  Pending  35s
└─ ✓ 1 pod is Ready
";
    let tree = drawn(&set, &related);
    assert!(tree.ends_with(expected), "{tree}");
}
