//! The status of an ActionPlugin. Pure.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::jiff::Timestamp;
use operon_api::{
    ActionPlugin,
    action_plugin::{ActionPluginStatus, PluginSource},
    conditions::{PODS_LEFT_BEHIND, SUSPENDED, Standing, TAG_MOVED, condition, conditions, find},
};

use super::{
    breaker,
    source::{Origin, Signer},
};
use crate::action::{Failure, Registration};

/// The version of `wit/` that this host implements.
pub const INTERFACE_VERSION: &str = "0.2.0";

/// A component that serves an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Serving<'a> {
    /// `sha256:…` of the component.
    pub digest: &'a str,
    /// The keys by which its signatures were verified.
    pub signers: &'a [Signer],
    /// Its description of itself.
    pub registration: &'a Registration,
    /// The optional kinds that the API server does not serve, by `apiVersion` and kind.
    pub absent: &'a HashSet<(String, String)>,
    /// Whether the PodOpsLifecycle controller is enabled.
    pub has_lifecycle: bool,
    /// The last fault before the action was set aside, if it is.
    pub aside: Option<&'a Failure>,
}

/// The result of loading what the spec requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// It serves; where it was found.
    Loaded(Origin),
    /// It is being loaded; an older version may serve meanwhile.
    Loading {
        /// If none does: what to say of that, and why the previous version was stopped.
        message: String,
    },
    /// The ActionPlugin is being deleted, so it serves nothing.
    Deleting,
    /// Another ActionPlugin serves the action.
    Shadowed {
        /// Its name.
        by: String,
    },
    /// It could not be loaded; an older version may still serve.
    Failed {
        /// One CamelCase word.
        reason: String,
        /// The cause, and what to do about it.
        message: String,
    },
}

/// Pods that the action marked for OperationJobs that do not exist any more.
#[derive(Clone, Copy, Debug)]
pub struct LeftBehind<'a> {
    /// The label of the mark.
    pub label: &'a str,
    /// `<namespace>/<name>` of each, with the uid of its job.
    pub pods: &'a BTreeMap<String, String>,
}

/// What else is said of an action that takes part in the PodOpsLifecycle where nothing runs that.
const WITHOUT_LIFECYCLE: &str = ". enablePodOpsLifecycle is true, but the PodOpsLifecycle controller is disabled: \
                                 targets wait until the chart's value controllers.podOpsLifecycle.enabled is true";

/// How many pods a condition names.
const NAMED: usize = 10;

/// The plugin's status.
pub fn status(
    plugin: &ActionPlugin,
    serving: Option<&Serving<'_>>,
    load: &Load,
    left_behind: Option<LeftBehind<'_>>,
    now: Timestamp,
) -> ActionPluginStatus {
    let (standing, reason, mut message) = describe(serving, load);
    let has_lifecycle = serving.is_none_or(|serving| serving.has_lifecycle);
    if plugin.spec.enable_pod_ops_lifecycle && !has_lifecycle {
        message += WITHOUT_LIFECYCLE;
    }
    let previous = plugin
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    let generation = plugin.metadata.generation;
    let told = |type_: &str, reason: &str, message: &str| {
        condition(previous, type_, "True", reason, message, generation, now)
    };
    let mut all = conditions(previous, standing, &reason, &message, generation, now);
    all.extend(left_behind.and_then(|left| {
        let message = left.describe()?;
        Some(told(PODS_LEFT_BEHIND, "JobNotFound", &message))
    }));
    all.extend(serving.and_then(|serving| serving.aside).map(|fault| {
        let message = breaker::describe(fault);
        told(SUSPENDED, "CallsFault", &message)
    }));
    let (artifact, moved) = match load {
        Load::Loaded(origin) => {
            let moved = tag_moved(origin).map(|message| told(TAG_MOVED, "TagMoved", &message));
            (origin.artifact.clone(), moved)
        }
        // What was found before is still what serves, or what the tag is resolved to.
        Load::Loading { .. } | Load::Deleting | Load::Shadowed { .. } | Load::Failed { .. } => {
            let status = plugin.status.as_ref();
            let artifact = status.and_then(|status| status.artifact.clone());
            (artifact, find(previous, TAG_MOVED).cloned())
        }
    };
    all.extend(moved);
    ActionPluginStatus {
        observed_generation: generation,
        digest: serving.map(|s| s.digest.to_owned()),
        short_digest: serving.map(|s| short(s.digest).to_owned()),
        signers: serving.map(signers).unwrap_or_default(),
        source: Some(source(plugin)),
        artifact,
        interface_version: serving.map(|_| INTERFACE_VERSION.to_owned()),
        watches: serving.map(watches).unwrap_or_default(),
        conditions: all,
    }
}

