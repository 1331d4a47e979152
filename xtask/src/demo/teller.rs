//! Tells a story: runs kubectl and prints what a user would see.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, Progress, output_of};

use crate::tools;

/// How long a step may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs kubectl and prints what a user would see.
pub(super) struct Teller<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) progress: &'a Progress,
}

impl Teller<'_> {
    fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        let mut kubectl = self.cluster.kubectl(self.progress)?;
        kubectl.args(arguments);
        Ok(kubectl)
    }

    pub(super) fn quietly(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.kubectl(arguments)?)
    }

    pub(super) fn show(&self, arguments: &[&str]) -> Result<()> {
        let typed: Vec<_> = arguments
            .iter()
            .map(|argument| as_typed(argument))
            .collect();
        println!("\n$ kubectl {}", typed.join(" "));
        print!("{}", self.quietly(arguments)?);
        Ok(())
    }

    pub(super) fn apply(&self, file: &str, manifest: &str) -> Result<()> {
        let folder = self
            .cluster
            .state_dir()
            .unwrap_or_else(|| tools::target_dir().join("demo"));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
        let path = folder.join(file);
        std::fs::write(&path, manifest)
            .with_context(|| format!("failed to write {}", path.display()))?;
        println!("\n$ kubectl apply -f {file}");
        let path = path.to_string_lossy();
        print!("{}", self.quietly(&["apply", "--filename", &path])?);
        Ok(())
    }

    /// What one object, as `kind/name`, has at a JSON path.
    pub(super) fn field(&self, object: &str, path: &str) -> Result<String> {
        self.quietly(&["get", object, &format!("--output=jsonpath={{{path}}}")])
    }

    /// The names of the objects of a kind that have these labels.
    pub(super) fn names(&self, kind: &str, selector: &str) -> Result<Vec<String>> {
        let names = self.quietly(&[
            "get",
            kind,
            &format!("--selector={selector}"),
            "--output=jsonpath={.items[*].metadata.name}",
        ])?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// Whether one object, as `kind/name`, has this at a JSON path; if not, that is the end.
    pub(super) fn expect(&self, object: &str, path: &str, expected: &str) -> Result<()> {
        let found = self.field(object, path)?;
        if found != expected {
            bail!("{path} of {object} is {found:?}, not {expected:?}");
        }
        Ok(())
    }

    pub(super) fn until(&self, what: &str, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            if begin.elapsed() > PATIENCE {
                bail!("gave up waiting for {what} after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

pub(super) fn indented(text: &str) -> String {
    text.lines()
        .fold(String::new(), |text, line| text + "    " + line + "\n")
}

/// An argument as one would type it into a shell.
fn as_typed(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@".contains(c);
    if argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}
