//! What a source found. Its bytes leave this file only as a verified `Component`, so that no source can forget
//! a check.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use operon_api::ActionPlugin;
use operon_core::{
    action::LoadError,
    action_plugin::source::{Component, Origin, Signer},
};

use crate::{
    digest, refused, shown,
    verify::{Accepted, Digests, Subject, Trust, TrustedRoot, VerifyError, verify},
};

/// The bytes of a component, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    bytes: Vec<u8>,
    signed: Signed,
}

/// What the signatures of a component are about, and those that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Signed {
    /// The component is a part of the host's image, like the code that would verify it.
    WithHost,
    /// The bytes.
    Bytes(Signatures),
    /// The manifest with this digest, which names the bytes by their digest.
    Manifest(String, Signatures),
}

/// The Sigstore bundles that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signatures {
    /// The JSON text of each.
    pub(crate) bundles: Vec<Vec<u8>>,
    /// If there are none: where they were looked for, and how to make one. A sentence without its end.
    pub(crate) missing: String,
    /// If there are others that are not read: where, how many, and by which limit. A sentence without its end.
    pub(crate) left_out: Option<String>,
    /// Whether there may be others, which could not be read now.
    pub(crate) incomplete: bool,
}

impl Found {
    /// An uncompressed component of the host's own image. Nothing but its digest is verified.
    pub(crate) fn with_host(bytes: Vec<u8>) -> Self {
        let signed = Signed::WithHost;
        Self { bytes, signed }
    }

    /// An uncompressed component, and the signatures of its bytes.
    pub(crate) fn signed_by_bytes(bytes: Vec<u8>, signatures: Signatures) -> Self {
        let signed = Signed::Bytes(signatures);
        Self { bytes, signed }
    }

    /// An uncompressed component that the manifest with this digest (`sha256:…`) contains, and the signatures of
    /// the manifest. The source has compared the digests of manifest and content.
    pub(crate) fn signed_by_manifest(
        bytes: Vec<u8>,
        digest: String,
        signatures: Signatures,
    ) -> Self {
        let signed = Signed::Manifest(digest, signatures);
        Self { bytes, signed }
    }

    /// The component, if it has the digest that the plugin pins, a signature that the plugin accepts, and one
    /// that this host requires.
    pub(crate) fn verified(
        self,
        plugin: &ActionPlugin,
        trust: &Trust,
    ) -> Result<Component, LoadError> {
        let Trust { required, root } = trust;
        let digest = digest(&self.bytes);
        if let Some(pinned) = plugin.spec.digest.as_ref().filter(|pin| **pin != digest) {
            return Err(refused(
                "DigestMismatch",
                format!(
                    "the component's digest is {digest}, but spec.digest pins {pinned}, so the component was not run"
                ),
            ));
        }
        let mut signers = Vec::new();
        if let Some(wanted) = &plugin.spec.verify {
            let accepted =
                Accepted::of_field(wanted).map_err(|error| refused("BadKey", error.to_string()))?;
            signers.push(self.signer(&accepted, root.as_ref())?);
        }
        if let (Some(accepted), false) = (required, self.signed == Signed::WithHost) {
            let signer = self.signer(accepted, root.as_ref())?;
            if !signers.iter().any(|one: &Signer| one.is(&signer)) {
                signers.push(signer);
            }
        }
        Ok(Component {
            bytes: Arc::from(self.bytes),
            digest,
            signers,
            origin: Origin::default(),
        })
    }

    fn signer(&self, accepted: &Accepted, root: Option<&TrustedRoot>) -> Result<Signer, LoadError> {
        let (subject, signatures) = match &self.signed {
            Signed::WithHost => {
                let place = accepted.place;
                return Err(refused(
                    "NotSigned",
                    format!(
                        "{place} asks for a signature, but a built-in component has none of its own, because it is a part of the host's image: remove spec.verify"
                    ),
                ));
            }
            Signed::Bytes(signatures) => (Subject::Bytes(&self.bytes), signatures),
            Signed::Manifest(digest, signatures) => (Subject::Manifest(digest), signatures),
        };
        verify(&signatures.bundles, subject, accepted, root)
            .map_err(|error| explained(error, accepted, signatures))
    }
}

/// Why a component is refused: what was found, what was wanted, and the way out.
fn explained(error: VerifyError, accepted: &Accepted, signatures: &Signatures) -> LoadError {
    let Signatures {
        missing,
        left_out,
        incomplete,
        bundles: _,
    } = signatures;
    let place = accepted.place;
    let accepted = shown::phrase(&accepted.to_string());
    let transient = *incomplete || matches!(error, VerifyError::NotYet(_));
    let (reason, message) = match error {
        VerifyError::NotSigned => (
            "NotSigned",
            format!("the component needs a signature by one of {place} ({accepted}): {missing}"),
        ),
        VerifyError::Bad(what) => (
            "BadSignature",
            format!("the component's signature can't be used: {what}"),
        ),
        VerifyError::Invalid { hint } => {
            let hint = hint.unwrap_or_else(|| "no key".to_owned());
            (
                "SignatureInvalid",
                format!(
                    "the component's signature is not by one of {place} ({accepted}); its bundle names {hint}. Sign as one of these, or add the signer to {place}"
                ),
            )
        }
        VerifyError::NoTrustedRoot => (
            "NoTrustedRoot",
            format!(
                "{place} accepts identities, but this host has no trust root to verify them by: set the chart's value verification.trustedRoot to a Sigstore trusted_root.json (operon run --trusted-root)"
            ),
        ),
        VerifyError::Untrusted(what) => (
            "SignatureUntrusted",
            format!(
                "by the host's trust root (verification.trustedRoot), the component's signature does not prove an identity, but one of {place} ({accepted}) is needed: {what}"
            ),
        ),
        VerifyError::NotYet(what) => (
            "SignatureFromFuture",
            format!(
                "the component's signature is not accepted yet: {what}. It is tried again; if that stays so, set the clock of the host's node"
            ),
        ),
        VerifyError::Expired(what) => (
            "CertificateExpired",
            format!("the component's signature proves no identity: {what}. Sign it again"),
        ),
        VerifyError::Identity(found) => (
            "IdentityNotAccepted",
            format!(
                "the component was signed by {found}, which is not one of {place} ({accepted}). Sign as one of these, or add the identity to {place}"
            ),
        ),
        VerifyError::SaysAnother(Digests { signed, wanted })
        | VerifyError::Another(Digests { signed, wanted }) => (
            "SignatureOfAnother",
            format!(
                "the signature is about {signed}, but the component needs one about {wanted}: sign it again, and store component and signature together"
            ),
        ),
    };
    // The accepted one may be among those that were not read.
    let message = match left_out {
        Some(left_out) => format!("{left_out}; of those that were read: {message}"),
        None => message,
    };
    LoadError {
        transient,
        ..refused(reason, shown::message(&message))
    }
}
