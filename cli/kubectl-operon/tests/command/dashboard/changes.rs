//! How the page changes while it is open.

use std::time::{Duration, Instant};

use serde_json::json;

use super::browser::Dashboard;
use crate::{
    JOB, JOBS, WATCH, job, list, refused,
    server::{Answer, LOST, Server},
};

const ALL_JOBS: &str = "GET /apis/apps.kusionstack.io/v1alpha1/operationjobs";

fn answers(progress: &str, message: &str) -> Vec<Answer> {
    let mut job = job(progress, message);
    job["metadata"]["resourceVersion"] = json!(format!("{progress}{message}"));
    vec![
        (JOB, 200, job.clone()),
        (JOBS, 200, list(&[job.clone()])),
        (ALL_JOBS, 200, list(&[job])),
    ]
}

#[test]
fn a_change_reaches_the_page_of_the_object_and_the_overview() {
    let server = Server::with("dash-live", answers("Processing", "first reason"));
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let mut object = page.follow(&cookie, "/operationjobs/shop/web");
    let mut overview = page.follow(&cookie, "/");
    let part = object.until(true, "first reason");
    assert!(
        part.contains("id=\"why\"") && !part.contains("<html"),
        "{part}"
    );
    overview.until(true, "1 object: 1 unfinished");
    server.change(answers("Succeeded", "second reason"));
    object.until(true, "second reason");
    overview.until(true, "1 object: 0 unfinished");
    let missing = refused(404, "NotFound", "operationjobs \"web\" not found", "web");
    server.change(vec![(JOB, 404, missing), (ALL_JOBS, 200, list(&[]))]);
    object.until(true, "there is no OperationJob");
    overview.until(true, "No object matches");
}

#[test]
fn a_lost_connection_to_the_cluster_is_shown_and_the_page_recovers() {
    let server = Server::with("dash-lost", answers("Processing", "a reason"));
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let mut object = page.follow(&cookie, "/operationjobs/shop/web");
    let mut overview = page.follow(&cookie, "/");
    object.until(true, "a reason");
    overview.until(true, "1 object");
    server.change(vec![("GET ", LOST, json!(null))]);
    let part = object.until(true, "may be out of date");
    // What was known stays.
    assert!(part.contains("a reason"), "{part}");
    overview.until(true, "OperationJobs may be out of date");
    server.change(answers("Processing", "a reason"));
    object.until(false, "may be out of date");
    overview.until(false, "may be out of date");
}

#[test]
fn a_part_is_sent_at_most_twice_a_second() {
    let mut answers = answers("Processing", "0");
    let events: Vec<_> = (1..50)
        .map(|number| {
            let mut job = job("Processing", &format!("reason {number}"));
            job["metadata"]["resourceVersion"] = json!(number.to_string());
            json!({"type": "MODIFIED", "object": job})
        })
        .collect();
    answers.insert(0, (WATCH, 200, json!(events)));
    let server = Server::with("dash-often", answers);
    let page = Dashboard::start(&server, &["--namespace", "shop"]);
    let cookie = page.enter();
    let mut object = page.follow(&cookie, "/operationjobs/shop/web");
    object.until(true, "reason ");
    let (begin, mut parts) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(3) {
        object.until(true, "reason ");
        parts += 1;
    }
    assert!((2..=8).contains(&parts), "{parts}");
}
