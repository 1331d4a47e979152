//! HTTP for registries: a limit of redirects and of sizes, no credentials for other hosts, and Retry-After.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use reqwest::{
    Certificate, Client, Request, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
    redirect::Policy,
};

use super::fault::{Fault, causes};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time without a byte.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;
/// How much of an error's body is read.
const MAX_ERROR_BODY: usize = 64 << 10;
/// The pause after 429 without Retry-After.
const DEFAULT_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that a registry can ask for.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// Until when nothing is sent to hosts that asked for a pause.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<String, Instant>>);

impl Pauses {
    /// The rest of the pause of this host.
    fn left(&self, host: &str) -> Option<Duration> {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = pauses.get(host)?.checked_duration_since(Instant::now());
        if left.is_none() {
            pauses.remove(host);
        }
        left
    }

    fn remember(&self, host: &str, response: &Response) {
        let asked = retry_after(response.headers(), SystemTime::now());
        let pause = match (response.status(), asked) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(asked)) => asked,
            (StatusCode::TOO_MANY_REQUESTS, None) => DEFAULT_PAUSE,
            _ => return,
        };
        let until = Instant::now() + pause.min(MAX_PAUSE);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(host.to_owned(), until);
    }
}

/// The pause that an answer asks for, in seconds or until a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = || value.parse().ok().map(Duration::from_secs);
    let date = || {
        httpdate::parse_http_date(value)
            .ok()
            .map(|date| date.duration_since(now).unwrap_or_default())
    };
    seconds().or_else(date)
}

/// A client for one pull.
pub(super) struct Transport<'a> {
    client: Client,
    plain_http: bool,
    pauses: &'a Pauses,
}

impl<'a> Transport<'a> {
    /// A client that trusts the system's authorities and those in `ca`. Proxies are taken from the environment.
    pub(super) fn new(
        plain_http: bool,
        ca: Option<&[u8]>,
        pauses: &'a Pauses,
    ) -> Result<Self, Fault> {
        let bad = |what: String| {
            Fault::lasting(
                "BadCertificateAuthority",
                format!(
                    "can't be pulled: the registry's certificate authority is not valid PEM: {what}"
                ),
            )
        };
        let authorities = Certificate::from_pem_bundle(ca.unwrap_or_default())
            .map_err(|error| bad(causes(&error)))?;
        if ca.is_some() && authorities.is_empty() {
            return Err(bad("it has no certificate".to_owned()));
        }
        let client = Client::builder()
            .user_agent(concat!("operon/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STALL_TIMEOUT)
            .redirect(Policy::none())
            .https_only(!plain_http)
            .tls_certs_merge(authorities)
            .build()
            .map_err(|error| match ca {
                Some(_) => bad(causes(&error)),
                None => Fault::lasting(
                    "RegistryTls",
                    format!("can't be pulled: TLS can't be set up: {}", causes(&error)),
                ),
            })?;
        Ok(Self {
            client,
            plain_http,
            pauses,
        })
    }

    /// The scheme of the registry's URLs.
    pub(super) fn scheme(&self) -> &'static str {
        if self.plain_http { "http" } else { "https" }
    }

    /// Whether a URL may be contacted: by TLS, or by plain HTTP if that was asked for.
    pub(super) fn permits(&self, url: &Url) -> bool {
        url.scheme() == "https" || (self.plain_http && url.scheme() == "http")
    }

    /// Sends one request and follows no redirect.
    pub(super) async fn send_once(&self, request: Request) -> Result<Response, Fault> {
        let host = host(request.url());
        if let Some(left) = self.pauses.left(&host) {
            let seconds = left.as_secs() + 1;
            return Err(Fault::passing(
                "TooManyRequests",
                format!("can't be pulled yet: {host} asked for a pause, which ends in {seconds} s"),
            ));
        }
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| Fault::connection(&host, error))?;
        self.pauses.remember(&host, &response);
        Ok(response)
    }

    /// Sends a request and follows redirects. `authorization` is sent only to the origin of `request`.
    pub(super) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Fault> {
        let origin = request.url().origin();
        let mut url = request.url().clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut next = self
                .client
                .request(request.method().clone(), url.clone())
                .headers(request.headers().clone());
            if let Some(authorization) = authorization.filter(|_| url.origin() == origin) {
                next = next.header(AUTHORIZATION, authorization);
            }
            let next = next
                .build()
                .map_err(|error| Fault::connection(&host(&url), error))?;
            let response = self.send_once(next).await?;
            match self.redirected(&response)? {
                Some(location) => url = location,
                None => return Ok(response),
            }
        }
        Err(Fault::passing(
            "RedirectLoop",
            format!(
                "can't be pulled: {} redirects more than {MAX_REDIRECTS} times",
                host(request.url())
            ),
        ))
    }

    /// The target of a redirect.
    fn redirected(&self, response: &Response) -> Result<Option<Url>, Fault> {
        let location = response
            .headers()
            .get(LOCATION)
            .filter(|_| response.status().is_redirection());
        let Some(location) = location else {
            return Ok(None);
        };
        let from = host(response.url());
        let url = location
            .to_str()
            .ok()
            .and_then(|location| response.url().join(location).ok());
        match url {
            Some(url) if self.permits(&url) => Ok(Some(url)),
            Some(url) => Err(Fault::passing(
                "BadRedirect",
                format!(
                    "can't be pulled: {from} redirects to {}, which is not https",
                    host(&url)
                ),
            )),
            None => Err(Fault::passing(
                "BadRedirect",
                format!("can't be pulled: {from} redirects to what is no URL"),
            )),
        }
    }
}

/// Host and port of a URL, for messages and pauses.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("nowhere");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The body of a response; none if it is larger than `max`. Reading stops there.
pub(super) async fn body(mut response: Response, max: usize) -> Result<Option<Vec<u8>>, Fault> {
    let host = host(response.url());
    if response
        .content_length()
        .is_some_and(|length| length > max as u64)
    {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Fault::connection(&host, error))?
    {
        if bytes.len() + chunk.len() > max {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// The response if its status is a success; otherwise, the error with the registry's message.
pub(super) async fn success(response: Response, wanted: &str) -> Result<Response, Fault> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let host = host(response.url());
    let body = body(response, MAX_ERROR_BODY)
        .await
        .ok()
        .flatten()
        .unwrap_or_default();
    Err(Fault::answer(&host, wanted, status, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_date() {
        let now = httpdate::parse_http_date("Sun, 29 Nov 2026 06:00:00 GMT").expect("valid");
        for (value, expected) in [
            (Some("120"), Some(120)),
            (Some(" 0 "), Some(0)),
            (Some("Sun, 29 Nov 2026 06:01:00 GMT"), Some(60)),
            (Some("Sun, 29 Nov 2026 05:00:00 GMT"), Some(0)),
            (Some("soon"), None),
            (Some("-1"), None),
            (None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            }
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }
}
