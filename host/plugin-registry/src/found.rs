//! What a source found. Its bytes leave this file only as a verified `Component`, so that no source can forget
//! a check.

use std::sync::Arc;

use operon_api::ActionPlugin;
use operon_core::{
    action::LoadError,
    action_plugin::source::{Component, Origin, Signer},
};

use crate::{
    digest, refused,
    verify::{Accepted, Subject, Trust, TrustedRoot, VerifyError, verify},
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
        let (subject, Signatures { bundles, missing }) = match &self.signed {
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
        verify(bundles, subject, accepted, root)
            .map_err(|error| explained(error, accepted, missing))
    }
}

/// Why a component is refused: what was found, what was wanted, and the way out.
fn explained(error: VerifyError, accepted: &Accepted, missing: &str) -> LoadError {
    let place = accepted.place;
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
        VerifyError::Another { signed, wanted } => (
            "SignatureOfAnother",
            format!(
                "the signature is about {signed}, but the component needs one about {wanted}: sign it again, and store component and signature together"
            ),
        ),
    };
    refused(reason, message)
}

#[cfg(test)]
mod tests {
    use operon_api::action_plugin::Verification;

    use super::*;
    use crate::verify::Keys;

    const COMPONENT: &[u8] = include_bytes!("verify/fixtures/component.txt");
    const MANIFEST: &[u8] = include_bytes!("verify/fixtures/manifest.json");
    const COSIGN: &str = include_str!("verify/fixtures/cosign.pub");
    const OTHER: &str = include_str!("verify/fixtures/other.pub");
    const BLOB: &str = include_str!("verify/fixtures/blob-cosign.sigstore.json");
    const SIGNED_MANIFEST: &str = include_str!("verify/fixtures/manifest.sigstore.json");

    fn plugin(keys: Option<&[&str]>) -> ActionPlugin {
        let mut plugin = ActionPlugin::default();
        plugin.spec.verify = keys.map(|keys| Verification {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..Verification::default()
        });
        plugin
    }

    fn required(keys: &[&str]) -> Trust {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        let keys = Keys::of_field("keys", &keys).expect("valid keys");
        Trust {
            required: Accepted::of_host(Some(keys), Vec::new()),
            root: None,
        }
    }

    fn signatures(bundles: &[&str]) -> Signatures {
        Signatures {
            bundles: bundles.iter().map(|b| b.as_bytes().to_vec()).collect(),
            missing: "sign it".to_owned(),
        }
    }

    fn blob(bundles: &[&str]) -> Found {
        Found::signed_by_bytes(COMPONENT.to_vec(), signatures(bundles))
    }

    #[test]
    fn each_requirement_is_met_or_refused_with_its_own_reason() {
        // What was found; the plugin's keys; the host's; the number of signers, or the reason and a part of the
        // message.
        type Outcome = Result<usize, (&'static str, &'static str)>;
        type Row<'a> = (Found, Option<&'a [&'a str]>, Option<&'a [&'a str]>, Outcome);
        let manifest = |content: &[u8]| {
            let signatures = signatures(&[SIGNED_MANIFEST]);
            Found::signed_by_manifest(b"content".to_vec(), digest(content), signatures)
        };
        let with_host = || Found::with_host(COMPONENT.to_vec());
        let changed = || Found::signed_by_bytes(b"changed".to_vec(), signatures(&[BLOB]));
        let ours: Option<&[&str]> = Some(&[COSIGN]);
        let others: Option<&[&str]> = Some(&[OTHER]);
        let field = "spec.verify";
        let host = "this host requires";
        let table: Vec<Row<'_>> = vec![
            (blob(&[]), None, None, Ok(0)),
            (blob(&["junk"]), None, None, Ok(0)),
            (blob(&[BLOB]), ours, None, Ok(1)),
            (blob(&[BLOB]), None, ours, Ok(1)),
            (blob(&[BLOB]), ours, ours, Ok(1)),
            (manifest(MANIFEST), ours, ours, Ok(1)),
            (with_host(), None, ours, Ok(0)),
            (blob(&[]), ours, None, Err(("NotSigned", field))),
            (blob(&[]), None, ours, Err(("NotSigned", host))),
            (blob(&[]), ours, None, Err(("NotSigned", "sign it"))),
            (
                with_host(),
                ours,
                None,
                Err(("NotSigned", "remove spec.verify")),
            ),
            (
                blob(&[BLOB]),
                others,
                None,
                Err(("SignatureInvalid", field)),
            ),
            (blob(&[BLOB]), ours, others, Err(("SignatureInvalid", host))),
            (
                blob(&[BLOB]),
                others,
                ours,
                Err(("SignatureInvalid", field)),
            ),
            (
                changed(),
                ours,
                None,
                Err(("SignatureOfAnother", "about sha256:")),
            ),
            (
                manifest(b"x"),
                ours,
                None,
                Err(("SignatureOfAnother", "about sha256:")),
            ),
            (
                blob(&["junk"]),
                ours,
                None,
                Err(("BadSignature", "Sigstore")),
            ),
            (
                blob(&[BLOB]),
                Some(&["junk"]),
                None,
                Err(("BadKey", "spec.verify.keys[0]")),
            ),
            (blob(&[BLOB]), Some(&[]), None, Err(("BadKey", field))),
        ];
        for (number, (found, keys, host, wanted)) in table.into_iter().enumerate() {
            let trust = host.map(required).unwrap_or_default();
            match (found.verified(&plugin(keys), &trust), wanted) {
                (Ok(component), Ok(count)) => {
                    assert_eq!(component.signers.len(), count, "row {number}");
                }
                (Err(error), Err((reason, part))) => {
                    assert_eq!(error.reason, reason, "row {number}: {error:?}");
                    assert!(error.message.contains(part), "row {number}: {error:?}");
                    assert!(!error.transient, "row {number}");
                }
                (found, wanted) => unreachable!("row {number}: {found:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn a_pinned_component_needs_its_signature_too() {
        let mut pinned = plugin(Some(&[COSIGN]));
        pinned.spec.digest = Some(digest(COMPONENT));
        let trust = Trust::default();
        let reason = |found: Found| found.verified(&pinned, &trust).map_err(|e| e.reason).err();
        assert_eq!(reason(blob(&[BLOB])), None);
        assert_eq!(reason(blob(&[])), Some("NotSigned"));
        let other = Found::signed_by_bytes(b"changed".to_vec(), signatures(&[BLOB]));
        assert_eq!(reason(other), Some("DigestMismatch"));
    }
}
