//! Whether a component has a signature by a key or an identity that is accepted. Pure: bundles, subject, those who may
//! sign and the trust root in, the signer or the reason against it out.
//!
//! A signature is a Sigstore bundle as `cosign` writes it: of a file's bytes (`cosign sign-blob`), or of a manifest's
//! digest in a DSSE envelope (`cosign sign`). A key needs no log entry and no timestamp, so they are not looked at: who
//! has the key may sign, at any time. `keyless.rs` says what an identity needs, and what is trusted of others there.
//!
//! What is trusted of others for keys: `rustls-webpki` and `ring` verify a signature of bytes by a public key;
//! `rustls-pki-types` reads PEM. Composed here are DSSE's pre-authentication encoding, which is what an envelope's
//! signature is about, and the comparison of the digest that the signed statement names.

mod accepted;
mod bundle;
mod keyless;
mod keys;
#[cfg(test)]
mod tests;

use operon_core::action_plugin::source::Signer;

use self::bundle::{Content, MessageSignature, Parsed};
pub use self::{
    accepted::{Accepted, identities_of_path},
    keyless::TrustedRoot,
    keys::Keys,
};
use crate::{digest, shown};

/// A key, a list of identities or a trust root that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} {what}")]
pub struct Unusable {
    place: String,
    what: String,
}

impl Unusable {
    fn new(place: &str, what: &str) -> Self {
        Self {
            place: place.to_owned(),
            what: what.to_owned(),
        }
    }
}

/// What this host trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// If set, a component that is not built in must have a signature by one of these, whatever its ActionPlugin says.
    pub required: Option<Accepted>,
    /// By what identities are verified.
    pub root: Option<TrustedRoot>,
}

/// What a signature must be about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The manifest with this digest, `sha256:…`.
    Manifest(&'a str),
}

/// Why no bundle is an accepted signature of the subject. Of several bundles the last variant is reported: what was
/// verified comes after what a bundle only claims, so that an added bundle can't hide it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VerifyError {
    /// There is no bundle.
    NotSigned,
    /// A bundle can't be read, or is something else than a signature.
    Bad(String),
    /// The bundle says that it is about something else.
    SaysAnother(Digests),
    /// No accepted key made the signature.
    Invalid {
        /// Who the bundle says that signed: the fingerprint of a key, or an identity.
        hint: Option<String>,
    },
    /// An identity may have signed, but there is no trust root to verify that by.
    NoTrustedRoot,
    /// What the bundle has to prove an identity does not hold.
    Untrusted(String),
    /// By the clock of this machine, the signature is made only later.
    NotYet(String),
    /// The identity's certificate was not valid when the signature was made.
    Expired(String),
    /// The identity that signed is not accepted.
    Identity(String),
    /// An accepted key signed something else.
    Another(Digests),
}

/// What was signed, and what should have been.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digests {
    /// The digest that was signed, `sha256:…`.
    pub(crate) signed: String,
    /// The digest that a signature must be about.
    pub(crate) wanted: String,
}

/// The key or identity that signed the subject, by the first bundle that holds.
pub(crate) fn verify(
    bundles: &[Vec<u8>],
    subject: Subject<'_>,
    accepted: &Accepted,
    root: Option<&TrustedRoot>,
) -> Result<Signer, VerifyError> {
    let mut closest = VerifyError::NotSigned;
    for bundle in bundles {
        match verify_one(bundle, subject, accepted, root) {
            Ok(signer) => return Ok(signer),
            Err(error) => closest = closest.max(error),
        }
    }
    Err(closest)
}

fn verify_one(
    bundle: &[u8],
    subject: Subject<'_>,
    accepted: &Accepted,
    root: Option<&TrustedRoot>,
) -> Result<Signer, VerifyError> {
    let Parsed {
        content,
        hint,
        has_certificate,
    } = bundle::parse(bundle).map_err(VerifyError::Bad)?;
    let keys = accepted.keys.as_ref();
    let by_key = match &content {
        Content::Message(message) => {
            let bytes = signed_bytes(message, subject)?;
            keys.and_then(|keys| keys.signer(bytes, &message.signature))
        }
        Content::Envelope(envelope) => {
            let encoded = envelope.pre_authentication_encoding();
            keys.and_then(|keys| keys.signer(&encoded, &envelope.signature))
        }
    };
    if let Some(signer) = by_key {
        // Only now is the statement the signer's.
        check_statement(&content, subject, VerifyError::Another)?;
        return Ok(signer);
    }
    match (has_certificate, accepted.identities.as_slice(), root) {
        (false, _, _) => Err(VerifyError::Invalid { hint }),
        (true, [], _) => Err(VerifyError::Invalid {
            hint: keyless::claim(bundle),
        }),
        (true, [_, ..], None) => Err(VerifyError::NoTrustedRoot),
        (true, identities, Some(root)) => {
            // Not the signer's yet, but it says more than that something does not fit.
            check_statement(&content, subject, VerifyError::SaysAnother)?;
            let identity = root.signer(bundle, subject, identities)?;
            Ok(Signer::Identity(identity))
        }
    }
}

/// What a message's signature must be about.
fn signed_bytes<'a>(
    message: &MessageSignature,
    subject: Subject<'a>,
) -> Result<&'a [u8], VerifyError> {
    let Subject::Bytes(bytes) = subject else {
        return Err(VerifyError::Bad(
            "it is the signature of a file, not of a manifest".to_owned(),
        ));
    };
    // The bundle's word for it, which only the message depends on: the signature is verified over the bytes.
    if let Some(signed) = &message.sha256 {
        let wanted = digest(bytes);
        if *signed != wanted {
            return Err(VerifyError::SaysAnother(Digests::new(signed, wanted)));
        }
    }
    Ok(bytes)
}

/// The statement of an envelope must be a signature of the subject.
fn check_statement(
    content: &Content,
    subject: Subject<'_>,
    another: fn(Digests) -> VerifyError,
) -> Result<(), VerifyError> {
    let Content::Envelope(envelope) = content else {
        return Ok(());
    };
    let digests = envelope.signed_digests().map_err(VerifyError::Bad)?;
    let wanted = match subject {
        Subject::Bytes(bytes) => digest(bytes),
        Subject::Manifest(digest) => digest.to_owned(),
    };
    if digests.contains(&wanted) {
        return Ok(());
    }
    Err(another(Digests::new(&digests.join(", "), wanted)))
}

impl Digests {
    fn new(signed: &str, wanted: String) -> Self {
        let signed = shown::value(signed);
        Self { signed, wanted }
    }
}
