//! Runs the tools of a language in the folder of a package. Their output goes to standard error.

use std::{
    ffi::OsStr,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

/// Where every package leaves its component.
pub(super) const COMPONENT: &str = "build/component.wasm";

/// A program that runs in the folder.
pub(super) fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a command.
///
/// # Errors
/// `missing` if there is no such program; `NAME failed` otherwise.
pub(super) fn run(command: &mut Command, name: &str, missing: &str) -> anyhow::Result<()> {
    let status = match command.stdout(std::io::stderr()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{missing}"),
        other => other.with_context(|| format!("failed to run {name}"))?,
    };
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

/// The standard output of a command.
///
/// # Errors
/// As of [`run`], with the last line of its standard error.
pub(super) fn printed(command: &mut Command, name: &str, missing: &str) -> anyhow::Result<String> {
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{missing}"),
        other => other.with_context(|| format!("failed to run {name}"))?,
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    let last = complaint.trim().lines().last().unwrap_or_default();
    ensure!(status.success(), "{name} failed ({status}): {last}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds the component anew, so that none of an earlier build is taken for it.
pub(super) fn component(
    folder: &Path,
    build: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Option<PathBuf>> {
    let path = folder.join(COMPONENT);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))?;
        }
        _ => {}
    }
    build().context("the component could not be built")?;
    Ok(path.is_file().then_some(path))
}
