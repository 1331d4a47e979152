//! Keyless signatures of a throw-away Sigstore: all the evidence fits together, and one thing is not as it must be.

use operon_api::{ActionPlugin, action_plugin::Verification};
use operon_core::action_plugin::source::Signer;
use serde_json::{Value, json};

use super::{
    COMPONENT, MANIFEST, altered,
    keyless::{STAGING, STAGING_CONTENT, accepting, check, identity, root, root_of},
    sigstore::{Signing, Sigstore},
};
use crate::{
    digest,
    found::{Found, Signatures},
    verify::{Digests, Subject, Trust, VerifyError, verify},
};

const STAGING_ROOT: &str = include_str!("../fixtures/keyless/staging.trusted_root.json");
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const WORKFLOW: &str = "https://git.example/o/r/.github/workflows/release.yml@refs/tags/v1";

#[test]
fn each_of_the_services_must_be_one_of_the_trust_root() {
    let (ours, other) = (Sigstore::new(), Sigstore::new());
    let root = root_of(&ours.trusted_root()).expect("a trust root");
    let who = identity(WORKFLOW, "https://issuer.example");
    let signing = Signing {
        identity: &who,
        after: 60,
    };
    let signed = |by: &Sigstore| check(&by.blob(&signing, COMPONENT), COMPONENT, &who, &root);
    assert_eq!(signed(&ours), Ok(Signer::Identity(who.clone())));
    for (mixed, why) in [
        (
            Sigstore {
                authority: other.authority.clone(),
                ..ours.clone()
            },
            "certificate chain",
        ),
        (
            Sigstore {
                certificate_log: other.certificate_log.clone(),
                ..ours.clone()
            },
            "signed certificate timestamp",
        ),
        (
            Sigstore {
                log: other.log.clone(),
                ..ours.clone()
            },
            "log",
        ),
    ] {
        let result = signed(&mixed);
        let Err(VerifyError::Untrusted(words)) = &result else {
            unreachable!("{why}: {result:?}")
        };
        assert!(words.contains(why) && words.contains(WORKFLOW), "{words}");
    }
}

#[test]
fn a_signature_outside_of_the_certificates_validity_is_refused_with_the_times() {
    let ours = Sigstore::new();
    let root = root_of(&ours.trusted_root()).expect("a trust root");
    let who = identity("a@example.com", "https://issuer.example");
    for (after, expired) in [
        (0, false),
        (600, false),
        (601, true),
        (-1, true),
        (86_400, true),
    ] {
        let signing = Signing {
            identity: &who,
            after,
        };
        let result = check(&ours.blob(&signing, COMPONENT), COMPONENT, &who, &root);
        match (&result, expired) {
            (Ok(_), false) => {}
            (Err(VerifyError::Expired(words)), true) => {
                let valid = "valid from 2025-06-01T00:00:00Z to 2025-06-01T00:10:00Z";
                assert!(words.contains(valid), "{words}");
                let who = "a certificate that names a@example.com (https://issuer.example) (not verified)";
                assert!(words.contains(who), "{words}");
            }
            _ => unreachable!("{after}: {result:?}"),
        }
    }
}

#[test]
fn a_manifest_is_signed_by_a_statement_and_not_by_an_attestation() {
    let ours = Sigstore::new();
    let root = root_of(&ours.trusted_root()).expect("a trust root");
    let who = identity(WORKFLOW, "https://issuer.example");
    let signing = Signing {
        identity: &who,
        after: 1,
    };
    let (of, another) = (digest(MANIFEST), digest(b"another"));
    let accepted = accepting(std::slice::from_ref(&who));
    let manifest = |bundle: &str, digest: &str| {
        let subject = Subject::Manifest(digest);
        verify(&[bundle.into()], subject, &accepted, Some(&root))
    };
    let signed = ours.statement(&signing, &of, SIGNATURE);
    assert_eq!(manifest(&signed, &of), Ok(Signer::Identity(who.clone())));
    let (wanted, named) = (another.clone(), of.clone());
    let refused = Err(VerifyError::SaysAnother(Digests {
        signed: named,
        wanted,
    }));
    assert_eq!(manifest(&signed, &another), refused);
    for (bundle, why) in [
        (
            ours.statement(&signing, &of, "https://slsa.dev/provenance/v1"),
            "attestation",
        ),
        (ours.blob(&signing, MANIFEST), "of a file"),
    ] {
        let result = manifest(&bundle, &of);
        let Err(VerifyError::Bad(words)) = &result else {
            unreachable!("{why}: {result:?}")
        };
        assert!(words.contains(why), "{words}");
    }
    // A statement about the right digest in an envelope that was signed for another.
    let payload = serde_json::from_str::<Value>(&ours.statement(&signing, &another, SIGNATURE));
    let payload = payload.expect("JSON")["dsseEnvelope"]["payload"].clone();
    let result = manifest(
        &altered(&signed, "/dsseEnvelope/payload", payload),
        &another,
    );
    assert!(
        matches!(result, Err(VerifyError::Untrusted(_))),
        "{result:?}"
    );
}

