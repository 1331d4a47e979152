//! Each requirement of a component's digest and signatures, met or refused.

use operon_api::action_plugin::{Identity, Verification};

use super::*;
use crate::verify::Keys;

const COMPONENT: &[u8] = include_bytes!("../verify/fixtures/component.txt");
const MANIFEST: &[u8] = include_bytes!("../verify/fixtures/manifest.json");
const COSIGN: &str = include_str!("../verify/fixtures/cosign.pub");
const OTHER: &str = include_str!("../verify/fixtures/other.pub");
const BLOB: &str = include_str!("../verify/fixtures/blob-cosign.sigstore.json");
const SIGNED_MANIFEST: &str = include_str!("../verify/fixtures/manifest.sigstore.json");

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
        left_out: None,
        incomplete: false,
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

#[test]
fn an_identity_is_verified_or_refused_with_what_was_found_and_wanted() {
    // The content, the accepted subject, the trust root; the reason and parts of the message.
    type Row<'a> = (
        &'a [u8],
        &'a str,
        &'a Option<TrustedRoot>,
        &'a str,
        &'a [&'a str],
    );
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/verify/fixtures/keyless");
    let root = |name: &str| {
        let path = format!("{folder}/{name}.trusted_root.json");
        TrustedRoot::of_path(path.as_ref()).expect("a trust root")
    };
    let (public, staging) = (Some(root("public")), Some(root("staging")));
    let text = include_bytes!("../verify/fixtures/keyless/public.txt");
    let bundle = include_str!("../verify/fixtures/keyless/public.sigstore.json");
    let signer = "w.vollprecht@gmail.com";
    let value = "verification.trustedRoot";
    let table: [Row<'_>; 5] = [
        (text, signer, &public, "", &[]),
        (
            text,
            "a@b",
            &public,
            "IdentityNotAccepted",
            &[signer, "a@b", "spec.verify"],
        ),
        (
            text,
            signer,
            &staging,
            "SignatureUntrusted",
            &[signer, value],
        ),
        (
            b"other",
            signer,
            &public,
            "SignatureOfAnother",
            &["about sha256:"],
        ),
        (
            text,
            signer,
            &None,
            "NoTrustedRoot",
            &[value, "spec.verify"],
        ),
    ];
    for (content, subject, root, reason, parts) in table {
        let mut plugin = ActionPlugin::default();
        let identity = Identity {
            issuer: "https://github.com/login/oauth".to_owned(),
            subject: subject.to_owned(),
        };
        plugin.spec.verify = Some(Verification {
            identities: vec![identity.clone()],
            ..Verification::default()
        });
        let trust = Trust {
            required: None,
            root: root.clone(),
        };
        let found = Found::signed_by_bytes(content.to_vec(), signatures(&[bundle]));
        match found.verified(&plugin, &trust) {
            Ok(component) => {
                assert_eq!(reason, "");
                assert_eq!(component.signers, [Signer::Identity(identity)]);
            }
            Err(error) => {
                assert_eq!(error.reason, reason, "{error:?}");
                for part in parts {
                    assert!(error.message.contains(part), "{part}: {error:?}");
                }
            }
        }
    }
}

#[test]
fn a_refusal_is_for_now_if_a_signature_could_not_be_read() {
    for (bundle, reason) in [(None, "NotSigned"), (Some(BLOB), "SignatureInvalid")] {
        let signatures = Signatures {
            incomplete: true,
            ..signatures(bundle.as_slice())
        };
        let found = Found::signed_by_bytes(COMPONENT.to_vec(), signatures);
        let error = found.verified(&plugin(Some(&[OTHER])), &Trust::default());
        let error = error.expect_err("refused");
        assert_eq!((error.reason, error.transient), (reason, true));
    }
}
