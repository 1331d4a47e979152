//! Completion: the program that kubectl calls, against prepared answers, and what it answers to kubectl.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::server::{Answer, Server, texts};

/// What kubectl reads when the last of these words is completed.
fn completed(server: &Server, words: &[&str]) -> (String, String) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubectl_complete-operon");
    let folder = Path::new(env!("CARGO_BIN_EXE_kubectl-operon")).parent();
    let folder = folder.expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .env("PATH", format!("{folder}:{path}"))
        .env("KUBECONFIG", server.kubeconfig())
        .stdin(Stdio::null())
        .output();
    let (code, out, err) = texts(&output.expect("it runs"));
    assert_eq!(code, Some(0), "{err}");
    (out, err)
}

fn list(names: &[&str]) -> Value {
    let items: Vec<_> = names
        .iter()
        .map(|name| json!({"metadata": {"name": name}}))
        .collect();
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
}

fn answers() -> Vec<Answer> {
    let shop = "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs";
    let other = "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/other/operationjobs";
    let plugin = json!({"apiVersion": "operon.dev/v1alpha1", "kind": "ActionPlugin", "metadata": {"name": "x"},
        "spec": {"action": "Restart"}});
    let plugins = json!({"apiVersion": "operon.dev/v1alpha1", "kind": "ActionPluginList", "metadata": {}, "items": [plugin]});
    vec![
        (shop, 200, list(&["web", "web-retry", "api"])),
        (other, 200, list(&["else"])),
        ("GET /api/v1/namespaces/shop/pods", 200, list(&["web-0"])),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments",
            200,
            list(&["web"]),
        ),
        ("GET /api/v1/namespaces", 200, list(&["shop", "other"])),
        ("GET /apis/operon.dev/v1alpha1/actionplugins", 200, plugins),
    ]
}

#[test]
fn names_of_the_cluster_complete_what_a_command_takes() {
    let server = Server::with("complete", answers());
    let owners = "deployment/\nreplicaset/\nstatefulset/\ndaemonset/\njob/\ncollaset/\n";
    let run = format!("web-0\n{owners}:6\n");
    let table = [
        (&["promote", ""][..], "opj/\ncls/\n:6\n"),
        (&["graph", ""], "jf/\n:6\n"),
        (&["graph", "-f", ""], ":0\n"),
        (&["get", "o"], "opj/\n:6\n"),
        (&["get", "opj/w"], "opj/web\nopj/web-retry\n:4\n"),
        (&["get", "operationjob", "a"], "api\n:4\n"),
        (&["get", "-n", "other", "opj/"], "opj/else\n:4\n"),
        (&["-n", "o"], "other\n:4\n"),
        (&["--context="], "test\n:4\n"),
        (&["run", ""], "Restart\n:4\n"),
        (&["run", "Restart", ""], &run),
        (&["run", "Restart", "deploy/"], "deploy/web\n:4\n"),
        (&["--kubeconfig", ""], ":0\n"),
    ];
    for (words, expected) in table {
        let (out, err) = completed(&server, words);
        assert_eq!((out.as_str(), err.as_str()), (expected, ""), "{words:?}");
    }
}

#[test]
fn commands_and_flags_complete_without_a_cluster() {
    let server = Server::with("complete-none", Vec::new());
    let (out, _) = completed(&server, &["re"]);
    let commands: Vec<_> = out.lines().map(|line| line.split('\t').next()).collect();
    let expected = ["resume", "retry", "rerun", ":4"].map(Some);
    assert_eq!(commands, expected, "{out}");
    let (out, _) = completed(&server, &["get", "--w"]);
    assert!(out.starts_with("--watch\tWatch: "), "{out}");
    assert!(out.contains("\n--wait\tWait until "), "{out}");
    let (out, _) = completed(&server, &["get", "-o", ""]);
    assert!(out.starts_with("json\t"), "{out}");
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn a_cluster_that_does_not_answer_gives_no_completions_and_delays_the_user_for_two_seconds_at_most()
{
    // A port that accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let server = Server::at("complete-silent", port);
    let start = Instant::now();
    let (out, _) = completed(&server, &["get", "opj/"]);
    assert_eq!(out, ":4\n");
    assert!(start.elapsed() < Duration::from_secs(5));
    let refused = Server::with("complete-refused", Vec::new());
    let (out, err) = completed(&refused, &["get", "opj/"]);
    assert_eq!(out, ":4\n");
    assert!(err.starts_with("error: "), "{err}");
}
