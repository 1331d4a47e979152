//! Which registries may be contacted.

use operon_core::action::LoadError;

use super::reference::{Reference, canonical_host, is_host};
use crate::refused;

/// The registries that may be contacted, and with them their token servers. An empty list allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedRegistries(Vec<RegistryPattern>);

impl AllowedRegistries {
    /// Reads entries of the form `HOST`, `HOST:PORT` or `*.DOMAIN`, each optionally with `/REPOSITORY-PREFIX`.
    /// `*.DOMAIN` stands for every host below the domain, at any depth and any port.
    ///
    /// Errors: an entry has another form.
    pub fn parse(entries: &[String]) -> Result<Self, LoadError> {
        let patterns = entries.iter().map(|entry| {
            RegistryPattern::parse(entry).ok_or_else(|| {
                refused(
                    "BadAllowedRegistries",
                    format!("allowed registry {entry:?} is not of the form HOST, HOST:PORT or *.DOMAIN, with an optional /REPOSITORY-PREFIX"),
                )
            })
        });
        patterns.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the artifact may be pulled.
    pub(super) fn allows(&self, reference: &Reference) -> bool {
        let Reference {
            registry,
            repository,
            version: _,
        } = reference;
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|pattern| pattern.matches(registry, repository))
    }

    /// Whether a token server may be contacted: any host of the list, whatever repositories it is listed with.
    pub(super) fn allows_host(&self, host: &str) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|pattern| pattern.matches_host(&canonical_host(host)))
    }
}

impl std::fmt::Display for AllowedRegistries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries: Vec<String> = self.0.iter().map(RegistryPattern::to_string).collect();
        f.write_str(&entries.join(", "))
    }
}

/// Hosts, and a prefix of the repositories there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegistryPattern {
    /// A host with its port, or a domain for the hosts below it.
    host: String,
    wildcard: bool,
    /// Whole parts of a repository's path; empty for all.
    prefix: String,
}

impl RegistryPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
        let (host, wildcard) = match host.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (host, false),
        };
        is_host(host).then(|| Self {
            host: canonical_host(host),
            wildcard,
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    /// Orders patterns from general to specific.
    pub(super) fn specificity(&self) -> (bool, usize) {
        (!self.wildcard, self.prefix.len())
    }

    pub(super) fn matches(&self, registry: &str, repository: &str) -> bool {
        let rest = repository.strip_prefix(self.prefix.as_str());
        self.matches_host(registry)
            && rest.is_some_and(|rest| {
                self.prefix.is_empty() || rest.is_empty() || rest.starts_with('/')
            })
    }

    fn matches_host(&self, registry: &str) -> bool {
        if !self.wildcard {
            return registry == self.host;
        }
        let port = self.host.contains(':');
        let name = registry
            .rsplit_once(':')
            .filter(|_| !port)
            .map_or(registry, |(name, _)| name);
        name.strip_suffix(self.host.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl std::fmt::Display for RegistryPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            host,
            wildcard,
            prefix,
        } = self;
        let (star, slash) = (
            if *wildcard { "*." } else { "" },
            if prefix.is_empty() { "" } else { "/" },
        );
        write!(f, "{star}{host}{slash}{prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str]) -> AllowedRegistries {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        AllowedRegistries::parse(&entries).expect("valid entries")
    }

    #[test]
    fn an_entry_allows_its_host_its_port_and_its_repositories_only() {
        for (entries, reference, answer) in [
            (&[][..], "ghcr.io/a:1", true),
            (&["ghcr.io"], "ghcr.io/a/b:1", true),
            (&["GHCR.io/"], "ghcr.io/a/b:1", true),
            (&["ghcr.io"], "ghcr.io:444/a:1", false),
            (&["ghcr.io"], "ghcr.io.example.com/a:1", false),
            (&["ghcr.io"], "xghcr.io/a:1", false),
            (&["localhost:5000"], "localhost:5000/a:1", true),
            (&["localhost:5000"], "localhost:5001/a:1", false),
            (&["*.example.com"], "a.b.example.com/a:1", true),
            (&["*.example.com"], "a.example.com:5000/a:1", true),
            (&["*.example.com:5000"], "a.example.com:5000/a:1", true),
            (&["*.example.com:5000"], "a.example.com/a:1", false),
            (&["*.example.com"], "example.com/a:1", false),
            (&["*.example.com"], "badexample.com/a:1", false),
            (&["ghcr.io/team"], "ghcr.io/team/a:1", true),
            (&["ghcr.io/team"], "ghcr.io/team:1", true),
            (&["ghcr.io/team"], "ghcr.io/teams/a:1", false),
            (&["docker.io"], "index.docker.io/a:1", true),
            (&["quay.io", "ghcr.io"], "ghcr.io/a:1", true),
        ] {
            let reference = Reference::parse(reference).expect(reference);
            assert_eq!(
                allowed(entries).allows(&reference),
                answer,
                "{entries:?} {reference:?}"
            );
        }
        assert!(allowed(&["*.docker.io/library"]).allows_host("auth.docker.io"));
        assert!(!allowed(&["ghcr.io"]).allows_host("ghcr.io.example.com"));
    }

    #[test]
    fn an_entry_of_another_form_is_refused() {
        for entry in [
            "",
            "*",
            "*.",
            "https://ghcr.io",
            "a*.io",
            "ghcr.io:x",
            "*.*.io",
        ] {
            let error = AllowedRegistries::parse(&[entry.to_owned()]).expect_err(entry);
            assert_eq!(error.reason, "BadAllowedRegistries");
        }
    }
}
