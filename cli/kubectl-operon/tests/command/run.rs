//! `run`: what it sends, what it prints, and what it refuses.

use serde_json::{Value, json};

use crate::{
    JOB, JOBS, job, list, refused,
    server::{LOST, Server},
};

const PLUGINS: &str = "GET /apis/operon.dev/v1alpha1/actionplugins";
const CREATE: &str = "POST /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs";

fn plugins() -> Value {
    let plugin = |name: &str, action: &str| {
        json!({"apiVersion": "operon.dev/v1alpha1", "kind": "ActionPlugin", "metadata": {"name": name},
            "spec": {"action": action}})
    };
    let items = [plugin("restart", "Restart"), plugin("label", "Label")];
    json!({"apiVersion": "operon.dev/v1alpha1", "kind": "ActionPluginList", "metadata": {}, "items": items})
}

fn answers(created: Value) -> Vec<(&'static str, u16, Value)> {
    vec![(PLUGINS, 200, plugins()), (CREATE, 201, created)]
}

/// The requests that create the job, or would.
fn creates(server: &Server) -> Vec<String> {
    let mut requests = server.requests();
    requests.retain(|request| request.starts_with("POST"));
    requests
}

/// The body of the last request that creates the job.
fn written(server: &Server) -> Value {
    let creates = creates(server);
    let create = creates.last().expect("a job is created");
    let body = create.lines().last().expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn run_creates_a_job_in_the_namespace_and_says_what_to_do_next() {
    let server = Server::with("run", answers(job("Pending", "")));
    let arguments = [
        "run",
        "Restart",
        "deployment/web",
        "--partition",
        "1",
        "--param",
        "a=1",
    ];
    let (code, out, err) = server.run(&arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = "\
operationjob.apps.kusionstack.io/web created
Next: kubectl operon get opj/web -n shop -w
";
    assert_eq!(out, expected);
    let expected = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
        "metadata": {"generateName": "restart-web-", "namespace": "shop"},
        "spec": {"action": "Restart", "targetSelector": {"owner": "deployment/web"}, "parameters": {"a": 1}, "partition": 1},
    });
    assert_eq!(written(&server), expected);
    let (_, out, _) = server.run(&["run", "Restart", "-l", "app=web", "-o", "name"]);
    assert_eq!(out, "operationjob.apps.kusionstack.io/web\n");
}

