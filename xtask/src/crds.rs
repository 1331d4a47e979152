//! `cargo xtask crds`: the CRDs, from the types to `crds/` and into the chart.
//!
//! The chart's copies differ in one thing: they say which Helm release they belong to, because Helm
//! upgrades nothing that does not say so (see `charts/operon/templates/crds.yaml`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use operon_devcluster::Progress;

use crate::{host, tools};

/// What the generated CRDs have, and behind which the chart's say whose they are.
const KEEP: &str = "    helm.sh/resource-policy: keep\n";

/// The release that the documentation installs.
const OWNER: &str = "    meta.helm.sh/release-name: operon
    meta.helm.sh/release-namespace: operon-system
  labels:
    app.kubernetes.io/managed-by: Helm
";

/// Generate or compare.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only compare: fail if a file is not what the types say
    #[arg(long)]
    check: bool,
}

/// Files by name.
type Files = BTreeMap<String, String>;

/// Writes the CRDs, or compares them with those that are there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    if arguments.check {
        check(&progress)
    } else {
        write(&progress)
    }
}

/// Fails if a generated file is not what the types say.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    for (folder, wanted) in generate(progress)? {
        let found = read(&tools::workspace_dir().join(folder))?;
        let differs = wanted
            .iter()
            .find(|(name, text)| found.get(*name) != Some(text));
        let foreign = found.iter().find(|(name, _)| !wanted.contains_key(*name));
        if let Some((name, _)) = differs.or(foreign) {
            bail!("{folder}/{name} is not what the types in host/api say; run: cargo xtask crds");
        }
    }
    progress.say("the CRDs are what the types say");
    Ok(())
}

fn write(progress: &Progress) -> Result<()> {
    for (folder, wanted) in generate(progress)? {
        let path = tools::workspace_dir().join(folder);
        clear(&path)?;
        for (name, text) in &wanted {
            let file = path.join(name);
            fs::write(&file, text)
                .with_context(|| format!("failed to write {}", file.display()))?;
        }
        progress.say(format!("wrote {} CRDs to {folder}", wanted.len()));
    }
    Ok(())
}

/// What each folder should hold.
fn generate(progress: &Progress) -> Result<[(&'static str, Files); 2]> {
    let fresh = tools::target_dir().join("crds");
    clear(&fresh)?;
    let mut command = Command::new(host::build_program(progress, false)?);
    command.args(["crds", "--directory"]).arg(&fresh);
    tools::run(progress, "generating the CRDs", &mut command)?;
    let plain = read(&fresh)?;
    if plain.is_empty() {
        bail!(
            "`operon crds --directory` wrote nothing to {}",
            fresh.display()
        );
    }
    let owned = plain
        .iter()
        .map(|(name, text)| Ok((name.clone(), owned(name, text)?)))
        .collect::<Result<Files>>()?;
    Ok([("crds", plain), ("charts/operon/crds", owned)])
}

fn owned(name: &str, text: &str) -> Result<String> {
    match text.split_once(KEEP) {
        Some((before, after)) if !after.contains("\n  labels:") => {
            Ok(format!("{before}{KEEP}{OWNER}{after}"))
        }
        Some(_) => bail!("{name} has labels of its own, which this command does not expect"),
        None => bail!("{name} lacks the annotation helm.sh/resource-policy"),
    }
}

/// The YAML files of a folder; none if there is no such folder.
fn read(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(files);
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().extension().is_some_and(|it| it == "yaml") {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("failed to read {}", entry.path().display()))?;
            files.insert(name, text);
        }
    }
    Ok(files)
}

/// Makes the folder and removes the YAML files in it.
fn clear(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    for name in read(folder)?.into_keys() {
        let file = folder.join(name);
        fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_crd_names_its_release_and_is_otherwise_the_same() -> Result<()> {
        let plain = format!("metadata:\n  annotations:\n{KEEP}  name: x\nspec: {{}}\n");
        let owned = owned("x.yaml", &plain)?;
        assert!(owned.contains("release-name: operon\n"), "{owned}");
        assert_eq!(owned.replace(OWNER, ""), plain);
        Ok(())
    }

    #[test]
    fn a_crd_that_helm_would_delete_is_refused() {
        assert!(owned("x.yaml", "metadata:\n  name: x\n").is_err());
    }
}
