use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::object;
use crate::{Kind, Object, Request, changes_nothing, check_action, operation_job, preview};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn request(targets: &[&str]) -> Request {
    Request {
        action: "Restart".to_owned(),
        targets: words(targets),
        ..Request::default()
    }
}

fn manifest(request: &Request) -> Value {
    let job = operation_job(request).expect("a job");
    serde_json::to_value(job).expect("JSON")
}

fn refusal(request: &Request) -> String {
    operation_job(request).expect_err("no job").to_string()
}

#[test]
fn a_job_has_what_was_typed_and_nothing_else() {
    let named = manifest(&request(&["web-0", "pod/web-1"]));
    let expected = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
        "metadata": {"generateName": "restart-"},
        "spec": {"action": "Restart", "targets": [{"name": "web-0"}, {"name": "web-1"}]},
    });
    assert_eq!(named, expected);
    let full = manifest(&Request {
        action: "Label".to_owned(),
        targets: words(&["deploy/web"]),
        selector: Some("tier=front".to_owned()),
        node: Some("n1".to_owned()),
        containers: words(&["main"]),
        parameters: words(&[
            "set={\"a\":\"b\"}",
            "image=busybox:1",
            "count=2",
            "text=\"2\"",
            "empty=",
        ]),
        name: Some("mine".to_owned()),
        namespace: Some("shop".to_owned()),
        partition: Some(0),
        max_concurrent: Some("25%".to_owned()),
        max_unavailable: Some("1".to_owned()),
        is_preview: true,
    });
    let expected = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
        "metadata": {"name": "mine", "namespace": "shop"},
        "spec": {
            "action": "Label",
            "targetSelector": {
                "labelSelector": {"matchLabels": {"tier": "front"}}, "owner": "deployment/web", "nodeName": "n1",
                "containers": ["main"],
            },
            "parameters": {"set": {"a": "b"}, "image": "busybox:1", "count": 2, "text": "2", "empty": ""},
            "maxConcurrent": "25%", "maxUnavailable": 1, "dryRun": true, "TTLSecondsAfterFinished": 300,
        },
    });
    assert_eq!(full, expected);
    // A preview ends without a promotion; a job that runs keeps its partition.
    let partly = Request {
        partition: Some(0),
        ..request(&["web-0"])
    };
    assert_eq!(manifest(&partly)["spec"]["partition"], 0);
}

#[test]
fn the_generated_name_says_what_is_done_to_what() {
    let preview = Request {
        is_preview: true,
        ..request(&["sts/db"])
    };
    let other = Request {
        action: "My_Action.v2".to_owned(),
        ..request(&["a", "b"])
    };
    let table = [
        (request(&["web-0"]), "restart-web-0-"),
        (request(&["deployment.apps/web"]), "restart-web-"),
        (preview, "preview-restart-db-"),
        (other, "my-action-v2-"),
    ];
    for (request, expected) in table {
        assert_eq!(manifest(&request)["metadata"]["generateName"], expected);
    }
}

#[test]
fn pods_are_selected_by_their_controller_in_any_word_that_kubectl_has() {
    let table = [
        ("Deployment/web", "deployment/web"),
        ("rs/web-1", "replicaset/web-1"),
        ("statefulsets.apps/db", "statefulset/db"),
        ("ds/log", "daemonset/log"),
        ("jobs/x", "job/x"),
        ("cls/web", "collaset/web"),
    ];
    for (word, owner) in table {
        let manifest = manifest(&request(&[word]));
        assert_eq!(manifest["spec"]["targetSelector"], json!({"owner": owner}));
    }
}

#[test]
fn what_describes_no_job_is_refused_with_what_to_write() {
    let with = |change: fn(&mut Request)| {
        let mut request = request(&["web-0"]);
        change(&mut request);
        request
    };
    let table = [
        (request(&[]), "name pods, or select them"),
        (request(&["web-0", "deploy/web"]), "one or the other"),
        (
            request(&["deploy/web", "deploy/api"]),
            "once for deployment/web and once for deployment/api",
        ),
        (request(&["deploymnet/web"]), "did you mean deployment/web?"),
        (
            request(&["service/web"]),
            "write a pod, or one of deployment, ",
        ),
        (request(&["web-0", "po/web-0"]), "named twice"),
        (request(&["Web_0"]), "is no name of an object"),
        (request(&["deploy/"]), "is no name of an object"),
        (
            with(|request| request.selector = Some("app=web".to_owned())),
            "one or the other",
        ),
        (
            with(|request| request.name = Some("-x".to_owned())),
            "is no name of an object",
        ),
        (
            with(|request| request.parameters = words(&["image"])),
            "--param KEY=VALUE",
        ),
        (
            with(|request| request.parameters = words(&["=1"])),
            "--param KEY=VALUE",
        ),
        (
            with(|request| request.parameters = words(&["a=1", "a=2"])),
            "\"a\" is set twice",
        ),
        (
            with(|request| request.parameters = vec![format!("a={}", "x".repeat(9000))]),
            "a job may have 8192",
        ),
        (
            with(|request| request.max_concurrent = Some("0".to_owned())),
            "--max-concurrent",
        ),
        (
            with(|request| request.max_unavailable = Some("x%".to_owned())),
            "such as 25%",
        ),
    ];
    for (request, expected) in table {
        let text = refusal(&request);
        assert!(text.contains(expected), "{request:?}: {text}");
    }
}

