//! `cargo xtask wasm`: one package of the workspace as a WebAssembly component.

use anyhow::Result;
use clap::Args;
use operon_devcluster::Progress;

use crate::tools;

/// What to build.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The package, for example `operon-action-replace`
    package: String,
}

/// Builds the component and prints its path, alone, on standard output.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let file = tools::build_wasm(&Progress::stderr(), &arguments.package)?;
    println!("{}", file.display());
    Ok(())
}
