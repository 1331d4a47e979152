//! The kinds that own Jobs or pods.

use serde_json::{Value, json};

use super::{annotated, drawn, job, now, object, pod};
use crate::{Kind, Outcome, Related, why};

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
fn a_wait_for_an_invalid_spec_ends_when_no_job_runs() {
    let step = |phase: &str| json!({"steps": [{"name": "build", "phase": phase}]});
    // Kind, reason, what the status has, which generation it is about, and how a wait ends.
    let table = [
        (Kind::JobFlow, "InvalidFlow", json!({}), 2, Outcome::Failed),
        (
            Kind::JobFlow,
            "InvalidFlow",
            step("Running"),
            2,
            Outcome::Unfinished,
        ),
        (
            Kind::JobFlow,
            "InvalidFlow",
            step("Succeeded"),
            2,
            Outcome::Failed,
        ),
        (
            Kind::JobFlow,
            "InvalidFlow",
            json!({}),
            1,
            Outcome::Unfinished,
        ),
        (
            Kind::JobFlow,
            "TemplateNotFound",
            json!({}),
            2,
            Outcome::Unfinished,
        ),
        (
            Kind::DaemonJob,
            "InvalidSpec",
            json!({"active": 0}),
            2,
            Outcome::Failed,
        ),
        (
            Kind::DaemonJob,
            "InvalidSpec",
            json!({"active": 1}),
            2,
            Outcome::Unfinished,
        ),
    ];
    for (kind, reason, mut status, observed, expected) in table {
        status["state"] = json!("Pending");
        status["observedGeneration"] = json!(observed);
        status["conditions"] = json!([{"type": "Stalled", "status": "True", "reason": reason, "message": "no",
            "lastTransitionTime": "2026-01-01T00:05:00Z"}]);
        let object = object(kind, &json!({"flows": [], "template": {}}), &status);
        assert_eq!(object.ending(), expected, "{kind:?} {status}");
        // A new spec ends it, so it is listed, and can be paused and cancelled.
        assert_eq!(object.outcome(), Outcome::Unfinished, "{kind:?} {status}");
    }
}

/// A Job of a node, in a wave unless that is not known.
fn job_of_node(node: &str, wave: Option<&str>, type_: &str) -> k8s_openapi::api::batch::v1::Job {
    let end = (type_ == "Complete").then_some("2026-01-01T00:09:30Z");
    let status = json!({"conditions": [{"type": type_, "status": "True"}], "completionTime": end});
    let mut annotations = json!({"operon.dev/node-name": node});
    if let Some(wave) = wave {
        annotations["operon.dev/wave"] = json!(wave);
    }
    job(&format!("web-{node}"), &json!({}), &annotations, &status)
}

#[test]
fn a_daemon_job_nests_wave_node_job_and_pod() {
    let status = json!({
        "observedGeneration": 2, "state": "Running", "progress": "4/8", "desired": 8, "active": 2, "succeeded": 4,
        "failed": 1, "skipped": 1, "wave": {"name": "zone=b"},
        "failedNodes": [{"name": "n1", "reason": "JobFailed", "message": "exit code 1"}],
        "blockedNodes": [{"name": "n2", "jobName": "web-n2", "reason": "Unschedulable", "message": "no room",
            "since": "2026-01-01T00:09:00Z"}],
    });
    let daemon_job = object(Kind::DaemonJob, &json!({"template": {}}), &status);
    let pod_of_job = json!({"batch.kubernetes.io/job-name": "web-n3"});
    let related = Related {
        jobs: vec![
            job_of_node("n0", Some("canary"), "Complete"),
            job_of_node("n1", Some("zone=a"), "Failed"),
            job_of_node("n4", Some("zone=a"), "Complete"),
            job_of_node("n2", Some("zone=b"), "Other"),
            job_of_node("n3", Some("zone=b"), "Other"),
            job_of_node("n5", Some("zone=b"), "Complete"),
        ],
        pods: vec![pod("web-n3-x", &pod_of_job, &json!({"phase": "Running"}))],
        ..Related::default()
    };
    let expected = "\
├─ ✗ wave zone=a  1m
│  └─ ✗ node n1  Failed  1m  JobFailed: exit code 1
│     └─ ✗ Job web-n1  Failed  1m
├─ ! wave zone=b  1m
│  ├─ ! node n2  Running  1m  Unschedulable: no room
│  │  └─ ● Job web-n2  Running  1m
│  └─ ● node n3  Running  1m
│     └─ ● Job web-n3  Running  1m
│        └─ ● Pod web-n3-x  Running  35s
├─ ○ 1 node without a Job yet
├─ - 1 node without a Job: excluded, not selected or not available
├─ ✓ wave canary  30s
└─ ✓ 4 nodes succeeded
";
    let tree = drawn(&daemon_job, &related);
    assert!(tree.ends_with(expected), "{tree}");
}

