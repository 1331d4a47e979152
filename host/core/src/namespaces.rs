//! Which namespaces a host serves. Pure: whether the host may read them is found out elsewhere.

use std::{collections::BTreeSet, sync::Arc};

/// The namespaces with the objects that a host caches and reconciles. Clones are cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(Option<Arc<[String]>>);

/// Why names can't be those of the namespaces that a host serves.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNamespaces {
    /// No namespace can have this name.
    #[error(
        "{0:?} is not the name of a namespace: it has 1 to 63 lower-case letters, digits and \"-\", and begins and ends with a letter or a digit"
    )]
    BadName(String),
    /// A name that is there twice may stand for another one that was forgotten.
    #[error("{0:?} is named twice")]
    NamedTwice(String),
}

impl Namespaces {
    /// All of the cluster.
    pub fn all() -> Self {
        Self(None)
    }

    /// These, which have been parsed; none of them means none at all.
    pub fn only(names: impl IntoIterator<Item = String>) -> Self {
        Self(Some(names.into_iter().collect()))
    }

    /// These, or all of the cluster if none is named.
    ///
    /// # Errors
    /// A name is not that of a namespace, or is there twice.
    pub fn parse(names: &[String]) -> Result<Self, BadNamespaces> {
        if names.is_empty() {
            return Ok(Self::all());
        }
        let mut known = BTreeSet::new();
        for name in names {
            if !is_label(name) {
                return Err(BadNamespaces::BadName(name.clone()));
            }
            if !known.insert(name) {
                return Err(BadNamespaces::NamedTwice(name.clone()));
            }
        }
        Ok(Self::only(names.iter().cloned()))
    }

    /// The names; none for all namespaces of the cluster.
    pub fn names(&self) -> Option<&[String]> {
        self.0.as_deref()
    }
}

/// Whether this can be the name of a namespace (RFC 1123 label).
pub fn is_label(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(names: &[&str]) -> Result<Namespaces, BadNamespaces> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        Namespaces::parse(&names)
    }

    #[test]
    fn no_names_mean_all_namespaces_and_names_mean_those_alone() {
        assert_eq!(parsed(&[]), Ok(Namespaces::all()));
        let longest = "a".repeat(63);
        for names in [
            &["a"][..],
            &["team-a", "team-b"],
            &["1", "0-9"],
            &[&longest],
        ] {
            let namespaces = parsed(names).expect("names of namespaces");
            assert_eq!(namespaces.names().expect("names"), names);
        }
        let none = Namespaces::only([]);
        assert_eq!(none.names(), Some(&[][..]), "none is not all");
    }

    #[test]
    fn a_bad_name_and_one_that_is_there_twice_are_refused_by_name() {
        let too_long = "a".repeat(64);
        for bad in ["", "A", "a_b", "-a", "a-", "a.b", "*", " a", "ä", &too_long] {
            let refused = Err(BadNamespaces::BadName(bad.to_owned()));
            assert_eq!(parsed(&["good", bad]), refused);
        }
        let twice = parsed(&["a", "b", "a"]).expect_err("twice");
        assert_eq!(twice, BadNamespaces::NamedTwice("a".to_owned()));
        assert_eq!(twice.to_string(), "\"a\" is named twice");
    }
}
