//! The smallest root folder in which a dynamically linked program runs.
//!
//! The program, the shared libraries and the loader that `ldd` names, a user that is not
//! root, and the certificates of public authorities. No shell, no package manager.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::{make_dir, remove, write};

/// The user that images run as: the number that minimal images use by custom.
const NONROOT: &str = "65532";

/// Makes the root folder `destination` for `binary`, which it puts at `/usr/local/bin/operon`.
///
/// What was at `destination` before is removed.
pub fn assemble_rootfs(binary: &Path, destination: &Path) -> Result<()> {
    remove(destination)?;
    copy(binary, &destination.join("usr/local/bin/operon"), 0o755)?;
    for library in shared_libraries(binary)? {
        let relative = library.strip_prefix("/").unwrap_or(&library);
        // By the name the loader looks for; what a link points to is copied.
        copy(&library, &destination.join(relative), 0o755)?;
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
        copy(
            authorities,
            &destination.join("etc/ssl/certs/ca-certificates.crt"),
            0o644,
        )?;
    }
    let temporary = destination.join("tmp");
    make_dir(&temporary)?;
    set_mode(&temporary, 0o1777)
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
        assert_eq!(
            fs::metadata(rootfs.join("tmp"))?.permissions().mode() & 0o7777,
            0o1777
        );
        Ok(())
    }
}
