//! What the cache is for: a tag that moves, a registry that is away, a restart, a disk that is full.

use std::path::PathBuf;

use anyhow::Result;
use operon_plugin_registry::oci::{PullRequest, Puller, PullerConfig};

use crate::support::{BUNDLE, COMPONENT, Registry, WASM, expect_error, puller, request};

fn with_cache(cache: PathBuf) -> Puller {
    Puller::new(PullerConfig {
        cache: Some(cache),
        ..PullerConfig::default()
    })
}

#[tokio::test]
async fn a_tag_that_moved_is_reported_and_what_it_named_before_is_still_pulled() -> Result<()> {
    let registry = Registry::start(&[])?;
    let reference = registry.reference("a:1");
    registry.push("a:1", COMPONENT, WASM)?;
    let before = puller().pull(&request(&reference)).await?;
    registry.push("a:1", b"\0asm another", WASM)?;
    let pinned = PullRequest {
        manifest: Some(&before.manifest),
        ..request(&reference)
    };

    let now = puller().resolve(&pinned).await?;
    assert_ne!(now, before.manifest);
    assert_eq!(puller().pull(&pinned).await?, before);
    let after = puller().pull(&request(&reference)).await?;
    assert_eq!(
        (after.manifest, after.bytes),
        (now, b"\0asm another".to_vec())
    );
    Ok(())
}

#[tokio::test]
async fn a_component_that_was_pulled_survives_the_registrys_outage_and_a_restart() -> Result<()> {
    let mut registry = Registry::start(&[])?;
    let folder = tempfile::tempdir()?;
    let cache = folder.path().join("oci");
    registry.push("a:1", COMPONENT, WASM)?;
    let reference = registry.reference("a:1");
    let pulled = with_cache(cache.clone()).pull(&request(&reference)).await?;
    registry.attach(&reference, b"{}", BUNDLE)?;
    let bundles = with_cache(cache.clone())
        .bundles(&request(&reference), &pulled.manifest)
        .await?;
    assert_eq!(bundles.bundles, [b"{}"]);
    registry.stop();

    let restarted = with_cache(cache.clone());
    let known = PullRequest {
        manifest: Some(&pulled.manifest),
        ..request(&reference)
    };
    assert_eq!(restarted.pull(&known).await?, pulled);
    let by_digest = registry.reference(&format!("a@{}", pulled.manifest));
    assert_eq!(restarted.pull(&request(&by_digest)).await?, pulled);
    assert_eq!(restarted.bundles(&known, &pulled.manifest).await?, bundles);
    expect_error(
        restarted.pull(&request(&reference)).await,
        "RegistryUnavailable",
        &[&registry.address],
    );

    for file in std::fs::read_dir(&cache)? {
        std::fs::write(file?.path(), "changed")?;
    }
    expect_error(restarted.pull(&known).await, "RegistryUnavailable", &[]);
    Ok(())
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_costs_the_cache_and_not_the_pull() -> Result<()> {
    let registry = Registry::start(&[])?;
    registry.push("a:1", COMPONENT, WASM)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "no directory")?;
    let puller = with_cache(file.join("oci"));
    for _ in 0..2 {
        assert_eq!(
            puller
                .pull(&request(&registry.reference("a:1")))
                .await?
                .bytes,
            COMPONENT
        );
    }
    Ok(())
}

#[tokio::test]
async fn that_there_were_no_bundles_is_not_remembered_in_an_outage() -> Result<()> {
    let mut registry = Registry::start(&[])?;
    let folder = tempfile::tempdir()?;
    registry.push("a:1", COMPONENT, WASM)?;
    let reference = registry.reference("a:1");
    let puller = with_cache(folder.path().join("oci"));
    let manifest = puller.resolve(&request(&reference)).await?;
    assert!(
        puller
            .bundles(&request(&reference), &manifest)
            .await?
            .bundles
            .is_empty()
    );
    registry.stop();
    let bundles = puller.bundles(&request(&reference), &manifest).await;
    expect_error(bundles, "RegistryUnavailable", &[]);
    Ok(())
}
