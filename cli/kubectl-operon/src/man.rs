//! `__man FOLDER`: the manual pages, from the same descriptions as `--help`. `cargo xtask man` calls it.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::CommandFactory as _;

use crate::Arguments;

pub(crate) fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let [folder] = words else {
        bail!("write one folder");
    };
    let folder = Path::new(folder);
    let failed = || format!("failed to write manual pages to {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    let root = Arguments::command().display_name("kubectl-operon");
    clap_mangen::generate_to(root, folder).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
