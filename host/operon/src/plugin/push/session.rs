//! The requests of a push: what the registry lets in, two blobs, and a manifest. No redirect is followed, and
//! credentials go only to the registry and to the token server that it names.

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION, WWW_AUTHENTICATE},
};
use serde_json::Value;

use super::reference::Reference;
use crate::plugin::credentials::Login;

/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// The registry does not let this login in.
#[derive(Debug)]
pub(super) struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("access denied")
    }
}

impl std::error::Error for Refused {}

/// What lets a request in.
enum Pass {
    Nobody,
    Basic(String, String),
    Bearer(String),
}

/// A registry that a push speaks to.
pub(super) struct Session<'a> {
    client: &'a Client,
    base: Url,
    reference: &'a Reference,
    login: &'a Login,
    pass: Pass,
}

impl<'a> Session<'a> {
    /// Finds out what the registry asks of who pushes.
    pub(super) async fn open(
        client: &'a Client,
        scheme: &str,
        reference: &'a Reference,
        login: &'a Login,
    ) -> anyhow::Result<Self> {
        let base = format!("{scheme}://{}/v2/", reference.host());
        let base = Url::parse(&base).with_context(|| format!("{base} is not a URL"))?;
        let mut session = Self {
            client,
            base,
            reference,
            login,
            pass: Pass::Nobody,
        };
        let answer = session
            .send(session.client.get(session.base.clone()))
            .await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            session.pass = session.pass(answer.headers()).await?;
        }
        Ok(session)
    }

    /// What answers the registry's challenge.
    async fn pass(&self, headers: &HeaderMap) -> anyhow::Result<Pass> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        let challenges = values
            .iter()
            .flat_map(|value| http_auth::parse_challenges(value).unwrap_or_default());
        let mut basic = false;
        for challenge in challenges {
            let parameter = |name: &str| {
                let mut all = challenge.params.iter();
                let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return self
                    .token(&realm, parameter("service"))
                    .await
                    .map(Pass::Bearer);
            }
            basic |= challenge.scheme.eq_ignore_ascii_case("basic");
        }
        match self.login.basic() {
            Some((user, password)) if basic => {
                Ok(Pass::Basic(user.to_owned(), password.to_owned()))
            }
            _ if basic => Err(Refused.into()),
            _ => bail!(
                "the registry asks for {:?}; only Basic and Bearer are known",
                values.join(", ")
            ),
        }
    }

    /// A token of the token server, for a push.
    async fn token(&self, realm: &str, service: Option<String>) -> anyhow::Result<String> {
        let mut url = Url::parse(realm)
            .with_context(|| format!("the registry names the token server {realm:?}"))?;
        ensure!(
            url.scheme() == "https" || url.scheme() == self.base.scheme(),
            "the registry names the token server {realm}, which has no TLS"
        );
        let scope = format!("repository:{}:pull,push", self.reference.repository);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let request = self.client.get(url);
        let request = match self.login.basic() {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let answer = accepted("the request of a token", self.send(request).await?).await?;
        let token: Value = serde_json::from_slice(&body(answer).await?)
            .context("the token server's answer is not JSON")?;
        let text = |key: &str| token[key].as_str().map(str::to_owned);
        text("token")
            .or_else(|| text("access_token"))
            .context("the token server's answer has no token")
    }

    /// A request to the registry itself.
    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let is_ours = url.origin() == self.base.origin();
        let request = self.client.request(method, url);
        match &self.pass {
            Pass::Basic(user, password) if is_ours => request.basic_auth(user, Some(password)),
            Pass::Bearer(token) if is_ours => request.bearer_auth(token),
            Pass::Nobody | Pass::Basic(..) | Pass::Bearer(_) => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        request.send().await.context("failed to reach it")
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        let path = format!("{}/{path}", self.reference.repository);
        self.base.join(&path).context("failed to make a URL")
    }

    /// Pushes a blob, unless it is there.
    pub(super) async fn blob(&self, bytes: &[u8], digest: &str) -> anyhow::Result<()> {
        let known = self.url(&format!("blobs/{digest}"))?;
        let known = self.send(self.request(Method::HEAD, known)).await?;
        if known.status().is_success() {
            return Ok(());
        }
        let begin = self.request(Method::POST, self.url("blobs/uploads/")?);
        let answer = self.send(begin.header(CONTENT_LENGTH, 0)).await?;
        let answer = accepted("the beginning of an upload", answer).await?;
        let location = answer.headers().get(LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let location = location.context("the registry does not say where to upload to")?;
        let mut location = answer
            .url()
            .join(location)
            .with_context(|| format!("the registry names {location:?} to upload to"))?;
        location.query_pairs_mut().append_pair("digest", digest);
        let upload = self
            .request(Method::PUT, location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(bytes.to_vec());
        accepted("an upload", self.send(upload).await?).await?;
        Ok(())
    }

    /// Pushes the manifest under the tag.
    pub(super) async fn manifest(&self, bytes: &[u8], kind: &str) -> anyhow::Result<()> {
        let url = self.url(&format!("manifests/{}", self.reference.tag))?;
        let request = self.request(Method::PUT, url).header(CONTENT_TYPE, kind);
        let request = request.body(bytes.to_vec());
        accepted("the manifest", self.send(request).await?).await?;
        Ok(())
    }
}

/// The answer, if it is a success; else an error in the registry's words.
async fn accepted(what: &str, answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let bytes = body(answer).await.unwrap_or_default();
    let words = serde_json::from_slice(&bytes)
        .ok()
        .and_then(|value: Value| {
            let first = &value["errors"][0];
            let text = |key: &str| first[key].as_str().unwrap_or_default().to_owned();
            let words = format!("{} {}", text("code"), text("message"));
            Some(words.trim().to_owned()).filter(|words| !words.is_empty())
        });
    let words = words.map_or(String::new(), |words| format!(": {words}"));
    let words = words.replace(char::is_control, " ");
    let error = format!("it answered {status} to {what}{words}");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(anyhow::Error::new(Refused).context(error))
        }
        _ => Err(anyhow!(error)),
    }
}

/// The body of an answer, up to a size that no token and no error has.
async fn body(mut answer: Response) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.context("failed to read its answer")? {
        bytes.extend(part);
        ensure!(bytes.len() <= ANSWER, "its answer is too long");
    }
    Ok(bytes)
}
