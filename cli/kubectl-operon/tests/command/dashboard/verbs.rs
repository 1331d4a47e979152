//! The verbs on the page: what is offered, what a confirmation says and writes, and when nothing is written.

mod unwritten;

use serde_json::{Value, json};

use super::{
    browser::{Answer, Dashboard},
    places::{has_each, object},
};
use crate::{
    JOB, job,
    server::{self, Server},
};

const PATCH: &str = "PATCH /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/web";
const DELETE: &str = "DELETE /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/web";
const CREATE: &str = "POST /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs";
const REVIEW: &str = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const PAGE: &str = "/operationjobs/shop/web";

/// A page, and a browser that may see it.
struct Browser {
    server: Server,
    page: Dashboard,
    cookie: String,
}

impl Browser {
    fn with(name: &str, answers: Vec<server::Answer>) -> Self {
        let server = Server::with(name, answers);
        let page = Dashboard::start(&server, &["--namespace", "shop"]);
        let cookie = page.enter();
        Self {
            server,
            page,
            cookie,
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.page.get(&self.cookie, path)
    }

    /// The answer to the question of this page.
    fn confirm(&self, path: &str, question: &Answer) -> Answer {
        let form = format!("confirmation={}", token(question));
        self.page.post(&self.cookie, path, &form)
    }

    /// The requests so far that write.
    fn writes(&self) -> Vec<String> {
        let requests = self.server.requests().into_iter();
        let writes = requests.filter(|one| !one.starts_with("GET ") && !one.starts_with(REVIEW));
        writes.collect()
    }
}

/// The token of a question.
fn token(question: &Answer) -> &str {
    let begin = question.body.split("name=\"confirmation\" value=\"").nth(1);
    let token = begin.and_then(|begin| begin.split('"').next());
    token.unwrap_or_else(|| unreachable!("no form: {}", question.body))
}

fn location(answer: &Answer) -> &str {
    let location = answer.head.split("\r\nlocation: ").nth(1);
    let location = location.and_then(|location| location.split("\r\n").next());
    location.unwrap_or_else(|| unreachable!("no address: {answer:?}"))
}

/// The job with another value of a field.
fn with(mut job: Value, field: &str, value: Value) -> Value {
    if let Some(place) = job.pointer_mut(field) {
        *place = value;
    } else {
        let (parent, name) = field.rsplit_once('/').expect("a path");
        job.pointer_mut(parent).expect("a parent")[name] = value;
    }
    job
}

fn running() -> Value {
    job("Processing", "")
}

fn failed_job() -> Value {
    let details =
        json!([{"name": "a", "progress": "Failed"}, {"name": "b", "progress": "Succeeded"}]);
    with(job("Failed", ""), "/status/targetDetails", details)
}

/// A verb as a user confirms it.
struct Case {
    /// The object, and where the API server has it.
    object: Value,
    at: &'static str,
    /// The address of the page of the object, and of the verb below it.
    page: &'static str,
    verb: &'static str,
    /// What the question and the page after it say.
    says: &'static str,
    /// The request that writes, and its body; what is different each time is a `*`.
    write: &'static str,
    body: &'static str,
    /// Where the browser is sent.
    to: &'static str,
}

/// A verb of the running OperationJob.
fn of_job(verb: &'static str, says: &'static str, body: &'static str) -> Case {
    Case {
        object: running(),
        at: JOB,
        page: PAGE,
        verb,
        says,
        write: PATCH,
        body,
        to: PAGE,
    }
}

fn cases() -> Vec<Case> {
    let failed = json!({"observedGeneration": 1, "state": "Failed"});
    vec![
        of_job(
            "promote",
            "opj/web: 2 of 2 targets may start",
            r#"{"metadata":{"resourceVersion":"5","uid":"u1"},"spec":{"partition":2}}"#,
        ),
        of_job(
            "promote?all=true",
            "opj/web: all targets may start",
            r#"{"metadata":{"resourceVersion":"5","uid":"u1"},"spec":{"partition":null}}"#,
        ),
        of_job(
            "promote?to=2",
            "opj/web: 2 of 2 targets may start",
            r#"{"metadata":{"resourceVersion":"5","uid":"u1"},"spec":{"partition":2}}"#,
        ),
        of_job(
            "pause",
            "opj/web: no further target starts; targets that have started continue",
            r#"{"metadata":{"resourceVersion":"5","uid":"u1"},"spec":{"paused":true}}"#,
        ),
        Case {
            object: with(running(), "/spec/paused", json!(true)),
            ..of_job(
                "resume",
                "opj/web: goes on",
                r#"{"metadata":{"resourceVersion":"5","uid":"u1"},"spec":{"paused":false}}"#,
            )
        },
        Case {
            write: DELETE,
            to: "/",
            ..of_job(
                "cancel",
                "opj/web: it is deleted; targets in progress are released first, and targets that succeeded stay so",
                r#"*"preconditions":{"uid":"u1"}*"#,
            )
        },
        Case {
            object: failed_job(),
            write: CREATE,
            to: "/operationjobs/shop/web-retry",
            ..of_job(
                "retry",
                "opj/web-retry created with the 1 target of opj/web that failed",
                r#"*"name":"web-retry"*"targets":[{"name":"a"}]*"#,
            )
        },
        Case {
            object: object(
                "api.practice.com",
                "JobFlow",
                "web",
                &json!({"flows": []}),
                &failed,
            ),
            at: "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows/web",
            page: "/jobflows/shop/web",
            write: "PATCH /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows/web",
            to: "/jobflows/shop/web",
            ..of_job(
                "retry",
                "jf/web: failed steps run again",
                r#"{"metadata":{"annotations":{"operon.dev/retry":"*Z"},"resourceVersion":"5","uid":"uid-web"}}"#,
            )
        },
        Case {
            object: object(
                "batch.cs.sap.com",
                "ReactiveJob",
                "web",
                &json!({"jobTemplate": {}}),
                &json!({}),
            ),
            at: "GET /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs/web",
            page: "/reactivejobs/shop/web",
            write: "PATCH /apis/batch.cs.sap.com/v1alpha1/namespaces/shop/reactivejobs/web",
            to: "/reactivejobs/shop/web",
            ..of_job(
                "rerun",
                "reactivejob/web: its Job runs again",
                r#"{"metadata":{"annotations":{"operon.dev/rerun":"*Z"},"resourceVersion":"5","uid":"uid-web"}}"#,
            )
        },
    ]
}

/// Whether a text has these parts in this order.
fn matches(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for part in pattern.split('*') {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}

#[test]
fn each_verb_is_written_once_after_a_question_that_names_the_object_and_the_effect() {
    for (place, case) in cases().into_iter().enumerate() {
        let mut written = case.object.clone();
        if case.write == CREATE {
            written["metadata"]["name"] = json!("web-retry");
        }
        let answers = vec![(case.at, 200, case.object), (case.write, 200, written)];
        let browser = Browser::with(&format!("dash-verb-{place}"), answers);
        let verb = case.verb.split('?').next().expect("a verb");
        let address = format!("{}/{}", case.page, case.verb);
        let offer = browser.get(case.page);
        has_each(&offer, &[&format!("href=\"{}/{verb}", case.page)]);

        let question = browser.get(&address);
        assert_eq!(question.code, 200, "{address}: {}", question.body);
        let (kind, _) = case.page[1..].split_once("s/").expect("a kind");
        assert!(
            question
                .body
                .to_lowercase()
                .contains(&format!(" {kind} shop/web</h1>"))
        );
        has_each(&question, &[case.says, &format!("action=\"{address}\"")]);
        assert_eq!(browser.writes(), Vec::<String>::new(), "{address}");

        let answer = browser.confirm(&address, &question);
        assert_eq!(answer.code, 303, "{address}: {answer:?}");
        let expected = format!("{}?done={}", case.to, token(&question));
        assert_eq!(location(&answer), expected, "{address}");
        // A double click, or a reload.
        let again = browser.confirm(&address, &question);
        assert_eq!((again.code, location(&again)), (303, &*expected));
        let writes = browser.writes();
        let [write] = writes.as_slice() else {
            unreachable!("{address}: {writes:?}");
        };
        assert!(write.starts_with(case.write), "{address}: {write}");
        let (request, body) = write.split_once('\n').expect("a body");
        let is_deletion = case.write == DELETE;
        assert!(
            is_deletion || request.contains("fieldManager=kubectl-operon"),
            "{request}"
        );
        assert!(matches(body, case.body), "{address}: {body}");

        let done = browser.get(location(&answer));
        assert_eq!(done.code, 200, "{address}: {}", done.body);
        has_each(&done, &[&format!("<strong>Done:</strong> {}", case.says)]);
    }
}

#[test]
fn a_question_shows_what_is_written_and_lets_a_user_choose_the_number() {
    let browser = Browser::with("dash-question", vec![(JOB, 200, running())]);
    let question = browser.get("/opj/shop/web/promote");
    let texts = [
        "<a href=\"/operationjobs/shop/web\">Go back without a change</a>",
        "<p>It would write these fields of OperationJob web in namespace shop:</p>",
        "&#34;partition&#34;: 2",
        "<button>Promote opj/web</button>",
        "Processing, 0 of 2 done",
        "<form method=\"get\" action=\"/operationjobs/shop/web/promote\"",
        "name=\"to\" min=\"0\"",
    ];
    has_each(&question, &texts);
    assert!(
        !question.body.contains("resourceVersion"),
        "{}",
        question.body
    );
    // It does not change by itself: a form that moves is not confirmed.
    assert!(!question.body.contains("page.js"), "{}", question.body);
    assert_eq!(browser.get("/live/opj/shop/web/promote").code, 404);

    let table = [
        ("promote?to=1", 409, "the partition of opj/web is 1 already"),
        ("promote?to=x", 404, "&#34;x&#34; is no number"),
        ("resume", 409, "opj/web is not paused"),
        ("rerun", 409, "only a ReactiveJob is run again"),
    ];
    for (verb, code, text) in table {
        let refused = browser.get(&format!("/opj/shop/web/{verb}"));
        assert_eq!(refused.code, code, "{verb}: {}", refused.body);
        has_each(&refused, &[text]);
        assert!(
            !refused.body.contains("method=\"post\""),
            "{}",
            refused.body
        );
    }
}

#[test]
fn a_page_offers_only_the_verbs_that_fit_and_says_why_one_has_to_wait() {
    let some_failed = json!([{"name": "a", "progress": "Failed"}]);
    let deleted = with(
        running(),
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    let table: [(Value, &[&str]); 5] = [
        (
            running(),
            &["Promote…", "Promote all…", "Pause…", "Cancel…"],
        ),
        (
            with(running(), "/spec/paused", json!(true)),
            &["Promote…", "Promote all…", "Resume…", "Cancel…"],
        ),
        (failed_job(), &["Retry…"]),
        (job("Succeeded", ""), &[]),
        (deleted, &[]),
    ];
    for (place, (object, expected)) in table.into_iter().enumerate() {
        let browser = Browser::with(&format!("dash-offers-{place}"), vec![(JOB, 200, object)]);
        let page = browser.get(PAGE);
        let offers = page.body.split("id=\"verb-").skip(1);
        let labels = offers.filter_map(|offer| offer.split_once('>')?.1.split('<').next());
        assert_eq!(labels.collect::<Vec<_>>(), expected, "{}", page.body);
    }
    let waits = with(running(), "/status/targetDetails", some_failed);
    let page = Browser::with("dash-waits", vec![(JOB, 200, waits)]).get(PAGE);
    let disabled = "role=\"link\" aria-disabled=\"true\" tabindex=\"0\" aria-describedby=\"why-not-retry\">Retry</a> <span id=\"why-not-retry\" class=\"text\">disabled: opj/web has not finished;";
    has_each(&page, &[disabled]);
}

#[test]
fn what_the_user_may_not_do_is_disabled_with_the_reason_and_asked_about_once() {
    let review = |is_allowed: bool, reason: &str| {
        json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {},
            "status": {"allowed": is_allowed, "reason": reason}})
    };
    let answers = vec![
        (JOB, 200, running()),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews*\"verb\":\"patch\"",
            201,
            review(false, "no <role>"),
        ),
        (REVIEW, 201, review(true, "")),
    ];
    let browser = Browser::with("dash-review", answers);
    let reason = "you may not patch operationjobs.apps.kusionstack.io in namespace shop (no &#60;role&#62;); an administrator of the namespace or of the cluster can grant this right";
    let page = browser.get(PAGE);
    for id in ["promote", "promote-all", "pause"] {
        let disabled =
            format!("<span id=\"why-not-{id}\" class=\"text\">disabled: {reason}</span>");
        has_each(&page, &[&disabled]);
    }
    has_each(
        &page,
        &["<a id=\"verb-cancel\" href=\"/operationjobs/shop/web/cancel\">"],
    );

    let question = browser.get("/opj/shop/web/pause");
    assert_eq!(question.code, 403, "{}", question.body);
    has_each(&question, &["<strong>Disabled:</strong> ", reason]);
    assert!(
        !question.body.contains("method=\"post\""),
        "{}",
        question.body
    );
    browser.get(PAGE);
    let requests = browser.server.requests().into_iter();
    let reviews: Vec<_> = requests.filter(|one| one.starts_with(REVIEW)).collect();
    assert_eq!(reviews.len(), 2, "{reviews:?}");
    let asked = r#""group":"apps.kusionstack.io","name":"web","namespace":"shop","resource":"operationjobs","verb":"patch""#;
    assert!(
        reviews.iter().any(|review| review.contains(asked)),
        "{reviews:?}"
    );
    assert_eq!(browser.writes(), Vec::<String>::new());
}
