//! Pulled manifests and layers on disk, so that a restart during an outage of the registry succeeds.
//!
//! A file is named by its digest and verified when it is read, so a file that was changed is not used. If the
//! directory can't be used, pulls still succeed, and one warning is logged.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use crate::digest;

/// The limit of the total size. Beyond it, the least recently used files are removed.
const MAX_TOTAL: u64 = 512 << 20;

/// A directory of blobs.
#[derive(Debug)]
pub(super) struct Cache {
    directory: Option<PathBuf>,
    max_total: u64,
    reported: AtomicBool,
}

impl Cache {
    /// A cache in this directory, which is created at the first write; without one, nothing is kept.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            max_total: MAX_TOTAL,
            reported: AtomicBool::new(false),
        }
    }

    /// The blob or manifest with this digest, if it is at most `max` bytes and as it was written.
    pub(super) fn blob(&self, digest: &str, max: usize) -> Option<Vec<u8>> {
        self.read(&name(digest), max)
            .filter(|bytes| crate::digest(bytes) == digest)
    }

    /// Keeps a blob or manifest under its digest.
    pub(super) fn keep_blob(&self, bytes: &[u8]) {
        self.write(&name(&digest(bytes)), bytes);
    }

    /// The bundles kept for a manifest. They are not verified here: their signatures are, by the caller.
    pub(super) fn bundles(&self, manifest: &str, max: usize) -> Option<Vec<Vec<u8>>> {
        let texts: Vec<String> =
            serde_json::from_slice(&self.read(&bundles_name(manifest), max)?).ok()?;
        Some(texts.into_iter().map(String::into_bytes).collect())
    }

    /// Keeps the bundles of a manifest.
    pub(super) fn keep_bundles(&self, manifest: &str, bundles: &[Vec<u8>]) {
        // A bundle is JSON, so one that is not UTF-8 is not valid.
        let texts: Vec<&str> = bundles
            .iter()
            .filter_map(|bundle| std::str::from_utf8(bundle).ok())
            .collect();
        if let Ok(file) = serde_json::to_vec(&texts) {
            self.write(&bundles_name(manifest), &file);
        }
    }

    fn read(&self, name: &str, max: usize) -> Option<Vec<u8>> {
        let path = self.directory.as_ref()?.join(name);
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(&path)?;
            let mut bytes = Vec::new();
            (&file).take(max as u64 + 1).read_to_end(&mut bytes)?;
            // Marks it as used. If that fails, a write fails too and is reported.
            let _ = file.set_modified(SystemTime::now());
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Some(bytes).filter(|bytes| bytes.len() <= max),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.report(&path, &error);
                }
                None
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let Some(directory) = &self.directory else {
            return;
        };
        let write = || -> io::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            make_room(directory, self.max_total.saturating_sub(bytes.len() as u64))?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(bytes)?;
            file.persist(directory.join(name))?;
            Ok(())
        };
        match write() {
            Ok(()) => self.reported.store(false, Ordering::Relaxed),
            Err(error) => self.report(directory, &error),
        }
    }

    /// Logs the first of a series of failures.
    fn report(&self, path: &Path, error: &io::Error) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(path = %path.display(), %error, "the cache of pulled components can't be used; components are pulled again after a restart");
        }
    }
}

/// Removes the files that were not used for longest until all are at most `most` bytes together.
fn make_room(directory: &Path, most: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        // Another write may have renamed or removed the file meanwhile.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in files {
        if total <= most {
            break;
        }
        if let Err(error) = fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        total -= size;
    }
    Ok(())
}

fn name(digest: &str) -> String {
    digest.replace(':', "-")
}

fn bundles_name(manifest: &str) -> String {
    format!("{}.bundles", name(manifest))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_blob_is_found_by_its_digest_and_not_once_it_was_changed() {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let directory = folder.path().join("oci");
        let cache = Cache::new(Some(directory.clone()));
        let digest = digest(b"blob");
        assert_eq!(cache.blob(&digest, 4), None);
        cache.keep_blob(b"blob");
        assert_eq!(cache.blob(&digest, 4), Some(b"blob".to_vec()));
        assert_eq!(cache.blob(&digest, 3), None, "larger than asked for");
        fs::write(directory.join(name(&digest)), "blot").expect("a folder of our own");
        assert_eq!(cache.blob(&digest, 4), None);
    }

    #[test]
    fn what_was_not_used_for_longest_is_removed_beyond_the_total_size() {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let mut cache = Cache::new(Some(folder.path().to_owned()));
        cache.max_total = 10;
        let used = |text: &[u8], age: u64| {
            let file = File::open(folder.path().join(name(&digest(text)))).expect("it was written");
            file.set_modified(SystemTime::now() - Duration::from_secs(age))
                .expect("it is ours");
        };
        for text in [b"aaaa", b"bbbb"] {
            cache.keep_blob(text);
        }
        used(b"aaaa", 20);
        used(b"bbbb", 10);
        assert!(
            cache.blob(&digest(b"aaaa"), 4).is_some(),
            "and so it was used last"
        );
        cache.keep_blob(b"cccc");
        assert!(cache.blob(&digest(b"aaaa"), 4).is_some());
        assert!(cache.blob(&digest(b"bbbb"), 4).is_none());
        assert!(cache.blob(&digest(b"cccc"), 4).is_some());
    }

    #[test]
    fn a_directory_that_cannot_be_used_keeps_nothing_and_fails_nothing() {
        for directory in [None, Some(PathBuf::from("/proc/operon"))] {
            let cache = Cache::new(directory);
            cache.keep_blob(b"blob");
            cache.keep_bundles(&digest(b"blob"), &[]);
            assert_eq!(cache.blob(&digest(b"blob"), 4), None);
        }
    }
}
