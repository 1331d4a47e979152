//! When an answer to a question writes nothing, and what the page says then.

use serde_json::{Value, json};

use super::{Browser, CREATE, DELETE, PAGE, PATCH, failed_job, has_each, running, token, with};
use crate::{JOB, job, refused, server::LOST};

#[test]
fn an_object_that_changed_since_the_question_is_left_alone_and_the_user_is_asked_again() {
    let edited = |field: &str, value: Value| {
        with(
            with(running(), "/metadata/generation", json!(2)),
            field,
            value,
        )
    };
    let missing = refused(404, "NotFound", "operationjobs \"web\" not found", "web");
    let changed = "opj/web was changed after you looked at it";
    let table = [
        (
            "pause",
            200,
            edited("/spec/partition", json!(2)),
            409,
            changed,
            true,
        ),
        (
            "promote",
            200,
            edited("/spec/partition", json!(0)),
            409,
            changed,
            true,
        ),
        (
            "pause",
            200,
            edited("/spec/paused", json!(true)),
            409,
            "opj/web is paused already",
            false,
        ),
        (
            "cancel",
            200,
            with(running(), "/metadata/uid", json!("u2")),
            409,
            "opj/web is another object now",
            true,
        ),
        (
            "cancel",
            200,
            job("Succeeded", ""),
            409,
            "opj/web has finished",
            false,
        ),
        (
            "cancel",
            404,
            missing,
            404,
            "there is no OperationJob &#34;web&#34;",
            false,
        ),
    ];
    for (place, (verb, status, object, code, text, is_asked)) in table.into_iter().enumerate() {
        let answers = vec![(JOB, 200, running())];
        let browser = Browser::with(&format!("dash-changed-{place}"), answers);
        let address = format!("{PAGE}/{verb}");
        let question = browser.get(&address);
        browser.server.change(vec![
            (JOB, status, object),
            (PATCH, 200, running()),
            (DELETE, 200, running()),
        ]);
        let answer = browser.confirm(&address, &question);
        assert_eq!(answer.code, code, "{verb}: {}", answer.body);
        has_each(&answer, &["Not done:", text]);
        assert_eq!(
            answer.body.contains("method=\"post\""),
            is_asked,
            "{verb}: {}",
            answer.body
        );
        assert_eq!(browser.writes(), Vec::<String>::new(), "{verb}");
        if is_asked {
            assert_ne!(token(&answer), token(&question));
            let confirmed = browser.confirm(&address, &answer);
            assert_eq!(confirmed.code, 303, "{confirmed:?}");
        }
    }
    // A new status alone is no other object.
    let browser = Browser::with("dash-moves", vec![(JOB, 200, running())]);
    let address = format!("{PAGE}/promote");
    let question = browser.get(&address);
    let later = with(
        job("Processing", "later"),
        "/metadata/resourceVersion",
        json!("9"),
    );
    browser
        .server
        .change(vec![(JOB, 200, later), (PATCH, 200, running())]);
    assert_eq!(browser.confirm(&address, &question).code, 303);
    assert!(browser.writes()[0].contains(r#""resourceVersion":"9","uid":"u1""#));
}

#[test]
fn a_write_that_fails_says_why_and_is_not_repeated_by_a_reload() {
    let denied = "admission webhook \"policy.example\" denied the request: not on <Friday>";
    let table = [
        (
            403,
            refused(
                403,
                "Forbidden",
                "operationjobs \"web\" is forbidden",
                "web",
            ),
            403,
            "is forbidden; ask an administrator for this right",
            1,
        ),
        (
            400,
            refused(400, "BadRequest", denied, "web"),
            502,
            "denied the request: not on &#60;Friday&#62;",
            1,
        ),
        (
            401,
            refused(401, "Unauthorized", "Unauthorized", ""),
            502,
            "they may have expired: log in again",
            1,
        ),
        (
            404,
            refused(404, "NotFound", "operationjobs \"web\" not found", "web"),
            404,
            "there is no OperationJob &#34;web&#34;",
            1,
        ),
        (
            409,
            refused(409, "Conflict", "the object has been modified", "web"),
            409,
            "changed between each reading and writing, 5 times; nothing was written",
            5,
        ),
        (
            LOST,
            json!(null),
            502,
            "it may have been written all the same",
            1,
        ),
    ];
    for (place, (status, answer, code, text, writes)) in table.into_iter().enumerate() {
        let answers = vec![(JOB, 200, running()), (PATCH, status, answer)];
        let browser = Browser::with(&format!("dash-failed-{place}"), answers);
        let address = format!("{PAGE}/pause");
        let question = browser.get(&address);
        for _ in 0..2 {
            let answer = browser.confirm(&address, &question);
            assert_eq!(answer.code, code, "{status}: {}", answer.body);
            // The question is there again.
            has_each(
                &answer,
                &[
                    "role=\"alert\"><strong>Not done:</strong> ",
                    text,
                    "method=\"post\"",
                ],
            );
            assert_eq!(browser.writes().len(), writes, "{status}");
        }
    }
    let exists = refused(409, "AlreadyExists", "exists", "web-retry");
    let browser = Browser::with(
        "dash-exists",
        vec![(JOB, 200, failed_job()), (CREATE, 409, exists)],
    );
    let question = browser.get("/opj/shop/web/retry");
    let answer = browser.confirm("/opj/shop/web/retry", &question);
    assert_eq!(answer.code, 409, "{}", answer.body);
    has_each(
        &answer,
        &["exists already; see `kubectl operon get opj/web-retry`"],
    );
    assert_eq!(browser.writes().len(), 1);
}

#[test]
fn only_a_form_of_the_page_writes() {
    let browser = Browser::with(
        "dash-forged",
        vec![(JOB, 200, running()), (PATCH, 200, running())],
    );
    let address = format!("{PAGE}/pause");
    let question = browser.get(&address);
    let form = format!("confirmation={}", token(&question));
    let (host, port) = (browser.page.host(), browser.page.port);
    let (host, cookie) = (("host", &*host), ("cookie", &*browser.cookie));
    let (ours, neighbour) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", port ^ 1),
    );
    let origin = ("origin", &*ours);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let foreign: [&[(&str, &str)]; 7] = [
        &[host, cookie, kind],
        &[host, cookie, kind, ("sec-fetch-site", "same-origin")],
        &[host, cookie, kind, ("origin", "http://evil.example")],
        &[host, cookie, kind, ("origin", "null")],
        &[host, cookie, kind, ("origin", &neighbour)],
        &[host, cookie, kind, origin, ("sec-fetch-site", "same-site")],
        &[host, kind, origin],
    ];
    for headers in foreign {
        let answer = browser.page.send_body("POST", &address, headers, &form);
        assert_eq!(answer.code, 403, "{headers:?}: {answer:?}");
    }
    let ours = [host, cookie, origin];
    let text = [host, cookie, origin, ("content-type", "text/plain")];
    let large = format!("{form}&x={}", "x".repeat(2000));
    let table = [
        ("POST", address.as_str(), &ours[..], form.as_str(), 415),
        ("POST", &address, &text, &form, 415),
        ("POST", &address, &[host, cookie, origin, kind], &large, 413),
        (
            "POST",
            &address,
            &[host, cookie, origin, kind],
            "confirmation=",
            400,
        ),
        ("POST", PAGE, &[host, cookie, origin, kind], &form, 405),
        (
            "POST",
            "/page.css",
            &[host, cookie, origin, kind],
            &form,
            405,
        ),
        ("PUT", &address, &[host, cookie, origin, kind], &form, 405),
        // The confirmation of another verb, and of none.
        (
            "POST",
            "/operationjobs/shop/web/cancel",
            &[host, cookie, origin, kind],
            &form,
            409,
        ),
        (
            "POST",
            &address,
            &[host, cookie, origin, kind],
            "confirmation=0123",
            409,
        ),
    ];
    for (method, path, headers, body, code) in table {
        let answer = browser.page.send_body(method, path, headers, body);
        assert_eq!(answer.code, code, "{method} {path} {body}: {answer:?}");
    }
    for path in [
        format!("{address}?{form}"),
        format!("{PAGE}?done={}", token(&question)),
    ] {
        let answer = browser.get(&path);
        assert_eq!(answer.code, 200, "{answer:?}");
        assert!(!answer.body.contains("Done:"), "{}", answer.body);
    }
    assert_eq!(browser.writes(), Vec::<String>::new());
    // The question was good all the time.
    assert_eq!(browser.confirm(&address, &question).code, 303);
    assert_eq!(browser.writes().len(), 1);
}
