//! The workflows of GitHub Actions: actionlint has nothing to say, and every action is pinned to a commit, because a tag can be moved.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Progress, Tool};

use crate::tools;

/// Fails if a workflow is not as it should be.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    let folder = tools::workspace_dir().join(".github/workflows");
    let failure = || format!("failed to read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(failure)? {
        files.push(entry.with_context(failure)?.path());
    }
    files.sort();
    let mut command = Command::new(Tool::Actionlint.ensure(progress)?);
    // The same on every machine, whatever else it has.
    command.args(["-shellcheck=", "-pyflakes="]).args(&files);
    tools::run(progress, "actionlint", &mut command)?;
    for file in &files {
        let text = fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        if let Some(action) = unpinned(&text) {
            bail!(
                "{} uses {action}: write the commit, and the version behind it as a comment",
                file.display()
            );
        }
    }
    Ok(())
}

/// An action of a workflow that is not pinned to a commit, with its version in a comment.
fn unpinned(workflow: &str) -> Option<&str> {
    let steps = workflow.lines().filter_map(|line| {
        let step = line.trim_start();
        step.strip_prefix("- ")
            .unwrap_or(step)
            .strip_prefix("uses: ")
    });
    let mut other = steps.filter(|action| !action.starts_with("./"));
    other.find(|action| !is_pinned(action))
}

fn is_pinned(action: &str) -> bool {
    let Some((_, version)) = action.split_once('@') else {
        return false;
    };
    let Some((commit, comment)) = version.split_once(" # v") else {
        return false;
    };
    let is_hash = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
    is_hash && comment.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_pinned_to_a_commit_with_its_version() {
        let commit = "0123456789012345678901234567890123456789";
        let workflow = |action: &str| {
            format!(
                "jobs:\n  a:\n    steps:\n      - uses: ./here\n      - name: x\n        uses: {action}\n"
            )
        };
        let pinned = workflow(&format!("a/b@{commit} # v1.2.3"));
        assert_eq!(unpinned(&pinned), None);
        for action in [
            "a/b@v4",
            "a/b",
            &format!("a/b@{commit}"),
            &format!("a/b@{} # v1", &commit[1..]),
        ] {
            assert_eq!(unpinned(&workflow(action)), Some(action));
        }
    }
}
