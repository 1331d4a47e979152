//! Who may see the page: the browser that opened the printed address. Pure, but for the random tokens.
//!
//! The address has a token that can be used once; it becomes a cookie that no script can read and that no other site's
//! request has. A request for another host, or from another origin, is refused, so no other site can read the page.
//! Not defended: a browser sends the cookie to every server at 127.0.0.1, whatever its port. Such a server, if the user opens
//! a page of it, can use the cookie by itself, with any header.
//!
//! A request that can write (every method but GET and HEAD) must also prove that it comes from this page. The cookie alone
//! does not: `SameSite` keeps it from other sites, but ports do not make a site, so a page of another server on this machine
//! (`http://127.0.0.1:3000`) has the browser send it. Its origin is another one, though. Browsers send `Origin` with every
//! such request, and no page can change it, so a request without it is refused. `Sec-Fetch-Site`, where a browser sends it,
//! must say the same. That is enough against forgery; the token of a form has another purpose, see `ledger.rs`. It depends
//! on the header `Referrer-Policy: same-origin`: with `no-referrer` a browser sends the origin `null`.

use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;
use axum::http::{HeaderMap, Method, Uri, header};
use subtle::ConstantTimeEq as _;

/// Which requests are answered.
pub(crate) struct Gate {
    port: u16,
    /// The token of the address, until it is used.
    token: Mutex<Option<String>>,
    /// The value of the cookie.
    secret: String,
}

/// A request that is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It has the cookie.
    Page,
    /// It used the token: the header that sets the cookie.
    Enter(String),
}

/// A request that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is for another host.
    Host,
    /// It comes from another site.
    Origin,
    /// Its token was used before, or is of another run of the command.
    Token,
    /// It has no cookie.
    Cookie,
    /// It can write, and does not say that it comes from this page.
    Unproven,
}

impl Gate {
    pub(crate) fn new(port: u16) -> anyhow::Result<Self> {
        Ok(Self {
            port,
            token: Mutex::new(Some(random()?)),
            secret: random()?,
        })
    }

    /// The address that lets a browser in, once.
    pub(crate) fn address(&self) -> String {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let query = token.as_ref().map(|token| format!("?token={token}"));
        format!(
            "http://127.0.0.1:{}/{}",
            self.port,
            query.unwrap_or_default()
        )
    }

    /// Whether this request is answered. Guarantees that the token is accepted at most once.
    pub(crate) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Pass, Refusal> {
        if !self.is_for_us(uri, headers) {
            return Err(Refusal::Host);
        }
        if !self.is_from_us(headers) {
            return Err(Refusal::Origin);
        }
        let is_read = method == Method::GET || method == Method::HEAD;
        if !is_read && !is_from_a_page(headers) {
            return Err(Refusal::Unproven);
        }
        if self.has_cookie(headers) {
            return Ok(Pass::Page);
        }
        let query = uri.query().unwrap_or_default().as_bytes();
        let mut query = form_urlencoded::parse(query);
        match query.find(|(key, _)| key == "token") {
            Some((_, given)) if method == Method::GET && uri.path() == "/" && self.take(&given) => {
                Ok(Pass::Enter(format!(
                    "{}={}; Path=/; HttpOnly; SameSite=Strict",
                    self.cookie(),
                    self.secret
                )))
            }
            Some(_) => Err(Refusal::Token),
            None => Err(Refusal::Cookie),
        }
    }

    /// Cookies of all ports of a host are one set, so the name has the port.
    fn cookie(&self) -> String {
        format!("operon-{}", self.port)
    }

    fn hosts(&self) -> [String; 2] {
        ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", self.port))
    }

    fn is_for_us(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let hosts = self.hosts();
        let is_ours = |host: &str| hosts.iter().any(|ours| ours == host);
        let mut given = headers.get_all(header::HOST).iter();
        let is_host = match (given.next(), given.next()) {
            (Some(host), None) => host.to_str().is_ok_and(is_ours),
            _ => false,
        };
        is_host && uri.authority().is_none_or(|host| is_ours(host.as_str()))
    }

