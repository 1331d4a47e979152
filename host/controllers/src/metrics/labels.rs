//! The labels of the controllers' metrics. Their values are words, and names of controllers, ActionPlugins and kinds.

use operon_core::{action::Verb, operation_job::turns::CallCause};
use prometheus_client::encoding::EncodeLabelSet;

use crate::error::Class;

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PassResult {
    /// Well.
    Ok,
    /// It has to be repeated.
    Retry,
    /// With an error.
    Error,
    /// With a panic.
    Panic,
}

operon_core::words!(PassResult {
    Ok => "ok",
    Retry => "retry",
    Error => "error",
    Panic => "panic",
});

/// Why an Event of an action was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DropCause {
    /// The action sends too many.
    Rate,
    /// There was no room.
    Queue,
}

operon_core::words!(DropCause {
    Rate => "rate",
    Queue => "queue",
});

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Controller {
    pub(super) controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

impl Reconcile {
    pub(super) fn of(controller: &'static str, result: PassResult) -> Self {
        let result = result.as_str();
        Self { controller, result }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ErrorClass {
    controller: &'static str,
    class: &'static str,
}

impl ErrorClass {
    pub(super) fn of(controller: &'static str, class: Class) -> Self {
        let class = class.as_str();
        Self { controller, class }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Caused {
    plugin: String,
    cause: &'static str,
}

impl Caused {
    pub(super) fn of(plugin: &str, cause: CallCause) -> Self {
        let (plugin, cause) = (plugin.to_owned(), cause.as_str());
        Self { plugin, cause }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct EffectKind {
    plugin: String,
    kind: &'static str,
    result: &'static str,
}

impl EffectKind {
    pub(super) fn of(plugin: &str, verb: Verb, is_ok: bool) -> Self {
        Self {
            plugin: plugin.to_owned(),
            kind: verb.as_str(),
            result: if is_ok { "ok" } else { "error" },
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct DroppedEvent {
    plugin: String,
    cause: &'static str,
}

impl DroppedEvent {
    pub(super) fn of(plugin: &str, cause: DropCause) -> Self {
        let (plugin, cause) = (plugin.to_owned(), cause.as_str());
        Self { plugin, cause }
    }
}

/// Where a panic was contained: a controller's name, or `watch` and a kind.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Place {
    place: String,
}

impl Place {
    pub(super) fn of(controller: &str) -> Self {
        let place = controller.to_owned();
        Self { place }
    }

    pub(super) fn of_watch(kind: &str) -> Self {
        let place = format!("watch {kind}");
        Self { place }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Plugin {
    plugin: String,
}

impl Plugin {
    pub(super) fn of(plugin: &str) -> Self {
        let plugin = plugin.to_owned();
        Self { plugin }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Kind {
    kind: String,
}

impl Kind {
    pub(super) fn of(kind: &str) -> Self {
        let kind = kind.to_owned();
        Self { kind }
    }
}
