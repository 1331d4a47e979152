//! Where a component's bytes come from. Implemented by the plugin registry.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use operon_api::ActionPlugin;

use crate::action::LoadError;

/// A component's bytes, with their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The WebAssembly component, not compressed.
    pub bytes: Arc<[u8]>,
    /// `sha256:` and the bytes' digest in hexadecimal.
    pub digest: String,
    /// The keys by which its signatures were verified; none if no signature is required.
    pub signers: Vec<Signer>,
}

/// A public key by which a signature of a component was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// `sha256:` and the digest of the key's DER form (SubjectPublicKeyInfo) in hexadecimal.
    pub fingerprint: String,
    /// The key in PEM, as it was given.
    pub key: String,
}

/// The ConfigMaps of the operator's namespace, as the host's store has them.
pub trait ConfigMaps: Send + Sync {
    /// The ConfigMap of this name.
    fn get(&self, name: &str) -> Option<Arc<ConfigMap>>;
}

/// Finds the component that an ActionPlugin refers to.
pub trait ComponentSource: Send + Sync {
    /// The component, verified against `spec.digest`, `spec.verify` and what the host requires.
    fn fetch<'a>(
        &'a self,
        plugin: &'a ActionPlugin,
        config_maps: &'a dyn ConfigMaps,
    ) -> BoxFuture<'a, Result<Component, LoadError>>;
}
