//! Components in OCI registries: pulls the one file of an artifact, and the signature bundles that refer to it.
//!
//! A tag is resolved to the digest of a manifest, and the manifest names a layer by its digest. Manifest and
//! layer are checked against their digests when they are received and when they are read from the cache.
//! Nothing here reads a component or verifies a signature.

mod allowed;
mod artifact;
mod auth;
mod bundles;
mod cache;
mod docker_config;
mod fault;
mod layout;
mod reference;
mod session;
mod transport;
mod unpack;

use std::{path::PathBuf, time::Duration};

use operon_core::action::LoadError;

pub use self::{
    allowed::AllowedRegistries,
    bundles::{Bundles, LeftOut},
    docker_config::DockerConfig,
};
use self::{
    artifact::Artifact,
    cache::Cache,
    fault::Fault,
    layout::{Content, Descriptor, Manifest},
    session::{MAX_MANIFEST, Session},
    transport::{Pauses, Transport},
};
use crate::MAX_COMPONENT;

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
/// Guarantees:
/// - Credentials are sent only to their own registry and to its token server, and only if both are allowed.
/// - Every manifest and blob that is used matches its digest.
/// - The memory and the time of a call are bounded.
/// - Nothing is sent to a registry that has asked for a pause (Retry-After) until the pause has ended.
///
/// Errors name the reference, the registry, the Secrets with credentials for it, and what to do.
#[derive(Debug)]
pub struct Puller {
    config: PullerConfig,
    cache: Cache,
    pauses: Pauses,
}

impl Puller {
    /// A puller that keeps track of the pauses that registries ask for. Share one between all plugins.
    pub fn new(config: PullerConfig) -> Self {
        // Fails if the process has installed a provider before. It is the same one: no other is compiled in.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cache = Cache::new(config.cache.clone());
        Self {
            config,
            cache,
            pauses: Pauses::default(),
        }
    }

    /// The component that the request names.
    ///
    /// If the manifest's digest is known, by the reference or by `manifest`, what the cache has is used: then
    /// neither the registry nor credentials are needed.
    pub async fn pull(&self, request: &PullRequest<'_>) -> Result<Pulled, LoadError> {
        let artifact = self.artifact(request)?;
        artifact
            .finish(self.config.deadline, self.pull_artifact(&artifact))
            .await
    }

    /// The digest of the manifest that the request's reference names now; the request's `manifest` is ignored.
    pub async fn resolve(&self, request: &PullRequest<'_>) -> Result<String, LoadError> {
        let artifact = self.artifact(&PullRequest {
            manifest: None,
            ..*request
        })?;
        let resolved = async { Ok(self.connect(&artifact).await?.1) };
        artifact.finish(self.config.deadline, resolved).await
    }

    /// The Sigstore bundles that refer to a manifest, by the referrers API and by the tag scheme: at most 16, of
    /// at most 1 MiB each. An empty list is no error. If the registry can't be read, the bundles that were found
    /// the last time are returned; they are added if it can be read in part.
    pub async fn bundles(
        &self,
        request: &PullRequest<'_>,
        manifest: &str,
    ) -> Result<Bundles, LoadError> {
        let artifact = self.artifact(&PullRequest {
            manifest: Some(manifest),
            ..*request
        })?;
        let fetched = async {
            let (mut session, _) = self.connect(&artifact).await?;
            bundles::fetch(&mut session, manifest).await
        };
        let known = || self.cache.bundles(manifest, bundles::MAX_FILE);
        match artifact.finish(self.config.deadline, fetched).await {
            Ok(mut fetched) if fetched.left_out.unreadable > 0 => {
                let Bundles { bundles, .. } = &mut fetched;
                let known = known().unwrap_or_default();
                for one in known {
                    if !bundles.contains(&one) {
                        bundles.push(one);
                    }
                }
                Ok(fetched)
            }
            Ok(fetched) => {
                self.cache.keep_bundles(manifest, &fetched.bundles);
                Ok(fetched)
            }
            Err(error) => {
                // An empty list is not used: a signature may have been added since.
                let bundles = known().filter(|bundles| !bundles.is_empty());
                let left_out = LeftOut::default();
                bundles
                    .map(|bundles| Bundles { bundles, left_out })
                    .ok_or(error)
            }
        }
    }

