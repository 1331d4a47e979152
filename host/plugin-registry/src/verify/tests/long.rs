//! Bundles with long fields and control characters: what is said about them has room in a condition.

use operon_api::{ActionPlugin, action_plugin::Verification};
use rcgen::{KeyPair, SigningKey as _};

use super::{
    keyless::{identity, root_of},
    sigstore::{Signing, Sigstore},
    *,
};
use crate::found::{Found, Signatures};

/// Why a component with this bundle is refused.
#[track_caller]
fn refusal(bundle: String, verification: Verification, trust: &Trust) -> String {
    let mut plugin = ActionPlugin::default();
    plugin.spec.verify = Some(verification);
    let signatures = Signatures {
        bundles: vec![bundle.into_bytes()],
        missing: "sign it".to_owned(),
        left_out: None,
        incomplete: false,
    };
    let found = Found::signed_by_bytes(COMPONENT.to_vec(), signatures);
    let refused = found.verified(&plugin, trust).expect_err("refused");
    refused.message
}

#[track_caller]
fn assert_short(message: &str, field: &str) {
    assert!(message.len() <= 2048, "{field}: {} bytes", message.len());
    assert!(!message.contains(char::is_control), "{field}: {message}");
}

fn by_key(pem: &str) -> Verification {
    Verification {
        keys: vec![pem.to_owned()],
        ..Verification::default()
    }
}

#[test]
fn a_long_field_of_a_bundle_is_shortened_in_the_message() {
    let long = json!("\u{1b}[2J\n".repeat(200_000));
    let bytes = json!(STANDARD.encode(vec![7; 1 << 20]));
    for (field, value) in [
        ("/mediaType", &long),
        ("/messageSignature", &long),
        ("/messageSignature/messageDigest", &long),
        ("/messageSignature/messageDigest/algorithm", &long),
        ("/messageSignature/messageDigest/digest", &long),
        ("/messageSignature/messageDigest/digest", &bytes),
        ("/messageSignature/signature", &long),
        ("/messageSignature/signature", &bytes),
        ("/verificationMaterial/publicKey", &long),
        ("/verificationMaterial/publicKey/hint", &long),
    ] {
        let bundle = altered(BLOB, field, value.clone());
        let message = refusal(bundle, by_key(OTHER), &Trust::default());
        assert_short(&message, field);
    }
}

#[test]
fn a_long_field_of_a_signed_statement_is_shortened_in_the_message() {
    let key = KeyPair::generate().expect("a key");
    let long = "\u{1b}[2J\n".repeat(200_000);
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": "00"}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
    });
    let with = |field: &str| altered(&statement.to_string(), field, json!(long));
    let in_toto = "application/vnd.in-toto+json";
    for (field, kind, payload) in [
        ("payloadType", long.as_str(), statement.to_string()),
        ("payload", in_toto, json!(long).to_string()),
        ("_type", in_toto, with("/_type")),
        ("subject", in_toto, with("/subject")),
        ("digest", in_toto, with("/subject/0/digest/sha256")),
        ("predicateType", in_toto, with("/predicateType")),
    ] {
        let encoded = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let signature = key.sign(encoded.as_bytes()).expect("signed");
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload),
                "payloadType": kind,
                "signatures": [{"sig": STANDARD.encode(signature)}],
            },
        });
        let accepted = by_key(&key.public_key_pem());
        let message = refusal(bundle.to_string(), accepted, &Trust::default());
        assert!(!message.contains("is not by one of"), "{field}: {message}");
        assert_short(&message, field);
    }
}

#[test]
fn a_long_identity_is_shortened_in_the_message() {
    let ours = Sigstore::new();
    let trust = Trust {
        required: None,
        root: Some(root_of(&ours.trusted_root()).expect("a trust root")),
    };
    let long = "\u{1b}[2J".repeat(4000);
    let who = identity(
        &format!("https://git.example/{long}"),
        "https://issuer.example",
    );
    let (signing, other) = (
        Signing {
            identity: &who,
            after: 60,
        },
        identity("a@example.com", "https://issuer.example"),
    );
    let bundle = ours.blob(&signing, COMPONENT);
    let accepted = Verification {
        identities: vec![other],
        ..Verification::default()
    };
    for (accepted, why) in [
        (accepted, "was signed by https://git.example/\\u{1b}"),
        (
            by_key(OTHER),
            "its bundle names https://git.example/\\u{1b}",
        ),
    ] {
        let message = refusal(bundle.clone(), accepted, &trust);
        assert!(message.contains(why), "{message}");
        assert_short(&message, why);
    }
}
