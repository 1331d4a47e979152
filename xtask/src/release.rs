//! `cargo xtask release --dry-run`: everything that a release publishes, in a folder.
//!
//! Nothing leaves this machine. The same programs on the same machine give the same image and the same archive of
//! `kubectl operon`; helm writes the time of packing into the chart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use operon_devcluster::{
    Progress, Tool, architecture, archive, assemble_rootfs, layout_from_rootfs, remove,
};

use crate::host::Built;
use crate::{host, image, krew, plugins, tools};

/// The version of everything.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where a release publishes its image.
const REPOSITORY: &str = "ghcr.io/operon-dev/operon";

/// The most that an optimised image and an optimised `kubectl operon` may have, in MB: the image compressed.
const IMAGE_MB: u64 = 30;
const CLI_MB: u64 = 15;

/// What to make, and where.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Make the files and publish nothing; there is no other way yet
    #[arg(long, required = true)]
    dry_run: bool,
    /// The folder to make; what is there already is removed [default: target/release-files]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take the programs of the tests instead of optimised ones
    #[arg(long)]
    debug: bool,
}

/// Makes the files and prints what they are.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    let built = host::build(&progress, !arguments.debug)?;
    let kubectl_operon = if arguments.debug {
        built.cli()
    } else {
        build_cli(&progress)?
    };
    let default = || tools::target_dir().join("release-files");
    let out = arguments.out.clone().unwrap_or_else(default);
    assemble(&built, &kubectl_operon, &out, &progress)?;
    for file in files(&out)? {
        let size = file.metadata()?.len();
        println!("{:>9.1} MB  {}", megabytes(size), file.path().display());
    }
    if arguments.debug {
        return Ok(());
    }
    let cli = kubectl_operon.metadata()?.len();
    within("kubectl-operon", cli, CLI_MB)?;
    within(
        "the image",
        out.join(image_file()).metadata()?.len(),
        IMAGE_MB,
    )
}

/// `kubectl operon` as it is shipped: small.
fn build_cli(progress: &Progress) -> Result<PathBuf> {
    let mut command = tools::cargo();
    command.args(["build", "--quiet", "--profile", "cli"]);
    command.args(["--package", "kubectl-operon"]);
    tools::run(progress, "building kubectl operon", &mut command)?;
    Ok(tools::target_dir().join("cli/kubectl-operon"))
}

/// Makes the files of a release in the folder `out`, of what was built and the program `kubectl operon`.
pub(crate) fn assemble(
    built: &Built,
    kubectl_operon: &Path,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    remove(out)?;
    fs::create_dir_all(out).with_context(|| format!("failed to create {}", out.display()))?;
    let scratch = tools::target_dir().join("release-scratch");
    remove(&scratch)?;
    let rootfs = scratch.join("rootfs");
    assemble_rootfs(&built.binary, &rootfs)?;
    plugins::put_into(&rootfs, &built.plugins)?;
    let name = format!("operon-{VERSION}-linux-{}", architecture());
    // What a cluster without a network needs; the image and the other files are published one by one, too.
    let offline = scratch.join("offline");
    let folder = offline.join(&name);
    progress.say("packing the image");
    let mut config = image::config(&format!("{REPOSITORY}:{VERSION}"));
    config.is_compressed = true;
    layout_from_rootfs(&rootfs, &config, &folder.join("image"))?;
    archive(&folder.join("image"), &out.join(image_file()), false)?;
    let chart = package_chart(out, progress)?;
    let krew = krew::package(kubectl_operon, &scratch.join("krew"), progress)?;
    copy_into(&krew.archive, out)?;
    copy_into(&krew.manifest, out)?;
    copy_into(&chart, &folder)?;
    copy_into(&krew.archive, &folder)?;
    copy_into(&tools::workspace_dir().join("LICENSE"), &folder)?;
    let readme = folder.join("README.md");
    fs::write(&readme, offline_readme())
        .with_context(|| format!("failed to write {}", readme.display()))?;
    // What is in it is compressed already.
    archive(&offline, &out.join(format!("{name}.tar")), false)?;
    write_checksums(out)?;
    remove(&scratch)
}

fn image_file() -> String {
    format!("operon-image-{VERSION}-linux-{}.tar", architecture())
}

fn package_chart(out: &Path, progress: &Progress) -> Result<PathBuf> {
    let mut helm = Command::new(Tool::Helm.ensure(progress)?);
    helm.arg("package").arg(tools::chart_dir());
    helm.arg("--destination").arg(out);
    tools::run(progress, "packing the chart", &mut helm)?;
    Ok(out.join(format!("operon-{VERSION}.tgz")))
}

fn copy_into(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().context("a file has a name")?;
    let copied = fs::copy(file, folder.join(name));
    copied.with_context(|| format!("failed to copy {}", file.display()))?;
    Ok(())
}

/// What is in the archive for clusters without a network, and what to do with it.
fn offline_readme() -> String {
    format!(
        "# Operon {VERSION}, for a cluster without a network

1. Push the image to a registry that the cluster reaches, with a tool that reads OCI layouts:

       oras cp --from-oci-layout image:{VERSION} registry.example.com/operon:{VERSION}
       # or: skopeo copy oci:image:{VERSION} docker://registry.example.com/operon:{VERSION}

2. Install the chart:

       helm upgrade --install operon operon-{VERSION}.tgz --namespace operon-system --create-namespace \\
           --set image.repository=registry.example.com/operon

The image has the components of the built-in actions, so nothing else is fetched.
`kubectl operon` is in kubectl-operon-linux-{}.tar.gz: put the program into a folder of your PATH.
",
        architecture()
    )
}

/// Writes the digests of all files, as `sha256sum --check` reads them.
fn write_checksums(out: &Path) -> Result<()> {
    let line = |file: &fs::DirEntry| {
        let digest = krew::sha256(&file.path())?;
        Ok(format!(
            "{digest}  {}\n",
            file.file_name().to_string_lossy()
        ))
    };
    let lines: String = files(out)?.iter().map(line).collect::<Result<_>>()?;
    let file = out.join("checksums.txt");
    fs::write(&file, lines).with_context(|| format!("failed to write {}", file.display()))
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let unreadable = || format!("failed to read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(unreadable)?;
    let mut files: Vec<_> = entries
        .collect::<std::io::Result<_>>()
        .with_context(unreadable)?;
    files.sort_by_key(fs::DirEntry::file_name);
    Ok(files)
}

fn within(what: &str, bytes: u64, most: u64) -> Result<()> {
    if bytes > most * 1_000_000 {
        bail!(
            "{what} has {:.1} MB, and {most} MB is the most",
            megabytes(bytes)
        );
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of files, shown with one digit"
)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
