//! Artifacts as other people's clients push them.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use operon_plugin_registry::oci::{Puller, PullerConfig};

use crate::support::{COMPONENT, Registry, WASM, expect_error, puller, request};

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

fn tar(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes)?;
    Ok(tar.into_inner()?)
}

#[tokio::test]
async fn a_component_is_pulled_from_every_layout_that_clients_push() -> Result<()> {
    push_and_pull_every_layout(&Registry::start(&[])?).await
}

#[tokio::test]
async fn every_layout_is_pulled_from_another_registry_too() -> Result<()> {
    push_and_pull_every_layout(&Registry::distribution()?).await
}

async fn push_and_pull_every_layout(registry: &Registry) -> Result<()> {
    let name = |name: &str| registry.reference(name);
    registry.write("plugin.wasm", COMPONENT)?;
    registry.write("plugin.wasm.gz", &gzip(COMPONENT)?)?;
    registry.write("config.json", br#"{"architecture":"wasm","os":"wasip2"}"#)?;
    registry.write("layer.tar", &tar("plugin.wasm", COMPONENT)?)?;
    let config = "config.json:application/vnd.wasm.config.v0+json";
    let push = |flags: &[&str], reference: &str, file: &str| {
        let reference = name(reference);
        let arguments = [&["push", "--plain-http"], flags, &[&reference, file]].concat();
        registry.oras(&arguments)
    };
    push(
        &["--config", config],
        "config:1",
        "plugin.wasm:application/wasm",
    )?;
    push(
        &["--artifact-type", "application/vnd.example"],
        "artifact:1",
        "plugin.wasm:application/wasm",
    )?;
    push(
        &[],
        "layer:1",
        "plugin.wasm:application/vnd.wasm.content.layer.v1+wasm",
    )?;
    push(&[], "untyped:1", "plugin.wasm")?;
    push(&[], "bytes:1", "plugin.wasm:application/octet-stream")?;
    push(&[], "gzip:1", "plugin.wasm.gz:application/wasm")?;
    registry.crane(&[
        "append",
        "--insecure",
        "-f",
        "layer.tar",
        "-t",
        &name("image:1"),
    ])?;
    registry.crane(&[
        "index",
        "append",
        "--insecure",
        "-m",
        &name("image:1"),
        "-t",
        &name("index:1"),
    ])?;

    for artifact in [
        "config", "artifact", "layer", "untyped", "bytes", "gzip", "image", "index",
    ] {
        let reference = name(&format!("{artifact}:1"));
        let pulled = puller().pull(&request(&reference)).await?;
        assert_eq!(pulled.bytes, COMPONENT, "{artifact}");
        assert_eq!(
            pulled.manifest,
            puller().resolve(&request(&reference)).await?,
            "{artifact}"
        );
        assert_eq!(
            pulled.manifest == pulled.image,
            artifact != "index",
            "{artifact}"
        );
        let by_digest = name(&format!("{artifact}@{}", pulled.manifest));
        assert_eq!(
            puller().pull(&request(&by_digest)).await?,
            pulled,
            "{artifact}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_artifact_that_is_no_component_is_named_with_what_it_has() -> Result<()> {
    let registry = Registry::start(&[])?;
    registry.push("text:1", b"hello", "text/plain")?;
    let reference = registry.reference("text:1");
    let error = puller().pull(&request(&reference)).await;
    expect_error(
        error,
        "UnknownMediaType",
        &[&reference, "text/plain", "application/wasm"],
    );

    registry.write("layer.tar", &tar("etc/passwd", b"text")?)?;
    let reference = registry.reference("image:1");
    registry.crane(&["append", "--insecure", "-f", "layer.tar", "-t", &reference])?;
    let error = puller().pull(&request(&reference)).await;
    expect_error(error, "NoComponentInLayer", &[&reference, "no .wasm file"]);
    Ok(())
}

#[tokio::test]
async fn a_component_beyond_the_size_limit_is_refused_plain_and_as_a_gzip_bomb() -> Result<()> {
    let registry = Registry::start(&[])?;
    let puller = Puller::new(PullerConfig {
        max_component: 1 << 20,
        ..PullerConfig::default()
    });
    let large = vec![0; (1 << 20) + 1];
    registry.push("plain:1", &large, WASM)?;
    registry.push("bomb:1", &gzip(&vec![0; 64 << 20])?, WASM)?;
    for name in ["plain:1", "bomb:1"] {
        let reference = registry.reference(name);
        let error = expect_error(
            puller.pull(&request(&reference)).await,
            "TooLarge",
            &["1 MiB", "components.maxSizeMiB"],
        );
        assert!(!error.transient);
    }
    registry.push("fits:1", &large[1..], WASM)?;
    assert_eq!(
        puller
            .pull(&request(&registry.reference("fits:1")))
            .await?
            .bytes,
        large[1..]
    );
    Ok(())
}

#[tokio::test]
async fn a_reference_that_names_no_version_or_nothing_says_so() -> Result<()> {
    let registry = Registry::start(&[])?;
    let reference = registry.reference("a");
    let error = expect_error(
        puller().pull(&request(&reference)).await,
        "BadReference",
        &["neither a tag nor a digest"],
    );
    assert!(!error.transient);
    let reference = registry.reference("a:1");
    for error in [
        puller().pull(&request(&reference)).await.map(drop),
        puller().resolve(&request(&reference)).await.map(drop),
    ] {
        expect_error(
            error,
            "ManifestNotFound",
            &[&reference, "404", "no pull secret has credentials"],
        );
    }
    Ok(())
}
