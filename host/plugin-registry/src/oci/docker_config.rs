//! Credentials of registries, as Secrets of type kubernetes.io/dockerconfigjson have them.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use operon_core::action::LoadError;
use serde::Deserialize;

use super::{allowed::RegistryPattern, reference::Reference};
use crate::refused;

/// The credentials of one Secret.
#[derive(Clone)]
pub struct DockerConfig {
    secret: String,
    entries: Vec<(RegistryPattern, Credential)>,
}

/// A credential for a registry or its token server.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token: the token server gives access tokens for it.
    IdentityToken(String),
}

impl std::fmt::Debug for DockerConfig {
    /// Shows no credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerConfig")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct File {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl DockerConfig {
    /// Reads the value of `.dockerconfigjson` of the Secret with this name, which errors name.
    ///
    /// Errors: it is not what `kubectl create secret docker-registry` writes.
    pub fn parse(secret: &str, data: &[u8]) -> Result<Self, LoadError> {
        let bad = |what: String| {
            refused(
                "BadPullSecret",
                format!(
                    "Secret {secret:?} has no credentials of a registry: {what}; create it with `kubectl create secret docker-registry`"
                ),
            )
        };
        // The cause could quote a credential, so the message has only its position.
        let file: File = serde_json::from_slice(data).map_err(|error| {
            bad(format!(
                "its .dockerconfigjson is not valid (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        let entries = file.auths.into_iter().map(|(key, entry)| {
            let pattern =
                pattern(&key).ok_or_else(|| bad(format!("{key:?} in auths is no registry")))?;
            let credential = entry.credential().ok_or_else(|| {
                bad(format!(
                    "the entry {key:?} in auths has neither auth, nor username and password"
                ))
            })?;
            Ok((pattern, credential))
        });
        let mut entries = entries.collect::<Result<Vec<_>, LoadError>>()?;
        entries.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        Ok(Self {
            secret: secret.to_owned(),
            entries,
        })
    }

    /// The name of its Secret.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// The credential for an artifact, from the most specific entry that matches.
    pub(super) fn credential(&self, reference: &Reference) -> Option<&Credential> {
        let matches =
            |pattern: &RegistryPattern| pattern.matches(&reference.registry, &reference.repository);
        self.entries
            .iter()
            .find(|(pattern, _)| matches(pattern))
            .map(|(_, credential)| credential)
    }
}

/// The registry of a key, which may be a URL with a version of the API (`https://index.docker.io/v1/`).
fn pattern(key: &str) -> Option<RegistryPattern> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    RegistryPattern::parse(key)
}

impl Entry {
    fn credential(self) -> Option<Credential> {
        let Self {
            auth,
            username,
            password,
            identitytoken,
        } = self;
        if !identitytoken.is_empty() {
            return Some(Credential::IdentityToken(identitytoken));
        }
        if !username.is_empty() || !password.is_empty() {
            return Some(Credential::Password {
                user: username,
                password,
            });
        }
        let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        // Docker allows padding by NUL.
        let password = password.trim_end_matches('\0');
        Some(Credential::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(config: &DockerConfig, reference: &str) -> Option<String> {
        let reference = Reference::parse(reference).expect(reference);
        config
            .credential(&reference)
            .map(|credential| match credential {
                Credential::Password { user, password } => format!("{user}:{password}"),
                Credential::IdentityToken(token) => token.clone(),
            })
    }

    #[test]
    fn the_most_particular_entry_for_an_artifact_has_its_credential() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnA6dw=="},
            "ghcr.io": {"username": "host", "password": "1"},
            "ghcr.io/team": {"username": "team", "password": "2", "email": "a@example.com", "auth": "eDp5"},
            "*.example.com": {"username": "wild", "password": "3"},
            "a.example.com:5000": {"username": "port", "password": "4"},
            "https://token.io/v2/": {"identitytoken": "token", "auth": "MDA6"}
        }, "credsStore": "desktop"}"#;
        let config = DockerConfig::parse("pull", text.as_bytes()).expect("valid");
        for (reference, expected) in [
            ("docker.io/a:1", Some("hub:p:w")),
            ("ghcr.io/a:1", Some("host:1")),
            ("ghcr.io/team/a:1", Some("team:2")),
            ("a.example.com:5000/a:1", Some("port:4")),
            ("a.example.com/a:1", Some("wild:3")),
            ("token.io/a:1", Some("token")),
            ("quay.io/a:1", None),
        ] {
            assert_eq!(user(&config, reference).as_deref(), expected, "{reference}");
        }
        assert_eq!(
            format!("{config:?}"),
            r#"DockerConfig { secret: "pull", .. }"#
        );
    }

    #[test]
    fn a_secret_without_credentials_is_named_and_not_quoted() {
        for text in [
            "",
            "{}",
            r#"{"auths": {"ghcr.io": {}}}"#,
            r#"{"auths": {"ghcr.io": {"auth": "s3cret"}}}"#,
            r#"{"auths": {"ghcr.io": {"auth": "s3cret!"}}}"#,
            r#"{"auths": {"not a host": {"auth": "eDp5"}}}"#,
            r#"{"auths": {"ghcr.io": "s3cret"}}"#,
        ] {
            let error = DockerConfig::parse("pull", text.as_bytes()).expect_err(text);
            assert_eq!(error.reason, "BadPullSecret", "{text}");
            assert!(
                error.message.contains(r#"Secret "pull""#),
                "{}",
                error.message
            );
            assert!(!error.message.contains("s3cret"), "{}", error.message);
        }
    }
}
