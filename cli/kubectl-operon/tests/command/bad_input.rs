//! What a user or a cluster may do wrong: each case ends with a sentence that says what to do.

use std::{io::Read as _, process::Stdio};

use serde_json::{Value, json};

use crate::{
    JOB, JOBS, WATCH, job, list, refused,
    server::{self, Server, kubeconfig},
};

/// All kinds of which `status` reads the objects.
const FLOWS: &str = "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows";
const FLOW: &str = "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows/web";
const REACTIVE: &str = "GET /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs/web";

/// Clears the screen, changes the title of the window, and reverses the text.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\r\n<script>";

fn forbidden(verb: &str, what: &str) -> Value {
    let message = format!("{what} is forbidden: User \"jane\" cannot {verb} resource \"{what}\"");
    refused(403, "Forbidden", &message, "web")
}

fn expired() -> Value {
    refused(401, "Unauthorized", "Unauthorized", "")
}

fn flow(name: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
        "metadata": {"name": name, "namespace": "shop", "uid": "u2"},
        "spec": {"flows": [{"name": "build"}]}, "status": status,
    })
}

#[test]
fn each_failure_ends_with_1_and_says_what_to_do() {
    let missing = refused(404, "NotFound", "operationjobs \"web\" not found", "web");
    let table = [
        ("expired", vec![(JOB, 401, expired())], "log in again"),
        (
            "forbidden",
            vec![(JOB, 403, forbidden("get", "operationjobs"))],
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
        (&["get", "web"], 1, "write KIND/NAME, for example opj/web"),
        (&["get", "opj"], 1, "kubectl get operationjobs"),
        (&["get", "pod/web"], 1, "the kinds are: opj"),
        (&["get", "opj/we b"], 1, "is no name of an object"),
        (
            &["promote", "opj/web", "--to", "-1"],
            1,
            "write a number, 0 or more",
        ),
        (&["gett", "opj/web"], 1, "'get'"),
        (&["promot", "opj/web"], 1, "'promote'"),
        (&["get", "opj/web", "--timout", "3s"], 1, "'--timeout'"),
        (&["get", "opj/web", "--timeout", "3s"], 1, "--wait"),
        (
            &["get", "opj/web", "--wait", "--timeout", "soon"],
            1,
            "90s, 10m or 2h",
        ),
        (&["retry"], 1, "<KIND/NAME>"),
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

/// Runs the command for a reader that reads nothing: its exit code, and its standard error.
fn with_a_closed_pipe(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = server
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    drop(child.stdout.take());
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut errors).expect("text");
    let status = child.wait().expect("it ends");
    (status.code(), errors)
}

#[test]
fn a_closed_pipe_is_no_error() {
    let answers = vec![(JOB, 200, job("Processing", ""))];
    let server = Server::with("pipe", answers);
    let ended = with_a_closed_pipe(&server, &["get", "opj/web"]);
    assert_eq!(ended, (Some(0), String::new()));
}

#[test]
fn nothing_that_others_wrote_controls_the_terminal() {
    let mut hostile = job("Processing", HOSTILE);
    hostile["spec"]["action"] = json!(HOSTILE);
    hostile["spec"]["targets"][0]["name"] = json!(HOSTILE);
    hostile["status"]["targetDetails"][0]["name"] = json!(HOSTILE);
    hostile["status"]["conditions"][0]["message"] = json!(HOSTILE);
    let step = json!({"name": HOSTILE, "phase": "Failed", "reason": HOSTILE, "message": HOSTILE});
    let flow = flow(HOSTILE, &json!({"state": HOSTILE, "steps": [step]}));
    let mut failed = flow.clone();
    failed["status"]["state"] = json!("Failed");
    let answers = vec![
        (JOB, 200, hostile.clone()),
        (WATCH, 200, json!([])),
        (JOBS, 200, list(&[hostile])),
        (FLOW, 200, failed),
        (FLOWS, 200, list(&[flow])),
        (REACTIVE, 403, refused(403, "Forbidden", HOSTILE, "web")),
    ];
    let server = Server::with("hostile", answers);
    for arguments in [
        &["get", "opj/web"][..],
        &["get", "opj/web", "--wait", "--timeout", "1s"],
        &["why", "opj/web"],
        &["why", "opj/web", HOSTILE],
        &["get", "jf/web"],
        &["why", "jf/web"],
        &["retry", "jf/web"],
        &["status"],
        &["get", "reactivejob/web"],
        &["get", "\u{1b}[2J/web"],
        &["get", "opj/\u{1b}[2J"],
        &["\u{1b}[2J"],
        &["get", "opj/web", "\u{1b}[2J", "x"],
    ] {
        let (_, out, err) = server.run(arguments);
        let is_hostile =
            |letter: &char| letter.is_control() && *letter != '\n' || *letter == '\u{202e}';
        let found = out.chars().chain(err.chars()).find(is_hostile);
        assert_eq!(found, None, "{arguments:?}: {out:?} {err:?}");
        assert!(!out.is_empty() || !err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_cluster_that_refuses_or_does_not_answer_is_named_once() {
    let refusing = |name: &str| {
        let answers = vec![("GET /", 401, expired())];
        Server::with(name, answers)
    };
    for arguments in [
        &["status"][..],
        &["why", "opj/web"],
        &["pause", "opj/web"],
        &["get", "opj/web", "-w"],
    ] {
        let (code, out, err) = refusing("refusing").run(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}");
        assert_eq!(err.matches("log in again").count(), 1, "{err}");
    }
    // Nothing listens at this port.
    let absent = kubeconfig("absent", 1, &json!({}));
    let login = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "sh", "args": ["-c", "echo the session has expired >&2; exit 1"],
    }});
    let login = kubeconfig("login", 1, &login);
    let missing = login.with_file_name("not-there");
    let table = [
        (
            &absent,
            "test",
            "the cluster cannot be reached: ",
            "check --context",
        ),
        (&login, "test", "the session has expired", "log in again"),
        (&absent, "other", "other", "kubectl config get-contexts"),
        (&missing, "test", "not-there", "kubectl config get-contexts"),
    ];
    for (kubeconfig, context, cause, advice) in table {
        let output = server::program()
            .args(["status", "--context", context, "--kubeconfig"])
            .arg(kubeconfig)
            .output()
            .expect("the command runs");
        let (code, _, err) = server::texts(&output);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(cause) && err.contains(advice), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn what_ends_while_it_is_watched_ends_the_command_with_a_reason() {
    let table = [
        ("watch-expired", 401, expired(), "log in again"),
        (
            "watch-forbidden",
            403,
            forbidden("list", "operationjobs"),
            "cannot list resource \"operationjobs\"; ask an administrator for this right",
        ),
        (
            "watch-no-crds",
            404,
            refused(
                404,
                "NotFound",
                "the server could not find the requested resource",
                "",
            ),
            "Operon's CRDs are not installed",
        ),
    ];
    for (name, code, answer, expected) in table {
        let answers = vec![(JOB, 200, job("Processing", "")), (JOBS, code, answer)];
        let (code, _, err) = Server::with(name, answers).run(&["get", "opj/web", "-w"]);
        assert_eq!(code, Some(1), "{name}: {err}");
        assert!(err.contains(expected), "{name}: {err}");
    }
}

#[test]
fn what_may_not_be_listed_is_named_beside_what_may() {
    let steps = json!([{"name": "build", "phase": "Running", "jobName": "web-build"}]);
    let running = flow(
        "web",
        &json!({"state": "Running", "progress": "0/1", "steps": steps}),
    );
    let answers = vec![
        (FLOW, 200, running.clone()),
        (
            "GET /apis/batch/v1/namespaces/shop/jobs",
            403,
            forbidden("list", "jobs"),
        ),
        (
            "GET /api/v1/namespaces/shop/pods",
            403,
            forbidden("list", "pods"),
        ),
        (FLOWS, 200, list(&[running])),
        (JOBS, 403, forbidden("list", "operationjobs")),
    ];
    let server = Server::with("lists", answers);
    let (code, out, err) = server.run(&["get", "jf/web"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for what in ["Jobs", "pods"] {
        let line = format!("- {what} are not shown: ");
        assert!(out.contains(&line), "{out}");
    }
    assert_eq!(
        out.matches("ask an administrator for this right").count(),
        2,
        "{out}"
    );
    assert!(out.contains("● build  Running"), "{out}");

    let (code, out, err) = server.run(&["status"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("shop       jf/web  Running  0/1"), "{out}");
    assert!(
        err.starts_with("error: operationjobs: ") && err.contains("ask an administrator"),
        "{err}"
    );
}

#[test]
fn a_host_of_another_version_is_shown_as_far_as_it_is_known() {
    let mut older = job("Processing", "");
    older["status"] = json!({"progress": "Processing"});
    let mut newer = job("Processing", "");
    newer["status"]["mood"] = json!({"is": "unknown here"});
    newer["spec"]["mood"] = json!("unknown here");
    for (name, object) in [("older", older), ("newer", newer)] {
        let answers = || {
            vec![
                (JOB, 200, object.clone()),
                (JOBS, 200, list(std::slice::from_ref(&object))),
            ]
        };
        for arguments in [&["get", "opj/web"][..], &["status"], &["why", "opj/web"]] {
            let (code, out, err) = Server::with(name, answers()).run(arguments);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{name} {arguments:?}");
            assert!(out.contains("Processing"), "{name} {arguments:?}: {out}");
        }
    }
    let unknown = || job("Daydreaming", "");
    let answers = vec![
        (JOB, 200, unknown()),
        (
            JOBS,
            200,
            list(&[unknown(), job("Processing", ""), unknown()]),
        ),
    ];
    let server = Server::with("unknown-state", answers);
    for arguments in [&["get", "opj/web"][..], &["status"]] {
        let (code, out, err) = server.run(arguments);
        assert_eq!(code, Some(1));
        assert_eq!(
            err.matches("use the command of the same release").count(),
            1,
            "{err}"
        );
        assert_eq!(out.contains("Processing"), arguments == ["status"], "{out}");
    }
    // A host that does not write which rerun it has seen.
    let reactive = json!({
        "apiVersion": "batch.cs.sap.com/v1alpha1", "kind": "ReactiveJob",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u3", "annotations": {"operon.dev/rerun": "1"}},
        "spec": {"jobTemplate": {}}, "status": {"state": "Ready", "observedGeneration": 1},
    });
    let answers = vec![(REACTIVE, 200, reactive)];
    let (code, out, err) = Server::with("no-field", answers).run(&["get", "reactivejob/web"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("Operon has not seen the requested rerun yet"),
        "{out}"
    );
}

#[test]
fn a_closed_pipe_ends_a_watch_without_an_error() {
    let answers = vec![
        (JOB, 200, job("Processing", "")),
        (JOBS, 200, list(&[job("Failed", "")])),
    ];
    let server = Server::with("watch-pipe", answers);
    let ended = with_a_closed_pipe(&server, &["get", "opj/web", "-w"]);
    assert_eq!(ended, (Some(0), String::new()));

    // Nor does a closed standard error change the exit code.
    let mut child = server
        .command(&["get", "opj"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}
