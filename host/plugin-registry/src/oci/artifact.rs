//! What a request asks for: its reference, the credentials for it, and errors that name both.

use std::time::Duration;

use operon_core::action::LoadError;

use super::{
    PullRequest,
    docker_config::Credential,
    fault::Fault,
    reference::{Reference, Version, is_digest},
};

/// A valid request.
pub(super) struct Artifact<'a> {
    pub request: PullRequest<'a>,
    pub reference: Reference,
}

impl<'a> Artifact<'a> {
    pub(super) fn parse(request: &PullRequest<'a>) -> Result<Self, LoadError> {
        let text = request.reference;
        let bad = |what: String| LoadError {
            reason: "BadReference",
            message: format!("{text:?} {what}"),
            transient: false,
        };
        let reference = Reference::parse(text).map_err(bad)?;
        if let Some(manifest) = request.manifest.filter(|manifest| !is_digest(manifest)) {
            return Err(bad(format!(
                "was resolved to {manifest:?}, which is no digest"
            )));
        }
        Ok(Self {
            request: *request,
            reference,
        })
    }

    /// The digest of the manifest to pull, if it is known.
    pub(super) fn digest(&self) -> Option<&str> {
        let named = match &self.reference.version {
            Version::Digest(digest) => Some(digest.as_str()),
            Version::Tag(_) => None,
        };
        named.or(self.request.manifest)
    }

    /// The tag or digest to ask the registry for.
    pub(super) fn version(&self) -> &str {
        self.digest().unwrap_or(self.reference.version.as_str())
    }

    /// The credentials for this artifact, each with its Secret.
    pub(super) fn credentials(&self) -> impl Iterator<Item = (&'a str, &'a Credential)> {
        let secrets = self.request.credentials.iter();
        secrets.filter_map(|config| Some((config.secret(), config.credential(&self.reference)?)))
    }

    /// The result of `work`, or an error if it takes longer than `deadline`.
    pub(super) async fn finish<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, LoadError> {
        let late = || {
            let (registry, seconds) = (&self.reference.registry, deadline.as_secs());
            Err(Fault::passing(
                "RegistryTimeout",
                format!(
                    "can't be pulled: {registry} did not deliver it within {seconds} s; it is tried again"
                ),
            ))
        };
        let done = tokio::time::timeout(deadline, work)
            .await
            .unwrap_or_else(|_| late());
        done.map_err(|fault| self.error(fault))
    }

    /// The error, completed by the reference and the Secrets with credentials for its registry.
    pub(super) fn error(&self, fault: Fault) -> LoadError {
        let Fault {
            reason,
            what,
            transient,
        } = fault;
        let registry = &self.reference.registry;
        let secrets: Vec<String> = self
            .credentials()
            .map(|(secret, _)| format!("{secret:?}"))
            .collect();
        let secrets = match secrets.as_slice() {
            [] => format!("no pull secret has credentials for {registry}"),
            secrets => format!(
                "pull secrets with credentials for {registry}: {}",
                secrets.join(", ")
            ),
        };
        LoadError {
            reason,
            message: format!("{:?} {what} ({secrets})", self.request.reference),
            transient,
        }
    }
}
