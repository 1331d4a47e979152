//! Watching an object, and waiting for its end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    JOB, JOBS, WATCH, job, list, refused,
    server::{LATE, LOST, Server},
};

#[test]
fn wait_ends_as_the_object_ends() {
    for (progress, expected) in [("Succeeded", 0), ("Failed", 2)] {
        let answers = vec![
            (JOB, 200, job(progress, "")),
            (JOBS, 200, list(&[job(progress, "")])),
        ];
        let (code, out, err) = Server::with(progress, answers).run(&["get", "opj/web", "--wait"]);
        assert_eq!(code, Some(expected), "{out}{err}");
        assert!(out.contains(progress), "{out}");
    }
}

#[test]
fn wait_ends_with_3_when_time_is_up_and_an_expired_watch_is_started_again() {
    let processing = || job("Processing", "");
    let gone =
        json!({"type": "ERROR", "object": refused(410, "Expired", "too old resource version", "")});
    let answers = vec![
        (JOB, 200, processing()),
        (WATCH, 200, json!([gone])),
        (JOBS, 200, list(&[processing()])),
    ];
    let server = Server::with("timeout", answers);
    let (code, _, err) = server.run(&["get", "opj/web", "--wait", "--timeout", "3s"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("timed out: opj/web is Processing"), "{err}");
    let requests = server.requests();
    let is_watch = |request: &&String| request.contains("watch=true");
    let watches = requests.iter().filter(is_watch).count();
    assert!((2..20).contains(&watches), "{requests:?}");
}

#[test]
fn timeout_also_limits_the_reading_of_jobs_and_pods() {
    for (name, progress, expected) in [("late-new", "Processing", 3), ("late-end", "Succeeded", 0)]
    {
        let mut job = job(progress, "");
        job["status"]["targetDetails"][0]["extraInfo"] = json!({"NewPod": "a-2"});
        let answers = vec![
            (JOB, 200, job.clone()),
            (JOBS, 200, list(&[job])),
            ("GET /api/v1/namespaces/shop/pods/a-2", LATE, json!(null)),
        ];
        let begin = Instant::now();
        let server = Server::with(name, answers);
        let (code, out, err) = server.run(&["get", "opj/web", "--wait", "--timeout", "1s"]);
        assert_eq!(code, Some(expected), "{name}: {out}{err}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{name}");
    }
}

#[test]
fn a_watch_ends_when_the_object_is_deleted() {
    let answers = vec![(JOB, 200, job("Processing", "")), (JOBS, 200, list(&[]))];
    let (code, out, err) = Server::with("deleted", answers).run(&["get", "opj/web", "-w"]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.ends_with("OperationJob web was deleted\n"), "{out}");
}

const REACTIVE: &str = "GET /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs/web";
const REACTIVE_PATCH: &str =
    "PATCH /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs/web";
const REACTIVES: &str = "GET /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs";
const REACTIVES_WATCH: &str =
    "GET /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs?*watch=true";

/// A ReactiveJob of which a rerun is requested, and which its host has seen or not.
fn reactive(state: &str, seen: bool) -> Value {
    json!({
        "apiVersion": "batch.cs.sap.com/v1alpha1", "kind": "ReactiveJob",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "5",
            "annotations": {"operon.dev/rerun": "now"}},
        "spec": {"jobTemplate": {}},
        "status": {"observedGeneration": 1, "state": state, "observedRerun": seen.then_some("now")},
    })
}

/// A server on which a rerun ends in this state.
fn rerunning(name: &str, end: &str) -> Server {
    let event = |object: Value| json!({"type": "MODIFIED", "object": object});
    let mut before = reactive("Ready", false);
    before["metadata"]["annotations"] = json!({});
    let events = json!([
        event(reactive("Processing", true)),
        event(reactive(end, true))
    ]);
    let answers = vec![
        (REACTIVE, 200, before),
        (REACTIVE_PATCH, 200, reactive("Ready", false)),
        (REACTIVES_WATCH, 200, events),
        (REACTIVES, 200, list(&[reactive("Ready", false)])),
    ];
    Server::with(name, answers)
}

