//! Keyless signatures of public Sigstore instances as they were recorded, and altered copies of them.
//! `../fixtures/README.md` says where they come from.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use operon_api::action_plugin::Identity;
use operon_core::action_plugin::source::Signer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{BLOB, COMPONENT, COSIGN, altered, bytes_of, flipped, keys, sigstore::Sigstore};
use crate::{
    digest,
    verify::{
        Accepted, Digests, Subject, TrustedRoot, Unusable, VerifyError, identities_of_path, verify,
    },
};

const PUBLIC: &str = include_str!("../fixtures/keyless/public.sigstore.json");
const PUBLIC_CONTENT: &[u8] = include_bytes!("../fixtures/keyless/public.txt");
pub(super) const STAGING: &str = include_str!("../fixtures/keyless/staging.sigstore.json");
pub(super) const STAGING_CONTENT: &[u8] = include_bytes!("../fixtures/keyless/staging.txt");
const GITHUB: &str = "https://github.com/login/oauth";

pub(super) fn root(name: &str) -> TrustedRoot {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/verify/fixtures/keyless");
    let path = Path::new(folder).join(format!("{name}.trusted_root.json"));
    TrustedRoot::of_path(&path).expect("a trust root")
}

/// A trust root, given as a file.
pub(super) fn root_of(value: &Value) -> Result<TrustedRoot, Unusable> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trusted_root.json");
    fs::write(&path, value.to_string()).expect("written");
    TrustedRoot::of_path(&path)
}

pub(super) fn identity(subject: &str, issuer: &str) -> Identity {
    Identity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
    }
}

fn public() -> Identity {
    identity("w.vollprecht@gmail.com", GITHUB)
}

pub(super) fn accepting(identities: &[Identity]) -> Accepted {
    Accepted::of_host(None, identities.to_vec()).expect("an identity")
}

pub(super) fn check(
    bundle: &str,
    content: &[u8],
    who: &Identity,
    root: &TrustedRoot,
) -> Result<Signer, VerifyError> {
    let accepted = accepting(std::slice::from_ref(who));
    let subject = Subject::Bytes(content);
    verify(&[bundle.into()], subject, &accepted, Some(root))
}

#[test]
fn the_signature_of_an_identity_is_verified_with_either_version_of_the_log() {
    let staging = identity("jku@goto.fi", GITHUB);
    for (bundle, content, who, root) in [
        (PUBLIC, PUBLIC_CONTENT, public(), root("public")),
        (STAGING, STAGING_CONTENT, staging, root("staging")),
    ] {
        let signer = check(bundle, content, &who, &root);
        assert_eq!(signer, Ok(Signer::Identity(who)));
    }
}

#[test]
fn only_exactly_the_accepted_identity_is_accepted_and_the_found_one_is_named() {
    let found = VerifyError::Identity(public().to_string());
    for (subject, issuer) in [
        ("someone@example.com", GITHUB),
        ("w.vollprecht@gmail.com", "https://accounts.google.com"),
        ("W.Vollprecht@gmail.com", GITHUB),
        ("w.vollprecht@gmail.co", GITHUB),
        ("*", GITHUB),
        ("w.vollprecht@gmail.com", "https://github.com/login/oauth/"),
    ] {
        let result = check(
            PUBLIC,
            PUBLIC_CONTENT,
            &identity(subject, issuer),
            &root("public"),
        );
        assert_eq!(result, Err(found.clone()), "{subject} {issuer}");
    }
    let others = accepting(&[identity("a@example.com", GITHUB), public()]);
    let subject = Subject::Bytes(PUBLIC_CONTENT);
    let result = verify(&[PUBLIC.into()], subject, &others, Some(&root("public")));
    assert_eq!(result, Ok(Signer::Identity(public())));
}

#[test]
fn a_key_or_an_identity_suffices_and_only_the_identity_needs_a_trust_root() {
    let both = Accepted::of_host(Some(keys(&[COSIGN])), vec![public()]).expect("signers");
    let by_key = verify(&[BLOB.into()], Subject::Bytes(COMPONENT), &both, None);
    assert!(matches!(by_key, Ok(Signer::Key { .. })), "{by_key:?}");
    let public_root = root("public");
    for (root, result) in [
        (Some(&public_root), Ok(Signer::Identity(public()))),
        (None, Err(VerifyError::NoTrustedRoot)),
    ] {
        let subject = Subject::Bytes(PUBLIC_CONTENT);
        assert_eq!(verify(&[PUBLIC.into()], subject, &both, root), result);
    }
    let only_key = Accepted::of_host(Some(keys(&[COSIGN])), Vec::new()).expect("a key");
    let subject = Subject::Bytes(PUBLIC_CONTENT);
    let result = verify(&[PUBLIC.into()], subject, &only_key, Some(&public_root));
    let hint = Some(public().to_string());
    assert_eq!(result, Err(VerifyError::Invalid { hint }));
    let subject = Subject::Bytes(COMPONENT);
    let result = verify(
        &[BLOB.into()],
        subject,
        &accepting(&[public()]),
        Some(&public_root),
    );
    assert!(
        matches!(result, Err(VerifyError::Invalid { .. })),
        "{result:?}"
    );
}

