//! What the tests of packages in other languages than Rust share: a folder in which an author runs `operon plugin`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
};

use anyhow::{Result, ensure};

/// An author's folder.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty folder.
    pub(crate) fn empty() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// A folder with a new package in it.
    pub(crate) fn with(package: &str, language: &str) -> Result<Self> {
        let folder = Self::empty()?;
        folder.printed(&["new", package, "--language", language])?;
        Ok(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `operon plugin`
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_operon"));
        command.arg("plugin").args(arguments);
        command.current_dir(self.0.path());
        command
    }

    /// What the program prints, if it succeeds.
    pub(crate) fn printed(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}\n{error}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Uses the packages that `cargo xtask test` has installed, and names by a variable. Without them, `operon plugin
    /// build` installs its own.
    pub(crate) fn use_installed(&self, variable: &str, packages: &str) -> Result<()> {
        let Some(installed) = std::env::var_os(variable) else {
            return Ok(());
        };
        let packages = self.path(packages);
        if let Some(folder) = packages.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(symlink(installed, packages)?)
    }

    /// A program that is a script of the shell, in the folder `programs`.
    pub(crate) fn script(&self, name: &str, script: &str) -> Result<()> {
        let programs = self.path("programs");
        fs::create_dir_all(&programs)?;
        let file = programs.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
        let mode = fs::Permissions::from_mode(0o755);
        Ok(fs::set_permissions(&file, mode)?)
    }
}

/// The error of a command that must fail.
pub(crate) fn error(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{printed}");
    ensure!(printed.is_empty(), "{printed}");
    Ok(String::from_utf8(output.stderr)?)
}
