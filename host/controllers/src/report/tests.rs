//! Reports as they ship, over an API server by script that refuses a write over an older version.

use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use http::{Method, Request, Response};
use kube::client::Body;
use operon_api::{JobFlow, job_flow::JobFlowStatus};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    fake::{self, answer},
    health::Health,
    metrics::Metrics,
};

/// What the API server holds.
struct Server {
    flow: Value,
    /// Whether writes are carried out without an answer.
    loses_answers: bool,
    /// How many statuses it was sent.
    writes: usize,
}

impl Server {
    /// This part of the flow is written.
    fn set(&mut self, field: &str, value: Value) {
        let version = self.flow["metadata"]["resourceVersion"].as_str();
        let version: u64 = version.and_then(|v| v.parse().ok()).expect("a number");
        self.flow[field] = value;
        self.flow["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    }

    fn flow(&self) -> JobFlow {
        serde_json::from_value(self.flow.clone()).expect("a flow")
    }

    fn answer(&mut self, request: &Request<String>) -> Option<Response<Body>> {
        if request.method() == Method::GET {
            let metadata = json!({"resourceVersion": "7"});
            let list = json!({"kind": "JobFlowList", "metadata": metadata, "items": [self.flow]});
            let is_list = !request.uri().to_string().contains("watch=true");
            return is_list.then(|| answer(200, &list));
        }
        let body: Value = serde_json::from_str(request.body()).expect("JSON");
        if !request.uri().path().ends_with("/status") {
            return Some(answer(201, &body)); // An Event.
        }
        self.writes += 1;
        if let Some(version) = body["metadata"].get("resourceVersion")
            && *version != self.flow["metadata"]["resourceVersion"]
        {
            let conflict = json!({"code": 409, "reason": "Conflict", "message": "modified"});
            return Some(answer(409, &conflict));
        }
        self.set("status", body["status"].clone());
        if self.loses_answers {
            let lost = json!({"code": 504, "reason": "Timeout", "message": "no answer"});
            return Some(answer(504, &lost));
        }
        Some(answer(200, &self.flow))
    }
}

/// A flow on an API server, in a cache whose watch reports nothing, and what reports on it.
struct World {
    server: Arc<Mutex<Server>>,
    reports: Arc<Reports<JobFlow>>,
    woken: UnboundedReceiver<ObjectRef<JobFlow>>,
}

impl World {
    async fn new() -> Self {
        let flow = json!({
            "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
            "metadata": {"name": "flow", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
            "spec": {"flows": [{"name": "a"}]},
        });
        let server = Arc::new(Mutex::new(Server {
            flow,
            loses_answers: false,
            writes: 0,
        }));
        let answers = Arc::clone(&server);
        let client = fake::client(move |request| {
            let mut server = answers.lock().unwrap_or_else(PoisonError::into_inner);
            server.answer(request)
        });
        let health = Health::new(Metrics::register(&mut Registry::default()));
        let cache = Cache::of(Api::all(client.clone())).start(|_, _| {}, &health);
        cache.ready().await;
        let events = Events::new(&client, None);
        let (wake, woken) = unbounded();
        let reports = Reports::new(client, "test", cache, events, wake);
        Self {
            server,
            reports,
            woken,
        }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self) -> Arc<JobFlow> {
        let flow = ObjectRef::new("flow").within("ns");
        self.reports.cache().store.get(&flow).expect("a flow")
    }

    /// The watch reports the flow as it is.
    fn deliver(&self) {
        let flow = self.server().flow();
        self.reports.cache().wrote(flow);
    }

    /// Reports this progress, decided from `flow`, until that is written or refused. Returns when it asks
    /// for another reconcile, unless it woke the flow.
    async fn report(&mut self, flow: &Arc<JobFlow>, progress: &str) -> Option<Duration> {
        let conclusion = Conclusion {
            status: status(progress),
            events: Vec::new(),
            requeue_after: None,
        };
        let next = self.reports.report_at_pace(flow, conclusion, is_progress);
        self.ends(next).await
    }

    /// The same of a status that others wait for.
    async fn report_urgently(&mut self, flow: &Arc<JobFlow>, progress: &str) -> Option<Duration> {
        let conclusion = Conclusion {
            status: status(progress),
            events: Vec::new(),
            requeue_after: None,
        };
        let next = self.reports.report_urgently(flow, conclusion);
        self.ends(next).await
    }

    async fn ends(&mut self, next: Next) -> Option<Duration> {
        self.reports.written().await;
        match self.woken.try_recv() {
            Ok(_) => None,
            Err(_) => next.requeue_after,
        }
    }

    fn progress(&self) -> Option<String> {
        self.server().flow().status?.progress
    }
}

/// Every status of the test that has the same number of steps.
fn is_progress(previous: &JobFlowStatus, next: &JobFlowStatus) -> bool {
    let steps = |status: &JobFlowStatus| {
        let progress = status.progress.as_deref().unwrap_or_default();
        progress.split_once('/').map(|(_, all)| all.to_owned())
    };
    steps(previous) == steps(next)
}

fn status(progress: &str) -> JobFlowStatus {
    JobFlowStatus {
        progress: Some(progress.to_owned()),
        ..JobFlowStatus::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_was_decided_from_an_older_one_overwrites_none() {
    let mut world = World::new().await;
    let decided_from = world.cached();
    // Another leader wrote last, and the watch lags.
    world.server().set("status", json!({"progress": "2/3"}));
    world.report(&decided_from, "1/3").await;
    assert_eq!(world.progress().as_deref(), Some("2/3"));
    // The cache learns of it between the decision and the write.
    world.deliver();
    world.report(&decided_from, "1/3").await;
    assert_eq!(world.progress().as_deref(), Some("2/3"));
    world.report(&world.cached(), "3/3").await;
    assert_eq!(world.progress().as_deref(), Some("3/3"));
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_beside_the_status_meanwhile_costs_no_conflict() {
    let mut world = World::new().await;
    let decided_from = world.cached();
    world
        .server()
        .set("spec", json!({"flows": [{"name": "b"}]}));
    world.deliver();
    world.report(&decided_from, "1/3").await;
    assert_eq!(world.progress().as_deref(), Some("1/3"));
    assert_eq!(world.server().writes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_whose_answer_was_lost_is_not_overwritten_before_the_cache_has_it() {
    let mut world = World::new().await;
    let decided_from = world.cached();
    world.server().loses_answers = true;
    world.report(&decided_from, "1/3").await;
    let failed = world.reports.status_write(&decided_from);
    assert!(
        matches!(failed, StatusWrite::Failed(_)),
        "it is repeated with backoff"
    );
    world.server().loses_answers = false;
    world.report(&decided_from, "0/3").await;
    assert_eq!(world.progress().as_deref(), Some("1/3"));
    world.deliver();
    world.report(&world.cached(), "2/3").await;
    assert_eq!(world.progress().as_deref(), Some("2/3"));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_no_failure_and_is_not_repeated_over_the_same_version() {
    let mut world = World::new().await;
    let decided_from = world.cached();
    world.server().set("status", json!({"progress": "2/3"}));
    for _ in 0..3 {
        let asks = world.report(&decided_from, "1/3").await;
        assert!(asks.is_none_or(|wait| wait <= Duration::from_secs(1)));
        let last = world.reports.status_write(&decided_from);
        assert!(matches!(last, StatusWrite::None), "{last:?}");
    }
    assert_eq!(world.server().writes, 1, "the cache lags");
    // The next decision follows immediately, from what the cache has.
    world.deliver();
    world.report(&world.cached(), "3/3").await;
    assert_eq!(world.progress().as_deref(), Some("3/3"));
}

#[tokio::test(start_paused = true)]
async fn progress_is_written_less_often_than_anything_else() {
    // The status half a second after another one, and how long it waits.
    for (next, wait) in [("2/3", 1_500), ("2/4", 500)] {
        let mut world = World::new().await;
        world.report(&world.cached(), "1/3").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let asks = world.report(&world.cached(), next).await;
        assert_eq!(asks, Some(Duration::from_millis(wait)), "{next}");
        assert_eq!(world.progress().as_deref(), Some("1/3"));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        world.report(&world.cached(), next).await;
        assert_eq!(world.progress().as_deref(), Some(next));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_status_that_others_wait_for_is_written_sooner_than_a_second_after_the_last() {
    let mut world = World::new().await;
    let second = Duration::from_secs(1);
    assert_eq!(world.report(&world.cached(), "0/0").await, None);
    assert_eq!(world.report(&world.cached(), "1/1").await, Some(second));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(world.report_urgently(&world.cached(), "2/2").await, None);
    assert_eq!(world.progress().as_deref(), Some("2/2"));
    assert_eq!(world.report(&world.cached(), "3/3").await, Some(second));
    assert_eq!(world.server().writes, 2);
}

#[tokio::test(start_paused = true)]
async fn a_large_status_is_written_as_often_as_its_size_allows() {
    let mut world = World::new().await;
    let large = |number: usize| format!("{number}{}", "x".repeat(64 * 1024));
    assert_eq!(
        world.report_urgently(&world.cached(), &large(0)).await,
        None
    );
    let wait = world.report_urgently(&world.cached(), &large(1)).await;
    let wait = wait.expect("it waits");
    let expected = Duration::from_millis(250);
    assert!(wait >= expected && wait < expected * 2, "{wait:?}");
    tokio::time::sleep(wait).await;
    assert_eq!(
        world.report_urgently(&world.cached(), &large(1)).await,
        None
    );
    assert_eq!(world.server().writes, 2);
    // It never waits longer than others do.
    let huge = "x".repeat(4 << 20);
    let wait = world.report_urgently(&world.cached(), &huge).await;
    assert_eq!(wait, Some(Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_others_wait_for_is_not_repeated_over_a_version_that_was_refused() {
    let mut world = World::new().await;
    let decided_from = world.cached();
    world.server().set("status", json!({"progress": "2/3"}));
    for _ in 0..3 {
        world.report_urgently(&decided_from, "1/3").await;
    }
    assert_eq!(world.server().writes, 1);
}