#[test]
fn a_signature_of_other_content_says_both_digests() {
    let result = check(PUBLIC, b"other", &public(), &root("public"));
    let (signed, wanted) = (digest(PUBLIC_CONTENT), digest(b"other"));
    let both = Digests { signed, wanted };
    assert_eq!(result, Err(VerifyError::SaysAnother(both)));
    // A bundle that lies about the digest.
    let lie = json!(STANDARD.encode(Sha256::digest(b"other")));
    let lying = altered(PUBLIC, "/messageSignature/messageDigest/digest", lie);
    let result = check(&lying, b"other", &public(), &root("public"));
    assert!(
        matches!(result, Err(VerifyError::Untrusted(_))),
        "{result:?}"
    );
}

/// Copies of the recorded bundle, each with something else in it, and what is found wrong.
fn altered_copies() -> Vec<(String, &'static str)> {
    let entry = "/verificationMaterial/tlogEntries/0";
    let at = |part: &str| format!("{entry}{part}");
    let text = |pointer: &str| {
        let bundle: Value = serde_json::from_str(PUBLIC).expect("JSON");
        bundle
            .pointer(pointer)
            .and_then(Value::as_str)
            .expect("text")
            .to_owned()
    };
    let checkpoint = at("/inclusionProof/checkpoint/envelope");
    let envelope = text(&checkpoint);
    let (note, signature) = envelope.split_once("\n\n").expect("a signed note");
    let elsewhere = json!(format!("{}\n\n{signature}", note.replace("rekor.", "log.")));
    let unsigned = json!(format!("{note}\n\n\u{2014} rekor.sigstore.dev AAAAAAAA\n"));
    let body = String::from_utf8(bytes_of(PUBLIC, &at("/canonicalizedBody"))).expect("text");
    let other_body = json!(STANDARD.encode(body.replace("sha256", "sha512").as_bytes()));
    let timestamp =
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    vec![
        (flipped(PUBLIC, "/messageSignature/signature"), "timestamp"),
        (
            flipped(PUBLIC, "/verificationMaterial/certificate/rawBytes"),
            "certificate",
        ),
        (flipped(PUBLIC, timestamp), "timestamp"),
        (
            flipped(PUBLIC, &at("/inclusionPromise/signedEntryTimestamp")),
            "promise",
        ),
        (
            flipped(PUBLIC, &at("/inclusionProof/hashes/0")),
            "inclusion proof",
        ),
        (
            flipped(PUBLIC, &at("/inclusionProof/hashes/16")),
            "inclusion proof",
        ),
        (flipped(PUBLIC, &at("/inclusionProof/rootHash")), "root"),
        (flipped(PUBLIC, &at("/logId/keyId")), "log"),
        (
            altered(PUBLIC, &at("/canonicalizedBody"), other_body),
            "promise",
        ),
        (
            altered(PUBLIC, &at("/integratedTime"), json!("1764787004")),
            "promise",
        ),
        (
            altered(PUBLIC, &at("/logIndex"), json!("738312749")),
            "promise",
        ),
        (
            altered(PUBLIC, &at("/inclusionProof/logIndex"), json!("616408487")),
            "inclusion proof",
        ),
        (
            altered(PUBLIC, &at("/inclusionProof/hashes"), json!([])),
            "inclusion proof",
        ),
        (
            altered(PUBLIC, &at("/inclusionProof"), Value::Null),
            "inclusion proof",
        ),
        (altered(PUBLIC, &checkpoint, elsewhere), "checkpoint"),
        (altered(PUBLIC, &checkpoint, unsigned), "checkpoint"),
        (altered(PUBLIC, &checkpoint, json!("")), "checkpoint"),
        (
            altered(PUBLIC, "/verificationMaterial/tlogEntries", json!([])),
            "inclusion proof",
        ),
    ]
}

