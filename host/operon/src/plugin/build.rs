//! `operon plugin build`: has the language's own tools build the component, and says what it has become.

mod python;
mod rust;
mod tool;
mod typescript;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use super::component::{Component, Fit};
use crate::stdout::print;

/// What is built, and where it is put.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  operon plugin build
  operon plugin build --path mark-pod -- --offline

In the folder of a crate, it runs `cargo build --release --target wasm32-wasip2` and copies the component. The
profile `release` of the crate decides how small it is: `operon plugin new` writes one.

In the folder of an npm package, it installs the packages that package-lock.json names, if they are not there yet, runs
the script `build` of package.json, and copies build/component.wasm.

In a folder with a pyproject.toml, it installs the packages that requirements.txt names into build/venv, if they are not
there yet, and runs componentize-py for the module component.py and the world in wit/.")]
pub(super) struct Arguments {
    /// The folder of the crate or package
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,

    /// The profile of Cargo to build with [default: release]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// The file to write [default: NAME.wasm in the folder of the crate or package]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// More arguments for `cargo build`, for the last command of the script `build`, or for `componentize-py componentize`
    #[arg(last = true, value_name = "ARGUMENT")]
    more: Vec<OsString>,
}

/// A component where the tools of its language left it.
struct Built {
    path: PathBuf,
    /// What it is called in the author's folder.
    file_name: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments {
        path,
        profile,
        output,
        more,
    } = arguments;
    let built = if path.join("Cargo.toml").is_file() {
        rust::build(path, profile.as_deref().unwrap_or("release"), more)?
    } else if path.join("package.json").is_file() {
        ensure!(
            profile.is_none(),
            "--profile is for Cargo: the script build of package.json decides how the component is built"
        );
        typescript::build(path, more)?
    } else if path.join("pyproject.toml").is_file() {
        ensure!(
            profile.is_none(),
            "--profile is for Cargo: componentize-py has no profiles"
        );
        python::build(path, more)?
    } else {
        bail!(
            "there is no Cargo.toml, no package.json and no pyproject.toml in {}: give the folder of the action by --path, or create an action with `operon plugin new NAME`",
            path.display()
        );
    };
    let file = match output {
        Some(file) => file.clone(),
        None => beside(path, &built.file_name),
    };
    fs::copy(&built.path, &file).with_context(|| format!("failed to write {}", file.display()))?;
    let component = Component::read(&file)?;
    let gzipped = gzipped(&file, &component)?;
    print(&report(&file, &component, gzipped.as_deref()))
}

/// The file in the folder of the action; without `./` before it.
fn beside(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") {
        name.into()
    } else {
        folder.join(name)
    }
}

/// Writes what a ConfigMap holds instead of the component, if only that fits.
fn gzipped(file: &Path, component: &Component) -> anyhow::Result<Option<PathBuf>> {
    match component.fit() {
        Fit::Plain | Fit::Not => Ok(None),
        Fit::Gzipped => {
            let mut name = file.as_os_str().to_owned();
            name.push(".gz");
            let file = PathBuf::from(name);
            let failed = || format!("failed to write {}", file.display());
            let bytes = component.gzip().with_context(failed)?;
            fs::write(&file, bytes).with_context(failed)?;
            Ok(Some(file))
        }
    }
}

fn report(file: &Path, component: &Component, gzipped: Option<&Path>) -> String {
    let shown = file.display();
    let (size, digest) = (component.size(), component.digest());
    let gzipped = gzipped.map_or_else(String::new, |file| {
        format!("\n  gzipped {}, for a ConfigMap", file.display())
    });
    let next = match component.fit() {
        Fit::Plain | Fit::Gzipped => format!("operon plugin inspect {shown}"),
        Fit::Not => format!("operon plugin push {shown} REGISTRY/NAME:TAG"),
    };
    let needs = component.needs();
    let needs = needs.map_or_else(String::new, |needs| format!("\n  needs   {needs}"));
    format!("{shown}\n  size    {size}\n  digest  {digest}{gzipped}{needs}\n\nNext: {next}\n")
}
