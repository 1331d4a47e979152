//! Whether a component has a signature by one of some public keys. Pure: bundles, subject and keys in, the signer
//! or the reason against it out.
//!
//! A signature is a Sigstore bundle as `cosign` writes it with a key: of a file's bytes (`cosign sign-blob`), or of
//! a manifest's digest in a DSSE envelope (`cosign sign`). Log entries and timestamps are not looked at, because a
//! key needs none: who has the key may sign, at any time.
//!
//! What is trusted of others: `rustls-webpki` and `ring` verify a signature of bytes by a public key;
//! `rustls-pki-types` reads PEM. Composed here are DSSE's pre-authentication encoding, which is what an envelope's
//! signature is about, and the comparison of the digest that the signed statement names.

mod bundle;
mod keys;
#[cfg(test)]
mod tests;

use operon_core::action_plugin::source::Signer;

use self::bundle::{Content, Envelope, MessageSignature};
pub use self::keys::{BadKey, Keys};
use crate::digest;

/// What a signature must be about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The manifest with this digest, `sha256:…`.
    Manifest(&'a str),
}

/// Why no bundle is a signature of the subject by an accepted key. The later variant says more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum VerifyError {
    /// There is no bundle.
    NotSigned,
    /// A bundle can't be read, or is something else than a signature.
    Bad(String),
    /// No accepted key made the signature.
    Invalid {
        /// The fingerprint of the key that the bundle names, if it names one.
        hint: Option<String>,
    },
    /// The signature is about something else.
    Another {
        /// The digest that was signed, `sha256:…`.
        signed: String,
        /// The digest that a signature must be about.
        wanted: String,
    },
}

/// The key that signed the subject, by the first bundle that holds.
pub(crate) fn verify(
    bundles: &[Vec<u8>],
    subject: Subject<'_>,
    keys: &Keys,
) -> Result<Signer, VerifyError> {
    let mut closest = VerifyError::NotSigned;
    for bundle in bundles {
        match verify_one(bundle, subject, keys) {
            Ok(signer) => return Ok(signer),
            Err(error) => closest = closest.max(error),
        }
    }
    Err(closest)
}

fn verify_one(bundle: &[u8], subject: Subject<'_>, keys: &Keys) -> Result<Signer, VerifyError> {
    let (content, hint) = bundle::parse(bundle).map_err(VerifyError::Bad)?;
    match content {
        Content::Message(message) => verify_message(&message, subject, keys, hint),
        Content::Envelope(envelope) => verify_envelope(&envelope, subject, keys, hint),
    }
}

fn verify_message(
    message: &MessageSignature,
    subject: Subject<'_>,
    keys: &Keys,
    hint: Option<String>,
) -> Result<Signer, VerifyError> {
    let Subject::Bytes(bytes) = subject else {
        return Err(VerifyError::Bad(
            "it is the signature of a file, not of a manifest".to_owned(),
        ));
    };
    // The bundle's word for it, which only the message depends on: the signature is verified over the bytes.
    if let Some(signed) = &message.sha256 {
        same(signed, digest(bytes))?;
    }
    let signer = keys.signer(bytes, &message.signature);
    signer.ok_or(VerifyError::Invalid { hint })
}

fn verify_envelope(
    envelope: &Envelope,
    subject: Subject<'_>,
    keys: &Keys,
    hint: Option<String>,
) -> Result<Signer, VerifyError> {
    let encoded = envelope.pre_authentication_encoding();
    let signer = keys.signer(&encoded, &envelope.signature);
    // Only now is the statement the signer's.
    let signer = signer.ok_or(VerifyError::Invalid { hint })?;
    let digests = envelope.signed_digests().map_err(VerifyError::Bad)?;
    let wanted = match subject {
        Subject::Bytes(bytes) => digest(bytes),
        Subject::Manifest(digest) => digest.to_owned(),
    };
    if !digests.contains(&wanted) {
        same(&digests.join(", "), wanted)?;
    }
    Ok(signer)
}

fn same(signed: &str, wanted: String) -> Result<(), VerifyError> {
    if signed == wanted {
        return Ok(());
    }
    let signed = signed.to_owned();
    Err(VerifyError::Another { signed, wanted })
}
