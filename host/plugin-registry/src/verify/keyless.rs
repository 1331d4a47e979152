//! Whether an identity signed, without a key of its own: by a certificate that is valid for some minutes, and an
//! entry of a transparency log that says when it was used. Offline: everything is in the bundle and the trust root.
//!
//! What is trusted of `sigstore-verify`, by its source and by the tests here:
//! - the certificate chains to a certificate authority of the trust root, for code signing, and is valid at every
//!   time that the bundle proves: the timestamps of authorities of the trust root, and the log's integrated time, which
//!   the log's inclusion promise signs. Without such a time the bundle is refused. The clock of this machine says only
//!   whether the log's time is in the future, and whether a key of the log is in use already;
//! - the certificate's one SCT is by a certificate transparency log of the trust root;
//! - the log entry is in the tree by its inclusion proof, and the tree's checkpoint is signed by a log of the trust root,
//!   with any of its keys: also with a retired one, until it is removed from the file;
//! - one entry of the bundle must have a proof; every proof and promise that is there must hold;
//! - the log entry names this signature, this certificate and this digest;
//! - the signature is by the certificate's key, over these bytes or over the envelope, whose statement names this
//!   digest.
//!
//! It checks no revocation, and no consistency between two checkpoints of a log. Its cryptography is `aws-lc-rs` and
//! `rustls-webpki`. Added here: the issuer and subject must be accepted, and a statement must be a signature. A trust root
//! without certificate authorities, logs or certificate transparency logs is refused, which ends the host at its start.

use std::{
    fmt, fs,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use operon_api::action_plugin::Identity;
use sigstore_verify::{
    CertificateError, Error, TransparencyLogError, VerificationPolicy, Verifier,
    crypto::{CertificateInfo, parse_certificate_info},
    trust_root,
    types::{Artifact, Bundle, Sha256Hash},
};

use super::{Subject, Unusable, VerifyError, bundle::of_library};
use crate::shown;

/// The most that is verified of one bundle: cosign writes some KiB, with one entry and at most one timestamp.
const MAX_BUNDLE: usize = 128 << 10;
const MAX_ENTRIES: usize = 4;
const MAX_TIMESTAMPS: usize = 4;
/// A checkpoint has a line for each witness.
const MAX_CHECKPOINT: usize = 4 << 10;

/// The certificate authorities and logs by which identities are verified: a Sigstore `trusted_root.json`.
#[derive(Clone)]
pub struct TrustedRoot(Arc<Verifier>);

impl fmt::Debug for TrustedRoot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("TrustedRoot").finish_non_exhaustive()
    }
}

impl TrustedRoot {
    /// The trust root of a file.
    ///
    /// # Errors
    /// A file that can't be read, is something else, or by which no bundle could be verified.
    pub fn of_path(path: &Path) -> Result<Self, Unusable> {
        let bad = |what: String| Unusable::new(&path.display().to_string(), &what);
        let text =
            fs::read_to_string(path).map_err(|error| bad(format!("can't be read: {error}")))?;
        let root = trust_root::TrustedRoot::from_json(&text)
            .map_err(|error| bad(format!("is not a Sigstore trusted_root.json: {error}")))?;
        for (list, is_empty) in [
            (
                "certificateAuthorities",
                root.certificate_authorities.is_empty(),
            ),
            ("tlogs", root.tlogs.is_empty()),
            ("ctlogs", root.ctlogs.is_empty()),
        ] {
            if is_empty {
                return Err(bad(format!(
                    "is a trust root without {list}, by which no signature can be verified"
                )));
            }
        }
        let verifier = Verifier::new(&root)
            .map_err(|error| bad(format!("is a trust root that can't be used: {error}")))?;
        Ok(Self(Arc::new(verifier)))
    }

    /// The one of these identities that signed the subject. The bundle was parsed, and has a certificate.
    pub(super) fn signer(
        &self,
        bundle: &[u8],
        subject: Subject<'_>,
        identities: &[Identity],
    ) -> Result<Identity, VerifyError> {
        let bundle = read(bundle).map_err(VerifyError::Bad)?;
        let certificate = certificate(&bundle).map_err(VerifyError::Bad)?;
        let artifact = match subject {
            Subject::Bytes(bytes) => Artifact::from_blob(bytes),
            Subject::Manifest(digest) => {
                let digest = Sha256Hash::from_hex(digest.trim_start_matches("sha256:"))
                    .map_err(|error| VerifyError::Bad(of_library(&error)))?;
                Artifact::from_digest(digest)
            }
        };
        let anyone = VerificationPolicy::any_identity();
        let verified = self.0.verify(artifact, &bundle, &anyone);
        let verified = verified.map_err(|error| refusal(&error, &bundle, &certificate))?;
        if !(verified.certificate_verified() && verified.sct_verified() && verified.tlog_verified())
        {
            return Err(VerifyError::Untrusted(
                "not all of its evidence was verified".to_owned(),
            ));
        }
        let found = identity(&certificate);
        identities
            .iter()
            .find(|accepted| Some(*accepted) == found.as_ref())
            .cloned()
            .ok_or_else(|| VerifyError::Identity(claimed(&certificate)))
    }
}