    fn is_from_us(&self, headers: &HeaderMap) -> bool {
        let origins = self.hosts().map(|host| format!("http://{host}"));
        let mut given = headers.get_all(header::ORIGIN).iter();
        given.all(|origin| origins.iter().any(|ours| origin == ours.as_str()))
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie();
        let lines = headers.get_all(header::COOKIE).iter();
        let mut pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(key, value)| key == name && is_same(value, &self.secret))
    }

    fn take(&self, given: &str) -> bool {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = token.as_ref().is_some_and(|token| is_same(token, given));
        if is_it {
            *token = None;
        }
        is_it
    }
}

/// Whether a page sent it, which is ours if its origin is: `Origin` is there, and `Sec-Fetch-Site` does not contradict.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    headers.contains_key(header::ORIGIN) && sites.all(|site| site == "same-origin")
}

/// In a time that does not depend on where they differ.
fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// 256 random bits.
pub(crate) fn random() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(half), 16));
        }
    }
    Ok(text)
}

impl Refusal {
    /// What the browser shows.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Host => {
                "This server answers only requests for 127.0.0.1 or localhost, with its port."
            }
            Self::Origin => "This server does not answer requests from other sites.",
            Self::Unproven => {
                "This server writes only what a browser sends from its own page. This request wrote nothing."
            }
            Self::Token => {
                "This address was used before, or is of another run of the command. End `kubectl operon dashboard`, run it again, and open the address that it prints."
            }
            Self::Cookie => {
                "This browser has not opened the address that `kubectl operon dashboard` printed. Open that address; it can be used once. If you have just opened it, reload this page."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn gate() -> Gate {
        Gate {
            port: 8001,
            token: Mutex::new(Some("once".to_owned())),
            secret: "secret".to_owned(),
        }
    }

    fn check(
        gate: &Gate,
        uri: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Pass, Refusal> {
        check_method(&Method::GET, gate, uri, headers)
    }

    fn check_method(
        method: &Method,
        gate: &Gate,
        uri: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Pass, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        gate.check(method, &uri.parse().expect("a URI"), &map)
    }

    type Headers = &'static [(&'static str, &'static str)];

    const HOST: (&str, &str) = ("host", "127.0.0.1:8001");
    const COOKIE: (&str, &str) = ("cookie", "other=1; operon-8001=secret");

    #[test]
    fn only_requests_for_this_host_from_this_page_with_its_cookie_are_answered() {
        let table: &[(Headers, Result<Pass, Refusal>)] = &[
            (&[HOST, COOKIE], Ok(Pass::Page)),
            (
                &[
                    ("host", "localhost:8001"),
                    COOKIE,
                    ("origin", "http://localhost:8001"),
                ],
                Ok(Pass::Page),
            ),
            (
                &[HOST, COOKIE, ("origin", "http://127.0.0.1:8001")],
                Ok(Pass::Page),
            ),
            (&[COOKIE], Err(Refusal::Host)),
            (&[HOST, HOST, COOKIE], Err(Refusal::Host)),
            (&[("host", "127.0.0.1"), COOKIE], Err(Refusal::Host)),
            (&[("host", "127.0.0.1:8002"), COOKIE], Err(Refusal::Host)),
            (&[("host", "evil.example:8001"), COOKIE], Err(Refusal::Host)),
            (
                &[HOST, COOKIE, ("origin", "http://evil.example")],
                Err(Refusal::Origin),
            ),
            (
                &[HOST, COOKIE, ("origin", "http://127.0.0.1:8002")],
                Err(Refusal::Origin),
            ),
            (
                &[HOST, COOKIE, ("origin", "https://127.0.0.1:8001")],
                Err(Refusal::Origin),
            ),
            (&[HOST, COOKIE, ("origin", "null")], Err(Refusal::Origin)),
            (&[HOST], Err(Refusal::Cookie)),
            (
                &[HOST, ("cookie", "operon-8001=secre")],
                Err(Refusal::Cookie),
            ),
            (
                &[HOST, ("cookie", "operon-8002=secret")],
                Err(Refusal::Cookie),
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(check(&gate(), "/", headers), *expected, "{headers:?}");
        }
        let absolute = check(&gate(), "http://evil.example/", &[HOST, COOKIE]);
        assert_eq!(absolute, Err(Refusal::Host));
    }

    #[test]
    fn a_request_that_can_write_needs_the_cookie_and_the_origin_of_this_page() {
        const ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:8001");
        let table: &[(Headers, Result<Pass, Refusal>)] = &[
            (&[HOST, COOKIE, ORIGIN], Ok(Pass::Page)),
            (
                &[HOST, COOKIE, ORIGIN, ("sec-fetch-site", "same-origin")],
                Ok(Pass::Page),
            ),
            (&[HOST, COOKIE], Err(Refusal::Unproven)),
            (
                &[HOST, COOKIE, ("sec-fetch-site", "same-origin")],
                Err(Refusal::Unproven),
            ),
            (
                &[HOST, COOKIE, ORIGIN, ("sec-fetch-site", "same-site")],
                Err(Refusal::Unproven),
            ),
            (
                &[HOST, COOKIE, ORIGIN, ("sec-fetch-site", "cross-site")],
                Err(Refusal::Unproven),
            ),
            (
                &[HOST, COOKIE, ORIGIN, ("sec-fetch-site", "none")],
                Err(Refusal::Unproven),
            ),
            // Another server on this machine is the same site.
            (
                &[HOST, COOKIE, ("origin", "http://127.0.0.1:3000")],
                Err(Refusal::Origin),
            ),
            (&[HOST, COOKIE, ("origin", "null")], Err(Refusal::Origin)),
            (
                &[HOST, COOKIE, ORIGIN, ("origin", "http://evil.example")],
                Err(Refusal::Origin),
            ),
            (&[COOKIE, ORIGIN], Err(Refusal::Host)),
            (&[HOST, ORIGIN], Err(Refusal::Cookie)),
        ];
        for (headers, expected) in table {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let checked = check_method(&method, &gate(), "/", headers);
                assert_eq!(checked, *expected, "{method} {headers:?}");
            }
        }
        let gate = gate();
        let posted = check_method(&Method::POST, &gate, "/?token=once", &[HOST, ORIGIN]);
        assert_eq!(posted, Err(Refusal::Token));
        for method in [Method::GET, Method::HEAD] {
            let read = check_method(&method, &gate, "/", &[HOST, COOKIE]);
            assert_eq!(read, Ok(Pass::Page), "{method}");
        }
    }

    #[test]
    fn the_token_is_accepted_once_and_not_by_a_foreign_request() {
        let gate = gate();
        let foreign = [HOST, ("origin", "http://evil.example")];
        assert_eq!(check(&gate, "/?token=once", &foreign), Err(Refusal::Origin));
        assert_eq!(check(&gate, "/?token=onc", &[HOST]), Err(Refusal::Token));
        assert_eq!(check(&gate, "/x?token=once", &[HOST]), Err(Refusal::Token));
        let cookie = "operon-8001=secret; Path=/; HttpOnly; SameSite=Strict";
        let entered = check(&gate, "/?token=once", &[HOST]);
        assert_eq!(entered, Ok(Pass::Enter(cookie.to_owned())));
        assert_eq!(check(&gate, "/?token=once", &[HOST]), Err(Refusal::Token));
        assert_eq!(
            check(&gate, "/?token=once", &[HOST, COOKIE]),
            Ok(Pass::Page)
        );
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, other) = (random().expect("bytes"), random().expect("bytes"));
        assert_eq!(one.len(), 64);
        assert_ne!(one, other);
    }
}
