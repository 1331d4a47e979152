//! `cargo xtask fuzz`: many mutated components. It is a test of the package `operon`, which tries a few with all others.

use anyhow::Result;
use clap::Args;
use operon_devcluster::Progress;

use crate::tools;

/// How many components, and which.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many components; each takes about 0.3 s
    #[arg(long, default_value_t = 10_000)]
    components: u64,
    /// The number of the first; a failure prints its own
    #[arg(long, default_value_t = 0)]
    first: u64,
}

/// Loads and calls mutated components; the first that breaks a promise ends the run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut command = tools::cargo();
    command
        .args(["test", "--quiet", "--workspace", "--exclude", "operon-e2e"])
        .args(["--test", "mutants"])
        .args(["--", "--nocapture"])
        .env("OPERON_MUTANTS_FIRST", arguments.first.to_string())
        .env("OPERON_MUTANTS", arguments.components.to_string());
    let what = format!("trying {} mutated components", arguments.components);
    tools::run(&Progress::stderr(), &what, &mut command)
}
