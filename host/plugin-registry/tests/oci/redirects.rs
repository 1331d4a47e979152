//! Where a registry sends us, and what is shown there.

use anyhow::Result;
use axum::http::header::{LOCATION, WWW_AUTHENTICATE};
use operon_plugin_registry::oci::PullRequest;

use crate::support::{
    Artifact, COMPONENT, Fake, expect_error, ok, puller, request, secret, with_header,
};

#[tokio::test]
async fn a_blob_is_followed_to_another_host_without_credentials() -> Result<()> {
    let store = Fake::serve(|_| ok(COMPONENT)).await?;
    let location = format!("http://{}/blob?signature=1", store.address);
    let registry = Fake::with_artifact(&Artifact::component(), move |asked| {
        if asked.authorization.is_none() {
            return Some(with_header(401, WWW_AUTHENTICATE, "Basic realm=fake"));
        }
        asked
            .line
            .contains("/blobs/")
            .then(|| with_header(307, LOCATION, &location))
    })
    .await?;
    let reference = registry.reference();
    let credentials = [secret("right", &registry.address, "ada", "s3cret")];
    let pull = PullRequest {
        credentials: &credentials,
        ..request(&reference)
    };
    assert_eq!(puller().pull(&pull).await?.bytes, COMPONENT);
    let [seen] = store.seen().try_into().expect("one request");
    assert_eq!(
        (seen.line.as_str(), seen.authorization),
        ("GET /blob?signature=1", None)
    );
    Ok(())
}

#[tokio::test]
async fn a_redirect_loop_ends() -> Result<()> {
    let registry = Fake::with_artifact(&Artifact::component(), |asked| {
        asked
            .line
            .contains("/blobs/")
            .then(|| with_header(302, LOCATION, "?again"))
    })
    .await?;
    let error = puller().pull(&request(&registry.reference())).await;
    expect_error(
        error,
        "RedirectLoop",
        &[&registry.address, "more than 5 times"],
    );
    assert!(registry.seen().len() < 10);
    Ok(())
}

#[tokio::test]
async fn a_redirect_to_what_is_no_web_address_is_refused() -> Result<()> {
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/", "http://["] {
        let registry = Fake::with_artifact(&Artifact::component(), move |asked| {
            asked
                .line
                .contains("/blobs/")
                .then(|| with_header(302, LOCATION, location))
        })
        .await?;
        let error = puller().pull(&request(&registry.reference())).await;
        expect_error(error, "BadRedirect", &[&registry.address]);
    }
    Ok(())
}

#[tokio::test]
async fn the_first_request_of_a_registry_is_not_redirected() -> Result<()> {
    let elsewhere = Fake::serve(|_| with_header(401, WWW_AUTHENTICATE, "Basic realm=fake")).await?;
    let location = format!("http://{}/v2/", elsewhere.address);
    let registry = Fake::serve(move |_| with_header(301, LOCATION, &location)).await?;
    let reference = registry.reference();
    let credentials = [secret("right", &registry.address, "ada", "s3cret")];
    let error = puller()
        .pull(&PullRequest {
            credentials: &credentials,
            ..request(&reference)
        })
        .await;
    expect_error(error, "BadRedirect", &["/v2/"]);
    assert_eq!(elsewhere.seen(), []);
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_redirected_to_cannot_ask_for_the_credentials() -> Result<()> {
    for challenge in ["Basic realm=fake", r#"Bearer realm="/token""#] {
        let thief = Fake::serve(move |asked| {
            let host = asked.host.as_deref().unwrap_or_default();
            let challenge = challenge.replace("/token", &format!("http://{host}/token"));
            with_header(401, WWW_AUTHENTICATE, &challenge)
        })
        .await?;
        let location = format!("http://{}/manifest", thief.address);
        let registry = Fake::with_artifact(&Artifact::component(), move |asked| {
            asked
                .line
                .contains("/manifests/")
                .then(|| with_header(307, LOCATION, &location))
        })
        .await?;
        let reference = registry.reference();
        let credentials = [secret("right", &registry.address, "ada", "s3cret")];
        let pull = PullRequest {
            credentials: &credentials,
            ..request(&reference)
        };
        expect_error(
            puller().pull(&pull).await,
            "RegistryUnauthorized",
            &[&thief.address, "401"],
        );
        let seen = thief.seen();
        assert!(
            seen.iter()
                .all(|seen| seen.line == "HEAD /manifest" && seen.authorization.is_none()),
            "{seen:?}"
        );
    }
    Ok(())
}