#[test]
fn altered_evidence_is_refused() {
    for (bundle, why) in altered_copies() {
        let result = check(&bundle, PUBLIC_CONTENT, &public(), &root("public"));
        let words = match &result {
            Err(VerifyError::Untrusted(words) | VerifyError::Bad(words)) => words.to_lowercase(),
            _ => unreachable!("{why}: {result:?}"),
        };
        assert!(words.contains(why), "{why}: {words}");
    }
    for length in [PUBLIC.len() / 2, PUBLIC.len() - 3] {
        let result = check(
            &PUBLIC[..length],
            PUBLIC_CONTENT,
            &public(),
            &root("public"),
        );
        assert!(matches!(result, Err(VerifyError::Bad(_))), "{result:?}");
    }
}

#[test]
fn another_trust_root_proves_nothing() {
    let result = check(PUBLIC, PUBLIC_CONTENT, &public(), &root("staging"));
    assert!(
        matches!(result, Err(VerifyError::Untrusted(_))),
        "{result:?}"
    );
}

#[test]
fn a_trust_root_that_can_not_be_used_says_why() {
    let good = Sigstore::new().trusted_root();
    let without = |list: &str| {
        let mut root = good.clone();
        root[list] = json!([]);
        root
    };
    let key = "/tlogs/0/publicKey/rawBytes";
    for (root, why) in [
        (json!({}), "is not a Sigstore trusted_root.json"),
        (json!([]), "is not a Sigstore trusted_root.json"),
        (
            without("certificateAuthorities"),
            "without certificateAuthorities",
        ),
        (without("tlogs"), "without tlogs"),
        (without("ctlogs"), "without ctlogs"),
        (
            serde_json::from_str(&altered(&good.to_string(), key, json!("AAAA"))).expect("JSON"),
            "can't be used",
        ),
    ] {
        let error = root_of(&root).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains("trusted_root.json "), "{error}");
    }
    let absent = TrustedRoot::of_path(Path::new("/nowhere/trusted_root.json"));
    let error = absent.expect_err("absent").to_string();
    assert!(
        error.starts_with("/nowhere/trusted_root.json can't be read"),
        "{error}"
    );
}

#[test]
fn the_identities_of_a_file_are_read_or_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("identities.json");
    let read = |text: &str| {
        fs::write(&path, text).expect("written");
        identities_of_path(&path).map_err(|error| error.to_string())
    };
    let one = r#"[{"issuer": "https://issuer.example", "subject": "a@example.com"}]"#;
    let wanted = identity("a@example.com", "https://issuer.example");
    assert_eq!(read(one), Ok(vec![wanted]));
    for (text, why) in [
        ("", "is not a JSON list"),
        ("{}", "is not a JSON list"),
        ("[]", "has no identity"),
        (r#"[{"issuer": "https://issuer.example"}]"#, "subject"),
        (
            r#"[{"issuer": "", "subject": "a"}]"#,
            "empty issuer or subject",
        ),
    ] {
        let error = read(text).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_bundle_with_more_than_can_be_needed_is_refused_before_it_is_verified() {
    let material = "/verificationMaterial";
    let times = |pointer: String, number: usize| {
        let bundle: Value = serde_json::from_str(PUBLIC).expect("JSON");
        let one = bundle.pointer(&pointer).expect("a list")[0].clone();
        altered(PUBLIC, &pointer, json!(vec![one; number]))
    };
    let entries = |number| times(format!("{material}/tlogEntries"), number);
    let list = format!("{material}/timestampVerificationData/rfc3161Timestamps");
    let checkpoint = format!("{material}/tlogEntries/0/inclusionProof/checkpoint/envelope");
    let bundle: Value = serde_json::from_str(PUBLIC).expect("JSON");
    let note = bundle.pointer(&checkpoint).and_then(Value::as_str);
    let line = "\u{2014} witness.example AAAAAAAA\n".repeat(200);
    let note = json!(format!("{}{line}", note.expect("a note")));
    let blank = " ".repeat(128 << 10);
    for (bundle, why) in [
        (entries(5), "5 log entries, but"),
        (times(list.clone(), 5), "5 timestamps, but"),
        (altered(PUBLIC, &checkpoint, note), "bytes in a checkpoint"),
        (format!("{PUBLIC}{blank}"), "at most 131072"),
    ] {
        let result = check(&bundle, PUBLIC_CONTENT, &public(), &root("public"));
        let Err(VerifyError::Bad(words)) = &result else {
            unreachable!("{why}: {result:?}")
        };
        assert!(words.contains(why), "{words}");
        assert!(words.contains("at most"), "{words}");
    }
    for bundle in [entries(4), times(list, 4)] {
        let result = check(&bundle, PUBLIC_CONTENT, &public(), &root("public"));
        assert_eq!(result, Ok(Signer::Identity(public())));
    }
}
