//! The signs cannot be read, or must not count.

use std::time::Duration;

use operon_core::stand_down::Presence;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use super::{KusionStack, LEASE};
use crate::{fake, health::Health, metrics::Metrics};

/// Where KusionStack is installed.
const SYSTEM: &str = "kusionstack-system";

#[tokio::test]
async fn a_lease_counts_only_in_the_namespace_of_kusionstack() {
    for (namespace, expected) in [(SYSTEM, Presence::Unclear), ("team", Presence::Absent)] {
        let client = fake::client(move |request| {
            let uri = request.uri().to_string();
            if uri.contains("watch=true") {
                return None;
            }
            let lease = json!({
                "metadata": {"namespace": namespace, "name": LEASE},
                "spec": {"holderIdentity": "anybody", "leaseDurationSeconds": 15},
            });
            let path = request.uri().path();
            let in_all = path.ends_with("/v1/leases");
            let is_listed = in_all || path.ends_with(&format!("/namespaces/{namespace}/leases"));
            let items: Vec<_> = is_listed.then_some(lease).into_iter().collect();
            let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
            Some(fake::answer(200, &list))
        });
        let health = Health::new(Metrics::register(&mut Registry::default()));
        let kusion_stack = KusionStack::watch(&client, &health, vec!["collaset"], SYSTEM).await;
        assert_eq!(kusion_stack.presence(), expected, "{namespace}");
    }
}

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
    let kusion_stack = KusionStack::watch(&client, &health, vec!["collaset"], SYSTEM).await;
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
    let kusion_stack = KusionStack::watch(&client, &health, Vec::new(), SYSTEM).await;
    assert_eq!(kusion_stack.presence(), Presence::Absent);
}
