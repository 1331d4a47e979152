//! What a user or a cluster may do wrong: each case ends with a sentence that says what to do.

use std::{io::Read as _, process::Stdio};

use crate::{JOB, job, refused, server::Server};

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
