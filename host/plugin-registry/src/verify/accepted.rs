//! Who may sign: the keys and identities of an ActionPlugin, or those that the host requires of all.

use std::{fmt, fs, path::Path};

use operon_api::action_plugin::{Identity, Verification};

use super::{Keys, Unusable};

/// The field of an ActionPlugin.
pub(crate) const FIELD: &str = "spec.verify";
const HOST: &str = "the keys and identities that this host requires for all components";

/// Keys and identities; at least one. A signature by any of them is accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub(super) keys: Option<Keys>,
    pub(super) identities: Vec<Identity>,
    /// Where they are listed, for people.
    pub(crate) place: &'static str,
}

impl Accepted {
    /// Those of `spec.verify`.
    pub(crate) fn of_field(verify: &Verification) -> Result<Self, Unusable> {
        let Verification { keys, identities } = verify;
        if keys.is_empty() && identities.is_empty() {
            return Err(Unusable::new(FIELD, "has neither a key nor an identity"));
        }
        let keys = (!keys.is_empty()).then(|| Keys::of_field("spec.verify.keys", keys));
        Ok(Self {
            keys: keys.transpose()?,
            identities: identities.clone(),
            place: FIELD,
        })
    }

    /// Those that a host requires of every component that is not built in; none if there are neither keys nor
    /// identities.
    pub fn of_host(keys: Option<Keys>, identities: Vec<Identity>) -> Option<Self> {
        (keys.is_some() || !identities.is_empty()).then_some(Self {
            keys,
            identities,
            place: HOST,
        })
    }
}

/// The fingerprints of the keys, and the identities.
impl fmt::Display for Accepted {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter().map(Keys::fingerprints);
        let identities = self.identities.iter().map(Identity::to_string);
        let all: Vec<_> = keys.chain(identities).collect();
        to.write_str(&all.join(", "))
    }
}

/// The identities of a file: a JSON list of objects with `issuer` and `subject`.
///
/// # Errors
/// A file that can't be read, is something else, or has no identity or an empty one.
pub fn identities_of_path(path: &Path) -> Result<Vec<Identity>, Unusable> {
    let bad = |what: String| Unusable::new(&path.display().to_string(), &what);
    let text = fs::read_to_string(path).map_err(|error| bad(format!("can't be read: {error}")))?;
    let identities: Vec<Identity> = serde_json::from_str(&text).map_err(|error| {
        bad(format!(
            "is not a JSON list of identities, each with issuer and subject: {error}"
        ))
    })?;
    if identities.is_empty() {
        return Err(bad("has no identity".to_owned()));
    }
    if identities
        .iter()
        .any(|one| one.issuer.is_empty() || one.subject.is_empty())
    {
        return Err(bad(
            "has an identity with an empty issuer or subject".to_owned()
        ));
    }
    Ok(identities)
}
