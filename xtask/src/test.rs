//! `cargo xtask test`: every check there is, as steps that can be run one by one.
//!
//! `cargo xtask ci` is the same, for machines: all steps, from nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use operon_devcluster::Progress;

use crate::example::Example;
use crate::{
    browser, chart, cluster, crds, demo, deny, faults, host, krew, metrics, permissions, stories,
    tools, workflows,
};

/// Which checks to run, and where.
#[derive(Debug, Default, Args)]
pub(crate) struct Arguments {
    /// The steps to run [default: all]
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// What the nodes are on which stories run [default: real where this machine can]
    #[arg(long)]
    nodes: Option<cluster::NodesArgument>,
    /// Leave the clusters of the end-to-end stories up
    #[arg(long)]
    keep: bool,
    /// Only the end-to-end stories whose name, as `file::story`, holds this
    #[arg(long, value_name = "TEXT")]
    story: Option<String>,
    /// After all end-to-end stories: fail if none used a right that the chart grants, by the API server's audit log
    #[arg(long, conflicts_with = "story")]
    rights: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Format,
    /// Clippy has nothing to say
    Lint,
    /// Unit tests, native tests of actions, tests of the runtime with real components
    Unit,
    /// Generated files are up to date
    Generated,
    /// Licences, duplicates and sources of dependencies
    Deny,
    /// The chart passes `helm lint --strict` and the tests of its templates, values, alerts and dashboard
    Chart,
    /// The workflows pass actionlint, and pin every action
    Workflows,
    /// krew accepts and installs `kubectl operon`
    Krew,
    /// The page of `kubectl operon dashboard` in a real browser, with short measurements
    Browser,
    /// Stories on a real control plane, the host installed by its chart
    E2e,
    /// Faults at some writes of every kind, for some minutes; only if it is named
    Faults,
    /// The demo
    Demo,
}

/// The steps that run if none is named. Faults are not among them: those that are made depend on how fast the machine is,
/// so that two runs of one commit may differ. The nightly run makes all.
const ALL: [Step; 11] = [
    Step::Format,
    Step::Lint,
    Step::Generated,
    Step::Unit,
    Step::Deny,
    Step::Chart,
    Step::Workflows,
    Step::Krew,
    Step::Browser,
    Step::E2e,
    Step::Demo,
];

/// How long the step makes faults.
const FAULT_MINUTES: &str = "2";

/// Components that tests load, by package.
const COMPONENTS: [&str; 11] = [
    "operon-action-annotate",
    "operon-action-check",
    "operon-action-debug",
    "operon-action-evict",
    "operon-action-label",
    "operon-action-recreate",
    "operon-action-replace",
    "operon-action-resize",
    "operon-action-restart",
    "operon-example-annotate",
    "operon-hostile-guest",
];

/// Runs the steps that were asked for; the first that fails ends the run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    let steps = if arguments.steps.is_empty() {
        &ALL[..]
    } else {
        &arguments.steps
    };
    let mut times = Vec::new();
    for step in steps {
        let name = step
            .to_possible_value()
            .map_or_else(String::new, |v| v.get_name().to_owned());
        eprintln!("\n━━ {name}");
        let begin = Instant::now();
        run_step(*step, arguments, &progress).with_context(|| format!("step {name}"))?;
        times.push((name, begin.elapsed()));
    }
    report(&times);
    Ok(())
}

fn report(times: &[(String, Duration)]) {
    println!("\nAll checks passed:");
    for (name, time) in times {
        println!("  {name:<10} {:>6.1} s", time.as_secs_f64());
    }
}

fn run_step(step: Step, arguments: &Arguments, progress: &Progress) -> Result<()> {
    match step {
        Step::Format => cargo(progress, "cargo fmt", &["fmt", "--all", "--check"]),
        Step::Lint => {
            cargo(
                progress,
                "cargo clippy",
                &[
                    "clippy",
                    "--quiet",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "--deny",
                    "warnings",
                ],
            )?;
            document_sdk(progress)
        }
        Step::Unit => unit(progress),
        Step::Generated => {
            crds::check(progress)?;
            metrics::check(progress)?;
            permissions::check(progress)
        }
        Step::Deny => deny::check(progress),
        Step::Chart => chart::check(progress),
        Step::Workflows => workflows::check(progress),
        Step::Krew => krew::check(progress),
        Step::Browser => browser::check(arguments.keep, progress),
        Step::E2e => end_to_end(arguments, progress),
        Step::Faults => faults::make(&["--minutes", FAULT_MINUTES], arguments.keep, progress),
        Step::Demo => demo::check(arguments.nodes),
    }
}

/// The reference that authors of actions read.
fn document_sdk(progress: &Progress) -> Result<()> {
    let mut cargo = tools::cargo();
    cargo.args(["doc", "--quiet", "--no-deps", "--package", "operon-sdk"]);
    cargo.env("RUSTDOCFLAGS", "--deny warnings");
    tools::run(progress, "cargo doc", &mut cargo)
}

fn cargo(progress: &Progress, what: &str, arguments: &[&str]) -> Result<()> {
    tools::run(progress, what, tools::cargo().args(arguments))
}

fn unit(progress: &Progress) -> Result<()> {
    let (components, examples) = components(progress)?;
    examples
        .iter()
        .try_for_each(|example| example.test(progress))?;
    let mut command = tools::cargo();
    command
        .args(["test", "--quiet", "--workspace", "--exclude", "operon-e2e"])
        .env("OPERON_WASM_DIR", components)
        .envs(examples.iter().map(Example::packages));
    tools::run(
        progress,
        "cargo test, all but the end-to-end stories",
        &mut command,
    )
}

/// Builds the components that tests load, and returns their folder, and the examples in other languages.
fn components(progress: &Progress) -> Result<(PathBuf, Vec<Example>)> {
    let mut folder = PathBuf::new();
    for package in COMPONENTS {
        let file = tools::build_wasm(progress, package)?;
        folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    }
    let examples = Example::build_all(progress)?;
    examples
        .iter()
        .try_for_each(|example| example.put_into(&folder))?;
    Ok((folder, examples))
}

fn end_to_end(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let chosen = stories::choose(arguments.story.as_deref())?;
    let nodes = match arguments.nodes {
        Some(nodes) => nodes.into(),
        None => cluster::default_nodes(progress),
    };
    let told_with = stories::With {
        built: host::build(progress, false)?,
        components: components(progress)?.0,
        keep: arguments.keep,
        compares_rights: arguments.rights,
    };
    stories::tell(&chosen, nodes, &told_with, progress)
}
