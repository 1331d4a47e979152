//! `operon plugin new`: writes a crate or a package with an action that works, to be changed into the author's.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use super::{
    name::Name,
    scaffold::{self, Example, File, PYTHON, Sdk, TYPESCRIPT},
};
use crate::stdout::print;

/// What is written, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  operon plugin new mark-pod
  cd mark-pod
  cargo test
  operon plugin build

In Rust, the SDK is in the folder sdk/ of the new crate, as this program has it, so that nothing but its three
dependencies is downloaded. Commit the folder. A newer program writes a newer SDK: create another crate with
it, and replace the folder. In other languages, one file has all that: src/operon.ts, operon.py.")]
pub(super) struct Arguments {
    /// The name of the action, such as mark-pod; jobs select it as MarkPod
    name: String,

    /// The language of the action
    #[arg(long, value_enum, default_value_t)]
    language: Language,

    /// The folder to create [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,

    /// In Rust: another SDK than the one in this program: the folder of a checkout, the URL of a Git repository, or a
    /// version in Cargo's registry
    #[arg(long, value_name = "PATH|GIT|VERSION")]
    sdk: Option<String>,
}

impl Arguments {
    /// The folder to create.
    fn folder(&self, name: &Name) -> PathBuf {
        let named = || name.package.clone().into();
        self.path.clone().unwrap_or_else(named)
    }
}

/// What an action can be written in without bindings of the author's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Language {
    /// A crate, built by Cargo
    #[default]
    Rust,
    /// A package, built by npm; needs Node.js
    #[value(name = "typescript", alias = "ts")]
    TypeScript,
    /// A package, built by componentize-py; needs Python 3.11, and a registry, because a ConfigMap can't hold it
    #[value(alias = "py")]
    Python,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.language {
        Language::Rust => {
            let name = Name::for_rust(&arguments.name)?;
            let sdk = arguments.sdk.as_deref().map_or(Ok(Sdk::Own), Sdk::parse)?;
            let folder = arguments.folder(&name);
            create(&folder, &scaffold::files(&name, &sdk))?;
            print(&report(&name, &sdk, &folder))
        }
        Language::TypeScript => package(&TYPESCRIPT, arguments),
        Language::Python => package(&PYTHON, arguments),
    }
}

/// Creates a package from the example of its language.
fn package(example: &Example, arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.sdk.is_none(),
        "--sdk is for Rust: this action has its helpers in {}",
        example.helper
    );
    let name = Name::parse(&arguments.name)?;
    let folder = arguments.folder(&name);
    create(&folder, &example.files(&name))?;
    print(&example.report(&name, &folder))
}

fn create(folder: &Path, files: &[File]) -> anyhow::Result<()> {
    check_free(folder)?;
    files.iter().try_for_each(|file| write(folder, file))
}

/// Files that this command did not write are never overwritten.
fn check_free(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            ensure!(
                entries.next().is_none(),
                "{shown} exists and is not empty: name another folder with --path"
            );
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to create the action in {shown}")),
    }
}

fn write(folder: &Path, file: &File) -> anyhow::Result<()> {
    let path = folder.join(&file.path);
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&path, &file.text));
    written.with_context(|| format!("failed to write {}", path.display()))
}

fn report(name: &Name, sdk: &Sdk, folder: &Path) -> String {
    let Name { package, action } = name;
    let shown = folder.display();
    let sdk = match sdk {
        Sdk::Own => "\n  sdk/          the SDK, which the crate depends on",
        Sdk::Path(_) | Sdk::Git(_) | Sdk::Version(_) => "",
    };
    format!(
        "\
Created {shown}: the action {action}
  src/lib.rs    the action and its tests
  plugin.yaml   the ActionPlugin, and what its ServiceAccount may do
  job.yaml      an OperationJob that uses the action
  pod.yaml      a pod for that job
  README.md     every step to a job in a cluster{sdk}

Next:
  cd {shown}
  cargo test             # native, without a cluster
  operon plugin build    # writes the component {package}.wasm
"
    )
}
