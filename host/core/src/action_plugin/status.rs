//! What the status of an ActionPlugin says. Pure.

use k8s_openapi::jiff::Timestamp;
use operon_api::{
    ActionPlugin,
    action_plugin::ActionPluginStatus,
    conditions::{Standing, conditions},
};

use crate::action::Registration;

/// The version of `wit/` that this host speaks.
pub const INTERFACE_VERSION: &str = "0.1.0";

/// A component that serves an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Serving<'a> {
    /// `sha256:…` of the component.
    pub digest: &'a str,
    /// What it said of itself.
    pub registration: &'a Registration,
}

/// What became of loading what the spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// It serves.
    Loaded,
    /// Another ActionPlugin serves the action.
    Shadowed {
        /// Its name.
        by: String,
    },
    /// It could not be loaded; an older version may still serve.
    Failed {
        /// One CamelCase word.
        reason: String,
        /// What is wrong and what to do about it.
        message: String,
    },
}

/// The plugin's status.
pub fn status(
    plugin: &ActionPlugin,
    serving: Option<&Serving<'_>>,
    load: &Load,
    now: Timestamp,
) -> ActionPluginStatus {
    let (standing, reason, message) = describe(serving, load);
    let previous = plugin.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    ActionPluginStatus {
        observed_generation: plugin.metadata.generation,
        digest: serving.map(|s| s.digest.to_owned()),
        short_digest: serving.map(|s| short(s.digest).to_owned()),
        source: Some(source(plugin)),
        interface_version: serving.map(|_| INTERFACE_VERSION.to_owned()),
        watches: serving.map(|s| watches(s.registration)).unwrap_or_default(),
        conditions: conditions(
            previous,
            standing,
            &reason,
            &message,
            plugin.metadata.generation,
            now,
        ),
    }
}

fn describe(serving: Option<&Serving<'_>>, load: &Load) -> (Standing, String, String) {
    match (serving, load) {
        (Some(serving), Load::Loaded) => (
            Standing::Ready,
            "Loaded".to_owned(),
            format!("component {} serves the action", short(serving.digest)),
        ),
        (None, Load::Loaded) => {
            (Standing::Reconciling, "Loading".to_owned(), "the component is being loaded".to_owned())
        }
        (_, Load::Shadowed { by }) => (
            Standing::Stalled,
            "ActionTaken".to_owned(),
            format!("the older ActionPlugin {by:?} serves this action; delete one of the two"),
        ),
        (Some(serving), Load::Failed { reason, message }) => (
            Standing::Ready,
            reason.clone(),
            format!(
                "component {} still serves the action; the new version can't be loaded: {message}",
                short(serving.digest)
            ),
        ),
        (None, Load::Failed { reason, message }) => (Standing::Stalled, reason.clone(), message.clone()),
    }
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

/// Where the component comes from, for people.
fn source(plugin: &ActionPlugin) -> String {
    plugin.spec.source.config_map.as_ref().map_or_else(
        || "none".to_owned(),
        |source| format!("configmap/{}:{}", source.name, source.key),
    )
}

fn watches(registration: &Registration) -> Vec<String> {
    registration
        .watches
        .iter()
        .map(|watch| match watch.label_selector.as_str() {
            "" => format!("{}/{}", watch.api_version, watch.kind),
            selector => format!("{}/{} ({selector})", watch.api_version, watch.kind),
        })
        .collect()
}
