//! `cargo xtask image`: the root folder of the host's container image.
//!
//! The Dockerfile and the devcluster use the same one, so that what is tested is what is shipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use operon_devcluster::{Cluster, ImageConfig, Progress, assemble_rootfs, image_from_rootfs};

use crate::{plugins, tools};

/// The image that demo and tests run the host from.
pub(crate) const HOST_IMAGE: &str = "localhost/operon:dev";
/// The user that the host runs as: the one that the root folder's `/etc/passwd` has.
const NONROOT: &str = "65532:65532";

/// Container images of the host.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the root folder of the host's image: the program, the libraries that it needs, and the built-in actions
    Rootfs {
        /// The folder to make; what is there already is removed
        directory: PathBuf,
        /// The program; built with optimisations if not given
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Give the real node of a cluster an image made of a root folder
    Load {
        /// The root folder, as `image rootfs` makes it
        directory: PathBuf,
        /// The image's name, by which pods ask for it
        #[arg(long, default_value = HOST_IMAGE)]
        image: String,
        /// The cluster's name
        #[arg(long, default_value = "dev")]
        name: String,
    },
}

/// Runs one of the commands.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Rootfs { directory, binary } => rootfs(&directory, binary),
        Command::Load {
            directory,
            image,
            name,
        } => {
            let Some(cluster) = Cluster::open(&name)? else {
                bail!("cluster {name} is not up")
            };
            load(&cluster, &directory, &image, &Progress::stderr())
        }
    }
}

/// What an image of the host is, under this name.
pub(crate) fn config(name: &str) -> ImageConfig {
    let label = |key: &str, value: &str| {
        let key = format!("org.opencontainers.image.{key}");
        (key, value.to_owned())
    };
    ImageConfig {
        name: name.to_owned(),
        entrypoint: vec![String::from("/usr/local/bin/operon")],
        user: NONROOT.to_owned(),
        labels: vec![
            label("title", "Operon"),
            label("version", env!("CARGO_PKG_VERSION")),
            label("source", env!("CARGO_PKG_REPOSITORY")),
            label("licenses", env!("CARGO_PKG_LICENSE")),
        ],
        ..ImageConfig::default()
    }
}

/// Makes an image of a root folder and gives it to the cluster's real node.
pub(crate) fn load(
    cluster: &Cluster,
    rootfs: &Path,
    image: &str,
    progress: &Progress,
) -> Result<()> {
    let folder = cluster
        .state_dir()
        .context("a cluster of your own fetches its images itself")?;
    let config = config(image);
    let tar = folder.join("image.tar");
    image_from_rootfs(rootfs, &config, &tar)?;
    cluster.import_image(&tar)?;
    fs::remove_file(&tar).with_context(|| format!("failed to remove {}", tar.display()))?;
    progress.say(format!("the node has the image {image}"));
    Ok(())
}

fn rootfs(directory: &Path, binary: Option<PathBuf>) -> Result<()> {
    let progress = Progress::stderr();
    let binary = match binary {
        Some(binary) => binary,
        None => build_host(&progress)?,
    };
    assemble_rootfs(&binary, directory)?;
    plugins::put_into(directory, &plugins::build(&progress)?)?;
    progress.say(format!(
        "made {} of {}",
        directory.display(),
        binary.display()
    ));
    Ok(())
}

/// Builds the host as it is shipped.
fn build_host(progress: &Progress) -> Result<PathBuf> {
    let mut command = tools::cargo();
    command.args(["build", "--release", "--package", "operon"]);
    tools::run(progress, "building the host", &mut command).context("the host does not build")?;
    Ok(tools::target_dir().join("release/operon"))
}
