//! Series of Events, and lanes that do not wait for each other.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use k8s_openapi::jiff::SignedDuration;

use serde_json::Value;

use super::*;
use crate::fake;

fn event(note: &str, resource_version: &str) -> Event {
    Event {
        note: Some(note.to_owned()),
        metadata: ObjectMeta {
            resource_version: Some(resource_version.to_owned()),
            ..ObjectMeta::default()
        },
        ..Event::default()
    }
}

#[test]
fn events_of_one_reason_with_different_texts_have_different_keys() {
    assert_eq!(key(&event("digest 1", "1")), key(&event("digest 1", "2")));
    assert_ne!(key(&event("digest 1", "1")), key(&event("digest 2", "1")));
}

#[test]
fn a_note_has_at_most_the_bytes_that_the_api_server_takes() {
    assert_eq!(note("short"), "short");
    for text in ["x".repeat(2000), "é".repeat(1000), "🦀".repeat(300)] {
        let note = note(&text);
        assert!(note.len() <= NOTE && note.ends_with('…'), "{}", note.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_without_an_answer_holds_up_no_others_for_ever() {
    let sent = Arc::new(Mutex::new(0));
    let requests = Arc::clone(&sent);
    let client = fake::client(move |_| {
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests += 1;
        let event = json!({"metadata": {"name": "e"}, "eventTime": null});
        (*requests > 1).then(|| fake::answer(200, &event))
    });
    let events = Events::new(&client, None);
    let about = ObjectReference::default();
    for number in 0..QUEUE + 2 {
        let message = number.to_string();
        let event = events.send_about(&about, None, Severity::Normal, "A", "B", &message);
        let queued = tokio::time::timeout(Duration::from_mins(1), event).await;
        assert!(queued.is_ok(), "Event {number} waits");
    }
}

#[tokio::test]
async fn another_text_is_another_event_and_the_same_text_counts_the_event_up() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&sent);
    let client = fake::client(move |request| {
        let body: Value = serde_json::from_str(request.body()).unwrap_or_default();
        let said = if request.method() == http::Method::POST {
            body["note"].as_str().unwrap_or_default().to_owned()
        } else {
            format!("{} times", body["series"]["count"])
        };
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(said);
        let event = json!({"metadata": {"name": "e"}, "eventTime": null});
        Some(fake::answer(200, &event))
    });
    // Each Event comes a quarter of a minute after the previous one.
    let seconds = Arc::new(AtomicI64::default());
    let now = move || {
        let second = seconds.fetch_add(15, Ordering::Relaxed);
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    };
    let events = Events::with_clock(&client, Some("operon-0"), now);
    let about = ObjectReference {
        name: Some("replace".to_owned()),
        ..ObjectReference::default()
    };
    for digest in ["digest 1", "digest 2", "digest 2", "digest 1", "digest 2"] {
        let severity = Severity::Normal;
        events
            .send_about(&about, None, severity, "Loaded", "Load", digest)
            .await;
    }
    let wait = async {
        loop {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if sent.len() == 5 {
                return sent;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert_eq!(
        sent.expect("five requests"),
        ["digest 1", "digest 2", "2 times", "2 times", "3 times"]
    );
}

/// Events, and what was sent of them.
fn counted() -> (Events, Arc<Mutex<Vec<String>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&sent);
    let client = fake::client(move |request| {
        let body: Value = serde_json::from_str(request.body()).unwrap_or_default();
        let path = request.uri().path();
        let said = if request.method() == http::Method::POST {
            format!("{} in {path}", body["note"].as_str().unwrap_or_default())
        } else {
            let (namespace, _) = path.split_once("/events/").unwrap_or_default();
            format!("{} times in {namespace}/events", body["series"]["count"])
        };
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(said);
        let event = json!({"metadata": {"name": "e"}, "eventTime": null});
        Some(fake::answer(200, &event))
    });
    let begin = tokio::time::Instant::now();
    let now = move || Timestamp::UNIX_EPOCH + begin.elapsed();
    (Events::with_clock(&client, None, now), sent)
}

async fn happens(events: &Events, times: usize) {
    let about = ObjectReference {
        namespace: Some("shop".to_owned()),
        name: Some("replace".to_owned()),
        ..ObjectReference::default()
    };
    for _ in 0..times {
        events
            .send_about(&about, None, Severity::Normal, "A", "B", "again")
            .await;
    }
}

const PATH: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

#[tokio::test(start_paused = true)]
async fn a_count_is_written_when_the_series_has_ended_and_only_then() {
    let (events, sent) = counted();
    happens(&events, 5).await;
    let said = || {
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.clone()
    };
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(said(), [format!("again in {PATH}")]);
    tokio::time::sleep(Duration::from_mins(2)).await;
    let both = [format!("again in {PATH}"), format!("5 times in {PATH}")];
    assert_eq!(said(), both);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(said(), both, "once");
}

#[tokio::test(start_paused = true)]
async fn counts_are_written_when_the_process_stops() {
    let (events, sent) = counted();
    happens(&events, 3).await;
    events.flush().await;
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(
        *sent,
        [format!("again in {PATH}"), format!("3 times in {PATH}")]
    );
}
