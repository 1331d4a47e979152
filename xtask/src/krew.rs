//! `cargo xtask krew`: the archive of `kubectl operon` and its manifest for krew, which krew checks and installs.
//!
//! The archive is for this machine and has the program of the tests; a release makes one for each platform in the same way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Progress, Tool, architecture, archive, output_of, remove};
use serde_yaml_ng::Value;

use crate::{host, man, tools};

/// The version as krew writes it.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// What is beside the program in an archive. krew asks for a licence.
const BESIDE: [&str; 2] = ["LICENSE", "cli/kubectl-operon/kubectl_complete-operon"];

/// Makes archive and manifest in `target/krew`, and lets krew check and install them.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    let program = host::build_cli(progress)?;
    let folder = tools::target_dir().join("krew");
    let Package { archive, manifest } = package(&program, &folder, progress)?;
    validate(&manifest, progress)?;
    install(&manifest, &archive, &folder.join("root"), progress)
}

/// What krew installs.
pub(crate) struct Package {
    /// The archive for this machine.
    pub(crate) archive: PathBuf,
    /// The manifest, with the archive's digest.
    pub(crate) manifest: PathBuf,
}

/// Makes archive and manifest in a folder; what is there already is removed.
pub(crate) fn package(program: &Path, folder: &Path, progress: &Progress) -> Result<Package> {
    remove(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let archive = pack(program, folder, progress)?;
    let manifest = folder.join("operon.yaml");
    let template = tools::workspace_dir().join("cli/kubectl-operon/krew.yaml");
    let template = fs::read_to_string(&template)
        .with_context(|| format!("failed to read {}", template.display()))?;
    let text = manifest_of(&template, VERSION, &|name| {
        let file = folder.join(name);
        file.is_file().then(|| sha256(&file)).transpose()
    })?;
    fs::write(&manifest, text)
        .with_context(|| format!("failed to write {}", manifest.display()))?;
    Ok(Package { archive, manifest })
}

/// The archive for this machine.
fn pack(program: &Path, folder: &Path, progress: &Progress) -> Result<PathBuf> {
    let content = folder.join("content");
    man::write(program, &content.join("man"), progress)?;
    let root = tools::workspace_dir();
    let beside = BESIDE.map(|file| root.join(file));
    for file in beside.iter().map(PathBuf::as_path).chain([program]) {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(file, content.join(name))
            .with_context(|| format!("failed to copy {}", file.display()))?;
    }
    let file = folder.join(format!("kubectl-operon-linux-{}.tar.gz", architecture()));
    progress.say("packing the archive for krew");
    archive(&content, &file, true)?;
    Ok(file)
}

/// The template with this version and with the platforms that have an archive.
fn manifest_of(
    template: &str,
    version: &str,
    digest: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<String> {
    let template = template.replace("VERSION", version);
    let mut manifest: Value =
        serde_yaml_ng::from_str(&template).context("failed to read the template")?;
    let spec = &mut manifest["spec"];
    spec["version"] = Value::from(version);
    let platforms = spec["platforms"].as_sequence_mut();
    let platforms = platforms.context("the template has no platforms")?;
    let mut kept = Vec::new();
    for mut platform in std::mem::take(platforms) {
        let uri = platform["uri"].as_str().unwrap_or_default();
        let name = uri.rsplit('/').next().unwrap_or_default();
        if let Some(digest) = digest(name)? {
            platform["sha256"] = Value::from(digest);
            kept.push(platform);
        }
    }
    *platforms = kept;
    serde_yaml_ng::to_string(&manifest).context("failed to write the manifest")
}

/// The digest of a file, in hexadecimal.
pub(crate) fn sha256(file: &Path) -> Result<String> {
    let printed = output_of(Command::new("sha256sum").arg(file))?;
    let digest = printed.split_whitespace().next();
    Ok(digest.context("sha256sum prints a digest")?.to_owned())
}

fn validate(manifest: &Path, progress: &Progress) -> Result<()> {
    // Without --skip-install it would fetch the archives from their addresses.
    let mut command = Command::new(Tool::KrewValidator.ensure(progress)?);
    command.arg("-skip-install").arg("-manifest").arg(manifest);
    tools::run(
        progress,
        "checking the manifest as krew's index does",
        &mut command,
    )
}

/// Installs the archive by krew into a folder of its own, and runs what is there as kubectl does.
fn install(manifest: &Path, archive: &Path, root: &Path, progress: &Progress) -> Result<()> {
    let mut krew = Command::new(Tool::Krew.ensure(progress)?);
    krew.args(["install", "--manifest"])
        .arg(manifest)
        .arg("--archive")
        .arg(archive)
        .env("KREW_ROOT", root);
    tools::run(progress, "installing the archive by krew", &mut krew)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(root.join("bin")).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).context("PATH cannot be extended")?;
    let mut kubectl = Command::new(Tool::Kubectl.ensure(progress)?);
    kubectl.args(["operon", "--version"]).env("PATH", path);
    let printed = output_of(&mut kubectl)?;
    let expected = format!("kubectl operon {}", env!("CARGO_PKG_VERSION"));
    if printed.trim() != expected {
        bail!("kubectl operon --version prints {printed:?} and not {expected:?}");
    }
    let store = root.join("store/operon");
    let version = store.join(VERSION);
    for file in ["LICENSE", "kubectl_complete-operon", "man/kubectl-operon.1"] {
        if !version.join(file).is_file() {
            bail!("{} is not installed", version.join(file).display());
        }
    }
    progress.say("krew accepts the manifest and installs the archive");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_the_platforms_with_an_archive_and_their_digests() -> Result<()> {
        let template = include_str!("../../cli/kubectl-operon/krew.yaml");
        let text = manifest_of(template, "v1.2.3", &|name| {
            Ok((name == "kubectl-operon-linux-arm64.tar.gz").then(|| "ab".repeat(32)))
        })?;
        let manifest: Value = serde_yaml_ng::from_str(&text)?;
        let spec = &manifest["spec"];
        assert_eq!(spec["version"].as_str(), Some("v1.2.3"));
        let platforms = spec["platforms"].as_sequence().map_or(0, Vec::len);
        assert_eq!(platforms, 1);
        let platform = &spec["platforms"][0];
        let uri = platform["uri"].as_str().unwrap_or_default();
        assert!(
            uri.ends_with("/v1.2.3/kubectl-operon-linux-arm64.tar.gz"),
            "{uri}"
        );
        assert_eq!(platform["sha256"].as_str(), Some("ab".repeat(32).as_str()));
        let caveats = spec["caveats"].as_str().unwrap_or_default();
        assert!(caveats.contains("store/operon/v1.2.3/"), "{caveats}");
        Ok(())
    }
}
