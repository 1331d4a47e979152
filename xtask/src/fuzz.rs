//! `cargo xtask fuzz`: many hostile components, and a secret that another component looks for. They are tests of the
//! package `operon`, which try a few with all others.

use anyhow::Result;
use clap::Args;
use operon_devcluster::Progress;

use crate::tools;

/// How many components, and which.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many mutated components; each takes about 0.3 s
    #[arg(long, default_value_t = 10_000)]
    components: u64,
    /// The number of the first; a failure prints its own
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How often an action with a secret, and one that looks for it, are called in turn
    #[arg(long, default_value_t = 100_000)]
    alternations: u64,
}

/// Loads and calls hostile components; the first that breaks a promise ends the run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments {
        components,
        first,
        alternations,
    } = arguments;
    let mut command = tools::cargo();
    command
        .args(["test", "--quiet", "--workspace", "--exclude", "operon-e2e"])
        .args(["--test", "sandbox", "--test", "mutants"])
        .args(["--", "--nocapture"])
        .env("OPERON_CANARY", alternations.to_string())
        .env("OPERON_MUTANTS_FIRST", first.to_string())
        .env("OPERON_MUTANTS", components.to_string());
    let what =
        format!("trying {components} mutated components, and {alternations} calls beside a secret");
    tools::run(&Progress::stderr(), &what, &mut command)
}
