//! Signatures that cosign made, and altered copies of them. `fixtures/README.md` has the commands.

mod keyless;
mod long;
mod sigstore;
mod throw_away;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;

const COMPONENT: &[u8] = include_bytes!("fixtures/component.txt");
const MANIFEST: &[u8] = include_bytes!("fixtures/manifest.json");
const COSIGN: &str = include_str!("fixtures/cosign.pub");
const OTHER: &str = include_str!("fixtures/other.pub");
const P384: &str = include_str!("fixtures/p384.pub");
const RSA: &str = include_str!("fixtures/rsa.pub");
const ED25519: &str = include_str!("fixtures/ed25519.pub");
const BLOB: &str = include_str!("fixtures/blob-cosign.sigstore.json");
const SIGNED_MANIFEST: &str = include_str!("fixtures/manifest.sigstore.json");
const ATTESTATION: &str = include_str!("fixtures/attestation.sigstore.json");
const FINGERPRINT: &str = "sha256:5abd3776a3eff35297219c5032";

fn keys(texts: &[&str]) -> Keys {
    let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    Keys::of_field("keys", &texts).expect("valid keys")
}

fn accepted(texts: &[&str]) -> Accepted {
    Accepted::of_host(Some(keys(texts)), Vec::new()).expect("a key")
}

/// The fingerprint and the text of a signer's key.
fn key_of(signer: Signer) -> (String, String) {
    match signer {
        Signer::Key { fingerprint, key } => (fingerprint, key),
        Signer::Identity(identity) => unreachable!("a key, not {identity}"),
    }
}

fn component(bundle: &str, key: &str) -> Result<Signer, VerifyError> {
    let bundles = [bundle.as_bytes().to_vec()];
    let accepted = accepted(&[key]);
    verify(&bundles, Subject::Bytes(COMPONENT), &accepted, None)
}

fn manifest(bundle: &str, key: &str) -> Result<Signer, VerifyError> {
    let bundles = [bundle.as_bytes().to_vec()];
    let digest = digest(MANIFEST);
    let accepted = accepted(&[key]);
    verify(&bundles, Subject::Manifest(&digest), &accepted, None)
}

/// A copy of a bundle with another value at this place.
fn altered(bundle: &str, pointer: &str, value: Value) -> String {
    let mut bundle: Value = serde_json::from_str(bundle).expect("JSON");
    *bundle.pointer_mut(pointer).expect("a field") = value;
    bundle.to_string()
}

/// The bytes that are in base64 at this place.
fn bytes_of(bundle: &str, pointer: &str) -> Vec<u8> {
    let bundle: Value = serde_json::from_str(bundle).expect("JSON");
    let text = bundle.pointer(pointer).and_then(Value::as_str);
    STANDARD.decode(text.expect("a field")).expect("base64")
}

/// A copy of a bundle in which one byte at this place, in base64, is another.
fn flipped(bundle: &str, pointer: &str) -> String {
    let mut bytes = bytes_of(bundle, pointer);
    let last = bytes.last_mut().expect("not empty");
    *last ^= 1;
    altered(bundle, pointer, json!(STANDARD.encode(bytes)))
}

fn is_invalid(result: &Result<Signer, VerifyError>) -> bool {
    matches!(result, Err(VerifyError::Invalid { .. }))
}

#[track_caller]
fn assert_bad(result: &Result<Signer, VerifyError>, part: &str) {
    let Err(VerifyError::Bad(what)) = result else {
        unreachable!("a bad bundle: {result:?}")
    };
    assert!(what.contains(part), "{what}");
}

#[test]
fn a_signature_by_a_key_of_each_type_is_verified() {
    for (bundle, key) in [
        (BLOB, COSIGN),
        (include_str!("fixtures/blob-p384.sigstore.json"), P384),
        (include_str!("fixtures/blob-rsa.sigstore.json"), RSA),
        (include_str!("fixtures/blob-ed25519.sigstore.json"), ED25519),
    ] {
        let signer = component(bundle, key).expect("signed");
        assert_eq!(key_of(signer).1, key);
    }
}

#[test]
fn a_signature_of_the_manifest_is_verified() {
    let signer = manifest(SIGNED_MANIFEST, COSIGN).expect("signed");
    let (fingerprint, _) = key_of(signer);
    assert!(fingerprint.starts_with(FINGERPRINT), "{fingerprint}");
}

