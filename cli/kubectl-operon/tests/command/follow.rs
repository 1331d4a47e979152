//! Watching an object, and waiting for its end.

use serde_json::json;

use crate::{JOB, JOBS, WATCH, job, list, refused, server::Server};

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
