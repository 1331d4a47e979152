//! Which artifact of an OCI registry is loaded for a tag. Pure.
//!
//! A tag can be moved by whoever may push to the registry. So it is resolved once, unless the ActionPlugin says
//! that it is followed, and the status keeps what it was resolved to.

use operon_api::{
    ActionPlugin,
    action_plugin::{Artifact, OciSource, PullPolicy},
};

use crate::action::LoadError;

/// The artifact that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The digest of its manifest.
    pub manifest: String,
    /// The digest that the tag names now, if it is another one.
    pub moved_to: Option<String>,
}

/// The digest that this reference was resolved to before.
pub fn resolved<'a>(plugin: &'a ActionPlugin, source: &OciSource) -> Option<&'a str> {
    let artifact = plugin.status.as_ref()?.artifact.as_ref()?;
    let Artifact {
        reference,
        manifest,
    } = artifact;
    (*reference == source.reference).then_some(manifest)
}

/// The artifact to load, from what the reference was resolved to before and what the registry says that it names
/// now. A registry that does not answer changes nothing about an artifact that is known.
///
/// # Errors
/// The registry's, if no artifact is known.
pub fn choose(
    policy: PullPolicy,
    resolved: Option<&str>,
    current: Result<String, LoadError>,
) -> Result<Chosen, LoadError> {
    let manifest = match (policy, resolved, &current) {
        (PullPolicy::IfNotPresent, Some(known), _) | (PullPolicy::Always, Some(known), Err(_)) => {
            known.to_owned()
        }
        (PullPolicy::Always, _, Ok(digest)) | (PullPolicy::IfNotPresent, None, Ok(digest)) => {
            digest.clone()
        }
        (_, None, Err(error)) => return Err(error.clone()),
    };
    let moved_to = current.ok().filter(|digest| *digest != manifest);
    Ok(Chosen { manifest, moved_to })
}

#[cfg(test)]
mod tests {
    use operon_api::action_plugin::{ActionPluginSpec, ActionPluginStatus};

    use super::*;

    fn unavailable() -> LoadError {
        LoadError {
            reason: "RegistryUnavailable",
            message: "no answer".to_owned(),
            transient: true,
        }
    }

    #[test]
    fn a_tag_is_resolved_once_unless_it_is_followed() {
        use PullPolicy::{Always, IfNotPresent};
        // The policy, what is known, what the tag names now; what is loaded, what the tag was moved to.
        let table = [
            (IfNotPresent, None, "new", "new", None),
            (IfNotPresent, Some("old"), "old", "old", None),
            (IfNotPresent, Some("old"), "new", "old", Some("new")),
            (Always, None, "new", "new", None),
            (Always, Some("old"), "new", "new", None),
        ];
        for (policy, known, now, manifest, moved_to) in table {
            let wanted = Chosen {
                manifest: manifest.to_owned(),
                moved_to: moved_to.map(str::to_owned),
            };
            let chosen = choose(policy, known, Ok(now.to_owned()));
            assert_eq!(chosen, Ok(wanted), "{policy:?} {known:?} {now}");
        }
    }

    #[test]
    fn a_registry_that_does_not_answer_stops_only_what_was_never_loaded() {
        for policy in [PullPolicy::IfNotPresent, PullPolicy::Always] {
            let known = choose(policy, Some("old"), Err(unavailable()));
            let wanted = Chosen {
                manifest: "old".to_owned(),
                moved_to: None,
            };
            assert_eq!(known, Ok(wanted));
            assert_eq!(choose(policy, None, Err(unavailable())), Err(unavailable()));
        }
    }

    #[test]
    fn what_another_reference_was_resolved_to_does_not_count() {
        let artifact = Artifact {
            reference: "registry.example/replace:1".to_owned(),
            manifest: "old".to_owned(),
        };
        let mut plugin = ActionPlugin::new("replace", ActionPluginSpec::default());
        plugin.status = Some(ActionPluginStatus {
            artifact: Some(artifact),
            ..ActionPluginStatus::default()
        });
        for (reference, known) in [
            ("registry.example/replace:1", Some("old")),
            ("registry.example/replace:2", None),
        ] {
            let source = OciSource {
                reference: reference.to_owned(),
                ..OciSource::default()
            };
            assert_eq!(resolved(&plugin, &source), known);
        }
    }
}
