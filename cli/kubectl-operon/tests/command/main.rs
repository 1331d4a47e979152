//! The command as a user runs it, against prepared answers: what it prints, writes and ends with.

mod server;

use std::{io::Read as _, process::Stdio};

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
fn each_failure_ends_with_1_and_says_what_to_do() {
    let expired = refused(401, "Unauthorized", "Unauthorized", "");
    let forbidden = refused(
        403,
        "Forbidden",
        "operationjobs \"web\" is forbidden",
        "web",
    );
    let missing = refused(404, "NotFound", "operationjobs \"web\" not found", "web");
    let table = [
        ("expired", vec![(JOB, 401, expired)], "log in again"),
        (
            "forbidden",
            vec![(JOB, 403, forbidden)],
            "ask an administrator for this right",
        ),
        (
            "missing",
            vec![(JOB, 404, missing)],
            "kubectl get operationjobs -A",
        ),
        ("no-crds", vec![], "Operon's CRDs are not installed"),
    ];
    for (name, answers, expected) in table {
        let (code, out, err) = Server::with(name, answers).run(&["get", "opj/web"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name}");
        assert!(err.contains(expected), "{name}: {err}");
    }
}

#[test]
fn wrong_arguments_end_with_1_and_help_with_0() {
    let server = Server::with("arguments", Vec::new());
    let table = [
        (
            &["get", "operationjbo/web"][..],
            1,
            "did you mean operationjob?",
        ),
        (&["get", "web"], 1, "write KIND/NAME"),
        (&["get", "opj/we b"], 1, "is no name of an object"),
        (&["promote", "opj/web", "--to", "-1"], 1, "--to"),
        (&["gett"], 1, "get"),
    ];
    for (arguments, code, expected) in table {
        let (found, _, err) = server.run(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    let (code, out, _) = server.run(&["get", "--help"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("2 the object failed, 3 timed out or deleted"),
        "{out}"
    );
}

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
    assert!(err.contains("timed out: web is Processing"), "{err}");
    let requests = server.requests();
    let is_watch = |request: &&String| request.contains("watch=true");
    let watches = requests.iter().filter(is_watch).count();
    assert!((2..20).contains(&watches), "{requests:?}");
}

#[test]
fn a_watch_ends_when_the_object_is_deleted() {
    let answers = vec![(JOB, 200, job("Processing", "")), (JOBS, 200, list(&[]))];
    let (code, out, err) = Server::with("deleted", answers).run(&["get", "opj/web", "-w"]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.ends_with("OperationJob web was deleted\n"), "{out}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let answers = vec![(JOB, 200, job("Processing", ""))];
    let server = Server::with("pipe", answers);
    let mut child = server
        .command(&["get", "opj/web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    drop(child.stdout.take());
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut errors).expect("text");
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn promote_patches_what_it_read_as_the_user_that_the_flags_name() {
    let patch = "PATCH /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/web";
    let answers = vec![
        (JOB, 200, job("Processing", "")),
        (patch, 200, job("Processing", "")),
    ];
    let server = Server::with("promote", answers);
    let flags = [
        "promote",
        "opj/web",
        "--all",
        "--as",
        "jane",
        "--as-group",
        "ops",
        "--as-group",
        "dev",
    ];
    let (code, out, err) = server.run(&flags);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "opj/web: all targets may start\n");
    let requests = server.requests();
    let written = requests
        .iter()
        .find(|request| request.starts_with(patch))
        .expect("a patch");
    assert!(
        written.contains("impersonate-user: jane") && written.contains("impersonate-group: dev"),
        "{written}"
    );
    assert!(
        written.ends_with(r#"{"metadata":{"resourceVersion":"5"},"spec":{"partition":null}}"#),
        "{written}"
    );
}

#[test]
fn cancel_asks_first_and_deletes_the_object_that_it_read() {
    let delete = "DELETE /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/web";
    let answers = vec![
        (JOB, 200, job("Processing", "")),
        (delete, 200, job("Processing", "")),
    ];
    let server = Server::with("cancel", answers);
    let ask = server
        .command(&["cancel", "opj/web"])
        .stdin(Stdio::null())
        .output();
    let (code, _, err) = server::texts(&ask.expect("the command runs"));
    assert_eq!(code, Some(1));
    assert!(err.contains("add --yes"), "{err}");
    assert!(
        !server
            .requests()
            .iter()
            .any(|request| request.starts_with("DELETE"))
    );
    let (code, _, err) = server.run(&["cancel", "opj/web", "--yes"]);
    assert_eq!(code, Some(0), "{err}");
    let requests = server.requests();
    let written = requests
        .iter()
        .find(|request| request.starts_with(delete))
        .expect("a deletion");
    assert!(written.contains(r#""uid":"u1""#), "{written}");
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
