//! What kind of cluster is asked for, and whether one that is there already is of that kind.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::Nodes;
use crate::record::Record;

/// What kind of cluster to bring up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name: lower-case letters, digits and dashes, at most 30.
    pub name: String,
    /// What its nodes are.
    pub nodes: Nodes,
    /// How many simulated nodes it has. A cluster with real nodes has one.
    pub simulated_nodes: u32,
    /// Whether the API server writes an audit log (who did what to which object, without contents).
    pub audit: bool,
    /// Whether Services have addresses, by kube-proxy. Needs a real node, and no other cluster that has it.
    pub services: bool,
    /// Whether a cluster of that name that is up, but is another than asked for, is ended first. If not, it stays up, and
    /// [`Cluster::up`] fails.
    pub replace: bool,
    /// A cluster of the user's own: then nothing is started, and nothing is ended.
    pub kubeconfig: Option<PathBuf>,
    /// The program that passes pods' connections on to the API server: called with `forward FROM TO`,
    /// it shall do what [`crate::forward()`] does. The calling program itself if not given.
    pub forwarder: Option<PathBuf>,
}

impl Options {
    /// A cluster of that name with three simulated nodes, or one real node.
    pub fn new(name: impl Into<String>, nodes: Nodes) -> Self {
        Self {
            name: name.into(),
            nodes,
            simulated_nodes: 3,
            audit: false,
            services: false,
            replace: false,
            kubeconfig: None,
            forwarder: None,
        }
    }
}

/// What becomes of a cluster that has the name of one that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Use,
    /// It stays, for this reason.
    Keep(String),
    /// It is ended, for this reason.
    End(String),
}

pub(crate) fn fate(is_up: bool, mismatch: Option<String>, replace: bool) -> Fate {
    match mismatch {
        _ if !is_up => Fate::End(String::from("it does not run any more")),
        None => Fate::Use,
        Some(why) if replace => Fate::End(why),
        Some(why) => Fate::Keep(why),
    }
}

/// Why a cluster is not what was asked for, if it is not.
pub(crate) fn mismatch(record: &Record, options: &Options) -> Option<String> {
    let has_services = record.real.as_ref().is_some_and(|real| real.services);
    if record.nodes != options.nodes {
        return Some(format!("its nodes are {}", record.nodes));
    }
    if options.nodes == Nodes::Simulated && record.node_count < options.simulated_nodes {
        return Some(format!("it has {} nodes only", record.node_count));
    }
    if options.audit && record.audit_log.is_none() {
        return Some(String::from("it has no audit log"));
    }
    (options.services && !has_services).then(|| String::from("its Services have no addresses"))
}

/// Fails if the name can't be that of a folder and of a host.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || name.len() > 30
        || !name.chars().all(allowed)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        bail!(
            "'{name}' is no name for a cluster: lower-case letters, digits and dashes, at most 30"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{choose_ports, record};

    #[test]
    fn names_that_are_no_folder_or_host_name_are_refused() {
        for name in ["", "..", "a/b", "Dev", "-a", "a-", "a_b", &"a".repeat(31)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("e2e-1").is_ok());
    }

    fn of(nodes: Nodes, node_count: u32) -> Result<Record> {
        Ok(Record {
            nodes,
            node_count,
            ..record("demo", choose_ports(&[])?, None)
        })
    }

    #[test]
    fn a_cluster_that_is_up_as_something_else_is_ended_only_if_the_caller_says_so() -> Result<()> {
        let options = Options {
            simulated_nodes: 6,
            ..Options::new("demo", Nodes::Simulated)
        };
        for (found, why) in [
            (of(Nodes::Simulated, 6)?, None),
            (of(Nodes::Simulated, 9)?, None),
            (of(Nodes::Simulated, 3)?, Some("it has 3 nodes only")),
            (of(Nodes::Real, 1)?, Some("its nodes are real")),
        ] {
            let why = why.map(str::to_owned);
            assert_eq!(mismatch(&found, &options), why);
            let (kept, ended) = match why.clone() {
                None => (Fate::Use, Fate::Use),
                Some(why) => (Fate::Keep(why.clone()), Fate::End(why)),
            };
            assert_eq!(fate(true, why.clone(), false), kept);
            assert_eq!(fate(true, why.clone(), true), ended);
            assert!(matches!(fate(false, why, false), Fate::End(_)));
        }
        Ok(())
    }

    #[test]
    fn a_cluster_without_what_was_asked_for_is_another_one() -> Result<()> {
        let found = of(Nodes::Real, 1)?;
        let options = Options::new("demo", Nodes::Real);
        assert_eq!(mismatch(&found, &options), None);
        for wanted in [
            Options {
                audit: true,
                ..options.clone()
            },
            Options {
                services: true,
                ..options
            },
        ] {
            assert!(mismatch(&found, &wanted).is_some(), "{wanted:?}");
        }
        Ok(())
    }
}
