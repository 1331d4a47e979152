//! `cargo xtask browser`: the page of `kubectl operon dashboard` in a real browser, on a cluster of its own without a host.
//! The tests are in `e2e/browser`; here is what they need: Chromium, their packages, the cluster with the CRDs, the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use operon_devcluster::{Cluster, Nodes, Options, Progress, Tool, find_program, output_of};

use crate::{host, tools};

/// The name of the cluster.
const CLUSTER: &str = "browser";

/// The names that Chromium has, and Chrome.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The browser of Debian, and a font.
const DEBIAN_PACKAGES: [&str; 2] = ["chromium", "fonts-dejavu-core"];

/// Which tests to run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The tests to run [default: all]
    #[arg(value_enum)]
    tests: Vec<Tests>,
    /// Measure for 10 s instead of a minute each, as `cargo xtask test` does
    #[arg(long)]
    quick: bool,
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
}

/// A file of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tests {
    /// Every view, in light and dark: policy, barriers, colours; writes screenshots
    Views,
    /// The page without a pointer
    Keyboard,
    /// Lost connections, and ten tabs
    Connection,
    /// Speed and memory while very many statuses are written
    Load,
}

/// Runs the tests that were asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { tests, quick, keep } = arguments;
    let tests = if tests.is_empty() {
        Tests::value_variants()
    } else {
        tests
    };
    test(tests, *quick, *keep, &Progress::stderr())
}

/// Runs all tests, with short measurements.
pub(crate) fn check(keep: bool, progress: &Progress) -> Result<()> {
    test(Tests::value_variants(), true, keep, progress)
}

fn test(tests: &[Tests], is_quick: bool, keep: bool, progress: &Progress) -> Result<()> {
    let plugin = host::build_cli(progress)?;
    let chromium = chromium(progress)?;
    install_packages(progress)?;
    // The tests begin on a new cluster; one may have been left up.
    Cluster::down(CLUSTER, progress)?;
    let cluster = Cluster::up(&Options::new(CLUSTER, Nodes::Simulated), progress)?;
    let tested = apply_crds(&cluster, progress).and_then(|()| {
        let artifacts = tools::target_dir().join("browser");
        let state = cluster.state_dir().context("the cluster has no folder")?;
        let mut node = Command::new("node");
        node.args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
            .args(tests.iter().copied().filter_map(file_of))
            .current_dir(folder())
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("OPERON_CERTIFICATES", state.join("certificates"))
            .env("OPERON_KUBECTL", Tool::Kubectl.ensure(progress)?)
            .env("OPERON_KUBECTL_PLUGIN", &plugin)
            .env("OPERON_CHROMIUM", &chromium)
            .env("OPERON_BROWSER_DIR", &artifacts)
            .env("OPERON_BROWSER_QUICK", if is_quick { "1" } else { "" });
        tools::run(progress, "tests of the page in a browser", &mut node)?;
        progress.say(format!("screenshots are in {}", artifacts.display()));
        Ok(())
    });
    if !keep {
        Cluster::down(CLUSTER, progress)?;
    }
    tested
}

/// The package of the tests.
fn folder() -> PathBuf {
    tools::workspace_dir().join("e2e/browser")
}

fn file_of(tests: Tests) -> Option<PathBuf> {
    let value = tests.to_possible_value()?;
    Some(Path::new("tests").join(format!("{}.test.js", value.get_name())))
}

/// The program of the browser; Debian's is installed if there is none.
fn chromium(progress: &Progress) -> Result<PathBuf> {
    let find = || BROWSERS.into_iter().find_map(find_program);
    if let Some(program) = find() {
        return Ok(program);
    }
    if !tools::can_install() {
        bail!(
            "Chromium is missing: install it so that `chromium` or `google-chrome` is in PATH; on Debian, as root:\n  \
             apt-get install --no-install-recommends {}",
            DEBIAN_PACKAGES.join(" ")
        );
    }
    tools::install(progress, "Debian's Chromium", &DEBIAN_PACKAGES)?;
    find().context("Debian's Chromium is installed, and not in PATH")
}

/// The packages that the lock file names, each with its digest; none of them runs a script.
fn install_packages(progress: &Progress) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--loglevel=error", "--prefer-offline"])
        .current_dir(folder());
    tools::run(progress, "packages of the tests in a browser", &mut npm)
}

fn apply_crds(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let crds = tools::workspace_dir().join("crds");
    let mut apply = cluster.kubectl(progress)?;
    apply
        .args(["apply", "--server-side", "--filename"])
        .arg(crds);
    output_of(&mut apply)?;
    let mut wait = cluster.kubectl(progress)?;
    wait.args(["wait", "--for=condition=Established", "crd", "--all"]);
    output_of(wait.arg("--timeout=60s"))?;
    Ok(())
}
