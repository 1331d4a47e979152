//! Finds the bytes of a component by reference, and verifies their digest and signatures.
//!
//! One file per kind of source. A source only finds bytes (`Found`), which become a component by
//! `Found::verified` alone: no source can forget it. Nothing here looks into a component.

mod artifact;
mod builtin;
mod config_map;
mod found;
mod gzip;
pub mod oci;
mod shown;
mod verify;
mod verifying;

use std::{path::PathBuf, time::Duration};

use futures::future::BoxFuture;
use operon_api::{ActionPlugin, action_plugin::PluginSource};
use operon_core::{
    action::LoadError,
    action_plugin::source::{Component, ComponentSource, Objects, Origin},
};
use sha2::{Digest, Sha256};

pub use crate::verify::{Accepted, Keys, Trust, TrustedRoot, Unusable, identities_of_path};
use crate::{artifact::Artifacts, found::Found, verifying::Verifying};

/// The largest component that is taken, uncompressed, unless the host is configured otherwise.
pub const MAX_COMPONENT: usize = 16 << 20;

/// How long the verification of one component may take: it needs some milliseconds.
const VERIFICATION: Duration = Duration::from_secs(30);

/// Where components are found, and what they need.
#[derive(Debug)]
pub struct RegistryConfig {
    /// The operator's namespace, with the ConfigMaps and Secrets.
    pub namespace: String,
    /// The folder of the built-in components.
    pub builtin: PathBuf,
    /// The largest component that is taken, uncompressed, in bytes.
    pub component_bytes: usize,
    /// The client of OCI registries.
    pub puller: oci::Puller,
    /// By whom components must be signed, and how identities are verified.
    pub trust: Trust,
}

/// Finds components for plugins of this operator.
#[derive(Debug)]
pub struct Registry {
    namespace: String,
    builtin: PathBuf,
    component_bytes: usize,
    artifacts: Artifacts,
    trust: Trust,
    verifying: Verifying,
}

impl Registry {
    /// A registry that reads the files of one folder, ConfigMaps of the operator's namespace, and artifacts of OCI
    /// registries.
    pub fn new(config: RegistryConfig) -> Self {
        let RegistryConfig {
            namespace,
            builtin,
            component_bytes,
            puller,
            trust,
        } = config;
        Self {
            namespace,
            builtin,
            component_bytes,
            artifacts: Artifacts::new(puller),
            trust,
            verifying: Verifying::default(),
        }
    }

    async fn find(
        &self,
        plugin: &ActionPlugin,
        objects: Objects<'_>,
    ) -> Result<(Found, Origin), LoadError> {
        let PluginSource {
            builtin,
            config_map,
            oci,
        } = &plugin.spec.source;
        let most = self.component_bytes;
        let found = match (builtin, config_map, oci) {
            (Some(source), None, None) => builtin::find(&self.builtin, source, most),
            (None, Some(source), None) => {
                config_map::find(&self.namespace, source, objects.config_maps, most)
            }
            (None, None, Some(source)) => {
                let needs_signature = plugin.spec.verify.is_some() || self.trust.required.is_some();
                let artifacts = &self.artifacts;
                return artifacts
                    .find(plugin, source, objects, needs_signature)
                    .await;
            }
            _ => Err(refused(
                "NoSource",
                "spec.source must name exactly one source: set builtin, configMap or oci"
                    .to_owned(),
            )),
        };
        Ok((found?, Origin::default()))
    }
}

impl ComponentSource for Registry {
    fn fetch<'a>(
        &'a self,
        plugin: &'a ActionPlugin,
        objects: Objects<'a>,
    ) -> BoxFuture<'a, Result<Component, LoadError>> {
        Box::pin(async move {
            let (found, origin) = self.find(plugin, objects).await?;
            let (plugin, trust) = (plugin.clone(), self.trust.clone());
            let verify = move || found.verified(&plugin, &trust);
            let component = self.verifying.run(VERIFICATION, verify).await?;
            Ok(Component {
                origin,
                ..component
            })
        })
    }
}

/// `sha256:` and the digest of these bytes in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// `sha256:` and this digest in hexadecimal.
fn hexadecimal(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in digest {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn refused(reason: &'static str, message: String) -> LoadError {
    LoadError {
        reason,
        message,
        transient: false,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, sync::Arc};

    use k8s_openapi::{
        ByteString,
        api::core::v1::{ConfigMap, Secret},
    };
    use operon_api::action_plugin::{BuiltinSource, ConfigMapSource};
    use operon_core::action_plugin::source::{ConfigMaps, PullSecrets};

    use super::*;

    struct One(Arc<ConfigMap>);

    impl ConfigMaps for One {
        fn get(&self, _: &str) -> Option<Arc<ConfigMap>> {
            Some(Arc::clone(&self.0))
        }
    }

    struct NoSecrets;

    impl PullSecrets for NoSecrets {
        fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Secret>, LoadError>> {
            Box::pin(async { Ok(None) })
        }

        fn of_account(&self, _: &str) -> Vec<String> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn a_host_that_requires_signatures_loads_only_built_in_components_without_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let key = include_str!("verify/fixtures/cosign.pub");
        fs::write(file("cosign.pub"), key).expect("written");
        fs::write(file("replace.wasm"), "component").expect("written");
        let keys = Keys::of_path(&file("cosign.pub")).expect("a key");
        let key = || "plugin.wasm".to_owned();
        let component = ByteString(include_bytes!("verify/fixtures/component.txt").to_vec());
        let unsigned = ConfigMap {
            binary_data: Some(BTreeMap::from([(key(), component)])),
            ..ConfigMap::default()
        };
        let bundle = include_str!("verify/fixtures/blob-cosign.sigstore.json").to_owned();
        let beside = "plugin.wasm.sigstore.json".to_owned();
        let signed = ConfigMap {
            data: Some(BTreeMap::from([(beside, bundle)])),
            ..unsigned.clone()
        };
        let builtin = PluginSource {
            builtin: Some(BuiltinSource {
                name: "replace".to_owned(),
            }),
            ..PluginSource::default()
        };
        let in_map = PluginSource {
            config_map: Some(ConfigMapSource {
                name: "map".to_owned(),
                key: key(),
                ..ConfigMapSource::default()
            }),
            ..PluginSource::default()
        };
        for (source, map, required, refused) in [
            (&builtin, &unsigned, true, None),
            (&in_map, &unsigned, false, None),
            (&in_map, &unsigned, true, Some("NotSigned")),
            (&in_map, &signed, true, None),
        ] {
            let keys = required.then(|| keys.clone());
            let required = Accepted::of_host(keys, Vec::new());
            let registry = Registry::new(RegistryConfig {
                namespace: "own".to_owned(),
                builtin: folder.path().to_owned(),
                component_bytes: MAX_COMPONENT,
                puller: oci::Puller::new(oci::PullerConfig::default()),
                trust: Trust {
                    required,
                    root: None,
                },
            });
            let mut plugin = ActionPlugin::default();
            plugin.spec.source = source.clone();
            let maps = One(Arc::new(map.clone()));
            let objects = Objects {
                config_maps: &maps,
                pull_secrets: &NoSecrets,
            };
            let fetched = registry.fetch(&plugin, objects).await;
            let reason = fetched.map_err(|error| error.reason).err();
            assert_eq!(reason, refused, "{source:?}");
        }
    }
}
