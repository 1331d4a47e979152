//! Bundles that refer to a manifest, attached by another client.

use anyhow::Result;

use crate::support::{BUNDLE, COMPONENT, Registry, WASM, puller, request};

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
        assert!(bundles().await?.is_empty(), "{kind}");

        attach(&registry, b"{\"first\": 1}", BUNDLE)?;
        attach(&registry, b"a list of parts", "application/spdx+json")?;
        attach(&registry, &vec![b' '; (1 << 20) + 1], BUNDLE)?;
        attach(&registry, b"{\"second\": 2}", BUNDLE)?;
        let mut found = bundles().await?;
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
    assert_eq!(
        puller()
            .bundles(&request(&reference), &manifest)
            .await?
            .len(),
        16
    );
    Ok(())
}
