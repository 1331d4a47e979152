//! References of artifacts: `HOST[:PORT]/REPOSITORY:TAG` or `HOST[:PORT]/REPOSITORY@sha256:HEX`.
//!
//! The registry is always named: a reference without one would mean another artifact on another day.

/// A reference that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Host and port, as written, in lower case.
    pub registry: String,
    /// The path within the registry.
    pub repository: String,
    /// The tag, or the digest if both are given: a digest can't change.
    pub version: Version,
}

/// Which manifest of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tag(String),
    Digest(String),
}

/// The longest name of a repository that registries have to take.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
/// The registry that other clients mean when none is named.
pub(super) const DOCKER_HUB: &str = "docker.io";

impl Reference {
    /// Reads a reference. Errors: a predicate that says what is wrong with it and what to write.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err(
                "has a scheme; write HOST/REPOSITORY:TAG without https:// or oci://".into(),
            );
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (registry, path) = name.split_once('/').unwrap_or(("", name));
        let named = registry.contains(['.', ':']) || registry == "localhost";
        if !named || !is_host(registry) {
            return Err(
                "names no registry; write HOST/REPOSITORY:TAG, such as ghcr.io/example/restart:1.0"
                    .into(),
            );
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(format!(
                "has no valid repository: {repository:?} may have lower case letters, digits, and separators between them"
            ));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!("has no valid tag: {tag:?}"));
        }
        let version = match (digest, tag) {
            (Some(digest), _) if is_digest(digest) => Version::Digest(digest.to_owned()),
            (Some(digest), _) => {
                return Err(format!(
                    "has no valid digest: {digest:?} is not sha256: and 64 hexadecimal digits"
                ));
            }
            (None, Some(tag)) => Version::Tag(tag.to_owned()),
            (None, None) => {
                return Err("has neither a tag nor a digest; name one: REPOSITORY:TAG or REPOSITORY@sha256:HEX".into());
            }
        };
        let registry = canonical_host(registry);
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        Ok(Self {
            registry,
            repository,
            version,
        })
    }

    /// Where the registry's API is served.
    pub(super) fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB {
            "registry-1.docker.io"
        } else {
            &self.registry
        }
    }
}

impl Version {
    /// The tag or digest, as in the registry's URLs.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }
}

/// The host in lower case, with the one spelling of Docker Hub.
pub(super) fn canonical_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}

/// Whether this is a host name, an IPv4 address or an IPv6 address in brackets, with an optional port.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(name) && !host.starts_with(['-', '.']),
    };
    host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_repository(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.starts_with(alphanumeric)
            && part.ends_with(alphanumeric)
            && part
                .chars()
                .all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
            && !part.contains("..")
    };
    text.len() <= MAX_REPOSITORY && text.split('/').all(part)
}

fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Whether this is a digest of ours. It is also a safe part of a file's name.
pub(super) fn is_digest(text: &str) -> bool {
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.chars().all(hexadecimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_reference_names_registry_repository_and_tag_or_digest() {
        let by_digest = format!("ghcr.io/a/b@{DIGEST}");
        let by_both = format!("ghcr.io/a/b:1.0@{DIGEST}");
        for (text, registry, repository, version) in [
            ("ghcr.io/a/b:1.0", "ghcr.io", "a/b", "1.0"),
            ("GHCR.io/a/b:v1_X.y-z", "ghcr.io", "a/b", "v1_X.y-z"),
            ("localhost/a:1", "localhost", "a", "1"),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000", "a", "1"),
            ("[::1]:5000/a/b__c:1", "[::1]:5000", "a/b__c", "1"),
            ("docker.io/a:1", "docker.io", "library/a", "1"),
            ("index.docker.io/a/b:1", "docker.io", "a/b", "1"),
            (&by_digest, "ghcr.io", "a/b", DIGEST),
            (&by_both, "ghcr.io", "a/b", DIGEST),
        ] {
            let reference = Reference::parse(text).expect(text);
            assert_eq!(reference.registry, registry, "{text}");
            assert_eq!(reference.repository, repository, "{text}");
            assert_eq!(reference.version.as_str(), version, "{text}");
        }
    }

    #[test]
    fn what_is_missing_in_a_reference_is_said() {
        for (text, what) in [
            ("ghcr.io/a/b", "neither a tag nor a digest"),
            ("localhost:5000/a", "neither a tag nor a digest"),
            ("a/b:1", "names no registry"),
            ("nginx", "names no registry"),
            ("", "names no registry"),
            ("gh cr.io/a:1", "names no registry"),
            ("ghcr.io:99999/a:1", "names no registry"),
            ("[::x]:1/a:1", "names no registry"),
            ("oci://ghcr.io/a:1", "scheme"),
            ("ghcr.io/A:1", "no valid repository"),
            ("ghcr.io/../a:1", "no valid repository"),
            ("ghcr.io/a?b:1", "no valid repository"),
            ("ghcr.io/:1", "no valid repository"),
            ("ghcr.io/a:", "no valid tag"),
            ("ghcr.io/a:-1", "no valid tag"),
            ("ghcr.io/a@sha256:12", "no valid digest"),
            ("ghcr.io/a@sha512:12", "no valid digest"),
        ] {
            let error = Reference::parse(text).expect_err(text);
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
