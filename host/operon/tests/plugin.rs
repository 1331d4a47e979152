//! `operon plugin` as an author runs it: from an empty folder to a component, and its errors.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};

/// The folder of this repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_operon"));
        command.arg("plugin").args(arguments);
        command.current_dir(self.0.path());
        command
    }

    /// What the program prints, if it succeeds.
    fn printed(&self, arguments: &[&str]) -> Result<String> {
        printed(&mut self.command(arguments))
    }

    /// The error, if it fails.
    fn error(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output()?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(1), "{printed}");
        ensure!(printed.is_empty(), "{printed}");
        Ok(String::from_utf8(output.stderr)?)
    }
}

fn printed(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output()?;
    let (stdout, stderr) = (String::from_utf8(stdout)?, String::from_utf8(stderr)?);
    ensure!(status.success(), "{command:?}\n{stdout}\n{stderr}");
    Ok(stdout)
}

/// A new crate as an author would have it, but with the versions of this repository's dependencies, and with its
/// target folder, so that nothing is downloaded.
fn crate_of_an_author(folder: &Folder, name: &str) -> Result<PathBuf> {
    folder.printed(&["new", name])?;
    let path = folder.path(name);
    fs::copy(
        Path::new(REPOSITORY).join("Cargo.lock"),
        path.join("Cargo.lock"),
    )?;
    Ok(path)
}

fn target() -> Result<&'static Path> {
    let program = Path::new(env!("CARGO_BIN_EXE_operon"));
    program
        .ancestors()
        .nth(2)
        .context("the program is not in a target folder")
}

/// A command as this test was started: with its toolchain, and with its target folder.
fn cargo(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments).current_dir(folder);
    command.env("CARGO_TARGET_DIR", target()?);
    Ok(command)
}

#[test]
fn a_new_crate_passes_its_own_test_outside_of_this_workspace() -> Result<()> {
    let folder = Folder::new()?;
    let path = crate_of_an_author(&folder, "drain-node")?;
    let tested = printed(&mut cargo(&path, &["test", "--offline", "--quiet"])?)?;
    assert!(tested.contains("4 passed"), "{tested}");
    Ok(())
}

#[test]
fn a_new_crate_has_everything_and_says_what_is_next() -> Result<()> {
    let folder = Folder::new()?;
    let printed = folder.printed(&["new", "drain-node"])?;
    assert!(
        printed.starts_with("Created drain-node: the action DrainNode\n"),
        "{printed}"
    );
    let read = |path: &str| fs::read_to_string(folder.path("drain-node").join(path));
    let plugin = read("plugin.yaml")?;
    for line in [
        "  action: DrainNode\n",
        "      name: action-drain-node\n",
        "    key: example.com/drain-node\n",
        "    verbs: [patch]\n",
    ] {
        assert!(plugin.contains(line), "{line}{plugin}");
    }
    assert!(read("job.yaml")?.contains("  action: DrainNode\n"));
    assert!(read("src/lib.rs")?.contains("operon_sdk::register!(DrainNode);"));
    assert!(read("Cargo.toml")?.contains("operon-sdk = { path = \"sdk\" }"));
    for file in [
        "README.md",
        ".gitignore",
        "sdk/Cargo.toml",
        "sdk/wit/action.wit",
        "sdk/LICENSE",
    ] {
        assert!(!read(file).context(file)?.is_empty());
    }
    Ok(())
}

#[test]
fn another_sdk_replaces_the_folder() -> Result<()> {
    let folder = Folder::new()?;
    let sdk = Path::new(REPOSITORY).canonicalize()?.join("plugin-sdk");
    let sdk = sdk.to_str().context("UTF-8")?;
    folder.printed(&["new", "other", "--sdk", sdk, "--path", "deep/inside"])?;
    let manifest = fs::read_to_string(folder.path("deep/inside/Cargo.toml"))?;
    assert!(
        manifest.contains(&format!("operon-sdk = {{ path = {sdk:?} }}")),
        "{manifest}"
    );
    assert!(!folder.path("deep/inside/sdk").exists());
    Ok(())
}

#[test]
fn nothing_that_exists_is_overwritten() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("mine"))?;
    fs::write(folder.path("mine/notes"), "")?;
    let error = folder.error(&["new", "mine"])?;
    assert_eq!(
        error,
        "operon: mine exists and is not empty: name another folder with --path\n"
    );
    let error = folder.error(&["new", "Mine"])?;
    assert!(error.contains("for example \"mine\""), "{error}");
    let error = folder.error(&["new", "other", "--sdk", "nowhere"])?;
    assert!(
        error.contains("--sdk nowhere: there is no crate operon-sdk"),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.0.path())?.count(), 1);
    Ok(())
}
