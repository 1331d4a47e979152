//! The command as a user runs it, against prepared answers: what it prints, writes and ends with.

mod bad_input;
mod complete;
mod dashboard;
mod follow;
mod graph;
mod man;
mod output;
mod run;
mod server;
mod steer;
mod terminal;

use serde_json::{Value, json};

use server::Server;

const JOBS: &str = "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs";
const WATCH: &str =
    "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs?*watch=true";
const JOB: &str = "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/web";

fn job(progress: &str, message: &str) -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "5"},
        "spec": {"action": "Restart", "targets": [{"name": "a"}, {"name": "b"}], "partition": 1},
        "status": {
            "observedGeneration": 1, "progress": progress, "totalPodCount": 2,
            "targetDetails": [
                {"name": "a", "progress": "Processing", "error": {"reason": "ContainerNotReady", "message": message}},
            ],
            "conditions": [{"type": "Reconciling", "status": "True", "reason": progress, "message": "0 of 2",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    })
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJobList",
        "metadata": {"resourceVersion": "5"}, "items": items})
}

fn refused(code: u16, reason: &str, message: &str, name: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": message, "details": {"name": name, "kind": "operationjobs"}})
}

#[test]
fn get_prints_the_tree_without_colours_into_a_pipe() {
    let server = Server::with(
        "get",
        vec![(JOB, 200, job("Processing", "bell \u{7} and \u{1b}[2J"))],
    );
    for name in [&["opj/web"][..], &["OperationJob", "web"]] {
        let (code, out, err) = server.run(&[&["get"], name].concat());
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(
            out.starts_with("OperationJob shop/web  Restart  ░░░░░░░░  0/2  Processing\n"),
            "{out}"
        );
        assert!(
            out.contains("├─ ! a  Processing  ContainerNotReady: bell \\u{7} and \\u{1b}[2J\n"),
            "{out}"
        );
        let last = "└─ ○ 1 target waits  partition is 1. Next: kubectl operon promote opj/web\n";
        assert!(out.ends_with(last), "{out}");
    }
}

#[test]
fn why_says_what_a_target_waits_for_and_what_to_do_next() {
    let answers = || vec![(JOB, 200, job("Processing", "CrashLoopBackOff \u{1b}[2J"))];
    let expected = "\
a of opj/web is Processing.
ContainerNotReady: CrashLoopBackOff \\u{1b}[2J
Next: kubectl describe pod a -n shop
";
    for words in [
        &["why", "opj/web"][..],
        &["why", "opj/web", "a"],
        &["why", "opj", "web", "a"],
    ] {
        let (code, out, err) = Server::with("why", answers()).run(words);
        assert_eq!(
            (code, err.as_str(), out.as_str()),
            (Some(0), "", expected),
            "{words:?}"
        );
    }
    let (code, out, err) = Server::with("why", answers()).run(&["why", "opj/web", "c"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("opj/web shows no part \"c\""), "{err}");
}

#[test]
fn status_lists_what_is_unfinished_in_one_namespace_or_all() {
    let everywhere = "GET /apis/apps.kusionstack.io/v1alpha1/operationjobs";
    let mut finished = job("Succeeded", "");
    finished["metadata"]["name"] = json!("done");
    let answers = vec![
        (
            everywhere,
            200,
            list(&[job("Processing", ""), finished.clone()]),
        ),
        (JOBS, 200, list(&[finished])),
    ];
    let server = Server::with("status", answers);
    let (code, out, err) = server.run(&["status"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (Some(0), "Everything has finished.\n", "")
    );
    let (_, out, _) = server.run(&["status", "-A"]);
    let expected = "\
NAMESPACE  OBJECT   STATE       DONE  REASON
shop       opj/web  Processing  0/2   Processing: 0 of 2
";
    assert_eq!(out, expected);
    let (code, _, err) = Server::with("status-empty", Vec::new()).run(&["status"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("crds/"), "{err}");
}
