//! Public keys, as an author or an administrator gives them: PEM.

use std::{fs, path::Path};

use operon_core::action_plugin::source::Signer;
use rustls_pki_types::{
    SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, pem::PemObject as _,
};
use webpki::{Error, RawPublicKeyEntity, ring};

use super::Unusable;
use crate::digest;

/// How `cosign` signs with a key of each type.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
];

/// Public keys; at least one.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    spki: SubjectPublicKeyInfoDer<'static>,
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    fingerprint: String,
    /// As it was given.
    text: String,
}

impl Keys {
    /// The keys of a field, one in each text.
    pub(crate) fn of_field(field: &str, texts: &[String]) -> Result<Self, Unusable> {
        let keys = texts.iter().enumerate().map(|(index, text)| {
            parse(text).map_err(|what| Unusable {
                place: format!("{field}[{index}]"),
                what,
            })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        Self::some(keys, field, "has no key")
    }

    /// The key of a file, or of every file `*.pub` and `*.pem` of a folder.
    pub fn of_path(path: &Path) -> Result<Self, Unusable> {
        let bad = |path: &Path, what: String| Unusable {
            place: path.display().to_string(),
            what,
        };
        let unreadable = |error: std::io::Error| bad(path, format!("can't be read: {error}"));
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(unreadable)?;
            let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
            files = entries.into_iter().map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|e| e == "pub" || e == "pem"));
            files.sort();
        }
        let keys = files.iter().map(|file| {
            let text = fs::read_to_string(file)
                .map_err(|error| bad(file, format!("can't be read: {error}")))?;
            parse(&text).map_err(|what| bad(file, what))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let place = path.display().to_string();
        Self::some(keys, &place, "has no file *.pub or *.pem")
    }

    fn some(keys: Vec<Key>, place: &str, none: &str) -> Result<Self, Unusable> {
        if keys.is_empty() {
            return Err(Unusable {
                place: place.to_owned(),
                what: none.to_owned(),
            });
        }
        Ok(Self(keys))
    }

    /// The key that made this signature of these bytes.
    pub(super) fn signer(&self, bytes: &[u8], signature: &[u8]) -> Option<Signer> {
        let verifies = |key: &&Key| {
            let entity = RawPublicKeyEntity::try_from(&key.spki);
            entity.is_ok_and(|entity| {
                entity
                    .verify_signature(key.algorithm, bytes, signature)
                    .is_ok()
            })
        };
        let key = self.0.iter().find(verifies)?;
        Some(Signer::Key {
            fingerprint: key.fingerprint.clone(),
            key: key.text.clone(),
        })
    }

    /// The fingerprints of the keys, for people.
    pub(crate) fn fingerprints(&self) -> String {
        let fingerprints: Vec<_> = self.0.iter().map(|key| key.fingerprint.as_str()).collect();
        fingerprints.join(", ")
    }
}

/// The one key of a text; otherwise what the text is instead, as the end of a sentence.
fn parse(text: &str) -> Result<Key, String> {
    if text.contains("PRIVATE KEY-----") {
        return Err("is a private key, which only the signer may have: replace the key pair, and give its public key (cosign.pub)".to_owned());
    }
    let keys: Result<Vec<_>, _> =
        SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()).collect();
    let mut keys = keys.map_err(|error| format!("is not valid PEM: {error}"))?;
    let spki = match (keys.pop(), keys.len()) {
        (Some(spki), 0) => spki,
        (Some(_), _) => return Err("has more than one public key; give each by itself".to_owned()),
        (None, _) if text.contains("CERTIFICATE-----") => {
            return Err(
                "is a certificate; `openssl x509 -pubkey -noout` prints its public key".to_owned(),
            );
        }
        (None, _) => {
            return Err(
                "has no public key in PEM, which begins with -----BEGIN PUBLIC KEY-----".to_owned(),
            );
        }
    };
    let algorithm = algorithm(&spki)?;
    let fingerprint = digest(spki.as_ref());
    let text = text.to_owned();
    Ok(Key {
        spki,
        algorithm,
        fingerprint,
        text,
    })
}

/// The algorithm that fits a key: the one that finds an empty signature wrong instead of the key.
fn algorithm(
    spki: &SubjectPublicKeyInfoDer<'_>,
) -> Result<&'static dyn SignatureVerificationAlgorithm, String> {
    let entity = RawPublicKeyEntity::try_from(spki)
        .map_err(|error| format!("is not a valid public key: {error}"))?;
    let fits = |algorithm: &&&'static dyn SignatureVerificationAlgorithm| {
        matches!(
            entity.verify_signature(**algorithm, &[], &[]),
            Err(Error::InvalidSignatureForPublicKey)
        )
    };
    ALGORITHMS.iter().find(fits).copied().ok_or_else(|| {
        "is a key of a type that can't be verified here; use ECDSA P-256 (what `cosign generate-key-pair` makes), ECDSA P-384, Ed25519 or RSA".to_owned()
    })
}
