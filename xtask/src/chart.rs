//! `cargo xtask chart`: the Helm chart as it is installed.
//!
//! `charts/operon` lacks the components of the built-in actions, because they are built, not written.
//! This command copies the chart and puts them in. Demo and tests install what it makes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use flate2::{Compression, GzBuilder};
use operon_devcluster::Progress;

use crate::tools;

/// The built-in actions: the key in the chart's `actions`, and the package.
const ACTIONS: [(&str, &str); 3] = [
    ("replace", "operon-action-replace"),
    ("restart", "operon-action-restart"),
    ("evict", "operon-action-evict"),
];

/// How large all components together may be, gzipped. Helm keeps the chart and what it rendered in one
/// Secret, each component in both, in base64; a Secret holds 1 MiB.
const MAX_COMPONENTS: u64 = 360 << 10;

/// What becomes of the chart.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The folder in which the chart's folder `operon` is made [default: target/chart]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Makes the chart and says how to install it.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let progress = Progress::stderr();
    let chart = match arguments.output {
        Some(folder) => stage_in(&progress, &folder)?,
        None => stage(&progress)?,
    };
    println!("{}", chart.display());
    progress.say(format!(
        "to install it: helm upgrade --install operon {} --namespace operon-system --create-namespace",
        chart.display()
    ));
    Ok(())
}

/// Makes the installable chart in the target folder and returns the chart's folder.
pub(crate) fn stage(progress: &Progress) -> Result<PathBuf> {
    stage_in(progress, &tools::target_dir().join("chart"))
}

fn stage_in(progress: &Progress, parent: &Path) -> Result<PathBuf> {
    let source = tools::workspace_dir().join("charts/operon");
    check_version(&source.join("Chart.yaml"))?;
    let components = ACTIONS
        .iter()
        .map(|(name, package)| Ok((*name, tools::build_wasm(progress, package)?)))
        .collect::<Result<Vec<_>>>()?;
    let chart = parent.join("operon");
    if chart.exists() {
        // Only what this command made: anything else in the way is somebody's own.
        if !chart.join("Chart.yaml").is_file() {
            bail!(
                "{} is there and no chart; name another folder",
                chart.display()
            );
        }
        fs::remove_dir_all(&chart)
            .with_context(|| format!("failed to remove {}", chart.display()))?;
    }
    copy_folder(&source, &chart)?;
    let plugins = chart.join("files/plugins");
    make_folder(&plugins)?;
    let mut size = 0;
    for (name, component) in components {
        let file = plugins.join(format!("{name}.wasm.gz"));
        let (before, after) = gzip(&component, &file)?;
        progress.say(format!(
            "action {name}: {} KiB, gzipped {} KiB",
            kib(before),
            kib(after)
        ));
        size += after;
    }
    if size > MAX_COMPONENTS {
        bail!(
            "the built-in actions have {} KiB when gzipped; Helm can store a release with up to {} KiB",
            kib(size),
            kib(MAX_COMPONENTS)
        );
    }
    progress.say(format!("the chart is in {}", chart.display()));
    Ok(chart)
}

/// A copy of the chart that can be rendered but not installed: placeholders replace the components, so
/// nothing has to be built. Returns its folder.
pub(crate) fn stage_templates() -> Result<PathBuf> {
    let chart = tools::target_dir().join("chart-templates");
    if chart.exists() {
        fs::remove_dir_all(&chart)
            .with_context(|| format!("failed to remove {}", chart.display()))?;
    }
    copy_folder(&tools::workspace_dir().join("charts/operon"), &chart)?;
    let plugins = chart.join("files/plugins");
    make_folder(&plugins)?;
    for (name, _) in ACTIONS {
        let file = plugins.join(format!("{name}.wasm.gz"));
        fs::write(&file, "-").with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(chart)
}

/// The chart is released with the program, under the same version.
fn check_version(file: &Path) -> Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("version: {version}"),
        format!("appVersion: {version:?}"),
    ] {
        if !text.lines().any(|found| found == line) {
            bail!(
                "{} lacks the line `{line}`: the workspace has that version",
                file.display()
            );
        }
    }
    Ok(())
}

/// Gzips a file, with nothing in the header that differs from one machine or day to another.
/// Returns the sizes before and after.
fn gzip(from: &Path, to: &Path) -> Result<(u64, u64)> {
    let bytes = fs::read(from).with_context(|| format!("failed to read {}", from.display()))?;
    let failure = || format!("failed to write {}", to.display());
    let file = File::create(to).with_context(failure)?;
    let mut encoder = GzBuilder::new().mtime(0).write(file, Compression::best());
    encoder.write_all(&bytes).with_context(failure)?;
    let file = encoder.finish().with_context(failure)?;
    let size = file.metadata().with_context(failure)?.len();
    Ok((bytes.len() as u64, size))
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    make_folder(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("failed to read {}", from.display()))? {
        let entry = entry.with_context(|| format!("failed to read {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target)
                .with_context(|| format!("failed to copy {}", source.display()))?;
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))
}
