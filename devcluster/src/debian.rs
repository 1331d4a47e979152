//! Debian packages unpacked into the cache: nothing is installed, no service is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::{Lock, cache_dir, make_dir, remove};
use crate::process::find_program;
use crate::progress::Progress;

/// Packages that are unpacked into one folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packages(&'static [&'static str]);

/// What a real node runs pods with, and the one program its images are made of.
pub(crate) const RUNTIME: Packages = Packages(&[
    "containerd",
    "runc",
    "containernetworking-plugins",
    "busybox-static",
]);

/// The program nft with its libraries.
pub(crate) const NFTABLES: Packages = Packages(&[
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libxtables12",
    "libmnl0",
    "libjansson4",
    "libgmp10",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libtinfo6",
]);

/// The programs prometheus and promtool.
const PROMETHEUS: Packages = Packages(&["prometheus"]);

/// The program of this name of Prometheus: that of the path, or Debian's.
pub fn prometheus(name: &str, progress: &Progress) -> Result<PathBuf> {
    if let Some(program) = find_program(name) {
        return Ok(program);
    }
    Ok(PROMETHEUS.ensure(progress)?.join("usr/bin").join(name))
}

impl Packages {
    /// Where the packages are unpacked, if they are.
    pub(crate) fn unpacked(self) -> Result<PathBuf> {
        Ok(cache_dir()?.join("debian").join(self.0.join("+")))
    }

    /// The folder with the packages' contents, fetching them first if need be.
    pub(crate) fn ensure(self, progress: &Progress) -> Result<PathBuf> {
        let target = self.unpacked()?;
        if target.is_dir() {
            return Ok(target);
        }
        fetch(self, &target, progress)?;
        Ok(target)
    }
}

/// Fetches packages, and unpacks them into the folder `target`.
fn fetch(packages: Packages, target: &Path, progress: &Progress) -> Result<()> {
    let parent = cache_dir()?.join("debian");
    let _lock = Lock::acquire(&parent.join("fetch.lock"), || {
        progress.say("waiting for another fetch of packages");
    })?;
    if target.is_dir() {
        return Ok(());
    }
    let names = packages.0.join(", ");
    for program in ["apt-get", "dpkg"] {
        if find_program(program).is_none() {
            bail!("{program} is missing: it fetches Debian's {names}");
        }
    }
    progress.say(format!("fetching Debian's {names} (once)"));
    let archives = parent.join("archives.unfinished");
    remove(&archives)?;
    make_dir(&archives)?;
    if download(packages, &archives, progress).is_err() {
        let mut update = Command::new("apt-get");
        update.args(["update", "-qq"]);
        progress.run_logged("apt-get update", &mut update, &parent.join("update.log"))?;
        download(packages, &archives, progress)?;
    }
    let unfinished = parent.join("root.unfinished");
    remove(&unfinished)?;
    for entry in
        fs::read_dir(&archives).with_context(|| format!("failed to read {}", archives.display()))?
    {
        let archive = entry.context("failed to read a folder")?.path();
        if archive
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(&archive).arg(&unfinished);
            progress.run_logged("unpacking", &mut unpack, &parent.join("unpack.log"))?;
        }
    }
    fs::rename(&unfinished, target)
        .with_context(|| format!("failed to write {}", target.display()))?;
    remove(&archives)
}

fn download(packages: Packages, folder: &Path, progress: &Progress) -> Result<()> {
    let mut command = Command::new("apt-get");
    // The sandbox user of apt may not write here.
    command
        .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
        .args(packages.0)
        .current_dir(folder);
    progress.run_logged(
        "fetching packages",
        &mut command,
        &folder.join("download.log"),
    )
}
