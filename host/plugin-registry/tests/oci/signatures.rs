//! Bundles that refer to a manifest, attached by another client.

use std::collections::BTreeMap;

use anyhow::Result;
use operon_plugin_registry::{
    digest,
    oci::{Bundles, LeftOut},
};
use serde_json::json;

use crate::support::{Artifact, BUNDLE, COMPONENT, Fake, Registry, WASM, ok, puller, request};

/// Attaches one file to the artifact `a:1`.
fn attach(registry: &Registry, bytes: &[u8], kind: &str) -> Result<()> {
    registry.attach(&registry.reference("a:1"), bytes, kind)
}

#[tokio::test]
async fn bundles_are_found_by_the_referrers_api_and_by_the_tag_scheme() -> Result<()> {
    for (kind, registry) in [
        ("with the API", Registry::start(&[])?),
        ("without", Registry::start(&["-referrers=false"])?),
        ("another without", Registry::distribution()?),
    ] {
        registry.push("a:1", COMPONENT, WASM)?;
        let reference = registry.reference("a:1");
        let manifest = puller().resolve(&request(&reference)).await?;
        let bundles = || async { puller().bundles(&request(&reference), &manifest).await };
        assert_eq!(bundles().await?, Bundles::default(), "{kind}");

        attach(&registry, b"{\"first\": 1}", BUNDLE)?;
        attach(&registry, b"a list of parts", "application/spdx+json")?;
        attach(&registry, &vec![b' '; (1 << 20) + 1], BUNDLE)?;
        attach(&registry, b"{\"second\": 2}", BUNDLE)?;
        let Bundles {
            bundles: mut found,
            left_out,
        } = bundles().await?;
        let large = LeftOut {
            large: 1,
            ..LeftOut::default()
        };
        assert_eq!(left_out, large, "{kind}");
        found.sort();
        assert_eq!(
            found,
            [b"{\"first\": 1}".to_vec(), b"{\"second\": 2}".to_vec()],
            "{kind}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_more_than_sixteen_bundles_are_read() -> Result<()> {
    let registry = Registry::start(&[])?;
    registry.push("a:1", COMPONENT, WASM)?;
    for number in 0..18 {
        attach(&registry, format!("{number}").as_bytes(), BUNDLE)?;
    }
    let reference = registry.reference("a:1");
    let manifest = puller().resolve(&request(&reference)).await?;
    let found = puller().bundles(&request(&reference), &manifest).await?;
    assert_eq!((found.bundles.len(), found.left_out.more), (16, 2));
    let words = found.left_out.to_string();
    assert!(words.contains("2 because only 16 are read"), "{words}");
    Ok(())
}

/// A registry's list of an artifact's referrers: bundles with these texts, and what is said of each.
fn listed(bundles: &[(&str, Option<&str>)]) -> BTreeMap<String, Vec<u8>> {
    let mut served = BTreeMap::new();
    let mut manifests = Vec::new();
    for (text, predicate) in bundles {
        let layer =
            json!({"mediaType": BUNDLE, "digest": digest(text.as_bytes()), "size": text.len()});
        let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
        let name = digest(manifest.as_bytes());
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": BUNDLE,
            "digest": name,
            "size": manifest.len(),
            "annotations": predicate.map(|it| json!({"dev.sigstore.bundle.predicateType": it})),
        }));
        served.insert(
            format!("blobs/{}", digest(text.as_bytes())),
            text.as_bytes().to_vec(),
        );
        served.insert(format!("manifests/{name}"), manifest.into_bytes());
    }
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    served.insert("referrers".to_owned(), index.into_bytes());
    served
}

async fn fake(served: BTreeMap<String, Vec<u8>>) -> Result<Fake> {
    Fake::with_artifact(&Artifact::component(), move |asked| {
        let path = asked.line.strip_prefix("GET /v2/a/")?;
        let path = if path.starts_with("referrers/") {
            "referrers"
        } else {
            path
        };
        served.get(path).map(|bytes| ok(bytes))
    })
    .await
}

#[tokio::test]
async fn bundles_that_are_said_to_be_signatures_are_read_first() -> Result<()> {
    let texts: Vec<_> = (0..20)
        .map(|number| format!("{{\"a\": {number}}}"))
        .collect();
    let mut bundles: Vec<_> = texts
        .iter()
        .map(|text| (text.as_str(), Some("https://slsa.dev/provenance/v1")))
        .collect();
    bundles.push((
        "{\"signature\": 1}",
        Some("https://sigstore.dev/cosign/sign/v1"),
    ));
    let registry = fake(listed(&bundles)).await?;
    let manifest = Artifact::component().digest();
    let reference = registry.reference();
    let found = puller().bundles(&request(&reference), &manifest).await?;
    assert_eq!(found.bundles.len(), 16);
    assert_eq!(found.bundles[0], b"{\"signature\": 1}");
    assert_eq!(found.left_out.more, 5);
    Ok(())
}

#[tokio::test]
async fn a_bundle_that_can_not_be_read_does_not_hide_the_others() -> Result<()> {
    let mut served = listed(&[("{\"first\": 1}", None), ("{\"second\": 2}", None)]);
    served.remove(&format!("blobs/{}", digest(b"{\"first\": 1}")));
    let registry = fake(served).await?;
    let manifest = Artifact::component().digest();
    let reference = registry.reference();
    let found = puller().bundles(&request(&reference), &manifest).await?;
    assert_eq!(found.bundles, [b"{\"second\": 2}"]);
    assert_eq!(found.left_out.unreadable, 1);
    let words = found.left_out.to_string();
    assert!(words.contains("1 that could not be read"), "{words}");
    assert!(words.contains("404"), "{words}");
    Ok(())
}
