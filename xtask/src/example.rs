//! The examples in other languages, each installed from its language's registry and built in a copy under the target
//! folder, so that the checkout stays clean. What has not changed is neither installed nor built again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Progress, find_program};

use crate::tools;

/// The files of a folder, by their path in it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What the languages' tools make in the folder, wherever it is.
const MADE: [&str; 4] = ["node_modules", ".venv", "__pycache__", "build"];

/// Where every example leaves its component.
const COMPONENT: &str = "build/component.wasm";

/// How the example of a language is installed, built and tested.
#[derive(Debug)]
struct Language {
    name: &'static str,
    /// Its folder in `examples`, and the one of the copy.
    folder: &'static str,
    /// The programs that must be there, and how they are installed.
    needs: (&'static [&'static str], &'static str),
    /// The file that decides which packages are installed, and the folder that gets them.
    lock: &'static str,
    packages: &'static str,
    install: &'static [&'static [&'static str]],
    build: &'static [&'static str],
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
        needs: (
            &["node", "npm"],
            "install Node.js 20 or newer, with npm, from https://nodejs.org or as the packages nodejs and npm of Debian",
        ),
        lock: "package-lock.json",
        packages: "node_modules",
        install: &[&["npm", "ci", "--silent"]],
        build: &["npm", "run", "build", "--silent"],
        test: &["npm", "test", "--silent"],
        component: "annotate_ts.wasm",
        variable: "OPERON_NODE_MODULES",
    },
    Language {
        name: "Python",
        folder: "python",
        needs: (
            &["python3"],
            "install Python 3.11 or newer, with venv, from https://www.python.org or as the packages python3 and python3-venv of Debian",
        ),
        lock: "requirements.txt",
        packages: ".venv",
        install: &[
            &["python3", "-m", "venv", ".venv"],
            &[
                ".venv/bin/python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
                "requirements.txt",
            ],
        ],
        build: &[
            ".venv/bin/componentize-py",
            "--quiet",
            "--wit-path",
            "wit",
            "--world",
            "action",
            "componentize",
            "--stub-wasi",
            "--output",
            COMPONENT,
            "component",
        ],
        test: &["python3", "-m", "unittest", "--quiet"],
        component: "annotate_py.wasm",
        variable: "OPERON_PYTHON_VENV",
    },
];

/// The copy of an example, with its packages installed and its component built.
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
        let (name, (programs, way_out)) = (language.name, language.needs);
        if programs.iter().any(|name| find_program(name).is_none()) {
            bail!(
                "the example in {name} is built by {}: {way_out}",
                programs.join(" and ")
            );
        }
        example.copy()?;
        if !example.is_installed() {
            example.install(progress).context(way_out)?;
        }
        if !example.component().is_file() {
            let what = format!("building the component of the example in {name}");
            example.create(COMPONENT)?;
            example.run(progress, &what, language.build)?;
        }
        Ok(example)
    }

    /// Runs the tests that an author of an action gets.
    pub(crate) fn test(&self, progress: &Progress) -> Result<()> {
        let what = format!("tests of the example in {}", self.language.name);
        self.run(progress, &what, self.language.test)
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

    /// A copy of the file that decided which packages were installed, written after them.
    fn installed(&self) -> PathBuf {
        let Language { packages, lock, .. } = self.language;
        self.folder.join(packages).join(lock)
    }

    fn is_installed(&self) -> bool {
        let wanted = fs::read(self.folder.join(self.language.lock));
        let installed = fs::read(self.installed());
        matches!((wanted, installed), (Ok(wanted), Ok(installed)) if wanted == installed)
    }

    fn install(&self, progress: &Progress) -> Result<()> {
        self.remove(self.language.packages)?;
        let what = format!("packages of the example in {}", self.language.name);
        for command in self.language.install {
            self.run(progress, &what, command)?;
        }
        fs::copy(self.folder.join(self.language.lock), self.installed())
            .with_context(|| format!("failed to write {}", self.installed().display()))?;
        Ok(())
    }

    /// Copies the example if it has changed, which removes what was built.
    fn copy(&self) -> Result<()> {
        let examples = tools::workspace_dir().join("examples");
        let source = examples.join(self.language.folder);
        let (wanted, present) = (files(&source)?, files(&self.folder)?);
        if wanted == present {
            return Ok(());
        }
        self.remove("build")?;
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

    fn remove(&self, folder: &str) -> Result<()> {
        let folder = self.folder.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("failed to remove {}", folder.display()))?;
        }
        Ok(())
    }

    fn run(&self, progress: &Progress, what: &str, command: &[&str]) -> Result<()> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(());
        };
        // A path is one in the folder; a name is found as any program.
        let mut command = if program.contains('/') {
            Command::new(self.folder.join(program))
        } else {
            Command::new(program)
        };
        command.args(arguments).current_dir(&self.folder);
        tools::run(progress, what, &mut command)
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