/// Who a bundle's certificate says that signed, if it has a certificate; not verified.
pub(super) fn claim(bundle: &[u8]) -> Option<String> {
    let certificate = read(bundle).and_then(|bundle| certificate(&bundle)).ok()?;
    Some(claimed(&certificate))
}

/// A bundle that is small enough to be verified. Everything in it costs time, also what is wrong.
fn read(bundle: &[u8]) -> Result<Bundle, String> {
    let most = |what: &str, found: usize, most: usize| {
        if found <= most {
            return Ok(());
        }
        Err(format!(
            "it has {found} {what}, but a bundle of an identity may have at most {most}"
        ))
    };
    most("bytes", bundle.len(), MAX_BUNDLE)?;
    let text = std::str::from_utf8(bundle).map_err(|error| format!("it is no text: {error}"))?;
    let bundle = Bundle::from_json(text).map_err(|error| {
        let error = of_library(&error);
        format!("it is not a complete Sigstore bundle: {error}")
    })?;
    let material = &bundle.verification_material;
    let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
    most("log entries", material.tlog_entries.len(), MAX_ENTRIES)?;
    most("timestamps", timestamps.len(), MAX_TIMESTAMPS)?;
    let proofs = material.tlog_entries.iter();
    for proof in proofs.filter_map(|entry| entry.inclusion_proof.as_ref()) {
        let length = proof.checkpoint.envelope().len();
        most("bytes in a checkpoint", length, MAX_CHECKPOINT)?;
    }
    Ok(bundle)
}

fn certificate(bundle: &Bundle) -> Result<CertificateInfo, String> {
    let certificate = bundle.signing_certificate();
    let certificate = certificate.ok_or_else(|| "it has no certificate".to_owned())?;
    parse_certificate_info(certificate)
        .map_err(|error| format!("its certificate can't be read: {}", of_library(&error)))
}

fn identity(certificate: &CertificateInfo) -> Option<Identity> {
    Some(Identity {
        issuer: certificate.issuer.clone()?,
        subject: certificate.identity.as_ref()?.as_str().to_owned(),
    })
}

/// The identity of a certificate, for people.
fn claimed(certificate: &CertificateInfo) -> String {
    identity(certificate).map_or_else(
        || "a certificate without issuer and subject".to_owned(),
        // Until a certificate is verified, it proves nothing about its owner.
        |identity| shown::phrase(&identity.to_string()),
    )
}

/// What the library refuses, which tests the times of the bundle first, then the certificate at each of them.
fn refusal(error: &Error, bundle: &Bundle, certificate: &CertificateInfo) -> VerifyError {
    let (from, to) = (certificate.not_before, certificate.not_after);
    let who = format!(
        "a certificate that names {} (not verified), valid from {from} to {to}",
        claimed(certificate)
    );
    let words = of_library(error);
    match error {
        Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)) if in_future(bundle) => {
            VerifyError::NotYet(words)
        }
        Error::TransparencyLog(TransparencyLogError::IntegratedTime(_))
        | Error::Certificate(
            CertificateError::Expired { .. } | CertificateError::NotYetValid { .. },
        ) => VerifyError::Expired(format!("{words}; it has {who}")),
        Error::Certificate(CertificateError::ChainInvalid(why)) if is_of_time(why) => {
            VerifyError::Expired(format!(
                "it has {who}, but was made at another time, which a log or a timestamp authority confirms: {words}"
            ))
        }
        _ => VerifyError::Untrusted(format!("{words}; it has {who}")),
    }
}

/// Whether a chain of certificates is refused because of a time. The library has this only in words, which are those of
/// `rustls-webpki`.
fn is_of_time(why: &str) -> bool {
    why.contains("CertExpired") || why.contains("CertNotValidYet")
}

/// Whether the clock of this machine was behind the time of a log some moments ago.
fn in_future(bundle: &Bundle) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs().saturating_sub(60));
    let entries = bundle.verification_material.tlog_entries.iter();
    let mut times = entries.filter_map(|entry| entry.integrated_time);
    times.any(|time| u64::try_from(time.as_second()).is_ok_and(|time| time >= now))
}