    /// What a request asks for, if it is well-formed and allowed.
    fn artifact<'a>(&self, request: &PullRequest<'a>) -> Result<Artifact<'a>, LoadError> {
        let artifact = Artifact::parse(request)?;
        if self.config.allowed.allows(&artifact.reference) {
            return Ok(artifact);
        }
        let allowed = &self.config.allowed;
        Err(artifact.error(Fault::lasting(
            "RegistryNotAllowed",
            format!("is not in an allowed registry; allowed are {allowed}"),
        )))
    }

    async fn pull_artifact(&self, artifact: &Artifact<'_>) -> Result<Pulled, Fault> {
        let mut fetch = Fetch {
            puller: self,
            artifact,
            session: None,
        };
        let manifest = match artifact.digest() {
            Some(digest) => digest.to_owned(),
            None => fetch.resolve().await?,
        };
        let (image, layer) = match fetch.content(&manifest).await? {
            Content::Layer(layer) => (manifest.clone(), layer),
            Content::Manifest(image) => match fetch.content(&image.digest).await? {
                Content::Layer(layer) => (image.digest, layer),
                Content::Manifest(_) => {
                    return Err(Fault::lasting(
                        "AmbiguousArtifact",
                        "is an index of an index; name the digest of an image",
                    ));
                }
            },
        };
        let max = self.config.max_component;
        let packed = fetch
            .layer(&layer, unpack::largest_layer(layer.is_tar(), max))
            .await?;
        let bytes = unpack::unpack(packed, layer.is_tar(), max)?;
        Ok(Pulled {
            bytes,
            manifest,
            image,
        })
    }

    /// A session for an artifact, and the digest of its manifest. Credentials are tried in their order.
    async fn connect<'a>(
        &'a self,
        artifact: &'a Artifact<'_>,
    ) -> Result<(Session<'a>, String), Fault> {
        let mut credentials: Vec<_> = artifact
            .credentials()
            .map(|(_, credential)| Some(credential))
            .collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut refused = None;
        for credential in credentials {
            let attempt = async {
                let transport = Transport::new(
                    artifact.request.plain_http,
                    artifact.request.ca,
                    &self.pauses,
                )?;
                let mut session = Session::open(
                    transport,
                    &self.config.allowed,
                    &artifact.reference,
                    credential,
                )
                .await?;
                let digest = session.resolve(artifact.version()).await?;
                Ok::<_, Fault>((session, digest))
            };
            match attempt.await {
                Err(fault) if fault.is_refusal() => refused = refused.or(Some(fault)),
                other => return other,
            }
        }
        Err(refused.unwrap_or_else(|| Fault::passing("RegistryUnauthorized", "can't be pulled")))
    }
}

/// Reads from the cache first, and connects to the registry only if something is missing there.
struct Fetch<'a, 'r> {
    puller: &'a Puller,
    artifact: &'a Artifact<'r>,
    session: Option<Session<'a>>,
}

impl<'a> Fetch<'a, '_> {
    async fn resolve(&mut self) -> Result<String, Fault> {
        let (session, digest) = self.puller.connect(self.artifact).await?;
        self.session = Some(session);
        Ok(digest)
    }

    async fn session(&mut self) -> Result<&mut Session<'a>, Fault> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.puller.connect(self.artifact).await?.0,
        };
        Ok(self.session.insert(session))
    }

    /// What the manifest with this digest leads to.
    async fn content(&mut self, digest: &str) -> Result<Content, Fault> {
        let cache = &self.puller.cache;
        let bytes = match cache.blob(digest, MAX_MANIFEST) {
            Some(bytes) => bytes,
            None => self.session().await?.manifest(digest).await?,
        };
        let content = Manifest::parse(&bytes)?.content()?;
        cache.keep_blob(&bytes);
        Ok(content)
    }

    async fn layer(&mut self, layer: &Descriptor, max: usize) -> Result<Vec<u8>, Fault> {
        let cache = &self.puller.cache;
        if let Some(bytes) = cache.blob(&layer.digest, max) {
            return Ok(bytes);
        }
        let bytes = self.session().await?.blob(layer, max).await?;
        cache.keep_blob(&bytes);
        Ok(bytes)
    }
}
