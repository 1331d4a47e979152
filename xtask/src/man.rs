//! `cargo xtask man`: the manual pages of `kubectl operon`, for packages. They are made from the descriptions that `--help`
//! prints, so none is kept in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;
use operon_devcluster::Progress;

use crate::{host, tools};

/// Where the pages go.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder [default: target/man]
    directory: Option<PathBuf>,
}

/// Writes the pages.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    let program = host::build_cli(&progress)?;
    let folder = match &arguments.directory {
        Some(folder) => folder.clone(),
        None => tools::target_dir().join("man"),
    };
    write(&program, &folder, &progress)?;
    progress.say(format!(
        "the pages are in {0}; `man {0}/kubectl-operon.1` shows the first",
        folder.display()
    ));
    Ok(())
}

/// Lets the program write its pages into a folder.
pub(crate) fn write(program: &Path, folder: &Path, progress: &Progress) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("__man").arg(folder);
    tools::run(progress, "writing the manual pages", &mut command)
}
