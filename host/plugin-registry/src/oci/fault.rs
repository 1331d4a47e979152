//! Why a pull fails: a reason, and a predicate. The caller puts the reference before the predicate.

use std::{error::Error, io};

use reqwest::StatusCode;

/// Why an artifact can't be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A predicate of the artifact, and what to do.
    pub what: String,
    /// Whether a retry may succeed. A registry reports no changes, so what can be repaired there is transient.
    pub transient: bool,
}

/// How much of a registry's own words is quoted.
const MAX_QUOTE: usize = 200;

impl Fault {
    /// An error that stays until the artifact or the request changes.
    pub(super) fn lasting(reason: &'static str, what: impl Into<String>) -> Self {
        Self {
            reason,
            what: what.into(),
            transient: false,
        }
    }

    /// An error that a retry may mend.
    pub(super) fn passing(reason: &'static str, what: impl Into<String>) -> Self {
        Self {
            reason,
            what: what.into(),
            transient: true,
        }
    }

    /// Whether other credentials could help. Some registries answer 404 for what a user may not read.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.reason, UNAUTHORIZED | FORBIDDEN | NOT_FOUND)
    }

    /// Whether the registry has nothing under that name.
    pub(super) fn is_absence(&self) -> bool {
        self.reason == NOT_FOUND
    }

    /// An answer that is no success. `host` gave it when it was asked for `wanted`.
    pub(super) fn answer(host: &str, wanted: &str, status: StatusCode, body: &[u8]) -> Self {
        let (reason, advice) = match status.as_u16() {
            401 => (
                UNAUTHORIZED,
                "check that a pull secret has valid credentials for this registry",
            ),
            403 => (
                FORBIDDEN,
                "check that the pull secret's user may pull from this repository",
            ),
            404 => (
                NOT_FOUND,
                "check the reference; a registry may also hide what the pull secret's user may not see",
            ),
            429 => ("TooManyRequests", "it is tried again later"),
            408 | 500..=599 => ("RegistryUnavailable", "it is tried again"),
            _ => ("UnexpectedAnswer", "check that this is an OCI registry"),
        };
        let quote = quote(body)
            .map(|quote| format!(" ({quote:?})"))
            .unwrap_or_default();
        Self::passing(
            reason,
            format!("can't be pulled: {host} answers {status}{quote} for {wanted}; {advice}"),
        )
    }

    /// No answer, or an incomplete one.
    pub(super) fn connection(host: &str, error: reqwest::Error) -> Self {
        // The URL of a redirect may contain a signature that grants access.
        let error = error.without_url();
        let causes = causes(&error);
        if is_tls(&error) {
            return Self::passing(
                "RegistryTls",
                format!(
                    "can't be pulled: no TLS connection to {host} ({causes}); give the certificate of its authority, or ask for plain HTTP if it serves no TLS"
                ),
            );
        }
        Self::passing(
            "RegistryUnavailable",
            format!(
                "can't be pulled: the connection to {host} failed ({causes}); it is tried again"
            ),
        )
    }
}

const UNAUTHORIZED: &str = "RegistryUnauthorized";
const FORBIDDEN: &str = "RegistryForbidden";
const NOT_FOUND: &str = "ManifestNotFound";

/// The first message of a registry's JSON of errors.
fn quote(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = body
        .pointer("/errors/0/message")
        .or_else(|| body.get("details"))?
        .as_str()?;
    Some(message.chars().take(MAX_QUOTE).collect())
}

/// The two innermost causes. The outer ones only say that a request failed.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.split_off(texts.len().saturating_sub(2)).join(": ")
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(<dyn Error>::is::<rustls::Error>)
}

/// An error and its causes. `source` of an `io::Error` skips the error that it wraps, so that one is added.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
}