impl LeftBehind<'_> {
    /// A sentence that names them; nothing if there are none.
    fn describe(self) -> Option<String> {
        let Self { label, pods } = self;
        let count = match pods.len() {
            0 => return None,
            1 => "1 pod is".to_owned(),
            several => format!("{several} pods are"),
        };
        let named: Vec<_> = pods.keys().take(NAMED).map(String::as_str).collect();
        let others = if pods.len() > NAMED { ", …" } else { "" };
        Some(format!(
            "{count} marked for OperationJobs that do not exist any more: {}{others}. `kubectl get pods -A -l {label} -L {label}` lists marked pods; the next OperationJob of this action that names such a pod takes it over",
            named.join(", ")
        ))
    }
}

fn describe(serving: Option<&Serving<'_>>, load: &Load) -> (Standing, String, String) {
    match (serving, load) {
        (Some(serving), Load::Loaded(_)) => (
            Standing::Ready,
            "Loaded".to_owned(),
            format!("component {} serves the action", short(serving.digest)),
        ),
        // It was stopped since; the next reconcile reports why.
        (None, Load::Loaded(_)) => (
            Standing::Reconciling,
            "Loading".to_owned(),
            "the component is being loaded".to_owned(),
        ),
        (Some(serving), Load::Loading { .. }) => (
            Standing::Ready,
            "Loading".to_owned(),
            format!(
                "component {} serves the action until the new version is loaded",
                short(serving.digest)
            ),
        ),
        (None, Load::Loading { message }) => {
            (Standing::Reconciling, "Loading".to_owned(), message.clone())
        }
        (_, Load::Deleting) => (
            Standing::Reconciling,
            "Deleting".to_owned(),
            "the ActionPlugin is being deleted and serves no action".to_owned(),
        ),
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
        (None, Load::Failed { reason, message }) => {
            (Standing::Stalled, reason.clone(), message.clone())
        }
    }
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

/// Where the component comes from, for people.
fn source(plugin: &ActionPlugin) -> String {
    let PluginSource {
        builtin,
        config_map,
        oci,
    } = &plugin.spec.source;
    match (builtin, config_map, oci) {
        (Some(source), _, _) => format!("builtin/{}", source.name),
        (None, Some(source), _) => format!("configmap/{}:{}", source.name, source.key),
        (None, None, Some(source)) => format!("oci/{}", source.reference),
        (None, None, None) => "none".to_owned(),
    }
}

fn signers(serving: &Serving<'_>) -> Vec<String> {
    let signers = serving.signers.iter();
    signers.map(Signer::to_string).collect()
}

/// What is said of a tag that names another artifact than the loaded one.
fn tag_moved(origin: &Origin) -> Option<String> {
    let (artifact, now) = (origin.artifact.as_ref()?, origin.moved_to.as_deref()?);
    let (reference, manifest) = (&artifact.reference, short(&artifact.manifest));
    Some(format!(
        "{reference} names the artifact {} now, but {manifest} is loaded, to which the tag was resolved before; to load the new one, name its digest in spec.source.oci.reference, or set pullPolicy to Always to follow the tag",
        short(now)
    ))
}

fn watches(serving: &Serving<'_>) -> Vec<String> {
    let watches = serving.registration.watches.iter();
    watches
        .map(|watch| {
            let kind = format!("{}/{}", watch.api_version, watch.kind);
            let key = (watch.api_version.clone(), watch.kind.clone());
            match watch.label_selector.as_str() {
                _ if serving.absent.contains(&key) => format!("{kind} (not served)"),
                "" => kind,
                selector => format!("{kind} ({selector})"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
