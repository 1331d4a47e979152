//! Answers of an action in words: errors, and effects with what they change.

use std::fmt::Write as _;

use operon_core::action::{ActionError, Effect, Failure, ObjectReference, Severity};
use serde_json::Value;

use super::{
    changes::{self, Paint},
    world::World,
};

/// An error of a call, with its class.
pub(super) fn failed(error: &ActionError, paint: Paint) -> String {
    paint.bad(&words(error))
}

/// The same without colours.
pub(super) fn words(error: &ActionError) -> String {
    let class = match error {
        ActionError::Retry(..) => "retry",
        ActionError::Terminal(_) => "failed",
        ActionError::Plugin(_) => "the component broke a rule",
    };
    let Failure { reason, message } = error.failure();
    format!("{class}: {reason}: {message}")
}

/// An effect, and what it has changed.
pub(super) fn shown(effect: &Effect, before: &World, after: &World, paint: Paint) -> String {
    let (what, reference) = match effect {
        Effect::Patch {
            object,
            subresource,
            ..
        } => {
            let part = subresource.as_deref();
            let part = part.map_or(String::new(), |part| format!(" ({part})"));
            (
                format!("{}{part}", about("patch", object)),
                Some(object.clone()),
            )
        }
        Effect::Apply(body) => (about("apply", &named(body)), Some(named(body))),
        Effect::Create(body) => (about("create", &named(body)), Some(named(body))),
        Effect::Delete { object, .. } => (about("delete", object), Some(object.clone())),
        Effect::Evict { pod, .. } => {
            let object = ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.clone(),
            };
            (about("evict", &object), Some(object))
        }
        Effect::Event {
            severity,
            reason,
            message,
        } => {
            let severity = match severity {
                Severity::Normal => "event",
                Severity::Warning => "warning",
            };
            (format!("{severity} {reason}: {message}"), None)
        }
    };
    let mut text = format!("    {what}\n");
    if let Some(reference) = reference {
        let (old, new) = (before.object(&reference), after.object(&reference));
        for line in changes::lines(old, new, paint) {
            // Writing to a String can't fail.
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

fn about(verb: &str, object: &ObjectReference) -> String {
    format!("{verb} {} {}", object.kind, object.name)
}

/// Which object this is.
pub(super) fn named(body: &Value) -> ObjectReference {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ObjectReference {
        api_version: text(&body["apiVersion"]),
        kind: text(&body["kind"]),
        name: text(&body["metadata"]["name"]),
    }
}
