//! A throw-away Sigstore: a certificate authority, its certificate transparency log and a transparency log, and what
//! `cosign` would make with them. For evidence that fits together and must be refused nevertheless.

use std::{rc::Rc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use operon_api::action_plugin::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const ISSUER: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];
const SCT_LIST: &[u64] = &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
/// How long a certificate is valid.
const VALID: Duration = Duration::from_mins(10);

/// The keys of the three services.
#[derive(Clone)]
pub(super) struct Sigstore {
    pub(super) authority: Rc<Authority>,
    pub(super) certificate_log: Rc<KeyPair>,
    pub(super) log: Rc<KeyPair>,
}

pub(super) struct Authority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// Who signs, and when: seconds after the certificate became valid.
pub(super) struct Signing<'a> {
    pub(super) identity: &'a Identity,
    pub(super) after: i64,
}

fn key() -> Rc<KeyPair> {
    Rc::new(KeyPair::generate().expect("a key"))
}

fn authority() -> Rc<Authority> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Rc::new(Authority {
        certificate: certificate.der().to_vec(),
        issuer: Issuer::new(params, key),
    })
}

impl Sigstore {
    pub(super) fn new() -> Self {
        Self {
            authority: authority(),
            certificate_log: key(),
            log: key(),
        }
    }

    /// `trusted_root.json`
    pub(super) fn trusted_root(&self) -> Value {
        let start = json!({"start": "2000-01-01T00:00:00Z"});
        let log = |key: &KeyPair| {
            json!({
                "baseUrl": "https://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(key.subject_public_key_info()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": start,
                },
                "logId": {"keyId": STANDARD.encode(id(key))},
            })
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.log)],
            "ctlogs": [log(&self.certificate_log)],
            "certificateAuthorities": [{
                "subject": {"organization": "example", "commonName": "an authority"},
                "uri": "https://authority.example",
                "certChain": {
                    "certificates": [{"rawBytes": STANDARD.encode(&self.authority.certificate)}],
                },
                "validFor": start,
            }],
            "timestampAuthorities": [],
        })
    }

    /// What `cosign sign-blob` makes.
    pub(super) fn blob(&self, signing: &Signing<'_>, content: &[u8]) -> String {
        let (key, certificate) = self.certificate(signing.identity);
        let signature = STANDARD.encode(key.sign(content).expect("signed"));
        let digest = Sha256::digest(content);
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hexadecimal(&digest)}},
                "signature": {"content": signature, "publicKey": {"content": pem(&certificate)}},
            },
        });
        let entry = self.entry(signing, ("hashedrekord", &body));
        let mut bundle = bundle(&certificate, &entry);
        bundle["messageSignature"] = json!({
            "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(digest)},
            "signature": signature,
        });
        bundle.to_string()
    }

    /// What `cosign sign` makes for a manifest with this digest, or `cosign attest` with another predicate.
    pub(super) fn statement(
        &self,
        signing: &Signing<'_>,
        digest: &str,
        predicate_type: &str,
    ) -> String {
        let (key, certificate) = self.certificate(signing.identity);
        let kind = "application/vnd.in-toto+json";
        let payload = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": digest.trim_start_matches("sha256:")}}],
            "predicateType": predicate_type,
            "predicate": {},
        })
        .to_string();
        let encoded = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let signature = STANDARD.encode(key.sign(encoded.as_bytes()).expect("signed"));
        let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": hexadecimal(&Sha256::digest(bytes))});
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": hash(b"not reproducible"),
                "payloadHash": hash(payload.as_bytes()),
                "signatures": [{"signature": signature, "verifier": pem(&certificate)}],
            },
        });
        let entry = self.entry(signing, ("dsse", &body));
        let mut bundle = bundle(&certificate, &entry);
        bundle["dsseEnvelope"] = json!({
            "payload": STANDARD.encode(&payload),
            "payloadType": kind,
            "signatures": [{"sig": signature}],
        });
        bundle.to_string()
    }

    /// A key, and its certificate with the certificate log's promise (RFC 6962).
    fn certificate(&self, identity: &Identity) -> (KeyPair, Vec<u8>) {
        let Identity { issuer, subject } = identity;
        let key = KeyPair::generate().expect("a key");
        let name = subject.as_str().try_into().expect("a name");
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2025, 6, 1);
        params.not_after = params.not_before + VALID;
        params.serial_number = Some(1_u64.into());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.subject_alt_names = vec![if subject.contains("://") {
            SanType::URI(name)
        } else {
            SanType::Rfc822Name(name)
        }];
        let issuer = CustomExtension::from_oid_content(ISSUER, der(0x0c, issuer.as_bytes()));
        params.custom_extensions = vec![issuer];
        let authority = &self.authority.issuer;
        let before = params.signed_by(&key, authority).expect("a certificate");
        // The certificate's first part, which is signed, without what is added below.
        let tbs = &before.der()[4..];
        let length = 4 + usize::from(u16::from_be_bytes([tbs[2], tbs[3]]));
        let milliseconds = params.not_before.unix_timestamp() * 1000;
        let time = u64::try_from(milliseconds).expect("a time").to_be_bytes();
        let authority_key = Sha256::digest(authority.key().subject_public_key_info());
        let tbs_length = u32::try_from(length).expect("short").to_be_bytes();
        let signed = [
            &[0, 0][..],
            &time,
            &[0, 1],
            &authority_key,
            &tbs_length[1..],
            &tbs[..length],
            &[0, 0],
        ]
        .concat();
        let signature = self.certificate_log.sign(&signed).expect("signed");
        let sct = [
            &[0][..],
            &id(&self.certificate_log),
            &time,
            &[0, 0, 4, 3],
            &with_length(&signature),
        ]
        .concat();
        let list = der(0x04, &with_length(&with_length(&sct)));
        let list = CustomExtension::from_oid_content(SCT_LIST, list);
        params.custom_extensions.push(list);
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        (key, certificate.der().to_vec())
    }

    /// The second of two entries of the log.
    fn entry(&self, signing: &Signing<'_>, (kind, body): (&str, &Value)) -> Value {
        let body = body.to_string();
        let hash = |prefix: u8, content: &[&[u8]]| {
            Sha256::digest([&[prefix][..], &content.concat()].concat())
        };
        let (other, leaf) = (hash(0, &[&b"another"[..]]), hash(0, &[body.as_bytes()]));
        let root = STANDARD.encode(hash(1, &[&other[..], &leaf[..]]));
        let note = format!("log.example - 1\n2\n{root}\n");
        let signature = self.log.sign(note.as_bytes()).expect("signed");
        let signature = STANDARD.encode([&id(&self.log)[..4], &signature].concat());
        let time = date_time_ymd(2025, 6, 1).unix_timestamp() + signing.after;
        let body = STANDARD.encode(body);
        let log = hexadecimal(&id(&self.log));
        let promised =
            format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":1}}"#);
        let promise = self.log.sign(promised.as_bytes()).expect("signed");
        json!({
            "logIndex": "1",
            "logId": {"keyId": STANDARD.encode(id(&self.log))},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": time.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(promise)},
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": root,
                "treeSize": "2",
                "hashes": [STANDARD.encode(other)],
                "checkpoint": {"envelope": format!("{note}\n\u{2014} log.example {signature}\n")},
            },
            "canonicalizedBody": body,
        })
    }
}

fn bundle(certificate: &[u8], entry: &Value) -> Value {
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": STANDARD.encode(certificate)},
            "tlogEntries": [entry],
        },
    })
}

/// The ID of a log.
fn id(key: &KeyPair) -> Vec<u8> {
    Sha256::digest(key.subject_public_key_info()).to_vec()
}

/// PEM in base64, as a log has certificates.
fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    STANDARD.encode(format!(
        "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    ))
}

fn hexadecimal(digest: &[u8]) -> String {
    crate::hexadecimal(digest)[7..].to_owned()
}

/// The length in two bytes, then the content.
fn with_length(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&length[..], content].concat()
}

/// A value in DER, of at most 255 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    match length {
        ..=127 => [&[tag, length][..], content].concat(),
        128.. => [&[tag, 0x81, length][..], content].concat(),
    }
}