#[test]
fn any_of_the_keys_and_any_of_the_bundles_suffices() {
    let bundles = [b"junk".to_vec(), ATTESTATION.into(), BLOB.into()];
    let both = accepted(&[OTHER, COSIGN]);
    let signer = verify(&bundles, Subject::Bytes(COMPONENT), &both, None).expect("signed");
    assert_eq!(key_of(signer).1, COSIGN);
}

#[test]
fn a_signature_by_another_key_is_invalid_and_names_its_key() {
    for result in [component(BLOB, OTHER), manifest(SIGNED_MANIFEST, OTHER)] {
        let Err(VerifyError::Invalid { hint: Some(hint) }) = result else {
            unreachable!("invalid: {result:?}")
        };
        assert!(hint.starts_with(FINGERPRINT), "{hint}");
    }
}

#[test]
fn a_signature_of_other_content_says_both_digests() {
    let changed = [COMPONENT, b"!"].concat();
    let ours = accepted(&[COSIGN]);
    let of_bytes = verify(&[BLOB.into()], Subject::Bytes(&changed), &ours, None);
    let (signed, wanted) = (digest(COMPONENT), digest(&changed));
    let both = Digests { signed, wanted };
    assert_eq!(of_bytes, Err(VerifyError::SaysAnother(both)));
    let other = digest(b"another manifest");
    let subject = Subject::Manifest(&other);
    let of_manifest = verify(&[SIGNED_MANIFEST.into()], subject, &ours, None);
    let (signed, wanted) = (digest(MANIFEST), other.clone());
    let both = Digests { signed, wanted };
    assert_eq!(of_manifest, Err(VerifyError::Another(both)));
}

#[test]
fn the_digest_in_the_bundle_convinces_nobody() {
    let changed = [COMPONENT, b"!"].concat();
    let hexadecimal = digest(&changed);
    let digest: Vec<u8> = (7..hexadecimal.len())
        .step_by(2)
        .filter_map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).ok())
        .collect();
    let pointer = "/messageSignature/messageDigest/digest";
    let lying = altered(BLOB, pointer, json!(STANDARD.encode(digest)));
    let absent = altered(BLOB, "/messageSignature/messageDigest", json!({}));
    for bundle in [lying, absent] {
        let subject = Subject::Bytes(&changed);
        let result = verify(&[bundle.into_bytes()], subject, &accepted(&[COSIGN]), None);
        assert!(is_invalid(&result), "{result:?}");
    }
}

#[test]
fn an_altered_signature_or_statement_is_invalid() {
    let signature = "/messageSignature/signature";
    assert!(is_invalid(&component(&flipped(BLOB, signature), COSIGN)));
    assert!(is_invalid(&component(
        &altered(BLOB, signature, json!("")),
        COSIGN
    )));
    let signature = "/dsseEnvelope/signatures/0/sig";
    let (payload, type_) = ("/dsseEnvelope/payload", "/dsseEnvelope/payloadType");
    let statement = String::from_utf8(bytes_of(SIGNED_MANIFEST, payload)).expect("text");
    let (before, after) = (digest(MANIFEST), digest(b"another manifest"));
    let replaced = statement.replace(&before[7..], &after[7..]);
    assert_ne!(replaced, statement);
    let replaced = json!(STANDARD.encode(replaced));
    for bundle in [
        flipped(SIGNED_MANIFEST, signature),
        flipped(SIGNED_MANIFEST, payload),
        altered(SIGNED_MANIFEST, payload, replaced),
        altered(SIGNED_MANIFEST, type_, json!("text/plain")),
    ] {
        let result = manifest(&bundle, COSIGN);
        assert!(is_invalid(&result), "{bundle}: {result:?}");
    }
}

#[test]
fn an_attestation_by_the_same_key_is_not_a_signature() {
    assert_bad(&component(ATTESTATION, COSIGN), "attestation");
}

#[test]
fn the_signature_of_a_file_is_not_one_of_a_manifest() {
    let result = manifest(BLOB, COSIGN);
    assert_bad(&result, "not of a manifest");
}

