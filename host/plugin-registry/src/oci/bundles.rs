//! Finds the Sigstore bundles that refer to a manifest, by the referrers API and by the tag scheme.
//! It does not verify them.

use super::{
    fault::Fault,
    layout::{Descriptor, Manifest},
    reference::is_digest,
    session::Session,
};

/// The prefix of the media types of bundles, whose end is a version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const MAX_BUNDLES: usize = 16;
const MAX_BUNDLE: usize = 1 << 20;
/// The most that all bundles of a manifest take as text, escaped.
pub(super) const MAX_FILE: usize = 2 * MAX_BUNDLES * MAX_BUNDLE;

/// The bundles that refer to the manifest with this digest. Larger bundles are left out.
pub(super) async fn fetch(
    session: &mut Session<'_>,
    manifest: &str,
) -> Result<Vec<Vec<u8>>, Fault> {
    let mut found = referrers(session.referrers(manifest).await?);
    for other in referrers(session.tagged(&manifest.replace(':', "-")).await?) {
        if found.iter().all(|known| known.digest != other.digest) {
            found.push(other);
        }
    }
    let mut bundles = Vec::new();
    for referrer in found.iter().take(MAX_BUNDLES) {
        let bytes = session.manifest(&referrer.digest).await?;
        let layers = Manifest::parse(&bytes)
            .map(Manifest::layers)
            .unwrap_or_default();
        let bundle = layers
            .into_iter()
            .find(|layer| layer.media_type.starts_with(BUNDLE) && is_digest(&layer.digest));
        match bundle {
            Some(bundle) if bundle.size <= MAX_BUNDLE as u64 => {
                bundles.push(session.blob(&bundle, MAX_BUNDLE).await?);
            }
            _ => {}
        }
    }
    Ok(bundles)
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
