//! What the page shows beside trees: every target, Events, ActionPlugins.

use k8s_openapi::api::core::v1::Event;
use operon_api::ActionPlugin;
use serde_json::{Value, json};

use super::{now, object};
use crate::{Kind, Related, facts, happenings, plugin_tree, plugin_why, targets};

#[test]
fn every_target_of_an_operation_job_has_a_row_and_what_failed_is_first() {
    let spec = json!({"action": "Restart", "partition": 3,
        "targets": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]});
    let status = json!({"targetDetails": [
        {"name": "a", "progress": "Succeeded"},
        {"name": "b", "progress": "Processing", "error": {"reason": "ContainerNotReady", "message": "m"}},
        {"name": "c", "progress": "Failed", "error": {"reason": "PodNotFound", "message": "gone"}},
    ]});
    let job = object(Kind::OperationJob, &spec, &status);
    let rows = targets(&job, &Related::default());
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {}",
                row.mark.sign(),
                row.name,
                row.state,
                row.sentence()
            )
        })
        .collect();
    let expected = [
        "✗ c Failed PodNotFound: gone",
        "! b Processing ContainerNotReady: m",
        "○ d Pending partition is 3. Next: kubectl operon promote opj/web",
        "✓ a Succeeded ",
    ];
    assert_eq!(shown, expected);
    let flow = object(
        Kind::JobFlow,
        &json!({"flows": [{"name": "a"}]}),
        &json!({}),
    );
    assert_eq!(targets(&flow, &Related::default()), []);
}

#[test]
fn the_newest_event_is_first_whichever_field_has_its_time() {
    let event = |reason: &str, fields: Value| {
        let mut event =
            json!({"metadata": {"name": reason}, "involvedObject": {}, "reason": reason});
        for (key, value) in fields.as_object().into_iter().flatten() {
            event[key] = value.clone();
        }
        serde_json::from_value::<Event>(event).expect("an Event")
    };
    let events = vec![
        event(
            "Old",
            json!({"lastTimestamp": "2026-01-01T00:01:00Z", "count": 3, "type": "Warning", "message": "m"}),
        ),
        event(
            "Series",
            json!({"eventTime": "2026-01-01T00:00:00.000000Z",
            "series": {"count": 7, "lastObservedTime": "2026-01-01T00:09:00.000000Z"}}),
        ),
        event("New", json!({"eventTime": "2026-01-01T00:08:00.000000Z"})),
        event("Unknown", json!({})),
    ];
    let shown: Vec<_> = happenings(events, 3)
        .iter()
        .map(|one| {
            format!(
                "{} {} {} {}",
                one.age(now()),
                one.reason,
                one.count,
                one.is_warning
            )
        })
        .collect();
    assert_eq!(
        shown,
        ["1m Series 7 false", "2m New 1 false", "9m Old 3 true"]
    );
}

fn plugin(status: &Value) -> ActionPlugin {
    let metadata =
        json!({"name": "restart", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let spec = json!({"action": "Restart", "serviceAccountName": "action-restart", "source": {"builtin": {"name": "restart"}}});
    serde_json::from_value(json!({
        "apiVersion": "operon.dev/v1alpha1", "kind": "ActionPlugin",
        "metadata": metadata, "spec": spec, "status": status,
    }))
    .expect("an ActionPlugin")
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": "m",
        "lastTransitionTime": "2026-01-01T00:05:00Z"})
}

#[test]
fn an_action_plugin_says_whether_its_action_is_served_and_why_not() {
    let table = [
        (
            json!(null),
            "NotReady",
            "does Operon run?",
            "get pods -n operon-system",
        ),
        (
            json!([condition("Ready", "True", "Loaded")]),
            "Ready",
            "Loaded: m",
            "describe actionplugin restart",
        ),
        (
            json!([
                condition("Ready", "False", "NotSigned"),
                condition("Stalled", "True", "NotSigned")
            ]),
            "Stalled",
            "NotSigned: m",
            "describe actionplugin restart",
        ),
        (
            json!([
                condition("Ready", "True", "Loaded"),
                condition("Suspended", "True", "ActionSuspended")
            ]),
            "Suspended",
            "ActionSuspended: m",
            "describe actionplugin restart",
        ),
    ];
    for (conditions, state, text, next) in table {
        let status = if conditions.is_null() {
            json!(null)
        } else {
            json!({"conditions": conditions})
        };
        let plugin = plugin(&status);
        assert_eq!(plugin_tree(&plugin).state, state);
        let why = plugin_why(&plugin, now());
        assert!(
            why.starts_with(&format!("ap/restart is {state}, 10m old.\n")),
            "{why}"
        );
        assert!(why.contains(text) && why.contains(next), "{why}");
    }
}

#[test]
fn the_facts_of_an_action_plugin_are_those_that_its_status_has() {
    let status = json!({"source": "builtin restart", "digest": "sha256:1", "interfaceVersion": "0.2.0",
        "signers": ["sha256:k"], "watches": ["v1/Pod"]});
    let expected = [
        ("Action", "Restart"),
        ("Source", "builtin restart"),
        ("Digest", "sha256:1"),
        ("Signers", "sha256:k"),
        ("Interface", "0.2.0"),
        ("Reads", "v1/Pod"),
    ];
    let found = facts(&plugin(&status));
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(found, expected);
    let found = facts(&plugin(&json!({})));
    assert_eq!(found, [("Action", "Restart".to_owned())]);
}
