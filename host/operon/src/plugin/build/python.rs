//! Has componentize-py build the component of a package, in a virtual environment in its folder.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use super::{
    Built,
    tool::{self, COMPONENT},
};

/// The oldest Python that reads `pyproject.toml` and runs the tests of a new package.
const OLDEST: (u32, u32) = (3, 11);

const NO_PYTHON: &str = "there is no python3: install Python 3.11 or newer from https://www.python.org, or as the packages python3 and python3-venv of Debian";

/// What is installed into the folder [`ENVIRONMENT`].
const REQUIREMENTS: &str = "requirements.txt";

/// The virtual environment. It is made anew when the requirements change, so it is not `.venv`, which may be the author's.
const ENVIRONMENT: &str = "build/venv";

/// The file by which Python knows a virtual environment.
const MARK: &str = "pyvenv.cfg";

/// The compiler, in the environment.
const COMPILER: &str = "bin/componentize-py";

/// The output of pip and of the compiler goes to standard error.
///
/// # Errors
/// What is missing and how to install it, or which command failed.
pub(super) fn build(folder: &Path, more: &[OsString]) -> anyhow::Result<Built> {
    check_python(folder)?;
    let name = name(folder)?;
    install(folder)?;
    let path = tool::component(folder, || componentize(folder, more))?;
    let path = path.with_context(|| format!("componentize-py left no {COMPONENT}"))?;
    Ok(Built {
        path,
        file_name: format!("{name}.wasm"),
    })
}

fn check_python(folder: &Path) -> anyhow::Result<()> {
    let version = python(
        folder,
        "import sys; print('%d.%d' % sys.version_info[:2])",
        &[],
    )?;
    let parsed = version.split_once('.').and_then(|(major, minor)| {
        let number = |text: &str| text.parse::<u32>().ok();
        Some((number(major)?, number(minor)?))
    });
    let found = parsed.with_context(|| format!("python3 says that its version is {version:?}"))?;
    ensure!(
        found >= OLDEST,
        "Python {version} is too old: install {}.{} or newer, for example from https://www.python.org",
        OLDEST.0,
        OLDEST.1
    );
    Ok(())
}

/// The name of the package.
fn name(folder: &Path) -> anyhow::Result<String> {
    let script = "import sys, tomllib; print(tomllib.load(open(sys.argv[1], 'rb')).get('project', {}).get('name', ''))";
    let name = python(folder, script, &["pyproject.toml"]);
    let manifest = folder.join("pyproject.toml");
    let shown = manifest.display();
    let name = name.with_context(|| format!("{shown} can't be read"))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        !name.is_empty() && name.chars().all(fits),
        "{shown} has no name of a package: the component is called by name in its section [project]"
    );
    Ok(name)
}

/// The output of a script.
fn python(folder: &Path, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = tool::command("python3", folder);
    command.args(["-c", script]).args(arguments);
    tool::printed(&mut command, "python3", NO_PYTHON)
}

/// Installs the packages, unless those of `requirements.txt` are there.
fn install(folder: &Path) -> anyhow::Result<()> {
    let requirements = folder.join(REQUIREMENTS);
    let shown = requirements.display();
    let wanted = fs::read(&requirements)
        .with_context(|| format!("failed to read {shown}, which names componentize-py"))?;
    // A copy of what was installed, written last.
    let installed = folder.join(ENVIRONMENT).join(REQUIREMENTS);
    if fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    check_replaceable(&folder.join(ENVIRONMENT))?;
    eprintln!("Installing the packages of {REQUIREMENTS} into {ENVIRONMENT}");
    let mut venv = tool::command("python3", folder);
    venv.args(["-m", "venv", "--clear", ENVIRONMENT]);
    tool::run(&mut venv, "python3 -m venv", NO_PYTHON).context(
        "the virtual environment could not be made: install venv, which is the package python3-venv of Debian and Ubuntu",
    )?;
    let mut pip = tool::command(program(folder, "bin/python")?, folder);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    pip.args(["--requirement", REQUIREMENTS]);
    tool::run(&mut pip, "pip install", NO_PYTHON).context("the packages could not be installed")?;
    fs::write(&installed, wanted)
        .with_context(|| format!("failed to write {}", installed.display()))
}

/// Whether the folder may be cleared: it is missing, empty, or a virtual environment.
fn check_replaceable(environment: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(environment).into_iter().flatten();
    ensure!(
        entries.count() == 0 || environment.join(MARK).is_file(),
        "{} is not a virtual environment, because it has no {MARK}: remove or rename it, so that the build can make one there",
        environment.display()
    );
    Ok(())
}

fn componentize(folder: &Path, more: &[OsString]) -> anyhow::Result<()> {
    let output = folder.join(COMPONENT);
    if let Some(folder) = output.parent() {
        let made = fs::create_dir_all(folder);
        made.with_context(|| format!("failed to create {}", folder.display()))?;
    }
    eprintln!("Building the component, which contains Python");
    let mut command = tool::command(program(folder, COMPILER)?, folder);
    command
        .args([
            "--quiet",
            "--wit-path",
            "wit",
            "--world",
            "action",
            "componentize",
            "--stub-wasi",
        ])
        .args(["--python-path", ".", "--output", COMPONENT])
        .args(more)
        .arg("component")
        // Where the packages are that the action imports.
        .env("VIRTUAL_ENV", program(folder, "")?);
    let missing =
        format!("there is no {ENVIRONMENT}/{COMPILER}: add componentize-py to {REQUIREMENTS}");
    tool::run(&mut command, "componentize-py", &missing)
}

/// A file of the environment, by a path that is the same in every folder.
fn program(folder: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(ENVIRONMENT).join(path);
    std::path::absolute(&path).with_context(|| format!("failed to find {}", path.display()))
}
