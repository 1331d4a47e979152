//! The version that a serving component was loaded for, and the changes of the ActionPlugin that must stop
//! it. Pure.
//!
//! A change that forbids the loaded component stops it immediately, before anything else is loaded: it must
//! not act against the user's will. A change that requests a newer version leaves the component serving
//! until the newer version is loaded.

use operon_api::{
    ActionPlugin,
    action_plugin::{ActionPluginSpec, PluginLimits, Verification},
};

use super::source::Signer;

/// Everything that a loaded action depends on; if any of it changes, the action is loaded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The uid of its ActionPlugin.
    pub plugin: String,
    /// The component's digest.
    pub digest: String,
    /// By whom the component's verified signatures are.
    pub signers: Vec<Signer>,
    /// `spec.settings` as JSON text.
    pub settings: String,
    /// `spec.limits`
    pub limits: Option<PluginLimits>,
    /// `spec.serviceAccountName`
    pub service_account: String,
    /// `spec.enablePodOpsLifecycle`
    pub lifecycle: bool,
    /// `spec.finalizers`
    pub finalizers: Vec<String>,
}

impl Version {
    /// The version that the ActionPlugin requests, with the component that its source holds.
    pub fn of(plugin: &ActionPlugin, digest: &str, signers: &[Signer]) -> Self {
        let spec = &plugin.spec;
        Self {
            plugin: plugin.metadata.uid.clone().unwrap_or_default(),
            digest: digest.to_owned(),
            signers: signers.to_vec(),
            settings: serde_json::Value::Object(spec.settings.clone()).to_string(),
            limits: spec.limits.clone(),
            service_account: spec.service_account_name.clone(),
            lifecycle: spec.enable_pod_ops_lifecycle,
            finalizers: spec.finalizers.clone(),
        }
    }
}

/// Why the loaded component must stop immediately now that this ActionPlugin is elected for its action, as
/// the end of a sentence; none if it may serve until the requested version is loaded.
pub fn rejection(plugin: &ActionPlugin, loaded: &Version) -> Option<String> {
    let ActionPluginSpec {
        // It cannot be changed, and an ActionPlugin is only elected for the action that it claims.
        action: _,
        // Another source may hold a newer version; `digest` decides which bytes may act.
        source: _,
        digest,
        verify,
        enable_pod_ops_lifecycle,
        service_account_name,
        finalizers,
        // Until the action has accepted new settings, it uses the settings that it accepted before.
        settings: _,
        // They bound one call, and forbid nothing.
        limits: _,
    } = &plugin.spec;
    if plugin.metadata.uid.as_ref() != Some(&loaded.plugin) {
        return Some("the component was loaded for another ActionPlugin".to_owned());
    }
    if let Some(digest) = digest.as_ref().filter(|digest| **digest != loaded.digest) {
        return Some(format!("spec.digest pins {digest}"));
    }
    if let Some(verify) = verify
        && !is_signed(verify, &loaded.signers)
    {
        return Some(match loaded.signers.as_slice() {
            [] => "spec.verify requires a signature, which was not verified yet".to_owned(),
            [first @ Signer::Key { .. }, ..] => {
                format!("spec.verify.keys does not contain the key {first} that signed it")
            }
            [first @ Signer::Identity(_), ..] => {
                format!("spec.verify.identities does not contain {first}, which signed it")
            }
        });
    }
    if *service_account_name != loaded.service_account {
        let before = &loaded.service_account;
        return Some(format!(
            "spec.serviceAccountName is {service_account_name:?}, but the component acts as {before:?}"
        ));
    }
    let mut allowed = loaded.finalizers.iter();
    if let Some(forbidden) = allowed.find(|name| !finalizers.contains(name)) {
        return Some(format!("spec.finalizers does not contain {forbidden:?}"));
    }
    (*enable_pod_ops_lifecycle != loaded.lifecycle)
        .then(|| format!("spec.enablePodOpsLifecycle is {enable_pod_ops_lifecycle}"))
}

/// Whether one of the keys or identities verified a signature of the loaded component. The text of a key decides: a
/// key that is written in another way is verified again.
fn is_signed(verify: &Verification, signers: &[Signer]) -> bool {
    let Verification { keys, identities } = verify;
    signers.iter().any(|signer| match signer {
        Signer::Key {
            fingerprint: _,
            key,
        } => keys.iter().any(|one| one.trim() == key.trim()),
        Signer::Identity(identity) => identities.contains(identity),
    })
}

#[cfg(test)]
mod tests {
    use operon_api::action_plugin::{ConfigMapSource, Identity, PluginSource};
    use serde_json::json;

    use super::*;