#[test]
fn what_is_no_bundle_of_a_known_version_is_bad() {
    let junk = "x".repeat(1 << 20);
    let deep = "[".repeat(1 << 20);
    let old = r#"{"base64Signature": "MEUC", "cert": ""}"#;
    let both = {
        let mut both: Value = serde_json::from_str(BLOB).expect("JSON");
        let other: Value = serde_json::from_str(SIGNED_MANIFEST).expect("JSON");
        both["dsseEnvelope"] = other["dsseEnvelope"].clone();
        both.to_string()
    };
    let media_type = json!("application/vnd.dev.sigstore.bundle.v9+json");
    let two = json!([{"sig": "AA=="}, {"sig": "AA=="}]);
    let table = [
        (String::new(), "not a Sigstore bundle"),
        ("null".to_owned(), "not a Sigstore bundle"),
        (BLOB[..BLOB.len() / 2].to_owned(), "not a Sigstore bundle"),
        (junk, "not a Sigstore bundle"),
        (deep, "not a Sigstore bundle"),
        (old.to_owned(), "--new-bundle-format"),
        (altered(BLOB, "/mediaType", media_type), "v9+json"),
        (both, "one of messageSignature and dsseEnvelope"),
        (
            altered(BLOB, "/messageSignature", Value::Null),
            "one of messageSignature and dsseEnvelope",
        ),
        (
            altered(BLOB, "/messageSignature/signature", json!("???")),
            "not base64",
        ),
        (
            altered(SIGNED_MANIFEST, "/dsseEnvelope/signatures", two),
            "exactly one",
        ),
        (
            altered(SIGNED_MANIFEST, "/dsseEnvelope/signatures", json!([])),
            "exactly one",
        ),
    ];
    for (bundle, part) in table {
        assert_bad(&component(&bundle, COSIGN), part);
    }
}

#[test]
fn without_a_bundle_it_is_not_signed_and_the_closest_bundle_explains_a_refusal() {
    let keys = accepted(&[COSIGN]);
    let none = verify(&[], Subject::Bytes(COMPONENT), &keys, None);
    assert_eq!(none, Err(VerifyError::NotSigned));
    let bundles = [b"junk".to_vec(), BLOB.into(), ATTESTATION.into()];
    let result = verify(&bundles, Subject::Bytes(b"other"), &keys, None);
    assert!(
        matches!(result, Err(VerifyError::SaysAnother(_))),
        "{result:?}"
    );
}

#[test]
fn a_key_that_can_not_be_used_says_which_and_why() {
    let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_a_key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let large = include_str!("fixtures/p521.pub");
    let two = [COSIGN, OTHER].concat();
    for (text, part) in [
        ("", "no public key in PEM"),
        ("MFkwEwYHKoZIzj0CAQ", "no public key in PEM"),
        (private, "private key"),
        (certificate, "openssl x509"),
        (not_a_key, "not a valid public key"),
        (large, "a type that can't be verified"),
        (&COSIGN[..80], "not valid PEM"),
        (&two, "more than one"),
    ] {
        let texts = [COSIGN.to_owned(), text.to_owned()];
        let error = Keys::of_field("spec.verify.keys", &texts).expect_err(text);
        let error = error.to_string();
        assert!(error.starts_with("spec.verify.keys[1] "), "{error}");
        assert!(error.contains(part), "{text}: {error}");
    }
    let error = Keys::of_field("spec.verify.keys", &[]).expect_err("no key");
    assert_eq!(error.to_string(), "spec.verify.keys has no key");
}

#[test]
fn the_keys_of_a_folder_are_its_files_that_end_like_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let none = Keys::of_path(folder.path()).expect_err("empty");
    assert!(none.to_string().ends_with("*.pub or *.pem"), "{none}");
    for (name, text) in [("a.pub", COSIGN), ("b.pem", OTHER), ("README", "not a key")] {
        std::fs::write(file(name), text).expect("written");
    }
    let both = Keys::of_path(folder.path()).expect("two keys");
    assert_eq!(both.fingerprints(), keys(&[COSIGN, OTHER]).fingerprints());
    let one = Keys::of_path(&file("b.pem")).expect("one key");
    assert_eq!(one.fingerprints(), keys(&[OTHER]).fingerprints());
    std::fs::write(file("c.pub"), "junk").expect("written");
    for path in [folder.path().to_owned(), file("absent.pub")] {
        let error = Keys::of_path(&path).expect_err("refused");
        assert!(error.to_string().contains(".pub "), "{error}");
    }
}
