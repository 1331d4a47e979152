//! Components in OCI registries: pulls the one file of an artifact, and the signatures that refer to it.
//!
//! A tag is resolved to a manifest's digest, the manifest names a layer by digest, and both are checked when
//! they arrive and when they are read from the cache. Nothing here looks into a component or trusts a signature.

mod allowed;
mod docker_config;

use std::{path::PathBuf, time::Duration};

use operon_core::action::LoadError;

pub use self::{allowed::AllowedRegistries, docker_config::DockerConfig};
use crate::{MAX_COMPONENT, refused};

/// What a [`Puller`] may use.
#[derive(Clone, Debug)]
pub struct PullerConfig {
    /// The directory of the cache, created if needed; without one, every pull needs its registry.
    pub cache: Option<PathBuf>,
    /// The largest component in bytes, compressed and decompressed.
    pub max_component: usize,
    /// The registries that may be contacted.
    pub allowed: AllowedRegistries,
    /// The total time of one call, whatever the registry does.
    pub deadline: Duration,
}

impl Default for PullerConfig {
    fn default() -> Self {
        Self {
            cache: None,
            max_component: MAX_COMPONENT,
            allowed: AllowedRegistries::default(),
            deadline: Duration::from_mins(2),
        }
    }
}

/// What to pull, and how its registry may be spoken to.
#[derive(Clone, Copy, Debug)]
pub struct PullRequest<'a> {
    /// `HOST[:PORT]/REPOSITORY:TAG` or `HOST[:PORT]/REPOSITORY@sha256:HEX`.
    pub reference: &'a str,
    /// Speaks HTTP without TLS, also to the registry's token server.
    pub plain_http: bool,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca: Option<&'a [u8]>,
    /// Pull secrets; those with credentials for the registry are tried in this order.
    pub credentials: &'a [DockerConfig],
    /// The digest that the tag was resolved to before: this manifest is pulled, whatever the tag names now.
    pub manifest: Option<&'a str>,
}

/// A component that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The WebAssembly file, not compressed.
    pub bytes: Vec<u8>,
    /// `sha256:` and the digest of the manifest that the reference names. Comparable with [`Puller::resolve`].
    pub manifest: String,
    /// `sha256:` and the digest of the manifest that has the component's layer. It differs from `manifest` only
    /// if the reference names an index.
    pub image: String,
}

/// Pulls components from OCI registries.
///
/// Guarantees: credentials are sent only to the registry that they are for and to its token server, after both
/// were found allowed; every manifest and blob has its digest; memory and time of a call are bounded; a registry
/// that asks for a pause gets it. Errors name the reference, the registry, the Secrets tried and the way out.
#[derive(Debug)]
pub struct Puller {
    config: PullerConfig,
}

impl Puller {
    /// A puller with its own cache and memory of pauses that registries asked for.
    ///
    /// Errors: TLS can't be set up.
    pub fn new(config: PullerConfig) -> Result<Self, LoadError> {
        Ok(Self { config })
    }

    /// The component that the request names.
    ///
    /// A manifest that is known by digest, and all that it needs, may come from the cache: the registry may be
    /// unreachable then.
    pub async fn pull(&self, request: &PullRequest<'_>) -> Result<Pulled, LoadError> {
        self.unfinished(request).await
    }

    /// The digest of the manifest that the request's reference names now; the request's `manifest` is ignored.
    pub async fn resolve(&self, request: &PullRequest<'_>) -> Result<String, LoadError> {
        self.unfinished(request).await
    }

    /// The Sigstore bundles that refer to a manifest, by the referrers API and by the tag scheme: at most 16, of
    /// at most 1 MiB each. None is no error. Those seen before stand in while the registry is unreachable.
    pub async fn bundles(
        &self,
        request: &PullRequest<'_>,
        manifest: &str,
    ) -> Result<Vec<Vec<u8>>, LoadError> {
        let _ = manifest;
        self.unfinished(request).await
    }

    async fn unfinished<T>(&self, request: &PullRequest<'_>) -> Result<T, LoadError> {
        let _ = &self.config;
        std::future::ready(Err(refused(
            "NotSupported",
            format!("{:?} can't be pulled yet", request.reference),
        )))
        .await
    }
}