    fn digest(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn plugin() -> ActionPlugin {
        let source = ConfigMapSource {
            namespace: None,
            name: "action".to_owned(),
            key: "plugin.wasm".to_owned(),
        };
        let spec = ActionPluginSpec {
            action: "Replace".to_owned(),
            source: PluginSource {
                config_map: Some(source),
                ..PluginSource::default()
            },
            service_account_name: "action".to_owned(),
            finalizers: vec!["example.com/a".to_owned()],
            ..ActionPluginSpec::default()
        };
        let mut plugin = ActionPlugin::new("replace", spec);
        plugin.metadata.uid = Some("uid".to_owned());
        plugin
    }

    #[test]
    fn what_forbids_the_component_stops_it_and_what_asks_for_a_newer_one_does_not() {
        type Change = fn(&mut ActionPlugin);
        // The change; why it stops the component, if it does; whether it requests another version.
        let table: &[(Change, Option<&str>, bool)] = &[
            (|_| {}, None, false),
            (|p| p.spec.digest = Some(digest("1")), None, false),
            (
                |p| p.spec.digest = Some(digest("2")),
                Some("spec.digest"),
                false,
            ),
            (
                |p| p.spec.service_account_name = "other".to_owned(),
                Some("spec.serviceAccountName"),
                true,
            ),
            (
                |p| p.spec.enable_pod_ops_lifecycle = true,
                Some("spec.enablePodOpsLifecycle"),
                true,
            ),
            (|p| p.spec.finalizers.clear(), Some("spec.finalizers"), true),
            (
                |p| p.spec.finalizers.push("another.example/b".to_owned()),
                None,
                true,
            ),
            (
                |p| p.metadata.uid = Some("created again".to_owned()),
                Some("another ActionPlugin"),
                true,
            ),
            // Whether the bytes are others shows when they are fetched.
            (
                |p| {
                    if let Some(source) = &mut p.spec.source.config_map {
                        source.name = "newer".to_owned();
                    }
                },
                None,
                false,
            ),
            (|p| p.spec.source.config_map = None, None, false),
            (
                |p| {
                    p.spec.settings.insert("key".to_owned(), json!("value"));
                },
                None,
                true,
            ),
            (
                |p| p.spec.limits = Some(PluginLimits::default()),
                None,
                true,
            ),
            (|p| p.metadata.generation = Some(9), None, false),
        ];
        let loaded = Version::of(&plugin(), &digest("1"), &[]);
        for (number, (change, stops, newer)) in table.iter().enumerate() {
            let mut changed = plugin();
            change(&mut changed);
            let said = rejection(&changed, &loaded);
            match stops {
                None => assert_eq!(said, None, "change {number}"),
                Some(field) => {
                    let said = said.unwrap_or_default();
                    assert!(said.contains(field), "change {number}: {said}");
                }
            }
            let asked = Version::of(&changed, &digest("1"), &[]);
            assert_eq!(asked != loaded, *newer, "change {number}");
        }
    }

    #[test]
    fn a_pin_that_is_taken_back_lets_the_component_serve() {
        let mut pinned = plugin();
        pinned.spec.digest = Some(digest("1"));
        let loaded = Version::of(&pinned, &digest("1"), &[]);
        assert_eq!(rejection(&plugin(), &loaded), None);
    }

    #[test]
    fn a_component_serves_only_while_its_signer_is_among_those_that_are_accepted() {
        // The signers of the loaded component and those of the spec, an identity with "@", and why that stops the
        // component.
        type Row = (
            &'static [&'static str],
            Option<&'static [&'static str]>,
            Option<&'static str>,
        );
        let identity = |subject: &str| Identity {
            issuer: "https://issuer.example".to_owned(),
            subject: subject.to_owned(),
        };
        let signer = |name: &&str| {
            if name.contains('@') {
                return Signer::Identity(identity(name));
            }
            Signer::Key {
                fingerprint: format!("sha256:{name}"),
                key: format!("{name}\n"),
            }
        };
        let table: &[Row] = &[
            (&[], None, None),
            (&["a"], None, None),
            (&["a"], Some(&["a"]), None),
            (&["a"], Some(&["b", "a"]), None),
            (&["host", "a"], Some(&["a"]), None),
            (&["a"], Some(&["b"]), Some("the key sha256:a")),
            (&["a"], Some(&["a@b"]), Some("the key sha256:a")),
            (&[], Some(&["a"]), Some("requires a signature")),
            (&[], Some(&["a@b"]), Some("requires a signature")),
            (&["a@b"], Some(&["a@b"]), None),
            (&["a@b"], Some(&["a", "a@b"]), None),
            (&["host", "a@b"], Some(&["a@b"]), None),
            (
                &["a@b"],
                Some(&["A@b"]),
                Some("a@b (https://issuer.example)"),
            ),
            (&["a@b"], Some(&["a"]), Some("does not contain a@b")),
        ];
        for (signers, accepted, stops) in table {
            let mut changed = plugin();
            changed.spec.verify = accepted.map(|accepted| {
                let names = || accepted.iter().copied();
                Verification {
                    keys: names()
                        .filter(|n| !n.contains('@'))
                        .map(str::to_owned)
                        .collect(),
                    identities: names().filter(|n| n.contains('@')).map(identity).collect(),
                }
            });
            let signers: Vec<_> = signers.iter().map(signer).collect();
            let loaded = Version::of(&plugin(), &digest("1"), &signers);
            let said = rejection(&changed, &loaded);
            match stops {
                None => assert_eq!(said, None, "{signers:?} {accepted:?}"),
                Some(part) => {
                    let said = said.unwrap_or_default();
                    assert!(said.contains(part), "{signers:?} {accepted:?}: {said}");
                }
            }
        }
    }
}