#[test]
fn a_rerun_that_is_waited_for_ends_as_the_new_run_and_not_as_the_one_before() {
    for (end, expected) in [("Ready", 0), ("Error", 2)] {
        let server = rerunning(&format!("rerun-{end}"), end);
        let (code, out, err) = server.run(&["rerun", "reactivejob/web", "--wait"]);
        assert_eq!((code, err.as_str()), (Some(expected), ""), "{out}");
        assert!(
            out.starts_with("reactivejob/web: its Job runs again\nReactiveJob shop/web  "),
            "{out}"
        );
        // A row below it may come later: it changes with what the reading of its Jobs gave.
        let mut lines = out.lines();
        let last = lines.rfind(|line| line.starts_with("ReactiveJob shop/web  "));
        assert!(last.is_some_and(|line| line.contains(end)), "{out}");
        // By the same rule a `get --wait` that comes after it.
        let (code, out, _) = server.run(&["get", "reactivejob/web", "--wait"]);
        assert_eq!(code, Some(expected), "{out}");
    }
    let server = rerunning("rerun-late", "Processing");
    let wait = ["rerun", "reactivejob/web", "--wait", "--timeout", "1s"];
    let (code, _, err) = server.run(&wait);
    assert_eq!(code, Some(3), "{err}");
    let (code, out, err) = server.run(&["rerun", "reactivejob/web"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "reactivejob/web: its Job runs again\n");
}

#[test]
fn a_retry_that_is_waited_for_ends_as_the_job_that_it_created() {
    let mut failed = job("Failed", "");
    failed["status"]["targetDetails"][0]["progress"] = json!("Failed");
    let again = |progress: &str| {
        let mut again = job(progress, "");
        again["metadata"]["name"] = json!("web-retry");
        again["metadata"]["uid"] = json!("u2");
        again
    };
    let answers = vec![
        (JOB, 200, failed),
        (JOBS, 200, list(&[again("Succeeded")])),
        (
            "POST /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs",
            201,
            again("Pending"),
        ),
    ];
    let server = Server::with("retry-wait", answers);
    let (code, out, err) = server.run(&["retry", "opj/web", "--wait"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.starts_with("opj/web-retry created with the 1 target of opj/web that failed\n"),
        "{out}"
    );
    assert!(out.contains("OperationJob shop/web-retry"), "{out}");
}

#[test]
fn a_retry_that_had_no_answer_or_found_another_job_says_where_to_look() {
    let mut failed = job("Failed", "");
    failed["status"]["targetDetails"][0]["progress"] = json!("Failed");
    let exists = refused(409, "AlreadyExists", "exists", "web-retry");
    let table = [
        (
            "lost",
            LOST,
            json!(null),
            "It may exist: kubectl get opj -n shop",
        ),
        (
            "exists",
            409,
            exists,
            "exists already; see `kubectl operon get opj/web-retry`",
        ),
    ];
    for (name, code, answer, expected) in table {
        let answers = vec![
            (JOB, 200, failed.clone()),
            (
                "POST /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs",
                code,
                answer,
            ),
        ];
        let server = Server::with(&format!("retry-{name}"), answers);
        let (code, out, err) = server.run(&["retry", "opj/web"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name}: {err}");
        assert!(err.contains(expected), "{name}: {err}");
    }
}

#[test]
fn a_wait_for_an_invalid_flow_ends_without_a_timeout() {
    let flow = json!({
        "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u4", "generation": 1, "resourceVersion": "5"},
        "spec": {"flows": [{"name": "a"}]},
        "status": {"observedGeneration": 1, "state": "Pending", "conditions": [{"type": "Stalled", "status": "True",
            "reason": "InvalidFlow", "message": "a waits for itself", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    let flows = "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows";
    let answers = vec![
        (
            "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows/web",
            200,
            flow.clone(),
        ),
        (flows, 200, list(&[flow])),
    ];
    let server = Server::with("wait-invalid", answers);
    let (code, out, err) = server.run(&["get", "jf/web", "--wait"]);
    assert_eq!(code, Some(2), "{out}{err}");
    assert!(out.contains("InvalidFlow: a waits for itself"), "{out}");
}
