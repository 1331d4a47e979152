//! Where a component's bytes come from. Implemented by the plugin registry.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use operon_api::{
    ActionPlugin,
    action_plugin::{Artifact, Identity},
};

use crate::action::LoadError;

/// A component's bytes, with their digest and origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The WebAssembly component, not compressed.
    pub bytes: Arc<[u8]>,
    /// `sha256:` and the bytes' digest in hexadecimal.
    pub digest: String,
    /// By whom its verified signatures are; none if no signature is required.
    pub signers: Vec<Signer>,
    /// What else is known of where it was found.
    pub origin: Origin,
}

/// By whom a signature of a component was verified to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The owner of a public key.
    Key {
        /// `sha256:` and the digest of the key's DER form (SubjectPublicKeyInfo) in hexadecimal.
        fingerprint: String,
        /// The key in PEM, as it was given.
        key: String,
    },
    /// An identity, by a certificate and an entry of a transparency log.
    Identity(Identity),
}

impl Signer {
    /// Whether both are the same key or the same identity, however the key is written.
    pub fn is(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key {
                fingerprint,
                key: _,
            } => to.write_str(fingerprint),
            Self::Identity(identity) => identity.fmt(to),
        }
    }
}

/// What is known of where a component was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The artifact in an OCI registry.
    pub artifact: Option<Artifact>,
    /// The digest that the artifact's tag names now, if it is another one.
    pub moved_to: Option<String>,
}

/// The ConfigMaps of the operator's namespace, as the host's store has them.
pub trait ConfigMaps: Send + Sync {
    /// The ConfigMap of this name.
    fn get(&self, name: &str) -> Option<Arc<ConfigMap>>;
}

/// The Secrets of the operator's namespace with credentials for registries. They are read from the API server when
/// a registry is asked.
pub trait PullSecrets: Send + Sync {
    /// The Secret of this name; none if it does not exist.
    ///
    /// # Errors
    /// `PullSecretForbidden` or `PullSecretUnreadable`.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, LoadError>>;

    /// The names of the `imagePullSecrets` of the ServiceAccount of this name.
    fn of_account(&self, name: &str) -> Vec<String>;
}

/// The objects of the operator's namespace that sources refer to.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    /// The ConfigMaps.
    pub config_maps: &'a dyn ConfigMaps,
    /// The Secrets.
    pub pull_secrets: &'a dyn PullSecrets,
}

/// Finds the component that an ActionPlugin refers to.
pub trait ComponentSource: Send + Sync {
    /// The component, verified against `spec.digest`, `spec.verify` and what the host requires.
    fn fetch<'a>(
        &'a self,
        plugin: &'a ActionPlugin,
        objects: Objects<'a>,
    ) -> BoxFuture<'a, Result<Component, LoadError>>;
}
