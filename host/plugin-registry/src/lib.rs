//! Finds the bytes of a component by reference, and verifies their digest and signatures.
//!
//! One file per kind of source. A source only finds bytes (`Found`), which become a component by
//! `Found::verified` alone: no source can forget it. Nothing here looks into a component.

mod builtin;
mod config_map;
mod found;
mod gzip;
pub mod oci;
mod verify;

use std::path::PathBuf;

use futures::future::BoxFuture;
use operon_api::{ActionPlugin, action_plugin::PluginSource};
use operon_core::{
    action::LoadError,
    action_plugin::source::{Component, ComponentSource, ConfigMaps},
};
use sha2::{Digest, Sha256};

use crate::found::Found;
pub use crate::verify::{BadKey, Keys};

/// The largest component that is taken, uncompressed.
pub const MAX_COMPONENT: usize = 16 << 20;

/// Finds components for plugins of this operator.
#[derive(Clone, Debug)]
pub struct Registry {
    namespace: String,
    builtin: PathBuf,
    required: Option<Keys>,
}

impl Registry {
    /// A registry that reads the files of one folder, and ConfigMaps of the operator's namespace only. If keys are
    /// required, a component of any other source than that folder must have a signature by one of them.
    pub fn new(namespace: String, builtin: PathBuf, required: Option<Keys>) -> Self {
        Self {
            namespace,
            builtin,
            required,
        }
    }

    fn find(
        &self,
        plugin: &ActionPlugin,
        config_maps: &dyn ConfigMaps,
    ) -> Result<Found, LoadError> {
        let PluginSource {
            builtin,
            config_map,
        } = &plugin.spec.source;
        match (builtin, config_map) {
            (Some(source), None) => builtin::find(&self.builtin, source),
            (None, Some(source)) => config_map::find(&self.namespace, source, config_maps),
            (None, None) | (Some(_), Some(_)) => Err(refused(
                "NoSource",
                "spec.source must name exactly one source: set builtin or configMap".to_owned(),
            )),
        }
    }
}

impl ComponentSource for Registry {
    fn fetch<'a>(
        &'a self,
        plugin: &'a ActionPlugin,
        config_maps: &'a dyn ConfigMaps,
    ) -> BoxFuture<'a, Result<Component, LoadError>> {
        Box::pin(async move {
            self.find(plugin, config_maps)?
                .verified(plugin, self.required.as_ref())
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

    use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
    use operon_api::action_plugin::{BuiltinSource, ConfigMapSource};

    use super::*;

    struct One(Arc<ConfigMap>);

    impl ConfigMaps for One {
        fn get(&self, _: &str) -> Option<Arc<ConfigMap>> {
            Some(Arc::clone(&self.0))
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
            let registry = Registry::new("own".to_owned(), folder.path().to_owned(), keys);
            let mut plugin = ActionPlugin::default();
            plugin.spec.source = source.clone();
            let maps = One(Arc::new(map.clone()));
            let fetched = registry.fetch(&plugin, &maps).await;
            let reason = fetched.map_err(|error| error.reason).err();
            assert_eq!(reason, refused, "{source:?}");
        }
    }
}