#[test]
fn a_dry_run_of_the_client_asks_no_cluster() {
    let server = Server::with("run-client", Vec::new());
    let dry = ["run", "Restart", "web-0", "--name", "x", "--dry-run=client"];
    let (code, out, err) = server.run(&[&dry[..], &["-o", "yaml", "-n", "other"]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = "\
apiVersion: apps.kusionstack.io/v1alpha1
kind: OperationJob
metadata:
  name: x
  namespace: other
spec:
  action: Restart
  targets:
  - name: web-0
";
    assert_eq!(out, expected);
    let (_, out, _) = server.run(&dry);
    assert_eq!(
        out,
        "operationjob.apps.kusionstack.io/x created (dry run)\n"
    );
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn a_dry_run_of_the_server_is_a_request_that_keeps_nothing() {
    let server = Server::with("run-server", answers(job("Pending", "")));
    let arguments = ["run", "Restart", "web-0", "--dry-run", "server"];
    let (code, out, err) = server.run(&arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "operationjob.apps.kusionstack.io/web created (server dry run)\n"
    );
    let requests = server.requests();
    let create = requests
        .iter()
        .find(|request| request.starts_with("POST"))
        .expect("a request");
    assert!(create.contains("dryRun=All"), "{create}");
}

#[test]
fn what_cannot_be_run_ends_with_1_and_creates_nothing() {
    let forbidden = refused(403, "Forbidden", "actionplugins is forbidden", "");
    let table = [
        (
            "run-unknown",
            vec![(PLUGINS, 200, plugins())],
            &["run", "restart", "web-0"][..],
            "did you mean Restart?",
        ),
        (
            "run-no-crds",
            vec![],
            &["run", "Restart", "web-0"],
            "Operon's CRDs are not installed",
        ),
        (
            "run-nothing",
            vec![],
            &["run", "Restart"],
            "nothing to operate",
        ),
        (
            "run-invalid",
            vec![
                (PLUGINS, 403, forbidden),
                (
                    CREATE,
                    422,
                    refused(422, "Invalid", "spec.owner: Invalid value", "x"),
                ),
            ],
            &["run", "Restart", "web-0"],
            "spec.owner: Invalid value",
        ),
        (
            "run-exists",
            vec![
                (PLUGINS, 200, plugins()),
                (CREATE, 409, refused(409, "AlreadyExists", "exists", "web")),
            ],
            &["run", "Restart", "web-0", "--name", "web"],
            "choose another --name",
        ),
        (
            "run-both",
            vec![],
            &["run", "Restart", "web-0", "--wait", "--dry-run=client"],
            "cannot be used with",
        ),
        (
            "run-both-preview",
            vec![],
            &["run", "Restart", "web-0", "--preview", "--dry-run=server"],
            "cannot be used with",
        ),
        (
            "run-format",
            vec![],
            &["run", "Restart", "web-0", "--preview", "-o", "json"],
            "cannot be used with",
        ),
        (
            "run-timeout",
            vec![],
            &["run", "Restart", "web-0", "--timeout", "1m"],
            "were not provided",
        ),
    ];
    for (name, answers, arguments, expected) in table {
        let (code, out, err) = Server::with(name, answers).run(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name}: {err}");
        assert!(err.contains(expected), "{name}: {err}");
    }
}

#[test]
fn a_job_that_could_not_be_created_says_whether_it_may_exist() {
    let table = [
        (
            "run-namespace",
            vec![
                (PLUGINS, 200, plugins()),
                (
                    CREATE,
                    404,
                    refused(404, "NotFound", "namespaces \"shop\" not found", "shop"),
                ),
            ],
            &["run", "Restart", "web-0"][..],
            "namespaces \"shop\" not found; check -n",
        ),
        (
            "run-lost",
            vec![(PLUGINS, 200, plugins()), (CREATE, LOST, json!(null))],
            &["run", "Restart", "web-0"],
            "It may exist: kubectl get opj -n shop",
        ),
        (
            "run-proxy",
            vec![
                (PLUGINS, 200, plugins()),
                (CREATE, 504, refused(504, "Timeout", "no answer yet", "")),
            ],
            &["run", "Restart", "web-0"],
            "It may exist: kubectl get opj -n shop",
        ),
    ];
    for (name, answers, arguments, expected) in table {
        let (code, out, err) = Server::with(name, answers).run(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name}: {err}");
        assert!(err.contains(expected), "{name}: {err}");
        let may_exist = name != "run-namespace";
        assert_eq!(err.contains("may exist"), may_exist, "{name}: {err}");
    }
}

#[test]
fn run_waits_for_the_end_of_the_job_and_a_preview_shows_what_would_be_done() {
    let mut finished = job("Succeeded", "");
    finished["spec"]["dryRun"] = json!(true);
    finished["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Succeeded",
        "message": "2 of 2 targets succeeded in a dry run, which changes nothing",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    finished["status"]["targetDetails"] = json!([
        {"name": "a", "progress": "Succeeded", "dryRun": ["patch pod a"]},
        {"name": "b", "progress": "Succeeded", "dryRun": ["patch pod b"]},
    ]);
    let answers = || {
        let mut answers = answers(finished.clone());
        answers.push((JOB, 200, finished.clone()));
        answers.push((JOBS, 200, list(&[finished.clone()])));
        answers
    };
    let (code, out, err) = Server::with("run-wait", answers()).run(&[
        "run",
        "Restart",
        "a",
        "--wait",
        "--dry-run=none",
    ]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("2 targets succeeded"), "{out}");
    let server = Server::with("run-preview", answers());
    let (code, out, err) = server.run(&["run", "Restart", "a", "b", "--preview"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(written(&server)["spec"]["dryRun"], true);
    let creates = creates(&server);
    let is_dry: Vec<_> = creates
        .iter()
        .map(|create| create.contains("dryRun=All"))
        .collect();
    assert_eq!(is_dry, [true, false]);
    let expected = "\
a would do
  patch pod a
b would do
  patch pod b
Nothing was changed.
";
    assert!(out.ends_with(expected), "{out}");
}

#[test]
fn a_preview_creates_no_job_where_the_api_server_drops_the_dry_run() {
    // As with KusionStack's CRD, or an older one.
    let server = Server::with("preview-dropped", answers(job("Pending", "")));
    let (code, out, err) = server.run(&["run", "Restart", "a", "--preview"]);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.contains("--force-conflicts -f crds/` installs Operon's"),
        "{err}"
    );
    let creates = creates(&server);
    assert_eq!(creates.len(), 1, "{creates:?}");
    assert!(creates[0].contains("dryRun=All"), "{creates:?}");
}

/// A server on which a preview ends with this job; none: it is deleted meanwhile.
fn previewing(name: &str, end: Option<Value>) -> Server {
    let mut begin = job("Pending", "");
    begin["spec"]["dryRun"] = json!(true);
    begin["status"] = json!(null);
    let mut answers = answers(begin);
    if let Some(end) = end {
        answers.push((JOB, 200, end.clone()));
        answers.push((JOBS, 200, list(&[end])));
    } else {
        let missing = refused(404, "NotFound", "operationjobs \"web\" not found", "web");
        answers.push((JOB, 404, missing));
        answers.push((JOBS, 200, list(&[])));
    }
    Server::with(name, answers)
}

#[test]
fn a_preview_says_that_nothing_was_changed_only_if_operon_said_so() {
    let run = ["run", "Restart", "a", "--preview", "--timeout", "1s"];
    for (name, progress, expected) in [
        ("preview-foreign", "Succeeded", 1),
        ("preview-foreign-failed", "Failed", 2),
        ("preview-foreign-late", "Processing", 3),
    ] {
        let mut end = job(progress, "");
        end["spec"]["dryRun"] = json!(true);
        end["status"]["conditions"] = json!([]);
        let (code, out, err) = previewing(name, Some(end)).run(&run);
        assert_eq!(code, Some(expected), "{name}: {out}{err}");
        assert!(!out.contains("Nothing was changed"), "{name}: {out}");
        let advice = "the pods may have been operated";
        assert!(err.contains(advice), "{name}: {err}");
    }
}

#[test]
fn a_preview_that_is_deleted_ends_with_3() {
    let server = previewing("preview-deleted", None);
    let (code, out, err) = server.run(&["run", "Restart", "a", "--preview"]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.ends_with("OperationJob web was deleted\n"), "{out}");
    assert!(err.contains("there is no OperationJob"), "{err}");
}
