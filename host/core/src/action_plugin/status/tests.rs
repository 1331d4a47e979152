//! What a status says, by what serves and what became of the load.

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
        aside: None,
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
        aside: None,
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
        one.starts_with("1 pod is marked for OperationJobs that do not exist any more: ns/p00."),
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
fn an_action_that_is_set_aside_says_so_until_it_serves_again() {
    let (registration, absent) = (registration(), HashSet::new());
    let fault = Failure::new("PluginTimeout", "it took too long");
    let mut plugin = plugin(None);
    for (aside, is_said) in [(None, false), (Some(&fault), true), (None, false)] {
        let serving = Serving {
            digest: DIGEST,
            signers: &[],
            registration: &registration,
            absent: &absent,
            has_lifecycle: true,
            aside,
        };
        let loaded = Load::Loaded(Origin::default());
        let next = status(&plugin, Some(&serving), &loaded, None, second(5));
        let found = find(&next.conditions, SUSPENDED);
        assert_eq!(found.is_some(), is_said, "{found:?}");
        let message = found.map_or("", |found| found.message.as_str());
        assert_eq!(
            message.contains("PluginTimeout (it took too long)"),
            is_said
        );
        plugin.status = Some(next);
    }
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
            aside: None,
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