#[test]
fn a_label_selector_is_read_as_kubectl_reads_it() {
    let expression = |key: &str, operator: &str, values: &Value| match values {
        Value::Null => json!([{"key": key, "operator": operator}]),
        values => json!([{"key": key, "operator": operator, "values": values}]),
    };
    let table = [
        ("app=web", json!({"matchLabels": {"app": "web"}})),
        (
            "a/b==web,c=",
            json!({"matchLabels": {"a/b": "web", "c": ""}}),
        ),
        (
            "app != web",
            json!({"matchExpressions": expression("app", "NotIn", &json!(["web"]))}),
        ),
        (
            "app=web,tier in (a, b)",
            json!({
                "matchLabels": {"app": "web"},
                "matchExpressions": expression("tier", "In", &json!(["a", "b"])),
            }),
        ),
        (
            "tier notin (a)",
            json!({"matchExpressions": expression("tier", "NotIn", &json!(["a"]))}),
        ),
        (
            "tier",
            json!({"matchExpressions": expression("tier", "Exists", &json!(null))}),
        ),
        (
            "!tier",
            json!({"matchExpressions": expression("tier", "DoesNotExist", &json!(null))}),
        ),
    ];
    for (text, expected) in table {
        let request = Request {
            selector: Some(text.to_owned()),
            ..request(&[])
        };
        let found = &manifest(&request)["spec"]["targetSelector"]["labelSelector"];
        assert_eq!(*found, expected, "{text}");
    }
    for text in ["", "a=1,", "a in b", "a=b c", "a=1,a=2", "=1", "a in (b"] {
        let request = Request {
            selector: Some(text.to_owned()),
            ..request(&[])
        };
        assert!(operation_job(&request).is_err(), "{text}");
    }
}

#[test]
fn an_unknown_action_names_the_nearest_or_all() {
    let known = BTreeSet::from_iter(words(&["Evict", "Replace", "Restart"]));
    assert_eq!(check_action("Restart", &known), Ok(()));
    let table = [
        ("restart", &known, "did you mean Restart?"),
        ("Replcae", &known, "did you mean Replace?"),
        ("Annotate", &known, "it has Evict, Replace, Restart"),
        ("Restart", &BTreeSet::new(), "no ActionPlugin at all"),
    ];
    for (action, known, expected) in table {
        let refusal = check_action(action, known).expect_err("unknown");
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
}

#[test]
fn a_preview_lists_what_would_be_done_and_what_is_refused() {
    let status = json!({"progress": "Failed", "totalPodCount": 2, "targetDetails": [
        {"name": "a", "progress": "Succeeded", "dryRun": ["patch pod a\u{1b}[2J", "evict pod a"]},
        {"name": "b", "progress": "Failed", "error": {"reason": "Forbidden", "message": "no right"}},
    ]});
    let spec =
        json!({"action": "Restart", "targets": [{"name": "a"}, {"name": "b"}], "dryRun": true});
    let Object::OperationJob(job) = object(Kind::OperationJob, &spec, &status) else {
        unreachable!("an OperationJob");
    };
    let expected = "\
a would do
  patch pod a\\u{1b}[2J
  evict pod a
b is refused
  Forbidden: no right
";
    assert_eq!(preview(&job), expected);
    let details: Vec<_> = (0..30)
        .map(|number| json!({"name": format!("p{number}"), "progress": "Succeeded", "dryRun": ["x"]}))
        .collect();
    let many = json!({"progress": "Succeeded", "totalPodCount": 30, "targetDetails": details});
    let Object::OperationJob(job) = object(Kind::OperationJob, &spec, &many) else {
        unreachable!("an OperationJob");
    };
    let text = preview(&job);
    assert!(
        text.ends_with("p19 would do\n  x\n… and 10 more targets\n"),
        "{text}"
    );
}

#[test]
fn only_a_status_of_operon_shows_that_nothing_was_changed() {
    let spec =
        |is_dry: bool| json!({"action": "Restart", "targets": [{"name": "a"}], "dryRun": is_dry});
    let condition = |type_: &str, status: &str, message: &str| {
        json!({"type": type_, "status": status, "reason": "x", "message": message,
            "lastTransitionTime": "2026-01-01T00:09:00Z"})
    };
    let dry = "1 of 1 targets succeeded in a dry run, which changes nothing";
    let target = |lines: &[&str]| json!([{"name": "a", "progress": "Succeeded", "dryRun": lines}]);
    let status = |conditions: Value, details: Value| json!({"progress": "Succeeded", "conditions": conditions, "targetDetails": details});
    let (ready, not_ready) = (
        condition("Ready", "True", dry),
        condition("Ready", "False", dry),
    );
    let none = condition("Ready", "False", "the selector selects no pods");
    let real = condition("Ready", "True", "1 of 1 targets succeeded");
    let stands_down = condition("StandingDown", "True", "KusionStack runs");
    let table = [
        (true, status(json!([ready]), target(&["x"])), true),
        // Not finished, or refused.
        (true, status(json!([not_ready]), target(&[])), true),
        (true, status(json!([none]), json!([])), true),
        // An older Operon, KusionStack, and neither.
        (true, status(json!([real]), target(&[])), false),
        (true, status(json!([]), target(&[])), false),
        (true, status(json!([stands_down]), target(&[])), false),
        (
            true,
            status(json!([ready, stands_down]), target(&["x"])),
            false,
        ),
        (true, Value::Null, false),
        (false, status(json!([ready]), target(&["x"])), false),
    ];
    for (is_dry, status, expected) in table {
        let Object::OperationJob(job) = object(Kind::OperationJob, &spec(is_dry), &status) else {
            unreachable!("an OperationJob");
        };
        assert_eq!(changes_nothing(&job), expected, "{status}");
    }
}
