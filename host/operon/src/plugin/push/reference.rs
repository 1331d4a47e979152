//! Where a component is pushed to: registry, repository and tag, all three named.

use std::fmt;

use anyhow::ensure;

const EXAMPLE: &str = "registry.example.com/actions/mark-pod:1.0.0";

/// `HOST[:PORT]/REPOSITORY:TAG`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: String,
}

impl Reference {
    /// The reference, if it has everything that a push needs.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(
            !text.contains("://"),
            "{text:?} is a URL: leave out the part before the host, as in {EXAMPLE}"
        );
        let (registry, name) = text.split_once('/').unwrap_or(("", text));
        let is_host = registry.contains(['.', ':']) || registry == "localhost";
        ensure!(
            is_host,
            "{text:?} does not name a registry: begin with its host, as in {EXAMPLE}"
        );
        ensure!(
            !name.contains('@'),
            "{text:?} has a digest, which the push decides: name a tag, as in {EXAMPLE}"
        );
        let Some((repository, tag)) = name.split_once(':') else {
            anyhow::bail!("{text:?} has no tag: add one, as in {EXAMPLE}");
        };
        ensure!(
            repository.split('/').all(is_part),
            "{text:?} has an invalid repository: lower-case letters and digits, with '.', '_' and '-' between them, as in {EXAMPLE}"
        );
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let begins = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        ensure!(
            begins && tag.chars().all(fits) && tag.len() <= 128,
            "{text:?} has an invalid tag: letters, digits, '.', '_' and '-', as in {EXAMPLE}"
        );
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// The host that serves the registry.
    pub(super) fn host(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            repository,
            tag,
        } = self;
        write!(formatter, "{registry}/{repository}:{tag}")
    }
}

/// A part of a repository's name.
fn is_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = |c: char| is_word(c) || "._-".contains(c);
    part.starts_with(is_word) && part.ends_with(is_word) && part.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_registry_repository_and_tag() {
        for good in [
            "localhost/x:1",
            "localhost:5000/x:1",
            "registry.example.com/a/b_c/d-e:v1.2",
        ] {
            let parsed = Reference::parse(good).map(|reference| reference.to_string());
            assert_eq!(parsed.expect(good), good);
        }
        for (wrong, expected) in [
            ("x:1", "does not name a registry"),
            ("library/x:1", "does not name a registry"),
            ("https://example.com/x:1", "is a URL"),
            ("example.com/x", "has no tag"),
            ("example.com/x@sha256:00", "has a digest"),
            ("example.com/X:1", "invalid repository"),
            ("example.com/../x:1", "invalid repository"),
            ("example.com/x:1/2", "invalid tag"),
            ("example.com/x:", "invalid tag"),
        ] {
            let error = Reference::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
