//! The status of an ActionPlugin. Pure.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::jiff::Timestamp;
use operon_api::{
    ActionPlugin,
    action_plugin::{ActionPluginStatus, PluginSource},
    conditions::{PODS_LEFT_BEHIND, Standing, TAG_MOVED, condition, conditions, find},
};

use super::source::{Origin, Signer};
use crate::action::Registration;

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
mod tests {
    use operon_api::{
        action_plugin::{ActionPluginSpec, Artifact, ConfigMapSource, Identity},
        conditions::{READY, RECONCILING, STALLED},
    };

    use super::*;
    use crate::action::Watch;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn plugin(source: Option<(&str, &str)>) -> ActionPlugin {
        let config_map = source.map(|(name, key)| ConfigMapSource {
            namespace: None,
            name: name.to_owned(),
            key: key.to_owned(),
        });
        let spec = ActionPluginSpec {
            source: PluginSource {
                config_map,
                ..PluginSource::default()
            },
            ..ActionPluginSpec::default()
        };
        let mut plugin = ActionPlugin::new("replace", spec);
        plugin.metadata.generation = Some(3);
        plugin
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn registration() -> Registration {
        let watch = |kind: &str, selector: &str| Watch {
            api_version: "apps/v1".to_owned(),
            kind: kind.to_owned(),
            label_selector: selector.to_owned(),
            ..Watch::default()
        };
        let watches = vec![watch("ReplicaSet", ""), watch("StatefulSet", "a=b")];
        Registration {
            watches,
            ..Registration::default()
        }
    }

    fn failed() -> Load {
        Load::Failed {
            reason: "DigestMismatch".to_owned(),
            message: "it is another".to_owned(),
        }
    }

    #[test]
    fn the_conditions_say_what_serves_and_what_is_wrong() {
        let (registration, absent) = (registration(), HashSet::new());
        let serving = Serving {
            has_lifecycle: true,
            digest: DIGEST,
            signers: &[],
            registration: &registration,
            absent: &absent,
        };
        let shadowed = Load::Shadowed {
            by: "older".to_owned(),
        };
        let taken = "the older ActionPlugin \"older\" serves this action; delete one of the two";
        let still = "component 0123456789ab still serves the action; the new version can't be loaded: it is another";
        // What serves, the result of loading; the true condition, its reason, the message.
        let table = [
            (
                Some(&serving),
                Load::Loaded(Origin::default()),
                READY,
                "Loaded",
                "component 0123456789ab serves the action",
            ),
            (
                None,
                Load::Loaded(Origin::default()),
                RECONCILING,
                "Loading",
                "the component is being loaded",
            ),
            (
                None,
                Load::Loading {
                    message: "it is being loaded; before, a pin stopped it".to_owned(),
                },
                RECONCILING,
                "Loading",
                "it is being loaded; before, a pin stopped it",
            ),
            (
                None,
                Load::Deleting,
                RECONCILING,
                "Deleting",
                "the ActionPlugin is being deleted and serves no action",
            ),
            (None, shadowed.clone(), STALLED, "ActionTaken", taken),
            (Some(&serving), shadowed, STALLED, "ActionTaken", taken),
            (Some(&serving), failed(), READY, "DigestMismatch", still),
            (None, failed(), STALLED, "DigestMismatch", "it is another"),
        ];
        for (serving, load, type_, reason, message) in table {
            let status = status(&plugin(None), serving, &load, None, second(5));
            let held: Vec<_> = status
                .conditions
                .iter()
                .filter(|c| c.status == "True")
                .collect();
            let [held] = held.as_slice() else {
                unreachable!("one condition is true: {held:?}")
            };
            let told = (
                held.type_.as_str(),
                held.reason.as_str(),
                held.message.as_str(),
            );
            assert_eq!(told, (type_, reason, message));
            assert_eq!(held.observed_generation, Some(3));
        }
    }

    #[test]
    fn only_a_component_that_serves_is_described() {
        let registration = registration();
        let absent = [("apps/v1".to_owned(), "ReplicaSet".to_owned())].into();
        let signers = [
            Signer::Key {
                fingerprint: "sha256:ab".to_owned(),
                key: String::new(),
            },
            Signer::Identity(Identity {
                issuer: "https://issuer.example".to_owned(),
                subject: "a@example.com".to_owned(),
            }),
        ];
        let serving = Serving {
            has_lifecycle: true,
            digest: DIGEST,
            signers: &signers,
            registration: &registration,
            absent: &absent,
        };
        let plugin = plugin(Some(("replace", "plugin.wasm.gz")));
        let full = status(&plugin, Some(&serving), &failed(), None, second(5));
        assert_eq!(full.digest.as_deref(), Some(DIGEST));
        assert_eq!(full.short_digest.as_deref(), Some("0123456789ab"));
        assert_eq!(full.interface_version.as_deref(), Some(INTERFACE_VERSION));
        assert_eq!(
            full.watches,
            [
                "apps/v1/ReplicaSet (not served)",
                "apps/v1/StatefulSet (a=b)"
            ]
        );
        let empty = status(&plugin, None, &failed(), None, second(5));
        assert_eq!(
            (empty.digest, empty.short_digest, empty.interface_version),
            (None, None, None)
        );
        assert_eq!(empty.watches, Vec::<String>::new());
        assert_eq!(
            full.signers,
            ["sha256:ab", "a@example.com (https://issuer.example)"]
        );
        assert_eq!(empty.signers, Vec::<String>::new());
        for described in [full.source, empty.source] {
            assert_eq!(
                described.as_deref(),
                Some("configmap/replace:plugin.wasm.gz")
            );
        }
    }

    #[test]
    fn a_plugin_without_a_source_says_so() {
        let status = status(&plugin(None), None, &failed(), None, second(5));
        assert_eq!(status.source.as_deref(), Some("none"));
    }

    #[test]
    fn a_tag_that_was_moved_is_reported_until_it_is_followed() {
        let mut plugin = plugin(None);
        let artifact = Artifact {
            reference: "registry.example/replace:1".to_owned(),
            manifest: DIGEST.to_owned(),
        };
        let loaded = |moved_to: Option<&str>| {
            Load::Loaded(Origin {
                artifact: Some(artifact.clone()),
                moved_to: moved_to.map(str::to_owned),
            })
        };
        let moved = status(&plugin, None, &loaded(Some("sha256:feed")), None, second(5));
        let said = find(&moved.conditions, TAG_MOVED).map(|c| c.message.as_str());
        assert!(
            said.is_some_and(|said| said.starts_with(
                "registry.example/replace:1 names the artifact feed now, but 0123456789ab is loaded"
            )),
            "{said:?}"
        );
        assert_eq!(moved.artifact.as_ref(), Some(&artifact));
        plugin.status = Some(moved.clone());
        // While another version is loaded, or can't be, it stays.
        let failed = status(&plugin, None, &failed(), None, second(7));
        assert_eq!(failed.artifact, moved.artifact);
        assert_eq!(
            find(&failed.conditions, TAG_MOVED),
            find(&moved.conditions, TAG_MOVED)
        );
        let followed = status(&plugin, None, &loaded(None), None, second(9));
        assert_eq!(find(&followed.conditions, TAG_MOVED), None);
    }

    #[test]
    fn a_digest_that_is_none_is_shown_as_it_is() {
        for (digest, wanted) in [
            (DIGEST, "0123456789ab"),
            ("sha256:01", "01"),
            ("", ""),
            ("é", "é"),
        ] {
            assert_eq!(short(digest), wanted);
        }
    }

    #[test]
    fn the_same_again_is_the_same_status() {
        let mut plugin = plugin(Some(("replace", "plugin.wasm")));
        let first = status(&plugin, None, &failed(), None, second(5));
        plugin.status = Some(first.clone());
        assert_eq!(status(&plugin, None, &failed(), None, second(9)), first);
    }

    #[test]
    fn pods_left_behind_are_named_with_the_command_that_lists_them() {
        let pods = |count: usize| -> BTreeMap<String, String> {
            let name = |number| (format!("ns/p{number:02}"), "uid".to_owned());
            (0..count).map(name).collect()
        };
        let said = |count: usize| {
            let pods = pods(count);
            let left = LeftBehind {
                label: "mark",
                pods: &pods,
            };
            let status = status(&plugin(None), None, &failed(), Some(left), second(5));
            let found = find(&status.conditions, PODS_LEFT_BEHIND);
            found.map(|condition| condition.message.clone())
        };
        assert_eq!(said(0), None);
        let one = said(1).unwrap_or_default();
        assert!(
            one.starts_with(
                "1 pod is marked for OperationJobs that do not exist any more: ns/p00."
            ),
            "{one}"
        );
        assert!(
            one.contains("`kubectl get pods -A -l mark -L mark`"),
            "{one}"
        );
        let many = said(11).unwrap_or_default();
        assert!(many.contains("ns/p09, …."), "{many}");
    }

    #[test]
    fn an_action_that_takes_part_says_that_the_lifecycle_is_disabled() {
        let (registration, absent) = (registration(), HashSet::new());
        for (is_wanted, has_lifecycle, is_said) in [
            (true, false, true),
            (true, true, false),
            (false, false, false),
        ] {
            let mut plugin = plugin(None);
            plugin.spec.enable_pod_ops_lifecycle = is_wanted;
            let serving = Serving {
                digest: "sha256:0123456789abcdef",
                signers: &[],
                registration: &registration,
                absent: &absent,
                has_lifecycle,
            };
            let status = status(
                &plugin,
                Some(&serving),
                &Load::Loaded(Origin::default()),
                None,
                second(5),
            );
            let ready = &status.conditions[0];
            assert_eq!(
                (ready.type_.as_str(), ready.status.as_str()),
                ("Ready", "True")
            );
            let words = "controllers.podOpsLifecycle.enabled";
            assert_eq!(ready.message.contains(words), is_said, "{}", ready.message);
        }
    }
}
