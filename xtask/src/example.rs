//! The examples in other languages, each built by `operon plugin build` in a copy under the target folder, so that the
//! checkout stays clean. An example that has not changed is not built again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use operon_devcluster::Progress;

use crate::{host, tools};

/// The files of a folder, by their path in it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What the languages' tools make in the folder, wherever it is.
const MADE: [&str; 4] = ["node_modules", ".venv", "__pycache__", "build"];

/// Where builds leave what they make, and the component of every example in it.
const BUILD: &str = "build";
const COMPONENT: &str = "build/component.wasm";

/// How the example of a language is tested.
#[derive(Debug)]
struct Language {
    name: &'static str,
    /// Its folder in `examples`, and the one of the copy.
    folder: &'static str,
    /// Where `operon plugin build` installs its packages.
    packages: &'static str,
    test: &'static [&'static str],
    /// The name of the component among those that tests load.
    component: &'static str,
    /// By which tests of `operon plugin build` find the packages.
    variable: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "TypeScript",
        folder: "typescript",
        packages: "node_modules",
        test: &["npm", "test", "--silent"],
        component: "annotate_ts.wasm",
        variable: "OPERON_NODE_MODULES",
    },
    Language {
        name: "Python",
        folder: "python",
        packages: "build/venv",
        test: &["python3", "-m", "unittest", "--quiet"],
        component: "annotate_py.wasm",
        variable: "OPERON_PYTHON_VENV",
    },
];

/// The copy of an example, with its component built.
#[derive(Debug)]
pub(crate) struct Example {
    language: &'static Language,
    folder: PathBuf,
}

impl Example {
    /// Brings the copies of all examples up to date.
    pub(crate) fn build_all(progress: &Progress) -> Result<Vec<Self>> {
        let build = |language| Self::build(language, progress);
        LANGUAGES.iter().map(build).collect()
    }

    fn build(language: &'static Language, progress: &Progress) -> Result<Self> {
        let example = Self {
            language,
            folder: tools::target_dir().join(language.folder),
        };
        example.copy()?;
        let packages = example.folder.join(language.packages);
        if !example.component().is_file() || !packages.is_dir() {
            let mut command = Command::new(host::build_program(progress, false)?);
            command.args(["plugin", "build", "--path"]);
            let what = format!("operon plugin build of the example in {}", language.name);
            tools::run(progress, &what, command.arg(&example.folder))?;
        }
        Ok(example)
    }

    /// Runs the tests that an author of an action gets.
    pub(crate) fn test(&self, progress: &Progress) -> Result<()> {
        let what = format!("tests of the example in {}", self.language.name);
        let Some((program, arguments)) = self.language.test.split_first() else {
            return Ok(());
        };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder);
        tools::run(progress, &what, &mut command)
    }

    /// Puts the component beside others, under a name as they have.
    pub(crate) fn put_into(&self, components: &Path) -> Result<()> {
        let file = components.join(self.language.component);
        fs::copy(self.component(), &file)
            .with_context(|| format!("failed to write {}", file.display()))?;
        Ok(())
    }

    /// The installed packages, with the variable that names them for tests.
    pub(crate) fn packages(&self) -> (&'static str, PathBuf) {
        let folder = self.folder.join(self.language.packages);
        (self.language.variable, folder)
    }

    fn component(&self) -> PathBuf {
        self.folder.join(COMPONENT)
    }

    /// Copies the example if it has changed, which removes what was built.
    fn copy(&self) -> Result<()> {
        let examples = tools::workspace_dir().join("examples");
        let source = examples.join(self.language.folder);
        let (wanted, present) = (files(&source)?, files(&self.folder)?);
        if wanted == present {
            return Ok(());
        }
        self.remove_built()?;
        for path in present.keys().filter(|path| !wanted.contains_key(*path)) {
            let path = self.folder.join(path);
            fs::remove_file(&path)
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
        for (path, content) in &wanted {
            self.create(path)?;
            let path = self.folder.join(path);
            fs::write(&path, content)
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(())
    }

    /// Creates the folder of a file.
    fn create(&self, file: impl AsRef<Path>) -> Result<()> {
        let file = self.folder.join(file);
        let folder = file.parent().unwrap_or(&self.folder);
        let created = fs::create_dir_all(folder);
        created.with_context(|| format!("failed to create {}", folder.display()))
    }

    /// Removes what earlier builds have made, but for the packages.
    fn remove_built(&self) -> Result<()> {
        let folder = self.folder.join(BUILD);
        let failed = || format!("failed to remove the files in {}", folder.display());
        if !folder.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(&folder).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            if path == self.folder.join(self.language.packages) {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(failed)?;
        }
        Ok(())
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
        if MADE.iter().any(|made| name == *made) {
            continue;
        }
        let path = inside.join(&name);
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
