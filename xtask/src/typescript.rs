//! The example in TypeScript, installed from npm's registry and built in a copy under the target folder, so that the
//! checkout stays clean. What has not changed is neither installed nor built again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Progress, find_program};

use crate::tools;

/// The files of a folder, by their path in it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What npm and the build make in the folder.
const MADE: [&str; 2] = ["node_modules", "build"];

/// The name of the component among those that tests load.
const COMPONENT: &str = "annotate_ts.wasm";

/// The copy of the example, with its packages installed and its component built.
#[derive(Debug)]
pub(crate) struct Example {
    folder: PathBuf,
}

impl Example {
    /// Brings the copy up to date.
    pub(crate) fn build(progress: &Progress) -> Result<Self> {
        if find_program("node").is_none() || find_program("npm").is_none() {
            bail!(
                "the example in TypeScript is built by Node.js: install version 20 or newer, with npm, from https://nodejs.org or as the packages nodejs and npm of Debian"
            );
        }
        let example = Self {
            folder: tools::target_dir().join("typescript"),
        };
        let lock_changed = example.copy()?;
        let installed = example.node_modules().join(".package-lock.json");
        if lock_changed || !installed.is_file() {
            example.npm(progress, "npm ci, for the example in TypeScript", &["ci"])?;
        }
        if !example.component().is_file() {
            let what = "building the component of the example in TypeScript";
            example.npm(progress, what, &["run", "build"])?;
        }
        Ok(example)
    }

    /// Runs the tests that an author of an action gets.
    pub(crate) fn test(&self, progress: &Progress) -> Result<()> {
        self.npm(
            progress,
            "npm test, in the example in TypeScript",
            &["test"],
        )
    }

    /// Puts the component beside others, under a name as they have.
    pub(crate) fn put_into(&self, components: &Path) -> Result<()> {
        let file = components.join(COMPONENT);
        fs::copy(self.component(), &file)
            .with_context(|| format!("failed to write {}", file.display()))?;
        Ok(())
    }

    /// The installed packages.
    pub(crate) fn node_modules(&self) -> PathBuf {
        self.folder.join("node_modules")
    }

    fn component(&self) -> PathBuf {
        self.folder.join("build/component.wasm")
    }

    /// Copies the example if it has changed, which removes what was built. Returns whether other packages are needed.
    fn copy(&self) -> Result<bool> {
        let source = tools::workspace_dir().join("examples/typescript");
        let (wanted, present) = (files(&source)?, files(&self.folder)?);
        if wanted == present {
            return Ok(false);
        }
        let lock = Path::new("package-lock.json");
        let lock_changed = wanted.get(lock) != present.get(lock);
        let build = self.folder.join("build");
        if build.exists() {
            fs::remove_dir_all(&build)
                .with_context(|| format!("failed to remove {}", build.display()))?;
        }
        for path in present.keys().filter(|path| !wanted.contains_key(*path)) {
            let path = self.folder.join(path);
            fs::remove_file(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
        if lock_changed && self.node_modules().exists() {
            fs::remove_dir_all(self.node_modules()).context("failed to remove old packages")?;
        }
        for (path, content) in &wanted {
            let path = self.folder.join(path);
            let parent = path.parent().unwrap_or(&self.folder);
            let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, content));
            written.with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(lock_changed)
    }

    fn npm(&self, progress: &Progress, what: &str, arguments: &[&str]) -> Result<()> {
        let mut npm = Command::new("npm");
        npm.args(arguments)
            .arg("--silent")
            .current_dir(&self.folder);
        tools::run(progress, what, &mut npm)
    }
}

/// The files of a folder, none if there is no folder; without what is made in it.
fn files(folder: &Path) -> Result<Files> {
    let mut found = Files::new();
    if folder.is_dir() {
        collect(folder, Path::new(""), &mut found)?;
    }
    Ok(found)
}

fn collect(folder: &Path, inside: &Path, found: &mut Files) -> Result<()> {
    let unreadable = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder.join(inside)).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let path = inside.join(&name);
        if MADE.iter().any(|made| path == Path::new(made)) {
            continue;
        }
        let file = folder.join(&path);
        if file.is_dir() {
            collect(folder, &path, found)?;
        } else if file
            .extension()
            .is_none_or(|ending| ending != "wasm" && ending != "gz")
        {
            let content = fs::read(&file);
            found.insert(
                path,
                content.with_context(|| format!("failed to read {}", file.display()))?,
            );
        }
    }
    Ok(())
}