#[test]
fn a_timestamp_outside_of_the_certificates_validity_is_an_expired_certificate_too() {
    let ours = Sigstore::new();
    let who = identity("a@example.com", "https://issuer.example");
    let signing = Signing {
        identity: &who,
        after: 60,
    };
    let ours_bundle: Value = serde_json::from_str(&ours.blob(&signing, COMPONENT)).expect("JSON");
    let pointer = "/verificationMaterial/certificate/rawBytes";
    let certificate = ours_bundle.pointer(pointer).expect("a certificate");
    // A timestamp authority confirms a time that this certificate does not have.
    let bundle = altered(STAGING, pointer, certificate.clone());
    let result = check(&bundle, STAGING_CONTENT, &who, &root("staging"));
    let Err(VerifyError::Expired(words)) = &result else {
        unreachable!("expired: {result:?}")
    };
    assert!(words.contains("names a@example.com"), "{words}");
    assert!(words.contains("(not verified)"), "{words}");
    // A time in an entry that nothing confirms says nothing about the certificate.
    let mut mixed: Value = serde_json::from_str(STAGING_ROOT).expect("JSON");
    mixed["certificateAuthorities"] = ours.trusted_root()["certificateAuthorities"].clone();
    let claimed = altered_entry(STAGING, "integratedTime", json!("1000000000"));
    let result = check(
        &claimed,
        STAGING_CONTENT,
        &who,
        &root_of(&mixed).expect("a trust root"),
    );
    assert!(
        matches!(result, Err(VerifyError::Untrusted(_))),
        "{result:?}"
    );
}

/// A copy of a bundle with another field in its entry of the log.
fn altered_entry(bundle: &str, field: &str, value: Value) -> String {
    let mut bundle: Value = serde_json::from_str(bundle).expect("JSON");
    bundle["verificationMaterial"]["tlogEntries"][0][field] = value;
    bundle.to_string()
}

#[test]
fn a_time_of_the_log_in_the_future_is_refused_only_for_now() {
    let ours = Sigstore::new();
    let who = identity("a@example.com", "https://issuer.example");
    let signing = Signing {
        identity: &who,
        after: 100 * 365 * 86_400,
    };
    let trust = Trust {
        required: None,
        root: Some(root_of(&ours.trusted_root()).expect("a trust root")),
    };
    let mut plugin = ActionPlugin::default();
    plugin.spec.verify = Some(Verification {
        identities: vec![who.clone()],
        ..Verification::default()
    });
    let refused = |bundle: String| {
        let signatures = Signatures {
            bundles: vec![bundle.into_bytes()],
            missing: String::new(),
            left_out: None,
            incomplete: false,
        };
        let found = Found::signed_by_bytes(COMPONENT.to_vec(), signatures);
        found.verified(&plugin, &trust).expect_err("refused")
    };
    let error = refused(ours.blob(&signing, COMPONENT));
    assert_eq!(error.reason, "SignatureFromFuture", "{error:?}");
    assert!(error.transient, "{error:?}");
    assert!(error.message.contains("in the future"), "{error:?}");
    // Of another log, the time is only a claim.
    let other = Sigstore {
        log: Sigstore::new().log,
        ..ours.clone()
    };
    let error = refused(other.blob(&signing, COMPONENT));
    assert_eq!(error.reason, "SignatureUntrusted", "{error:?}");
    assert!(!error.transient, "{error:?}");
}

#[test]
fn what_a_bundle_claims_does_not_hide_what_was_verified_of_another() {
    let ours = Sigstore::new();
    let root = root_of(&ours.trusted_root()).expect("a trust root");
    let who = identity("a@example.com", "https://issuer.example");
    let signing = |after| Signing {
        identity: &who,
        after,
    };
    let claim = ours.blob(&signing(60), b"another");
    let changed = altered(
        &ours.blob(&signing(60), COMPONENT),
        "/messageSignature/signature",
        json!(""),
    );
    let expired = ours.blob(&signing(601), COMPONENT);
    let signed = ours.blob(&signing(60), COMPONENT);
    // Each is reported rather than those before it, in either order.
    let bundles = ["junk", &claim, &changed, &expired, &signed];
    let accepted = accepting(&[identity("b@example.com", "https://issuer.example")]);
    let reported = |bundles: &[&str]| {
        let bundles: Vec<Vec<u8>> = bundles.iter().map(|&bundle| bundle.into()).collect();
        let result = verify(&bundles, Subject::Bytes(COMPONENT), &accepted, Some(&root));
        std::mem::discriminant(&result.expect_err("refused"))
    };
    let alone = bundles.map(|bundle| reported(&[bundle]));
    for (more, most) in alone.iter().enumerate() {
        assert!(!alone[..more].contains(most), "{more}");
        for less in &bundles[..more] {
            assert_eq!(reported(&[less, bundles[more]]), *most, "{more}");
            assert_eq!(reported(&[bundles[more], less]), *most, "{more}");
        }
    }
}
