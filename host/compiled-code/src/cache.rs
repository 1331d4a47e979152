//! Machine code on disk, so that a restart compiles nothing.
//!
//! A file's name and header identify its component. A file that can't be verified is treated as absent: the
//! caller compiles again and the next write replaces the file. Nothing here is executed; nothing is mapped.

use std::{
    fs::{DirBuilder, File},
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, renameat, unlinkat};
use sha2::{Digest as _, Sha256};

use crate::{CompiledComponent, Key, hex};

/// What every file begins with; the digit is the version of the layout.
const MAGIC: &[u8; 8] = b"OPERONC1";
/// Magic, compatibility hash, component's digest, code's digest.
const HEADER: usize = 8 + 3 * 32;
/// No file of ours is larger.
const MAX_FILE: u64 = 256 << 20;
/// Group and others may neither read, write nor enter.
const FOREIGN: u32 = 0o077;

/// A directory of compiled components that only our own user may enter.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// Why a file of the cache could not be used or written. Absence is no error.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system refused.
    #[error("failed to access {path:?}")]
    Access {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Others could have written it.
    #[error("{path:?} is accessible to other users (owner {owner}, mode {mode:o}); it is not used")]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// User id.
        owner: u32,
        /// Permission bits.
        mode: u32,
    },
    /// The content is not what its header promises.
    #[error("{path:?} can't be verified ({what}); it is not used")]
    Unverified {
        /// The file.
        path: PathBuf,
        /// What does not match.
        what: &'static str,
    },
}

impl Cache {
    /// Uses a directory, creating it if needed. Its parent must exist or be creatable.
    ///
    /// Errors: it can't be created, or belongs to or is open to others.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let cache = Self {
            directory: directory.into(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&cache.directory)
            .map_err(|source| access(&cache.directory, source))?;
        cache.enter()?;
        Ok(cache)
    }

    /// The code for this key, if there is a file for it and it can be verified.
    pub fn read(&self, key: &Key) -> Result<Option<CompiledComponent>, CacheError> {
        let path = self.path(key);
        let directory = self.enter()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(&directory, name(key), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(source) => return Err(access(&path, source.into())),
        };
        let size = ours_alone(&path, &file)?;
        if size > MAX_FILE {
            return Err(CacheError::Unverified { path, what: "size" });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(|source| access(&path, source))?;
        match verify(bytes, key) {
            Ok(code) => Ok(Some(CompiledComponent { code })),
            Err(what) => Err(CacheError::Unverified { path, what }),
        }
    }

    /// Keeps code for this key. A reader sees the whole file or none.
    pub fn write(&self, key: &Key, compiled: &CompiledComponent) -> Result<(), CacheError> {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let path = self.path(key);
        let directory = self.enter()?;
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{}-{number}-{}", std::process::id(), name(key));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let written = openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(std::io::Error::from)
            .and_then(|file| {
                let mut file = File::from(file);
                file.write_all(&header(key, &compiled.code))?;
                file.write_all(&compiled.code)?;
                Ok(renameat(&directory, &temporary, &directory, name(key))?)
            });
        written.map_err(|source| {
            let _ = unlinkat(&directory, &temporary, AtFlags::empty());
            access(&path, source)
        })
    }

    /// Where the code for this key is kept.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(name(key))
    }

    /// Opens the directory, so that the checked directory is the used one, and checks that it is ours.
    fn enter(&self) -> Result<OwnedFd, CacheError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(&self.directory, flags, Mode::empty())
            .map_err(|source| access(&self.directory, source.into()))?;
        let directory = File::from(directory);
        ours_alone(&self.directory, &directory)?;
        Ok(directory.into())
    }
}

/// The size of a file that our user owns and that no other user may access.
fn ours_alone(path: &Path, file: &File) -> Result<u64, CacheError> {
    let metadata = file.metadata().map_err(|source| access(path, source))?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != rustix::process::geteuid().as_raw() || mode & FOREIGN != 0 {
        return Err(CacheError::NotOurs {
            path: path.to_owned(),
            owner,
            mode,
        });
    }
    Ok(metadata.len())
}

/// The code behind a header that matches the key and the code; otherwise, the mismatch.
fn verify(mut bytes: Vec<u8>, key: &Key) -> Result<Vec<u8>, &'static str> {
    if bytes.len() < HEADER {
        return Err("length");
    }
    let code = bytes.split_off(HEADER);
    let expected = header(key, &code);
    let parts = [
        (0..8, "layout"),
        (8..40, "engine"),
        (40..72, "component"),
        (72..104, "code"),
    ];
    match parts
        .into_iter()
        .find(|(range, _)| bytes.get(range.clone()) != expected.get(range.clone()))
    {
        None => Ok(code),
        Some((_, what)) => Err(what),
    }
}

fn header(key: &Key, code: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&key.compatibility);
    header.extend_from_slice(&key.component);
    header.extend_from_slice(&Sha256::digest(code));
    header
}

fn name(key: &Key) -> String {
    format!(
        "{}-{}.code",
        hex(&key.component),
        hex(&key.compatibility[..8])
    )
}

fn access(path: &Path, source: std::io::Error) -> CacheError {
    CacheError::Access {
        path: path.to_owned(),
        source,
    }
}
