//! The signs cannot be read, or must not count.

use std::time::Duration;

use operon_core::stand_down::Presence;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use super::KusionStack;
use crate::{fake, health::Health, metrics::Metrics};

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_the_signs_controllers_run_as_configured() {
    let client = fake::client(|_| {
        let refusal = json!({
            "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "forbidden",
        });
        Some(fake::answer(403, &refusal))
    });
    let mut registry = Registry::default();
    let health = Health::new(Metrics::register(&mut registry));
    let kusion_stack = KusionStack::watch(&client, &health, vec!["collaset"]).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(kusion_stack.presence(), Presence::Absent);
    assert!(health.broken().is_empty(), "the host is ready without it");
    let mut text = String::new();
    encode(&mut text, &registry).expect("metrics");
    let metric = "operon_controller_standing_down{controller=\"collaset\"} 0";
    assert!(text.contains(metric), "{text}");
}

#[tokio::test]
async fn a_host_whose_controllers_all_run_in_any_case_watches_nothing() {
    let client = fake::client(|request| unreachable!("{request:?}"));
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let kusion_stack = KusionStack::watch(&client, &health, Vec::new()).await;
    assert_eq!(kusion_stack.presence(), Presence::Absent);
}
