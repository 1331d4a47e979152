//! Reads Sigstore bundles, version 0.3, and the in-toto statements in them. Nothing here is verified yet.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{hexadecimal, shown};

/// The only version that is read: what cosign 3 writes.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT_PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The statement of a signature. Others say something about the subject (what a scanner found, who built it), and
/// not that it may run.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A bundle.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) content: Content,
    /// The fingerprint of the key that it names.
    pub(super) hint: Option<String>,
    /// Whether it has the certificate of an identity.
    pub(super) has_certificate: bool,
}

/// What a bundle holds.
#[derive(Debug)]
pub(super) enum Content {
    Message(MessageSignature),
    Envelope(Envelope),
}

/// The signature of a file's bytes.
#[derive(Debug)]
pub(super) struct MessageSignature {
    /// The digest of what was signed, as `sha256:…`, if the bundle has that.
    pub(super) sha256: Option<String>,
    pub(super) signature: Vec<u8>,
}

/// A DSSE envelope with one signature.
#[derive(Debug)]
pub(super) struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle {
    media_type: Option<String>,
    verification_material: Option<RawMaterial>,
    message_signature: Option<RawMessage>,
    dsse_envelope: Option<RawEnvelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMaterial {
    public_key: Option<RawPublicKey>,
    certificate: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawPublicKey {
    hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage {
    #[serde(default)]
    message_digest: RawDigest,
    signature: String,
}

#[derive(Default, Deserialize)]
struct RawDigest {
    algorithm: Option<String>,
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    type_: String,
    subject: Vec<StatementSubject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct StatementSubject {
    digest: BTreeMap<String, String>,
}

/// What a bundle is about, and by whom it says that it is.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let RawBundle {
        media_type,
        verification_material,
        message_signature,
        dsse_envelope,
    } = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is not a Sigstore bundle: {}", of_library(&error)))?;
    match media_type.as_deref() {
        Some(MEDIA_TYPE) => {}
        Some(other) => {
            return Err(format!(
                "its mediaType is \"{}\", but only {MEDIA_TYPE:?} is supported",
                shown::value(other)
            ));
        }
        None => {
            return Err(format!(
                "it has no mediaType {MEDIA_TYPE:?}; cosign 3 writes such bundles, and earlier versions with --new-bundle-format"
            ));
        }
    }
    let (key, certificate) = verification_material.map_or((None, None), |material| {
        (material.public_key, material.certificate)
    });
    let hint = key.and_then(|key| key.hint).map(|hint| fingerprint(&hint));
    let content = match (message_signature, dsse_envelope) {
        (Some(message), None) => Content::Message(message.read()?),
        (None, Some(envelope)) => Content::Envelope(envelope.read()?),
        (None, None) | (Some(_), Some(_)) => {
            return Err("it must have one of messageSignature and dsseEnvelope".to_owned());
        }
    };
    Ok(Parsed {
        content,
        hint,
        has_certificate: certificate.is_some(),
    })
}

impl RawMessage {
    fn read(self) -> Result<MessageSignature, String> {
        let Self {
            message_digest: RawDigest { algorithm, digest },
            signature,
        } = self;
        let sha256 = match (algorithm.as_deref(), digest) {
            (Some("SHA2_256"), Some(digest)) => {
                Some(hexadecimal(&decoded("messageDigest.digest", &digest)?))
            }
            _ => None,
        };
        Ok(MessageSignature {
            sha256,
            signature: decoded("messageSignature.signature", &signature)?,
        })
    }
}

impl RawEnvelope {
    fn read(self) -> Result<Envelope, String> {
        let Self {
            payload,
            payload_type,
            signatures,
        } = self;
        let [RawSignature { sig }] = signatures.as_slice() else {
            return Err("dsseEnvelope.signatures must have exactly one signature".to_owned());
        };
        Ok(Envelope {
            payload_type,
            payload: decoded("dsseEnvelope.payload", &payload)?,
            signature: decoded("dsseEnvelope.signatures[0].sig", sig)?,
        })
    }
}

impl Envelope {
    /// What the signature of an envelope is about; see "PAE" of the DSSE protocol v1.
    pub(super) fn pre_authentication_encoding(&self) -> Vec<u8> {
        let Self {
            payload_type,
            payload,
            signature: _,
        } = self;
        let (type_length, length) = (payload_type.len(), payload.len());
        let head = format!("DSSEv1 {type_length} {payload_type} {length} ");
        [head.as_bytes(), payload].concat()
    }

    /// The digests that the statement in the envelope is about, as `sha256:…`.
    pub(super) fn signed_digests(&self) -> Result<Vec<String>, String> {
        if self.payload_type != STATEMENT_PAYLOAD {
            return Err(format!(
                "its payloadType is \"{}\", not {STATEMENT_PAYLOAD:?}",
                shown::value(&self.payload_type)
            ));
        }
        let statement: Statement = serde_json::from_slice(&self.payload).map_err(|error| {
            let error = of_library(&error);
            format!("its payload is not an in-toto statement: {error}")
        })?;
        let Statement {
            type_,
            subject,
            predicate_type,
        } = statement;
        if predicate_type != SIGNATURE {
            return Err(format!(
                "it is an attestation of the type \"{}\", not a signature; sign with `cosign sign` or `cosign sign-blob`",
                shown::value(&predicate_type)
            ));
        }
        if type_ != STATEMENT {
            let type_ = shown::value(&type_);
            return Err(format!(
                "its statement is a \"{type_}\", not a {STATEMENT:?}"
            ));
        }
        let digests = subject.into_iter().filter_map(|mut subject| {
            let digest = subject.digest.remove("sha256")?;
            Some(format!("sha256:{digest}"))
        });
        let digests: Vec<_> = digests.collect();
        if digests.is_empty() {
            return Err("its statement names no sha256 digest".to_owned());
        }
        Ok(digests)
    }
}

/// The hint of cosign is the digest of the key in base64, which is a fingerprint; the hints of others stay as
/// they are.
fn fingerprint(hint: &str) -> String {
    match STANDARD.decode(hint) {
        Ok(digest) if digest.len() == 32 => hexadecimal(&digest),
        _ => shown::value(hint),
    }
}

/// What a library says, which may quote the bundle.
pub(super) fn of_library(error: &impl ToString) -> String {
    shown::phrase(&error.to_string())
}

fn decoded(field: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("its {field} is not base64: {error}"))
}
