//! PodDecorations, which are not applied.

use std::sync::Arc;

use operon_api::conditions::{POD_DECORATIONS_NOT_APPLIED, READY, find};
use serde_json::{Value, json};

use super::set::set;
use crate::{
    colla_set::{Driven, Seen},
    driver::{Asked, Done, Kind as _},
};

/// PodDecorations with these names and specs.
fn decorated(decorations: &[(&str, Value)]) -> Seen {
    let mut seen = set(1);
    seen.serve();
    let all = decorations.iter().map(|(name, spec)| {
        let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        Arc::new(serde_json::from_value(object).expect("a PodDecoration"))
    });
    seen.decorations = all.collect();
    seen
}

fn selecting(label: &str) -> Value {
    json!({"selector": {"matchLabels": {"app": label}}, "template": {"containers": []}})
}

/// The message of the condition.
fn said(seen: &Seen) -> Option<String> {
    let status = seen.conclude();
    let ready = find(&status.conditions, READY).expect("a condition");
    assert_eq!(ready.status, "True", "the pods serve all the same");
    let found = find(&status.conditions, POD_DECORATIONS_NOT_APPLIED)?;
    assert_eq!(
        (found.status.as_str(), found.reason.as_str()),
        ("True", "NotSupported")
    );
    Some(found.message.clone())
}

#[test]
fn pod_decorations_that_select_the_pods_are_named_as_not_applied() {
    let seen = decorated(&[
        ("other", selecting("bar")),
        ("none", json!({})),
        (
            "unreadable",
            json!({"selector": {"matchExpressions": [{"key": "app", "operator": "?"}]}}),
        ),
        ("sidecar", selecting("foo")),
        ("all", json!({"selector": {}})),
    ]);
    let message = said(&seen).expect("a condition");
    assert!(
        message.starts_with(
            "PodDecorations are not applied, but \"all\", \"sidecar\" select the pods"
        ),
        "{message}"
    );
}

#[test]
fn the_condition_on_pod_decorations_goes_with_the_last_one_that_selects_the_pods() {
    let mut seen = decorated(&[("sidecar", selecting("foo"))]);
    assert!(said(&seen).is_some());
    let mut leaving = (*seen.decorations[0]).clone();
    leaving.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
    seen.decorations = vec![Arc::new(leaving)];
    assert_eq!(said(&seen), None);
    seen.decorations.clear();
    assert_eq!(said(&seen), None);
}

#[test]
fn many_pod_decorations_are_counted() {
    let names: Vec<_> = (0..13).map(|number| format!("d{number:02}")).collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), selecting("foo")))
        .collect();
    let message = said(&decorated(&all)).expect("a condition");
    assert!(message.contains("\"d09\" and 3 more select"), "{message}");
}

#[test]
fn an_event_names_pod_decorations_once() {
    let mut seen = decorated(&[("sidecar", selecting("foo"))]);
    let warnings = |seen: &Seen| {
        let conclusion = Driven::conclude(seen, &seen.plan(), &Done::default(), &Asked::default());
        let conclusion = conclusion.expect("a conclusion");
        let is_warning = |reason: &&str| *reason == POD_DECORATIONS_NOT_APPLIED;
        let reasons = conclusion.events.iter().map(|event| event.reason);
        (reasons.filter(is_warning).count(), conclusion.status)
    };
    let (first, status) = warnings(&seen);
    seen.edit(|object| object.status = Some(status));
    assert_eq!((first, warnings(&seen).0), (1, 0));
}
