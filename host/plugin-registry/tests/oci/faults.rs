//! Answers that no good registry gives.

use std::time::{Duration, Instant};

use anyhow::Result;
use axum::{
    body::{Body, Bytes},
    http::header::{CONTENT_LENGTH, RETRY_AFTER},
    response::Response,
};
use futures::stream;
use operon_plugin_registry::oci::{Puller, PullerConfig};

use crate::support::{
    Artifact, COMPONENT, Fake, expect_error, ok, puller, request, status, with_header,
};

/// A body that goes on for ever.
fn endless() -> Response {
    let chunk = Bytes::from(vec![0; 1 << 16]);
    let chunks = stream::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
    Response::new(Body::from_stream(chunks))
}

/// A body that ends before the length that its header promises.
fn cut() -> Response {
    let chunks = stream::iter([Ok::<_, std::convert::Infallible>(&COMPONENT[..9])]);
    let mut response = Response::new(Body::from_stream(chunks));
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, COMPONENT.len().into());
    response
}

#[tokio::test]
async fn each_refusal_has_its_own_reason() -> Result<()> {
    for (code, reason) in [
        (401, "RegistryUnauthorized"),
        (403, "RegistryForbidden"),
        (404, "ManifestNotFound"),
        (418, "UnexpectedAnswer"),
        (500, "RegistryUnavailable"),
        (503, "RegistryUnavailable"),
    ] {
        let registry = Fake::with_artifact(&Artifact::component(), move |asked| {
            asked.line.contains("/manifests/").then(|| status(code))
        })
        .await?;
        let error = puller().pull(&request(&registry.reference())).await;
        let error = expect_error(error, reason, &[&registry.reference(), &registry.address]);
        assert!(error.transient, "{code}");
    }
    Ok(())
}

#[tokio::test]
async fn a_registrys_own_words_are_quoted() -> Result<()> {
    let registry = Fake::with_artifact(&Artifact::component(), |asked| {
        asked.line.contains("/blobs/").then(|| {
            let mut response =
                ok(br#"{"errors": [{"code": "DENIED", "message": "billing is overdue"}]}"#);
            *response.status_mut() = axum::http::StatusCode::FORBIDDEN;
            response
        })
    })
    .await?;
    let error = puller().pull(&request(&registry.reference())).await;
    expect_error(error, "RegistryForbidden", &["403", "billing is overdue"]);
    Ok(())
}

#[tokio::test]
async fn a_pause_that_a_registry_asks_for_is_kept() -> Result<()> {
    for code in [429, 503] {
        let registry = Fake::serve(move |_| with_header(code, RETRY_AFTER, "1")).await?;
        let puller = puller();
        let reference = registry.reference();
        for _ in 0..3 {
            puller
                .pull(&request(&reference))
                .await
                .expect_err("no answer is a success");
        }
        assert_eq!(
            registry.seen().len(),
            1,
            "{code}: nothing is sent in the pause"
        );
        expect_error(
            puller.pull(&request(&reference)).await,
            "TooManyRequests",
            &["asked for a pause"],
        );
        tokio::time::sleep(Duration::from_millis(1100)).await;
        puller
            .pull(&request(&reference))
            .await
            .expect_err("no answer is a success");
        assert_eq!(
            registry.seen().len(),
            2,
            "{code}: after the pause it is asked again"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_registry_of_one_byte_a_second_fails_in_time() -> Result<()> {
    let registry = Fake::with_artifact(&Artifact::component(), |asked| {
        asked.line.contains("/blobs/").then(|| {
            let bytes = stream::unfold(0, |sent| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let byte = COMPONENT.get(sent..=sent)?;
                Some((Ok::<_, std::convert::Infallible>(byte), sent + 1))
            });
            Response::new(Body::from_stream(bytes))
        })
    })
    .await?;
    let began = Instant::now();
    let deadline = Duration::from_secs(1);
    let puller = Puller::new(PullerConfig {
        deadline,
        ..PullerConfig::default()
    });
    let error = puller.pull(&request(&registry.reference())).await;
    let error = expect_error(error, "RegistryTimeout", &[&registry.address, "within 1 s"]);
    assert!(error.transient && began.elapsed() < Duration::from_secs(10));
    Ok(())
}

#[tokio::test]
async fn what_is_cut_or_changed_on_its_way_is_not_used() -> Result<()> {
    for (part, reason, answer) in [
        ("/blobs/", "RegistryUnavailable", cut as fn() -> Response),
        ("/blobs/", "DigestMismatch", || ok(&COMPONENT[..9])),
        ("/blobs/", "DigestMismatch", || ok(&[0; COMPONENT.len()])),
        ("/blobs/", "DigestMismatch", endless),
        ("GET /v2/a/manifests/", "DigestMismatch", || ok(b"{}")),
    ] {
        let registry = Fake::with_artifact(&Artifact::component(), move |asked| {
            asked.line.contains(part).then(answer)
        })
        .await?;
        let error = puller().pull(&request(&registry.reference())).await;
        let error = expect_error(error, reason, &[&registry.reference(), &registry.address]);
        assert!(error.transient, "{part}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_declared_size_and_while_it_arrives() -> Result<()> {
    let huge = Artifact::declared(COMPONENT, 500 << 20);
    let registry = Fake::with_artifact(&huge, |_| None).await?;
    expect_error(
        puller().pull(&request(&registry.reference())).await,
        "TooLarge",
        &["500 MiB", "components.maxSizeMiB"],
    );
    assert!(
        registry
            .seen()
            .iter()
            .all(|seen| !seen.line.contains("/blobs/"))
    );

    let registry = Fake::with_artifact(&Artifact::component(), |asked| {
        asked.line.starts_with("GET /v2/a/manifests/").then(endless)
    })
    .await?;
    expect_error(
        puller().pull(&request(&registry.reference())).await,
        "TooLarge",
        &["manifest"],
    );

    let registry = Fake::with_artifact(&Artifact::component(), |asked| {
        asked.line.contains("/manifests/").then(|| {
            let mut response = endless();
            *response.status_mut() = axum::http::StatusCode::FORBIDDEN;
            response
        })
    })
    .await?;
    expect_error(
        puller().pull(&request(&registry.reference())).await,
        "RegistryForbidden",
        &[],
    );
    Ok(())
}

#[tokio::test]
async fn a_registry_that_says_no_digest_or_asks_for_proof_late_is_pulled_from() -> Result<()> {
    let artifact = Artifact::component();
    let bare = Fake::with_artifact(&artifact, |asked| {
        asked.line.starts_with("HEAD").then(|| status(200))
    })
    .await?;
    assert_eq!(
        puller().pull(&request(&bare.reference())).await?.manifest,
        artifact.digest()
    );
    let no_root = Fake::with_artifact(&artifact, |asked| {
        asked.line.ends_with("/v2/").then(|| status(404))
    })
    .await?;
    assert_eq!(
        puller().pull(&request(&no_root.reference())).await?.bytes,
        COMPONENT
    );
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_unavailable() -> Result<()> {
    // Port 1 of this machine serves nothing. A pull may run in a task of its own.
    let pull = tokio::spawn(async { puller().pull(&request("127.0.0.1:1/a:1")).await });
    let error = expect_error(
        pull.await?,
        "RegistryUnavailable",
        &["127.0.0.1:1", "connection"],
    );
    assert!(error.transient);
    Ok(())
}
