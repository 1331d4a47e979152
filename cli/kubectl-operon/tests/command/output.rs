//! `-o`: what programs read.

use serde_json::{Value, json};

use crate::{JOB, JOBS, job, list, server::Server};

/// The job as an API server answers it, with fields that people do not read.
fn full() -> Value {
    let mut job = job("Processing", "");
    job["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update"}]);
    job["spec"]["aFieldOfALaterVersion"] = json!("kept");
    job
}

#[test]
fn get_prints_the_object_as_kubectl_does() {
    let answers = || vec![(JOB, 200, full())];
    let mut expected = full();
    expected["metadata"]
        .as_object_mut()
        .expect("an object")
        .remove("managedFields");
    let (code, out, err) =
        Server::with("get-json", answers()).run(&["get", "opj/web", "-o", "json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), expected);
    let (_, out, _) = Server::with("get-yaml", answers()).run(&["get", "opj/web", "-oyaml"]);
    assert_eq!(
        serde_yaml_ng::from_str::<Value>(&out).expect("YAML"),
        expected
    );
    let (_, out, _) = Server::with("get-name", answers()).run(&["get", "opj/web", "--output=name"]);
    assert_eq!(out, "operationjob.apps.kusionstack.io/web\n");
    let (_, out, _) = Server::with("get-wide", answers()).run(&["get", "opj/web", "-o", "wide"]);
    assert!(out.starts_with("OperationJob shop/web  Restart"), "{out}");
    for arguments in [
        ["get", "opj/web", "-o", "xml"],
        ["get", "opj/web", "-w", "-ojson"],
        ["get", "opj/web", "--wait", "-ojson"],
    ] {
        let (code, out, _) = Server::with("get-wrong", answers()).run(&arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}");
    }
}

#[test]
fn status_prints_a_list_of_what_has_not_finished() {
    let answers = || vec![(JOBS, 200, list(&[full(), job("Succeeded", "")]))];
    let (code, out, err) = Server::with("status-json", answers()).run(&["status", "-o", "json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&found["kind"], &found["apiVersion"]),
        (&json!("List"), &json!("v1"))
    );
    let items = found["items"].as_array().expect("items");
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["kind"], "OperationJob");
    assert_eq!(items[0]["spec"]["aFieldOfALaterVersion"], "kept");
    let (_, out, _) = Server::with("status-name", answers()).run(&["status", "-o", "name"]);
    assert_eq!(out, "operationjob.apps.kusionstack.io/web\n");
    let (_, out, _) = Server::with("status-wide", answers()).run(&["status", "-o", "wide"]);
    let expected = "\
NAMESPACE  OBJECT   STATE       DONE  AGE  REASON
shop       opj/web  Processing  0/2        Processing: 0 of 2
";
    assert_eq!(out, expected);
    let nothing = vec![(JOBS, 200, list(&[]))];
    let (_, out, _) = Server::with("status-none", nothing).run(&["status", "-o", "json"]);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["items"], json!([]));
}
