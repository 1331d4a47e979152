//! The verbs: what they write, and when they do not.

use std::process::Stdio;

use serde_json::json;

use crate::{
    JOB, job,
    server::{self, Server},
};

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
fn promote_updates_more_pods_of_a_colla_set() {
    let get = "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/collasets/web";
    let patch = "PATCH /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/collasets/web";
    let set = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "5"},
        "spec": {"replicas": 3, "selector": {}, "template": {},
            "updateStrategy": {"rollingUpdate": {"byPartition": {"partition": 3}}}},
        "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 0},
    });
    let server = Server::with(
        "colla-set",
        vec![(get, 200, set.clone()), (patch, 200, set)],
    );
    let (code, out, err) = server.run(&["promote", "cls/web", "--to", "2"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "cls/web: 2 of 3 pods may be updated\n");
    let requests = server.requests();
    let written = requests.iter().find(|request| request.starts_with(patch));
    let rolling = r#"{"rollingUpdate":{"byPartition":{"partition":1}}}"#;
    let expected = format!(
        r#"{{"metadata":{{"resourceVersion":"5"}},"spec":{{"updateStrategy":{rolling}}}}}"#
    );
    assert!(
        written.expect("a patch").ends_with(&expected),
        "{requests:?}"
    );
    let (code, _, err) = server.run(&["promote", "cls/web", "--to", "0"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("0 of 3 pods of cls/web may be updated already"),
        "{err}"
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
