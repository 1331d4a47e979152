//! The loop as it ships, with a controller that does nothing but remember.

use futures::channel::mpsc::unbounded;
use kube::runtime::watcher;
use operon_api::JobFlow;
use operon_core::driver::Refusal;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use super::*;
use crate::{
    events::Events,
    fake::{self, eventually},
    metrics::Metrics,
    store::Writer,
};

/// Reconciles each flow but one.
#[derive(Default)]
struct Flows(Mutex<Vec<String>>);

impl Reconciler for Flows {
    type Object = JobFlow;
    const NAME: &'static str = "jobflow";
    const STATUS_MANAGER: Option<&'static str> = Some("operon-jobflow");

    fn owner(flow: &JobFlow) -> &str {
        owner_of(flow.metadata.name.as_deref().unwrap_or_default())
    }

    async fn reconcile(&self, flow: Arc<JobFlow>) -> Result<Next, Error> {
        let name = flow.name_any();
        let is_first = {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(name.clone());
            seen.iter().filter(|seen| **seen == name).count() == 1
        };
        assert_ne!(name, "bad", "this flow can't be reconciled");
        if name == "refused" && is_first {
            let status = json!({"code": 404, "reason": "NotFound"});
            let status = serde_json::from_value(status).expect("a Status");
            let refusal = Refusal::answered("failed to patch Job default/a", &status);
            return Err(refusal.into());
        }
        if name.starts_with("slow") {
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        if name == "stale" {
            return Err(Error::Refused(Refusal {
                code: 409,
                reason: "Conflict".to_owned(),
                message: String::new(),
                class: Class::Conflict,
            }));
        }
        Ok(Next::default())
    }
}

/// A flow's owner is the part of its name before a dash.
fn owner_of(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

fn flow(name: &str) -> JobFlow {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "7"},
        "spec": {"flows": [{"name": "a"}]},
        "status": {"state": "Running"},
    }))
    .expect("a flow")
}

#[test]
fn the_failures_of_an_object_that_was_deleted_are_forgotten() {
    let started = Instant::now();
    for (failures, age, matters) in [
        (0, Duration::ZERO, true),
        (0, Duration::from_secs(1), false),
        (1, Duration::from_mins(2), true),
        (1, Duration::from_hours(1), false),
    ] {
        let pacing = Pacing { started, failures };
        assert_eq!(pacing.matters(started + age), matters, "{failures} {age:?}");
    }
}

#[tokio::test]
async fn a_reconcile_that_panics_is_reported_on_its_object_and_holds_up_no_other() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&sent);
    let client = fake::client(move |request| {
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push((request.uri().path().to_owned(), request.body().clone()));
        let answer = json!({"apiVersion": "v1", "kind": "Any", "metadata": {"name": "any"}});
        Some(fake::answer(200, &answer))
    });
    let mut registry = Registry::default();
    let health = Health::new(Metrics::register(&mut registry));
    let events = Events::new(&client, None);
    let faults = Faults { client, events };
    let mut writer = Writer::<JobFlow>::default();
    writer.apply_watcher_event(&watcher::Event::Init);
    for name in ["bad", "good", "refused"] {
        writer.apply_watcher_event(&watcher::Event::InitApply(flow(name)));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let (queue, queued) = unbounded();
    let flows = Arc::new(Flows::default());
    let running = run(
        Arc::clone(&flows),
        writer.as_reader(),
        queued,
        health,
        faults,
    );
    let running = tokio::spawn(running);
    let wake = |name: &str| {
        let woken = queue.unbounded_send(ObjectRef::new(name).within("default"));
        woken.expect("the controller runs");
    };
    let times = |name: &str| {
        let seen = flows.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| *seen == name).count()
    };
    wake("bad");
    eventually("the bad flow is reconciled again", || times("bad") >= 2).await;
    wake("good");
    eventually("the good flow is reconciled", || times("good") == 1).await;
    wake("refused");
    eventually("what was gone was another object", || times("refused") == 2).await;
    let was_sent = |path: &str, texts: &[&str]| {
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter()
            .any(|(to, body)| to.ends_with(path) && texts.iter().all(|text| body.contains(text)))
    };
    let status = [
        "InternalError",
        "Stalled",
        "this flow can't be reconciled",
        "Running",
        r#""resourceVersion":"7""#,
    ];
    assert!(was_sent("/namespaces/default/jobflows/bad/status", &status));
    let event = ["InternalError", "Warning", "this flow can't be reconciled"];
    eventually("an Event is sent", || was_sent("/events", &event)).await;
    assert!(!was_sent("/jobflows/good/status", &[]));
    let mut metrics = String::new();
    encode(&mut metrics, &registry).expect("metrics");
    let panics = "operon_panics_total{place=\"jobflow\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(panics));
    assert!(counted.is_some_and(|count| count != "0"), "{metrics}");
    assert!(!running.is_finished());
    running.abort();
}

