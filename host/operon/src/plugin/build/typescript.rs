//! Has npm build the component of a package, by its script `build`. Which compiler that script runs is the package's
//! choice; it leaves the component in `build/component.wasm`.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{
    Built,
    tool::{self, COMPONENT},
};

/// The oldest Node.js that all tools of a new package run on.
const OLDEST_NODE: u32 = 20;

/// The output of npm goes to standard error.
///
/// # Errors
/// What is missing and how to install it, or that npm failed.
pub(super) fn build(folder: &Path, more: &[OsString]) -> anyhow::Result<Built> {
    let name = name(&folder.join("package.json"))?;
    check_node(folder)?;
    install(folder)?;
    let mut arguments = vec!["run".into(), "--silent".into(), "build".into()];
    if !more.is_empty() {
        arguments.push("--".into());
        arguments.extend_from_slice(more);
    }
    let path = tool::component(folder, || npm(folder, &arguments))?;
    let path = path.with_context(|| {
        let manifest = folder.join("package.json");
        format!(
            "the script build of {} left no {COMPONENT}: let its last command write it there",
            manifest.display()
        )
    })?;
    Ok(Built {
        path,
        file_name: format!("{name}.wasm"),
    })
}

/// The name of the package, without a scope, if it has a script that builds the component.
fn name(manifest: &Path) -> anyhow::Result<String> {
    let shown = manifest.display();
    let text = fs::read_to_string(manifest).with_context(|| format!("failed to read {shown}"))?;
    let package: Value =
        serde_json::from_str(&text).with_context(|| format!("{shown} is not valid JSON"))?;
    ensure!(
        package["scripts"]["build"].is_string(),
        "{shown} has no script build: add one that writes the component to {COMPONENT}, as `operon plugin new NAME --language typescript` does"
    );
    let name = package["name"].as_str().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    ensure!(
        !name.is_empty(),
        "{shown} has no name: the component is called by it"
    );
    Ok(name.to_owned())
}

/// There is a Node.js that is new enough; the error says where to get it.
fn check_node(folder: &Path) -> anyhow::Result<()> {
    let mut node = tool::command("node", folder);
    let missing = format!(
        "there is no Node.js: install version {OLDEST_NODE} or newer, with npm, from https://nodejs.org"
    );
    let version = tool::printed(node.arg("--version"), "node --version", &missing)?;
    let major = major(&version).with_context(|| format!("node --version answered {version:?}"))?;
    ensure!(
        major >= OLDEST_NODE,
        "Node.js {version} is too old: install version {OLDEST_NODE} or newer from https://nodejs.org"
    );
    Ok(())
}

/// The 20 of `v20.11.1`.
fn major(version: &str) -> Option<u32> {
    let (major, _) = version.trim().strip_prefix('v')?.split_once('.')?;
    major.parse().ok()
}

/// Installs the packages, unless those of the lock file are there.
fn install(folder: &Path) -> anyhow::Result<()> {
    let read = |path: &str| {
        let text = fs::read(folder.join(path)).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    };
    let lock = read("package-lock.json");
    // npm writes what it has installed into this file.
    let installed = read("node_modules/.package-lock.json");
    if installed.is_some_and(|installed| has_all(&installed, lock.as_ref())) {
        return Ok(());
    }
    let command = if lock.is_some() { "ci" } else { "install" };
    npm(folder, &[command.into()]).context("the packages could not be installed")
}

/// Whether packages of these versions were installed. Those for other platforms are not.
fn has_all(installed: &Value, lock: Option<&Value>) -> bool {
    let Some(wanted) = lock.and_then(|lock| lock["packages"].as_object()) else {
        return true;
    };
    wanted.iter().all(|(path, package)| {
        let found = &installed["packages"][path];
        // The empty path is the author's own package.
        path.is_empty()
            || found["version"] == package["version"]
            || found.is_null() && package["optional"] == true
    })
}

fn npm(folder: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    let command = arguments.first().map(|word| word.to_string_lossy());
    let name = format!("npm {}", command.unwrap_or_default());
    let missing =
        "there is no npm: it is a part of Node.js, or a package of its own, such as npm of Debian";
    tool::run(tool::command("npm", folder).args(arguments), &name, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_node_is_read() {
        for (version, expected) in [
            ("v20.11.1\n", Some(20)),
            ("v9.0.0", Some(9)),
            ("20.11.1", None),
            ("", None),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn packages_are_installed_if_the_versions_are_those_of_the_lock_file() {
        let lock = |version: &str| {
            serde_json::json!({"packages": {"": {"version": "0.1.0"},
                "node_modules/a": {"version": version},
                "node_modules/b": {"version": "2.0.0", "optional": true}}})
        };
        let installed = serde_json::json!({"packages": {"node_modules/a": {"version": "1.0.0"}}});
        assert!(has_all(&installed, Some(&lock("1.0.0"))));
        assert!(!has_all(&installed, Some(&lock("1.0.1"))));
        assert!(!has_all(&serde_json::json!({}), Some(&lock("1.0.0"))));
        assert!(has_all(&installed, None));
    }

    #[test]
    fn a_package_has_a_name_and_a_script_that_builds() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let manifest = folder.path().join("package.json");
        for (text, expected) in [
            (r#"{"name": "a", "scripts": {"build": "x"}}"#, Ok("a")),
            (r#"{"name": "@team/a", "scripts": {"build": "x"}}"#, Ok("a")),
            (r#"{"name": "a"}"#, Err("has no script build")),
            (r#"{"scripts": {"build": "x"}}"#, Err("has no name")),
            ("{", Err("is not valid JSON")),
        ] {
            fs::write(&manifest, text)?;
            match (name(&manifest), expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(error), Err(expected)) => {
                    let error = error.to_string();
                    assert!(error.contains(expected), "{error}");
                }
                (found, _) => anyhow::bail!("{text}: {found:?}"),
            }
        }
        Ok(())
    }
}
