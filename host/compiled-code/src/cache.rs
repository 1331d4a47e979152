//! Machine code on disk, so that a restart compiles nothing; and what was refused, so that a restart does not try it
//! again.
//!
//! A file's name and header identify its component. A file that can't be verified is treated as absent: the
//! caller compiles again and the next write replaces the file. Nothing here is executed; nothing is mapped.
//! Files that were not used for long are removed, and the least recently used ones when all take too much.

mod sweep;

use std::{
    fs::{DirBuilder, File},
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, renameat, unlinkat};
use sha2::{Digest as _, Sha256};

use crate::{ChildError, ChildLimits, CompiledComponent, Key, hex};

/// What every file begins with; the digit is the version of the layout.
const MAGIC: [u8; 8] = *b"OPERONC1";
/// The same of files with a refusal.
const REFUSAL: [u8; 8] = *b"OPERONR1";
/// Magic, compatibility hash, component's digest, content's digest.
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
        let code = self.content(&name(key), MAGIC, key)?;
        Ok(code.map(|code| CompiledComponent { code }))
    }

    /// Keeps code for this key. A reader sees the whole file or none.
    pub fn write(&self, key: &Key, compiled: &CompiledComponent) -> Result<(), CacheError> {
        self.keep(
            &name(key),
            &header(MAGIC, key, &compiled.code),
            &compiled.code,
        )
    }

    /// Why a component can't be compiled within these limits, if that was found before by this version of Operon.
    pub fn refusal(
        &self,
        key: &Key,
        limits: &ChildLimits,
    ) -> Result<Option<ChildError>, CacheError> {
        let text = self.content(&refusal(key), REFUSAL, key)?;
        let text = text.and_then(|text| String::from_utf8(text).ok());
        Ok(text.and_then(|text| ChildError::recorded(&text, limits)))
    }

    /// Keeps why a component can't be compiled, if that stays so.
    pub fn refuse(&self, key: &Key, error: &ChildError) -> Result<(), CacheError> {
        let Some(text) = error.record() else {
            return Ok(());
        };
        let text = text.as_bytes();
        self.keep(&refusal(key), &header(REFUSAL, key, text), text)
    }

    /// What follows the header of a file, if the file exists and can be verified. The file counts as used now.
    fn content(
        &self,
        name: &str,
        magic: [u8; 8],
        key: &Key,
    ) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.directory.join(name);
        let directory = self.enter()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(source) => return Err(access(&path, source.into())),
        };
        let size = ours_alone(&path, &file)?;
        if size > MAX_FILE {
            return Err(CacheError::Unverified { path, what: "size" });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        (&file)
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(|source| access(&path, source))?;
        match verify(bytes, magic, key) {
            Ok(content) => {
                file.set_modified(SystemTime::now())
                    .map_err(|source| access(&path, source))?;
                Ok(Some(content))
            }
            Err(what) => Err(CacheError::Unverified { path, what }),
        }
    }

    /// Writes a file, and makes room for it.
    fn keep(&self, name: &str, header: &[u8], content: &[u8]) -> Result<(), CacheError> {
        let directory = self.enter()?;
        let temporary = temporary(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let written = openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(std::io::Error::from)
            .and_then(|file| {
                let mut file = File::from(file);
                file.write_all(header)?;
                file.write_all(content)?;
                Ok(renameat(&directory, &temporary, &directory, name)?)
            });
        written.map_err(|source| {
            let _ = unlinkat(&directory, &temporary, AtFlags::empty());
            access(&self.directory.join(name), source)
        })?;
        sweep::sweep(&self.directory, &directory, SystemTime::now())
            .map_err(|source| access(&self.directory, source))
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
fn verify(mut bytes: Vec<u8>, magic: [u8; 8], key: &Key) -> Result<Vec<u8>, &'static str> {
    if bytes.len() < HEADER {
        return Err("length");
    }
    let content = bytes.split_off(HEADER);
    let expected = header(magic, key, &content);
    let parts = [
        (0..8, "layout"),
        (8..40, "engine"),
        (40..72, "component"),
        (72..104, "content"),
    ];
    match parts
        .into_iter()
        .find(|(range, _)| bytes.get(range.clone()) != expected.get(range.clone()))
    {
        None => Ok(content),
        Some((_, what)) => Err(what),
    }
}

fn header(magic: [u8; 8], key: &Key, content: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&magic);
    header.extend_from_slice(&key.compatibility);
    header.extend_from_slice(&key.component);
    header.extend_from_slice(&Sha256::digest(content));
    header
}

fn name(key: &Key) -> String {
    format!("{}.code", stem(key))
}

/// The name of the file with the refusal of a component.
fn refusal(key: &Key) -> String {
    format!("{}.refused", stem(key))
}

/// A name for a file that is being written, which no other write has: not of this process, nor of one that was killed. In
/// a container all processes of the host have the same number, so the time is a part of it.
fn temporary(name: &str) -> String {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.unwrap_or_default().as_nanos();
    format!(".{now}-{}-{number}-{name}", std::process::id())
}

fn stem(key: &Key) -> String {
    format!("{}-{}", hex(&key.component), hex(&key.compatibility[..8]))
}

fn access(path: &Path, source: std::io::Error) -> CacheError {
    CacheError::Access {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
