//! Where this crate keeps what it builds, fetches and runs: always outside the checkout.
//!
//! Nothing in the cache is precious: `cargo xtask cluster down --all` and removing the
//! folder leave nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The cache: `$OPERON_CACHE_DIR`, else `$XDG_CACHE_HOME/operon`, else `~/.cache/operon`.
pub fn cache_dir() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = variable("OPERON_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("operon")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/operon")));
    let Some(folder) = folder else {
        bail!("no cache folder: set OPERON_CACHE_DIR or HOME")
    };
    std::path::absolute(&folder).with_context(|| format!("failed to resolve {}", folder.display()))
}

/// Makes a folder and its parents.
pub(crate) fn make_dir(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))
}

/// Writes a whole file, naming it when that fails.
pub(crate) fn write(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(file, content).with_context(|| format!("failed to write {}", file.display()))
}

/// Writes a whole file that only its owner may read.
pub(crate) fn write_private(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failure = || format!("failed to write {}", file.display());
    remove(file)?;
    let mut target = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(failure)?;
    target.write_all(content.as_ref()).with_context(failure)
}

/// Removes a file or a whole folder; that there is none is fine.
pub fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    result.with_context(|| format!("failed to remove {}", path.display()))
}

/// Holds a file lock until dropped, so that two commands do not do the same work twice.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Waits for the lock at `path`, calling `waiting` once if somebody else holds it.
    pub fn acquire(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(parent) = path.parent() {
            make_dir(parent)?;
        }
        let context = || format!("failed to lock {}", path.display());
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(context)?;
        if file.try_lock().is_err() {
            waiting();
            file.lock().with_context(context)?;
        }
        Ok(Self { _file: file })
    }
}
