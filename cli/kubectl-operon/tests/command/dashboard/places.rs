//! What the page shows: the words of the command, and what to do where it shows nothing.

use serde_json::{Value, json};

use super::browser::{Answer, Dashboard};
use crate::{
    JOB, JOBS, job, list, refused,
    server::{self, Server, texts},
};

const ALL_JOBS: &str = "GET /apis/apps.kusionstack.io/v1alpha1/operationjobs";
const ALL_FLOWS: &str = "GET /apis/api.practice.com/v1alpha1/jobflows";
const EVENTS: &str = "GET /api/v1/namespaces/shop/events";

/// An object of the namespace `shop`.
pub(super) fn object(group: &str, kind: &str, name: &str, spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": format!("{group}/v1alpha1"), "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1,
            "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z"},
    })
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!([{"type": type_, "status": status, "reason": reason, "message": "a reason to wait",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn flow() -> Value {
    let spec = json!({"flows": [
        {"name": "build", "jobTemplateRef": "t"},
        {"name": "deploy", "jobTemplateRef": "t", "dependencies": ["build"]},
    ]});
    let status = json!({"observedGeneration": 1, "state": "Running", "progress": "1/2", "steps": [
        {"name": "build", "phase": "Succeeded", "outputs": {"digest": "sha256:7"}},
        {"name": "deploy", "phase": "Running", "reason": "PodUnschedulable", "message": "no node has room"},
    ]});
    object("api.practice.com", "JobFlow", "release", &spec, &status)
}

/// What the page shows of a text.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&#38;").replace('<', "&#60;");
    let text = text.replace('>', "&#62;").replace('"', "&#34;");
    text.replace('\'', "&#39;")
}

#[track_caller]
pub(super) fn has_each(answer: &Answer, texts: &[&str]) {
    for text in texts {
        assert!(answer.body.contains(text), "{text}: {}", answer.body);
    }
}

#[test]
fn the_overview_lists_all_kinds_and_filters_by_the_address() {
    let mut done = job("Succeeded", "");
    done["metadata"]["name"] = json!("done");
    let answers = vec![
        (ALL_JOBS, 200, list(&[done, job("Processing", "")])),
        (ALL_FLOWS, 200, list(&[flow()])),
    ];
    let server = Server::with("dash-overview", answers);
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let all = page.get(&cookie, "/");
    let (web, done, release) = (
        "href=\"/operationjobs/shop/web\"",
        "href=\"/operationjobs/shop/done\"",
        "href=\"/jobflows/shop/release\"",
    );
    has_each(
        &all,
        &[
            web,
            done,
            release,
            "3 objects: 2 unfinished, 0 failed, 1 succeeded",
        ],
    );
    assert!(all.body.find(web) < all.body.find(done), "{all:?}");
    has_each(&all, &["Processing: 0 of 2", "<caption>", "scope=\"col\""]);
    let table: [(&str, &[&str], &[&str]); 7] = [
        ("?kind=jobflows", &[release], &[web, done]),
        ("?state=unfinished", &[release, web], &[done]),
        ("?state=succeeded", &[done], &[release, web]),
        (
            "?state=failed",
            &["No object matches"],
            &[done, release, web],
        ),
        (
            "?namespace=shop&text=DON",
            &[done, "value=\"DON\""],
            &[release, web],
        ),
        (
            "?namespace=other",
            &["No object matches", "value=\"other\""],
            &[web],
        ),
        (
            "?kind=operationjobs&state=unfinished&text=0+of+2",
            &[web],
            &[done, release],
        ),
    ];
    for (query, there, missing) in table {
        let answer = page.get(&cookie, &format!("/{query}"));
        has_each(&answer, there);
        for text in missing {
            assert!(
                !answer.body.contains(text),
                "{query} {text}: {}",
                answer.body
            );
        }
    }
    let chosen = "<option value=\"jobflows\" selected>";
    has_each(&page.get(&cookie, "/?kind=jobflows"), &[chosen]);
}

#[test]
fn rights_in_one_namespace_are_enough_and_the_page_says_what_it_does_not_show() {
    let forbidden = refused(
        403,
        "Forbidden",
        "operationjobs is forbidden at the cluster scope",
        "",
    );
    let answers = vec![
        (ALL_JOBS, 403, forbidden),
        (JOBS, 200, list(&[job("Processing", "")])),
    ];
    let server = Server::with("dash-rights", answers.clone());
    let page = Dashboard::start(&server, &[]);
    let overview = page.get(&page.enter(), "/");
    let note = "Only one namespace is shown, because of rights that you do not have: operationjobs is forbidden at the cluster scope; ask an administrator";
    has_each(&overview, &["href=\"/operationjobs/shop/web\"", note]);

    // With --namespace nothing else is tried.
    let server = Server::with("dash-namespace", answers);
    let page = Dashboard::start(&server, &["--namespace", "shop"]);
    let overview = page.get(&page.enter(), "/");
    has_each(&overview, &["href=\"/operationjobs/shop/web\""]);
    assert!(!overview.body.contains("Only one"), "{overview:?}");
    let requests = server.requests();
    assert!(
        !requests.iter().any(|one| one.starts_with(ALL_JOBS)),
        "{requests:?}"
    );
}

/// An object of each kind, and where the page and the API server have it.
fn each_kind() -> [(&'static str, &'static str, Value); 5] {
    let stalled =
        json!({"observedGeneration": 1, "conditions": condition("Stalled", "True", "InvalidSpec")});
    let reactive = json!({"observedGeneration": 1, "state": "Processing", "runs": [
        {"jobName": "web-1", "reason": "TemplateChanged", "changes": ["spec.image: a -> b"]},
    ]});
    [
        (
            "operationjobs/shop/web",
            JOB,
            job("Processing", "CrashLoopBackOff <b>"),
        ),
        (
            "jobflows/shop/release",
            "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows/release",
            flow(),
        ),
        (
            "daemonjobs/shop/patch",
            "GET /apis/api.practice.com/v1alpha1/namespaces/shop/daemonjobs/patch",
            object(
                "api.practice.com",
                "DaemonJob",
                "patch",
                &json!({"template": {}}),
                &stalled,
            ),
        ),
        (
            "reactivejobs/shop/report",
            "GET /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs/report",
            object(
                "batch.cs.sap.com",
                "ReactiveJob",
                "report",
                &json!({"jobTemplate": {}}),
                &reactive,
            ),
        ),
        (
            "collasets/shop/site",
            "GET /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/collasets/site",
            object(
                "apps.kusionstack.io",
                "CollaSet",
                "site",
                &json!({"replicas": 2, "selector": {}, "template": {}}),
                &stalled,
            ),
        ),
    ]
}

#[test]
fn the_page_of_an_object_says_what_why_and_get_say_and_ends_with_its_events() {
    for (path, request, object) in each_kind() {
        let event = json!({"metadata": {"name": "e"}, "involvedObject": {}, "type": "Warning", "count": 4,
            "reason": "Odd", "message": "<script>alert(1)</script> \u{1b}[2J \u{202e}", "lastTimestamp": "2026-01-01T00:00:00Z"});
        let answers = vec![(request, 200, object), (EVENTS, 200, list(&[event]))];
        let name = format!("dash-{}", path.replace('/', "-"));
        let server = Server::with(&name, answers);
        let page = Dashboard::start(&server, &[]);
        let answer = page.get(&page.enter(), &format!("/{path}"));
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
        let (kind, name) = path.split_once("/shop/").expect("a path");
        let called = format!("{kind}/{name}");

        let (code, why, err) = server.run(&["why", &called]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{path}");
        for line in why.lines() {
            has_each(&answer, &[&format!("<p>{}</p>", escaped(line))]);
        }
        let (_, tree, _) = server.run(&["get", &called]);
        for line in tree.lines().skip(1) {
            let row = line.trim_start_matches(['├', '│', '└', '─', ' ']);
            let words = row
                .split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty());
            for word in words {
                let word = word.trim_start_matches(['✗', '!', '●', '○', '-', '✓', ' ']);
                has_each(&answer, &[&escaped(word)]);
            }
        }
        let order = [
            "id=\"why\"",
            "id=\"progress\"",
            "id=\"parts\"",
            "id=\"events\"",
        ];
        let places: Vec<_> = order.iter().map(|id| answer.body.find(id)).collect();
        assert!(
            places.is_sorted() && places[0].is_some(),
            "{path}: {places:?}"
        );

        let hostile = "&#60;script&#62;alert(1)&#60;/script&#62; \\u{1b}[2J \\u{202e}";
        has_each(&answer, &["! Warning", "Odd", hostile]);
        assert!(!answer.body.contains("<script>"), "{}", answer.body);
        let is_bad = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
        assert!(!answer.body.contains(is_bad), "{}", answer.body);
    }
}

#[test]
fn an_operation_job_has_counts_a_grid_and_a_table_with_pages() {
    let targets: Vec<_> = (0..1200)
        .map(|n| json!({"name": format!("pod-{n:04}")}))
        .collect();
    let mut job = job("Processing", "");
    job["spec"]["targets"] = json!(targets);
    job["spec"]["partition"] = json!(2);
    job["status"]["targetDetails"] = json!([
        {"name": "pod-0007", "progress": "Failed", "error": {"reason": "PodNotFound", "message": "gone"}},
        {"name": "pod-0008", "progress": "Succeeded"},
    ]);
    let server = Server::with("dash-targets", vec![(JOB, 200, job)]);
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let first = page.get(&cookie, "/opj/shop/web");
    has_each(
        &first,
        &[
            "1 Failed",
            "1198 Pending",
            "1 Succeeded",
            "Page 1 of 12",
            "href=\"?page=2\"",
        ],
    );
    has_each(
        &first,
        &[
            "Each square is 3 targets",
            "<th scope=\"row\">pod-0007</th>",
            "PodNotFound: gone",
        ],
    );
    assert_eq!(first.body.matches("<th scope=\"row\">").count(), 100);
    let last = page.get(&cookie, "/opj/shop/web?page=12");
    has_each(&last, &["<th scope=\"row\">pod-0008</th>", "Page 12 of 12"]);
    has_each(&first, &["href=\"?state=Failed&#38;mark=failed\""]);
    for (query, targets) in [
        ("?state=Failed", 1),
        ("?state=Failed&mark=failed", 1),
        ("?state=Failed&mark=blocked", 0),
    ] {
        let shown = page.get(&cookie, &format!("/opj/shop/web{query}"));
        let rows = shown.body.matches("<th scope=\"row\">").count();
        assert_eq!(rows, targets, "{query}");
    }
}

#[test]
fn a_flow_has_a_graph_without_styles_of_its_own_and_a_list_of_the_same_steps() {
    let [_, (path, request, flow), ..] = each_kind();
    let server = Server::with("dash-graph", vec![(request, 200, flow)]);
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let answer = page.get(&cookie, &format!("/{path}"));
    has_each(
        &answer,
        &[
            "<svg ",
            "<g class=\"Running\">",
            "<span class=\"part\">deploy</span>",
        ],
    );
    assert!(!answer.body.contains("<style"), "{}", answer.body);
    assert!(!answer.body.contains("style="), "{}", answer.body);
    has_each(&answer, &["<dt>build.digest</dt><dd>sha256:7</dd>"]);
    has_each(&page.get(&cookie, "/graph.css"), &[".Running .box"]);
}

#[test]
fn a_pod_of_a_step_leads_to_its_log_of_which_no_line_is_markup() {
    let [_, (path, request, mut flow), ..] = each_kind();
    flow["status"]["steps"][1]["jobName"] = json!("release-deploy");
    let labels = json!({"operon.dev/step": "deploy"});
    let job = json!({"metadata": {"name": "release-deploy", "labels": labels}, "spec": {}});
    let pod = json!({
        "metadata": {"name": "pod-1", "labels": {"batch.kubernetes.io/job-name": "release-deploy"}},
        "spec": {"containers": [{"name": "main"}, {"name": "side"}]}, "status": {"phase": "Running"},
    });
    let log = "GET /api/v1/namespaces/shop/pods/pod-1/log?*container=";
    let waits = refused(
        400,
        "BadRequest",
        "container \"side\" is waiting to start",
        "pod-1",
    );
    let answers = vec![
        (request, 200, flow),
        ("GET /apis/batch/v1/namespaces/shop/jobs", 200, list(&[job])),
        (
            "GET /api/v1/namespaces/shop/pods/pod-1/log?*container=side",
            400,
            waits,
        ),
        (log, 200, json!("<script>x</script> \u{1b}[2J")),
        ("GET /api/v1/namespaces/shop/pods/pod-1", 200, pod.clone()),
        ("GET /api/v1/namespaces/shop/pods", 200, list(&[pod])),
    ];
    let server = Server::with("dash-log", answers);
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let answer = page.get(&cookie, &format!("/{path}"));
    has_each(&answer, &["<a href=\"/pods/shop/pod-1\""]);
    let answer = page.get(&cookie, "/pods/shop/pod-1");
    let line = "&#60;script&#62;x&#60;/script&#62;";
    has_each(
        &answer,
        &[
            "Container main",
            line,
            "Container side",
            "is waiting to start",
        ],
    );
    assert!(!answer.body.contains("<script>"), "{}", answer.body);
    let answer = page.get(&cookie, "/pods/other/pod-1");
    assert_eq!(answer.code, 404, "{}", answer.body);
    has_each(&answer, &["there is no pod &#34;pod-1&#34;"]);
}

#[test]
fn an_action_plugin_says_where_its_component_is_from_and_who_signed_it() {
    let mut plugin = object(
        "operon.dev",
        "ActionPlugin",
        "restart",
        &json!({"action": "Restart", "serviceAccountName": "action-restart", "source": {"builtin": {"name": "restart"}}}),
        &json!({"digest": "sha256:abc", "signers": ["sha256:key"], "source": "built-in restart",
            "conditions": condition("Ready", "True", "Loaded")}),
    );
    plugin["metadata"]["namespace"] = json!(null);
    let plugins = "GET /apis/operon.dev/v1alpha1/actionplugins";
    let server = Server::with("dash-plugin", vec![(plugins, 200, list(&[plugin]))]);
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    has_each(
        &page.get(&cookie, "/"),
        &["href=\"/actionplugins/restart\""],
    );
    let answer = page.get(&cookie, "/actionplugins/restart");
    let texts = [
        "ap/restart is Ready",
        "Loaded: a reason to wait",
        "sha256:abc",
        "sha256:key",
        "built-in restart",
    ];
    has_each(&answer, &texts);
}

#[test]
fn what_cannot_be_shown_is_a_page_that_says_what_to_do() {
    let missing = refused(404, "NotFound", "operationjobs \"web\" not found", "web");
    let expired = || refused(401, "Unauthorized", "Unauthorized", "");
    let table = [
        (
            "/operationjbos/shop/web",
            vec![],
            404,
            "did you mean operationjob?",
        ),
        ("/a/b", vec![], 404, "an object is at /KIND/NAMESPACE/NAME"),
        (
            "/opj/shop/web",
            vec![(JOB, 404, missing)],
            404,
            "kubectl get operationjobs -A",
        ),
        (
            "/opj/shop/web",
            vec![],
            502,
            "Operon&#39;s CRDs are not installed",
        ),
        (
            "/opj/shop/web",
            vec![(JOB, 401, expired())],
            502,
            "log in again",
        ),
        (
            "/actionplugins/x",
            vec![],
            502,
            "installs Operon&#39;s CRDs",
        ),
        (
            "/",
            vec![],
            200,
            "The cluster serves none of Operon&#39;s kinds",
        ),
        (
            "/",
            vec![("GET ", 401, expired())],
            200,
            "OperationJobs are not shown: the cluster does not accept the credentials",
        ),
    ];
    for (place, (path, answers, code, text)) in table.into_iter().enumerate() {
        let server = Server::with(&format!("dash-missing-{place}"), answers);
        let page = Dashboard::start(&server, &[]);
        let answer = page.get(&page.enter(), path);
        assert_eq!(answer.code, code, "{path}: {}", answer.body);
        has_each(&answer, &[text, "href=\"/\""]);
    }
    let output = server::program()
        .args(["dashboard", "--port", "0"])
        .output();
    let (code, _, err) = texts(&output.expect("the command runs"));
    assert_eq!(code, Some(1));
    assert!(err.contains("--port"), "{err}");
}
