//! The smallest root folder in which a dynamically linked program runs.
//!
//! The program, the shared libraries and the loader that `ldd` names, a user that is not
//! root, and the certificates of public authorities. No shell, no package manager, but the records
//! by which a scanner finds the distribution and the packages that the libraries are of.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::{make_dir, remove, write};
use crate::process::{find_program, output_of};

/// The user that images run as: the number that minimal images use by custom.
const NONROOT: &str = "65532";

/// Makes the root folder `destination` for `binary`, which it puts at `/usr/local/bin/operon`.
///
/// What was at `destination` before is removed.
pub fn assemble_rootfs(binary: &Path, destination: &Path) -> Result<()> {
    remove(destination)?;
    copy(binary, &destination.join("usr/local/bin/operon"), 0o755)?;
    let libraries = shared_libraries(binary)?;
    for library in &libraries {
        // By the name the loader looks for; what a link points to is copied.
        copy(library, &inside(destination, library), 0o755)?;
    }
    let etc = destination.join("etc");
    make_dir(&etc)?;
    write(
        &etc.join("passwd"),
        format!(
            "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/tmp:/sbin/nologin\n"
        ),
    )?;
    write(
        &etc.join("group"),
        format!("root:x:0:\nnonroot:x:{NONROOT}:\n"),
    )?;
    write(&etc.join("nsswitch.conf"), "hosts: files dns\n")?;
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if authorities.is_file() {
        copy(authorities, &inside(destination, authorities), 0o644)?;
    }
    record_packages(&libraries, destination)?;
    let temporary = destination.join("tmp");
    make_dir(&temporary)?;
    set_mode(&temporary, 0o1777)
}

/// Writes which distribution the libraries are of, and their packages with their licences, where Debian's package
/// manager knows them: one file for each package, as minimal images of Debian have them.
fn record_packages(libraries: &[PathBuf], destination: &Path) -> Result<()> {
    let distribution = Path::new("/etc/os-release");
    if find_program("dpkg-query").is_none() || !distribution.is_file() {
        return Ok(());
    }
    copy(distribution, &inside(destination, distribution), 0o644)?;
    let mut packages = BTreeSet::from([String::from("ca-certificates")]);
    for library in libraries {
        packages.extend(package_of(library)?);
    }
    let records = destination.join("var/lib/dpkg/status.d");
    make_dir(&records)?;
    for package in packages {
        let mut query = Command::new("dpkg-query");
        // A package that is not installed has no record; only that of the certificates can be.
        let Ok(record) = output_of(query.args(["--status", &package])) else {
            continue;
        };
        write(&records.join(&package), record)?;
        let licence = PathBuf::from(format!("/usr/share/doc/{package}/copyright"));
        if licence.is_file() {
            copy(&licence, &inside(destination, &licence), 0o644)?;
        }
    }
    Ok(())
}

/// The package that a file is of. The package manager may know the file by its path from before `/lib` became a link.
fn package_of(file: &Path) -> Result<Option<String>> {
    let real = fs::canonicalize(file)
        .with_context(|| format!("failed to find out what {} is", file.display()))?;
    let merged = real
        .strip_prefix("/usr")
        .map(|path| Path::new("/").join(path));
    for path in std::iter::once(&real).chain(merged.iter()) {
        let mut query = Command::new("dpkg-query");
        if let Ok(found) = output_of(query.arg("--search").arg(path)) {
            // `libc6:amd64: /usr/lib/x86_64-linux-gnu/libc.so.6`
            return Ok(found.split(':').next().map(str::to_owned));
        }
    }
    Ok(None)
}

/// The path in the root folder of a file of this machine.
fn inside(destination: &Path, file: &Path) -> PathBuf {
    destination.join(file.strip_prefix("/").unwrap_or(file))
}

/// The shared libraries of a program and its loader, by absolute path. None for a static program.
fn shared_libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(binary)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("failed to start ldd")?;
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if text.contains("statically linked") || errors.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        bail!("ldd {} failed: {}", binary.display(), errors.trim());
    }
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!(
            "{} needs a library that is not here: {}",
            binary.display(),
            missing.trim()
        );
    }
    Ok(text.lines().filter_map(library_path).collect())
}

/// The path in a line of ldd: `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld-linux.so.2 (0x…)`.
fn library_path(line: &str) -> Option<PathBuf> {
    let path = line
        .split_once("=>")
        .map_or(line, |(_, path)| path)
        .split_whitespace()
        .next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    set_mode(to, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("failed to change the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_are_understood() {
        let lines = [
            ("\tlinux-vdso.so.1 (0x00007ffd)", None),
            (
                "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
        ];
        for (line, path) in lines {
            assert_eq!(library_path(line), path.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn this_test_has_a_root_folder_with_its_loader() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let rootfs = folder.path().join("rootfs");
        let binary = std::env::current_exe()?;
        assemble_rootfs(&binary, &rootfs)?;
        for library in shared_libraries(&binary)? {
            assert!(
                rootfs.join(library.strip_prefix("/")?).is_file(),
                "{}",
                library.display()
            );
        }
        if find_program("dpkg-query").is_some() {
            let libc = fs::read_to_string(rootfs.join("var/lib/dpkg/status.d/libc6"))?;
            assert!(libc.contains("\nVersion: "), "{libc}");
            assert!(rootfs.join("etc/os-release").is_file());
        }
        assert_eq!(
            fs::metadata(rootfs.join("tmp"))?.permissions().mode() & 0o7777,
            0o1777
        );
        Ok(())
    }
}