#[test]
fn a_node_without_a_known_wave_is_beside_the_waves() {
    let status = json!({"observedGeneration": 2, "state": "Running", "wave": {"name": "rest"}});
    let daemon_job = object(Kind::DaemonJob, &json!({"template": {}}), &status);
    let related = Related {
        jobs: vec![job_of_node("n1", None, "Other")],
        ..Related::default()
    };
    let expected = "\
├─ ● wave rest
└─ ● node n1  Running  1m
   └─ ● Job web-n1  Running  1m
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

#[test]
fn a_colla_set_counts_the_pods_that_its_partition_keeps_back() {
    let set = |rolling: Value| {
        let strategy = json!({"rollingUpdate": rolling});
        let spec =
            json!({"replicas": 5, "selector": {}, "template": {}, "updateStrategy": strategy});
        let ready = json!({"type": "Ready", "status": "True", "reason": "Available", "message": "5 pods serve",
            "lastTransitionTime": "2026-01-01T00:09:00Z"});
        let status = json!({"observedGeneration": 2, "replicas": 5, "updatedReplicas": 3, "availableReplicas": 5,
            "conditions": [ready]});
        object(Kind::CollaSet, &spec, &status)
    };
    let kept = set(json!({"byPartition": {"partition": 2}}));
    assert_eq!(kept.outcome(), Outcome::Succeeded);
    let tree = drawn(&kept, &Related::default());
    let expected = "└─ ○ 2 pods keep the previous revision  partition is 2. Next: kubectl operon promote cls/web\n";
    assert!(tree.ends_with(expected), "{tree}");
    let text = why(&kept, &Related::default(), None, now()).expect("no part is named");
    assert_eq!(
        text,
        "2 pods keep the previous revision in cls/web.\npartition is 2\nNext: kubectl operon promote cls/web -n default"
    );
    for rolling in [json!({}), json!({"byLabel": {}})] {
        let tree = drawn(&set(rolling), &Related::default());
        assert!(!tree.contains("keep"), "{tree}");
    }
}

#[test]
fn a_status_from_before_a_request_says_nothing_about_its_end() {
    let requested = |kind: Kind, key: &str, value: &str, status: Value| {
        let ended = json!({"observedGeneration": 2, "completionTime": "2026-01-01T00:05:00Z",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "it succeeded",
                "lastTransitionTime": "2026-01-01T00:05:00Z"}]});
        let (mut all, more) = (ended, status);
        for (field, value) in more.as_object().into_iter().flatten() {
            all[field] = value.clone();
        }
        let spec = json!({"jobTemplate": {}, "flows": [], "template": {}});
        annotated(object(kind, &spec, &all), key, value)
    };
    let table = [
        (
            Kind::ReactiveJob,
            "rerun",
            json!({"state": "Ready"}),
            "observedRerun",
            Outcome::Succeeded,
        ),
        (
            Kind::ReactiveJob,
            "rerun",
            json!({"state": "Error"}),
            "observedRerun",
            Outcome::Failed,
        ),
        (
            Kind::JobFlow,
            "retry",
            json!({"state": "Failed"}),
            "retried",
            Outcome::Failed,
        ),
        (
            Kind::JobFlow,
            "retry",
            json!({"state": "Succeed"}),
            "retried",
            Outcome::Succeeded,
        ),
        (
            Kind::DaemonJob,
            "retry",
            json!({"state": "Succeed"}),
            "retried",
            Outcome::Succeeded,
        ),
    ];
    for (kind, verb, status, field, after) in table {
        let key = format!("operon.dev/{verb}");
        for seen in [None, Some("1")] {
            let mut before = status.clone();
            before[field] = json!(seen);
            let object = requested(kind, &key, "2", before);
            assert_eq!(object.outcome(), Outcome::Unfinished, "{kind:?} {status}");
            let expected = format!("Operon has not seen the requested {verb} yet");
            assert_eq!(object.explanation(), expected);
            let text = why(&object, &Related::default(), None, now()).expect("no part is named");
            assert!(
                text.contains("Next: kubectl logs -n operon-system"),
                "{text}"
            );
        }
        let mut seen = status.clone();
        seen[field] = json!("2");
        assert_eq!(
            requested(kind, &key, "2", seen).outcome(),
            after,
            "{kind:?} {status}"
        );
    }
}
