//! Where flows come from: a file, standard input, or the cluster.

use std::{io::Read as _, path::Path};

use anyhow::{Context as _, ensure};
use operon_api::JobFlow;

use super::cluster;

/// The flow to draw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All flows of a file, or one of them.
    File { path: String, name: Option<String> },
    /// A flow of the cluster.
    Live {
        namespace: Option<String>,
        name: String,
    },
}

impl Wanted {
    /// What an argument means: a file if there is one or if it looks like one, a name otherwise.
    ///
    /// # Errors
    /// An option belongs to the other of the two.
    pub(super) fn new(
        what: String,
        name: Option<String>,
        namespace: Option<String>,
    ) -> anyhow::Result<Self> {
        if looks_like_a_file(&what) || Path::new(&what).is_file() {
            ensure!(
                namespace.is_none(),
                "--namespace applies to a flow in the cluster, but {what:?} is a file"
            );
            return Ok(Self::File { path: what, name });
        }
        ensure!(
            name.is_none(),
            "--name selects a flow from a file, but {what:?} is not a file"
        );
        Ok(Self::Live {
            namespace,
            name: what,
        })
    }
}

fn looks_like_a_file(what: &str) -> bool {
    let endings = [".yaml", ".yml", ".json"];
    what == "-" || what.contains('/') || endings.iter().any(|ending| what.ends_with(ending))
}

/// The flows that are wanted, at least one.
pub(super) fn flows(wanted: &Wanted) -> anyhow::Result<Vec<JobFlow>> {
    match wanted {
        Wanted::Live { namespace, name } => Ok(vec![cluster::flow(namespace.as_deref(), name)?]),
        Wanted::File { path, name } => {
            let shown = if path == "-" { "standard input" } else { path };
            let text = read(path).with_context(|| format!("failed to read {shown}"))?;
            operon_flow_graph::flows(&text, shown, name.as_deref())
        }
    }
}

fn read(path: &str) -> std::io::Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_a_name() {
        for (what, is_file) in [
            ("-", true),
            ("a/b", true),
            ("flow.yaml", true),
            ("flow.yml", true),
            ("flow.json", true),
            // The folder of the tests has it.
            ("Cargo.toml", true),
            ("jobflow-example", false),
            ("jobflow.example", false),
            // A folder is no file.
            ("src", false),
        ] {
            let wanted = Wanted::new(what.to_owned(), None, None).expect("no options");
            assert_eq!(matches!(wanted, Wanted::File { .. }), is_file, "{what}");
        }
    }

    #[test]
    fn an_option_of_the_other_source_is_refused() {
        let some = || Some("x".to_owned());
        assert!(Wanted::new("flow.yaml".to_owned(), None, some()).is_err());
        assert!(Wanted::new("flow".to_owned(), some(), None).is_err());
    }
}
