//! Finds the Sigstore bundles that refer to a manifest, by the referrers API and by the tag scheme.
//! It does not verify them.

use std::fmt;

use super::{
    fault::Fault,
    layout::{Descriptor, Manifest},
    reference::is_digest,
    session::Session,
};

/// The prefix of the media types of bundles, whose end is a version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The annotation by which cosign says what a bundle states, and its value for a signature.
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const MAX_BUNDLES: usize = 16;
const MAX_BUNDLE: usize = 1 << 20;
/// The most that all bundles of a manifest take as text, escaped.
pub(super) const MAX_FILE: usize = 2 * MAX_BUNDLES * MAX_BUNDLE;

/// The bundles that refer to a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundles {
    /// The JSON text of each.
    pub bundles: Vec<Vec<u8>>,
    /// What else refers to the manifest, and was not read.
    pub left_out: LeftOut,
}

/// How many referrers were not read, by why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Larger than a bundle may be.
    pub large: usize,
    /// More than are read.
    pub more: usize,
    /// The registry did not deliver them, or something else. A retry may help.
    pub unreadable: usize,
    /// Why the first of these could not be read.
    pub why: Option<String>,
}

/// The end of a sentence; empty if nothing was left out.
impl fmt::Display for LeftOut {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            large,
            more,
            unreadable,
            why,
        } = self;
        let why = why.as_deref().unwrap_or("no reason");
        let parts = [
            (
                large,
                format!("{large} larger than {} MiB", MAX_BUNDLE >> 20),
            ),
            (more, format!("{more} because only {MAX_BUNDLES} are read")),
            (
                unreadable,
                format!("{unreadable} that could not be read (the first: {why})"),
            ),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter_map(|(count, part)| (*count > 0).then_some(part))
            .collect();
        if parts.is_empty() {
            return Ok(());
        }
        write!(
            to,
            "; of those that it lists, were left out: {}",
            parts.join(", ")
        )
    }
}

/// The bundles that refer to the manifest with this digest, first those that are said to be signatures.
pub(super) async fn fetch(session: &mut Session<'_>, manifest: &str) -> Result<Bundles, Fault> {
    let mut found = referrers(session.referrers(manifest).await?);
    for other in referrers(session.tagged(&manifest.replace(':', "-")).await?) {
        if found.iter().all(|known| known.digest != other.digest) {
            found.push(other);
        }
    }
    found.sort_by_key(order);
    let mut fetched = Bundles::default();
    fetched.left_out.more = found.len().saturating_sub(MAX_BUNDLES);
    for referrer in found.iter().take(MAX_BUNDLES) {
        let Bundles { bundles, left_out } = &mut fetched;
        match bundle(session, referrer).await {
            Ok(Read::Bundle(bytes)) => bundles.push(bytes),
            Ok(Read::TooLarge) => left_out.large += 1,
            Ok(Read::NoBundle) => {}
            Err(Fault { what, .. }) => {
                left_out.unreadable += 1;
                left_out.why.get_or_insert(what);
            }
        }
    }
    Ok(fetched)
}

/// What a referrer is.
enum Read {
    Bundle(Vec<u8>),
    TooLarge,
    NoBundle,
}

async fn bundle(session: &mut Session<'_>, referrer: &Descriptor) -> Result<Read, Fault> {
    let bytes = session.manifest(&referrer.digest).await?;
    let layers = Manifest::parse(&bytes)?.layers();
    let bundle = layers
        .into_iter()
        .find(|layer| layer.media_type.starts_with(BUNDLE) && is_digest(&layer.digest));
    match bundle {
        Some(bundle) if bundle.size > MAX_BUNDLE as u64 => Ok(Read::TooLarge),
        Some(bundle) => Ok(Read::Bundle(session.blob(&bundle, MAX_BUNDLE).await?)),
        None => Ok(Read::NoBundle),
    }
}

/// Signatures first, then what is not said to be anything. The registry may say what it wants, but only about the order.
fn order(referrer: &Descriptor) -> u8 {
    let annotations = referrer.annotations.as_ref();
    match annotations.and_then(|all| all.get(PREDICATE)) {
        Some(kind) if kind == SIGNATURE => 0,
        None => 1,
        Some(_) => 2,
    }
}

/// The artifacts in an index that may be bundles. An index of the tag scheme may lack artifact types.
fn referrers(index: Option<Vec<u8>>) -> Vec<Descriptor> {
    let index = index.and_then(|bytes| Manifest::parse(&bytes).ok());
    let mut manifests = index.map(Manifest::manifests).unwrap_or_default();
    manifests.retain(|manifest| {
        let kind = manifest.artifact_type.as_deref();
        is_digest(&manifest.digest) && kind.is_none_or(|kind| kind.starts_with(BUNDLE))
    });
    manifests
}
