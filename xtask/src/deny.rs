//! `cargo xtask deny`: what `deny.toml` says about licences, duplicates and sources of dependencies.
//!
//! Advisories are not asked for here: they change without us, so they are a job of their own.

use anyhow::Result;
use operon_devcluster::Progress;

use crate::tools;

/// The release of cargo-deny that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Checks every dependency of the workspace.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    let program = tools::cargo_tool(progress, "cargo-deny", VERSION)?;
    let mut command = std::process::Command::new(program);
    command.current_dir(tools::workspace_dir()).args([
        "--log-level",
        "warn",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]);
    tools::run(
        progress,
        "checking licences, duplicates and sources",
        &mut command,
    )
}
