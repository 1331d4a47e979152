//! `cargo xtask fuzz`: many hostile components, and a secret that another component looks for. They are tests of the
//! package `operon`, which try a few with all others.

use std::{fs, path::PathBuf};

use anyhow::Result;
use clap::Args;
use operon_devcluster::Progress;

use crate::tools;

/// What generates components.
const GENERATOR: &str = "host/operon/tests/generator/Cargo.toml";

/// How many components, and which.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many mutated components; each takes about 0.3 s
    #[arg(long, default_value_t = 10_000)]
    components: u64,
    /// How many components with random functions; each takes about 0.15 s
    #[arg(long, default_value_t = 2_000)]
    generated: u64,
    /// The number of the first of both; a failure prints its own
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
        generated,
        first,
        alternations,
    } = arguments;
    let progress = Progress::stderr();
    let folder = generate(&progress, *first, *generated)?;
    let mut command = tools::cargo();
    command
        .args(["test", "--quiet", "--workspace", "--exclude", "operon-e2e"])
        .args(["--test", "sandbox", "--test", "mutants"])
        .args(["--", "--nocapture"])
        .env("OPERON_GENERATED", folder)
        .env("OPERON_CANARY", alternations.to_string())
        .env("OPERON_MUTANTS_FIRST", first.to_string())
        .env("OPERON_MUTANTS", components.to_string());
    let what = format!(
        "trying {components} mutated components, {generated} generated ones, and {alternations} calls beside a secret"
    );
    tools::run(&progress, &what, &mut command)
}

/// Generates components with random functions. What does it is no part of the workspace, so it is built here alone.
fn generate(progress: &Progress, first: u64, count: u64) -> Result<PathBuf> {
    let guest = tools::build_wasm(progress, "operon-example-annotate")?;
    let target = tools::target_dir().join("generator");
    let folder = target.join("components");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut command = tools::cargo();
    command
        .args(["run", "--quiet", "--release", "--locked", "--manifest-path"])
        .arg(tools::workspace_dir().join(GENERATOR))
        .arg("--target-dir")
        .arg(&target)
        .arg("--")
        .args([&guest, &folder])
        .args([first.to_string(), count.to_string()]);
    tools::run(
        progress,
        &format!("generating {count} components"),
        &mut command,
    )?;
    Ok(folder)
}