#[test]
fn a_large_object_is_reconciled_less_often() {
    let each = Duration::from_millis(2);
    for (parts, pace) in [(0, 25), (1, 27), (50, 125), (100_000, 250)] {
        assert_eq!(pace_of(parts, each), Duration::from_millis(pace), "{parts}");
    }
}

/// A controller of flows with these names.
fn controller(
    names: &[String],
) -> (
    Arc<Flows>,
    futures::channel::mpsc::UnboundedSender<ObjectRef<JobFlow>>,
    tokio::task::JoinHandle<()>,
) {
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let client = fake::client(|_| None);
    let events = Events::new(&client, None);
    let faults = Faults { client, events };
    let mut writer = Writer::<JobFlow>::default();
    writer.apply_watcher_event(&watcher::Event::Init);
    for name in names {
        writer.apply_watcher_event(&watcher::Event::InitApply(flow(name)));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    let (queue, queued) = unbounded();
    let flows = Arc::new(Flows::default());
    let store = writer.as_reader();
    let running = tokio::spawn(run(Arc::clone(&flows), store, queued, health, faults));
    (flows, queue, running)
}

fn seen(flows: &Flows) -> Vec<String> {
    let seen = flows.0.lock().unwrap_or_else(PoisonError::into_inner);
    seen.clone()
}

#[tokio::test(start_paused = true)]
async fn slow_reconciles_of_one_owner_hold_up_no_other_owner() {
    let mut names: Vec<_> = (0..100).map(|number| format!("slow-{number}")).collect();
    names.push("other".to_owned());
    let (flows, queue, running) = controller(&names);
    let wake_all = || {
        for name in &names {
            let object = ObjectRef::new(name).within("default");
            queue.unbounded_send(object).expect("the controller runs");
        }
    };
    wake_all();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = seen(&flows);
    assert!(first.contains(&"other".to_owned()), "{first:?}");
    let slow = first.iter().filter(|name| owner_of(name) == "slow");
    assert_eq!(slow.count(), CONCURRENCY);
    // Those that wait have one turn, however often they are woken.
    wake_all();
    tokio::time::sleep(Duration::from_mins(10)).await;
    let again = CONCURRENCY + 1;
    assert_eq!(seen(&flows).len(), names.len() + again);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn reconciles_that_have_not_begun_do_not_begin_when_the_queue_ends() {
    let names: Vec<_> = (0..100).map(|number| format!("slow-{number}")).collect();
    let (flows, queue, running) = controller(&names);
    for name in &names {
        let object = ObjectRef::new(name).within("default");
        queue.unbounded_send(object).expect("the controller runs");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(queue);
    assert!(running.await.is_ok());
    assert_eq!(seen(&flows).len(), CONCURRENCY);
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_cache_lags_behind_is_reconciled_less_and_less_often() {
    let (flows, queue, running) = controller(&["stale".to_owned()]);
    let stale = ObjectRef::new("stale").within("default");
    queue.unbounded_send(stale).expect("the controller runs");
    let times = || seen(&flows).len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!((4..=7).contains(&times()), "{} in a second", times());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!((8..=14).contains(&times()), "{} in a minute", times());
    running.abort();
}
