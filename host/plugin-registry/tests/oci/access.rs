//! Who is let in, by which credentials, and over which transport.

use anyhow::Result;
use axum::http::header::WWW_AUTHENTICATE;
use operon_plugin_registry::oci::{AllowedRegistries, PullRequest, Puller, PullerConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::{
    Artifact, COMPONENT, Fake, Registry, WASM, expect_error, ok, puller, request, secret, status,
    with_header,
};

fn only(entries: &[&str]) -> Result<Puller> {
    let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
    let allowed = AllowedRegistries::parse(&entries)?;
    Ok(Puller::new(PullerConfig {
        allowed,
        ..PullerConfig::default()
    }))
}

#[tokio::test]
async fn a_registry_with_users_is_pulled_from_with_the_secret_that_is_for_it() -> Result<()> {
    let registry = Registry::start(&["-user", "ada", "-password", "s3cret"])?;
    let reference = registry.reference("a:1");
    registry.write("plugin.wasm", COMPONENT)?;
    registry.oras(&[
        "push",
        "--plain-http",
        "-u",
        "ada",
        "-p",
        "s3cret",
        &reference,
        "plugin.wasm:application/wasm",
    ])?;

    let right = secret("right", &registry.address, "ada", "s3cret");
    let wrong = secret("wrong", &registry.address, "ada", "guess");
    let other = secret("other", "ghcr.io", "ada", "s3cret");
    for credentials in [
        vec![right.clone()],
        vec![other.clone(), wrong.clone(), right.clone()],
    ] {
        let pull = PullRequest {
            credentials: &credentials,
            ..request(&reference)
        };
        assert_eq!(puller().pull(&pull).await?.bytes, COMPONENT);
    }
    let none = format!("no pull secret has credentials for {}", registry.address);
    for (credentials, named) in [
        (vec![], none.as_str()),
        (vec![other], &none),
        (vec![wrong], r#""wrong""#),
    ] {
        let pull = PullRequest {
            credentials: &credentials,
            ..request(&reference)
        };
        let error = puller().pull(&pull).await;
        let error = expect_error(
            error,
            "RegistryUnauthorized",
            &[&reference, &registry.address, named],
        );
        assert!(error.transient && !error.message.contains("guess"));
    }
    Ok(())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_given_and_plain_http_only_when_asked_for() -> Result<()>
{
    let (key, authority_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::from_params(&authority, &authority_key);
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let files = tempfile::tempdir()?;
    let (chain, private) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    std::fs::write(&chain, certificate.pem())?;
    std::fs::write(&private, key.serialize_pem())?;

    let flags = [
        "-tls-cert",
        &chain.to_string_lossy(),
        "-tls-key",
        &private.to_string_lossy(),
    ];
    let registry = Registry::start(&flags)?;
    registry.write("plugin.wasm", COMPONENT)?;
    let reference = registry.reference("a:1");
    registry.oras(&[
        "push",
        "--insecure",
        &reference,
        "plugin.wasm:application/wasm",
    ])?;
    let tls = PullRequest {
        plain_http: false,
        ..request(&reference)
    };

    let trusting = PullRequest {
        ca: Some(ca.as_bytes()),
        ..tls
    };
    assert_eq!(puller().pull(&trusting).await?.bytes, COMPONENT);
    expect_error(
        puller().pull(&tls).await,
        "RegistryTls",
        &[&registry.address, "certificate", "authority"],
    );
    for bad in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = puller()
            .pull(&PullRequest {
                ca: Some(bad),
                ..tls
            })
            .await;
        expect_error(error, "BadCertificateAuthority", &[&reference]);
    }

    let plain = Registry::start(&[])?;
    let reference = plain.reference("a:1");
    let error = puller()
        .pull(&PullRequest {
            plain_http: false,
            ..request(&reference)
        })
        .await;
    expect_error(error, "RegistryTls", &["plain HTTP"]);
    Ok(())
}

#[tokio::test]
async fn only_allowed_registries_are_contacted() -> Result<()> {
    let registry = Registry::start(&[])?;
    registry.push("team/a:1", COMPONENT, WASM)?;
    let reference = registry.reference("team/a:1");
    let team = format!("{}/team", registry.address);
    assert_eq!(
        only(&[&team])?.pull(&request(&reference)).await?.bytes,
        COMPONENT
    );

    let fake = Fake::with_artifact(&Artifact::component(), |_| None).await?;
    let error = only(&[&team])?.pull(&request(&fake.reference())).await;
    expect_error(error, "RegistryNotAllowed", &[&fake.reference(), &team]);
    assert_eq!(fake.seen(), []);
    Ok(())
}

/// A registry that wants a token from the server with this address.
async fn wants_token(token_server: String) -> Result<Fake> {
    Fake::with_artifact(&Artifact::component(), move |asked| {
        let challenge = format!(r#"Bearer realm="http://{token_server}/token",service="fake""#);
        (asked.authorization.as_deref() != Some("Bearer granted"))
            .then(|| with_header(401, WWW_AUTHENTICATE, &challenge))
    })
    .await
}

#[tokio::test]
async fn a_token_server_is_shown_the_credentials_and_the_registry_only_the_token() -> Result<()> {
    let tokens = Fake::serve(|asked| match asked.authorization.as_deref() {
        Some("Basic YWRhOnMzY3JldA==") => ok(br#"{"access_token": "granted"}"#),
        _ => status(401),
    })
    .await?;
    let registry = wants_token(tokens.address.clone()).await?;
    let reference = registry.reference();
    let credentials = [secret("right", &registry.address, "ada", "s3cret")];
    let pull = PullRequest {
        credentials: &credentials,
        ..request(&reference)
    };
    assert_eq!(puller().pull(&pull).await?.bytes, COMPONENT);
    assert_eq!(
        tokens.seen()[0].line,
        "GET /token?service=fake&scope=repository%3Aa%3Apull"
    );
    assert_eq!(registry.seen()[0].line, "GET /v2/");
    let sent: Vec<_> = registry
        .seen()
        .into_iter()
        .filter_map(|seen| seen.authorization)
        .collect();
    assert!(sent.iter().all(|sent| sent == "Bearer granted"), "{sent:?}");

    let error = puller().pull(&request(&reference)).await;
    expect_error(
        error,
        "RegistryUnauthorized",
        &[&tokens.address, "a token", "no pull secret has credentials"],
    );
    Ok(())
}

#[tokio::test]
async fn a_token_server_that_is_not_allowed_or_not_https_sees_no_credential() -> Result<()> {
    let tokens = Fake::serve(|_| ok(br#"{"token": "granted"}"#)).await?;
    let registry = wants_token(tokens.address.clone()).await?;
    let reference = registry.reference();
    let credentials = [secret("right", &registry.address, "ada", "s3cret")];
    let pull = PullRequest {
        credentials: &credentials,
        ..request(&reference)
    };

    let error = only(&[&registry.address])?.pull(&pull).await;
    expect_error(
        error,
        "TokenServerNotAllowed",
        &[&tokens.address, &registry.address],
    );
    assert_eq!(tokens.seen(), []);
    assert!(
        registry
            .seen()
            .iter()
            .all(|seen| seen.authorization.is_none())
    );

    let both = only(&[&registry.address, &tokens.address])?;
    assert_eq!(both.pull(&pull).await?.bytes, COMPONENT);
    Ok(())
}
