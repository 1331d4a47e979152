//! Authentication: a registry's challenge, and the token that its token server gives.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Method, Request, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use super::{
    allowed::AllowedRegistries,
    docker_config::Credential,
    fault::Fault,
    reference::Reference,
    transport::{Transport, body, host, success},
};

const MAX_TOKEN: usize = 256 << 10;

/// How a registry wants requests to be authenticated.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password, with every request.
    Basic,
    /// A token from a token server.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Bearer if the registry offers it, or Basic. Errors: the header, if it offers neither.
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, String> {
        let values: Vec<&str> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let mut basic = None;
        for value in &values {
            for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
                let parameter = |name: &str| {
                    let mut parameters = challenge.params.iter();
                    parameters
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    return Ok(Self::Bearer {
                        realm,
                        service: parameter("service"),
                    });
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic.ok_or_else(|| values.join(", "))
    }
}

/// The Authorization header for further requests.
pub(super) async fn authorize(
    transport: &Transport<'_>,
    allowed: &AllowedRegistries,
    reference: &Reference,
    headers: &HeaderMap,
    credential: Option<&Credential>,
) -> Result<HeaderValue, Fault> {
    let registry = &reference.registry;
    let challenge = Challenge::parse(headers).map_err(|asked| match asked.as_str() {
        "" => unauthorized(&format!(
            "{registry} refuses access without asking for credentials"
        )),
        asked => unauthorized(&format!(
            "{registry} asks for {asked:?}, but only Basic and Bearer are known"
        )),
    })?;
    match (challenge, credential) {
        (Challenge::Basic, Some(Credential::Password { user, password })) => basic(user, password),
        (Challenge::Basic, Some(Credential::IdentityToken(_))) => Err(unauthorized(&format!(
            "{registry} asks for user and password, but the pull secret has an identity token"
        ))),
        (Challenge::Basic, None) => Err(unauthorized(&format!(
            "{registry} asks for user and password; name a pull secret with credentials for it"
        ))),
        (Challenge::Bearer { realm, service }, credential) => {
            let realm = permitted(transport, allowed, registry, &realm)?;
            let request =
                token_request(realm, service.as_deref(), &reference.repository, credential)?;
            token(transport, request).await
        }
    }
}

/// The URL of a token server, if credentials may be sent to it.
fn permitted(
    transport: &Transport<'_>,
    allowed: &AllowedRegistries,
    registry: &str,
    realm: &str,
) -> Result<Url, Fault> {
    let refused = |what: String| {
        Fault::passing(
            "TokenServerNotAllowed",
            format!("can't be pulled: {registry} names the token server {realm:?}, {what}"),
        )
    };
    let url = Url::parse(realm).map_err(|_| refused("which is no URL".to_owned()))?;
    if !transport.permits(&url) {
        return Err(refused("which is not https".to_owned()));
    }
    if !allowed.allows_host(&host(&url)) {
        return Err(refused(format!(
            "which is not among the allowed registries ({allowed})"
        )));
    }
    Ok(url)
}

/// A request for a token that allows to pull from one repository.
fn token_request(
    mut realm: Url,
    service: Option<&str>,
    repository: &str,
    credential: Option<&Credential>,
) -> Result<Request, Fault> {
    let scope = format!("repository:{repository}:pull");
    let parameters = service
        .map(|service| ("service", service))
        .into_iter()
        .chain([("scope", scope.as_str())]);
    if let Some(Credential::IdentityToken(token)) = credential {
        let form = Url::parse_with_params(
            "form:",
            parameters.chain([
                ("grant_type", "refresh_token"),
                ("client_id", "operon"),
                ("refresh_token", token),
            ]),
        );
        let form = form
            .ok()
            .and_then(|form| form.query().map(str::to_owned))
            .unwrap_or_default();
        let mut request = Request::new(Method::POST, realm);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request
            .headers_mut()
            .insert(reqwest::header::CONTENT_TYPE, kind);
        *request.body_mut() = Some(form.into());
        return Ok(request);
    }
    realm.query_pairs_mut().extend_pairs(parameters);
    let mut request = Request::new(Method::GET, realm);
    if let Some(Credential::Password { user, password }) = credential {
        request
            .headers_mut()
            .insert(AUTHORIZATION, basic(user, password)?);
    }
    Ok(request)
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token that a token server gives. Its redirects are not followed.
async fn token(transport: &Transport<'_>, request: Request) -> Result<HeaderValue, Fault> {
    let host = host(request.url());
    let response = success(transport.send_once(request).await?, "a token").await?;
    let bytes = body(response, MAX_TOKEN).await?.unwrap_or_default();
    let token: Option<Token> = serde_json::from_slice(&bytes).ok();
    token
        .and_then(
            |Token {
                 token,
                 access_token,
             }| token.or(access_token),
        )
        .and_then(|token| secret_header(&format!("Bearer {token}")))
        .ok_or_else(|| unauthorized(&format!("the token server {host} gives no token")))
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Fault> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    secret_header(&text).ok_or_else(|| unauthorized("the credentials can't be sent"))
}

/// A header that is not shown in logs.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn unauthorized(what: &str) -> Fault {
    Fault::passing("RegistryUnauthorized", format!("can't be pulled: {what}"))
}

#[cfg(test)]
mod tests {
    use super::{super::transport::Pauses, *};

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    fn a_challenge_is_read_as_registries_write_it() {
        for (values, expected) in [
            (
                &[
                    r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#,
                ][..],
                Ok(bearer("https://ghcr.io/token", Some("ghcr.io"))),
            ),
            (
                &[r#"bearer Realm="https://a/t""#],
                Ok(bearer("https://a/t", None)),
            ),
            (&[r#"Basic realm="registry""#], Ok(Challenge::Basic)),
            (
                &["Basic realm=x", r#"Bearer realm="https://a/t?x=1""#],
                Ok(bearer("https://a/t?x=1", None)),
            ),
            (
                &[r#"Basic realm="x", Bearer realm="https://a/t""#],
                Ok(bearer("https://a/t", None)),
            ),
            (&["Bearer service=x"], Err("Bearer service=x")),
            (&["Negotiate"], Err("Negotiate")),
            (&["=,="], Err("=,=")),
            (&[], Err("")),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            assert_eq!(
                Challenge::parse(&headers),
                expected.map_err(str::to_owned),
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_token_server_is_permitted_by_https_and_the_list() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pauses = Pauses::default();
        let transport =
            |plain_http| Transport::new(plain_http, None, &pauses).expect("TLS can be set up");
        let (tls, plain) = (transport(false), transport(true));
        let listed = AllowedRegistries::parse(&["*.a.io/team".to_owned()]).expect("valid");
        let all = AllowedRegistries::default();
        for (transport, allowed, realm, expected) in [
            (&tls, &all, "https://auth.a.io/token", Ok(())),
            (&tls, &all, "http://auth.a.io/token", Err("not https")),
            (&plain, &all, "http://auth.a.io/token", Ok(())),
            (&plain, &all, "ftp://auth.a.io/token", Err("not https")),
            (&tls, &all, "/token", Err("no URL")),
            (&tls, &listed, "https://auth.a.io:444/token", Ok(())),
            (
                &tls,
                &listed,
                "https://auth.a.io@b.io/token",
                Err("allowed registries"),
            ),
        ] {
            match (permitted(transport, allowed, "a.io", realm), expected) {
                (Ok(_), Ok(())) => {}
                (Err(fault), Err(part)) => assert!(fault.what.contains(part), "{}", fault.what),
                (found, _) => assert!(found.is_err() == expected.is_err(), "{realm}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_token_is_asked_for_one_repository() {
        let realm = || Url::parse("https://a/t?x=1").expect("valid");
        let password = Credential::Password {
            user: "u".to_owned(),
            password: "p".to_owned(),
        };
        let request = token_request(realm(), Some("s s"), "a/b", Some(&password)).expect("valid");
        assert_eq!(
            request.url().as_str(),
            "https://a/t?x=1&service=s+s&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(request.headers()[AUTHORIZATION], "Basic dTpw");
        let identity = Credential::IdentityToken("i&d".to_owned());
        let request = token_request(realm(), None, "a/b", Some(&identity)).expect("valid");
        assert_eq!(request.url().as_str(), "https://a/t?x=1");
        let form = request
            .body()
            .and_then(|body| body.as_bytes())
            .expect("a form");
        assert_eq!(
            String::from_utf8_lossy(form),
            "scope=repository%3Aa%2Fb%3Apull&grant_type=refresh_token&client_id=operon&refresh_token=i%26d"
        );
    }
}
