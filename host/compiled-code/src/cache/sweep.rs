//! What is removed from the cache. A file that is removed although it is needed costs a compilation at the next start.

use std::{
    fs,
    io::{Error, ErrorKind},
    os::fd::AsFd,
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::fs::{AtFlags, unlinkat};

/// How many bytes all files may take: with the pulled components less than the folder's limit in the chart, 1 GiB.
const MOST: u64 = 384 << 20;
/// How long ago a file may have been used last.
const MAX_AGE: Duration = Duration::from_hours(30 * 24);
/// How long a file may be written; what is older was left behind by a process that ended meanwhile.
const WRITING: Duration = Duration::from_hours(1);

/// A file of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    bytes: u64,
    used: SystemTime,
}

/// Removes what is too old, and then what was used least recently, until the rest takes few enough bytes.
pub(super) fn sweep(path: &Path, directory: impl AsFd, now: SystemTime) -> Result<(), Error> {
    let mut entries = Vec::new();
    for file in fs::read_dir(path)? {
        let file = file?;
        // Another process may have removed it.
        let Some(metadata) = found(file.metadata())? else {
            continue;
        };
        // Pulled components may have a folder here.
        if let (true, Ok(name)) = (metadata.is_file(), file.file_name().into_string()) {
            entries.push(Entry {
                name,
                bytes: metadata.len(),
                used: metadata.modified()?,
            });
        }
    }
    for entry in superfluous(entries, now) {
        found(unlinkat(&directory, &entry.name, AtFlags::empty()).map_err(Error::from))?;
    }
    Ok(())
}

fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files to remove.
fn superfluous(mut entries: Vec<Entry>, now: SystemTime) -> Vec<Entry> {
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    let mut kept = 0;
    entries.retain(|entry| {
        // A time in the future is that of another clock.
        let age = now.duration_since(entry.used).unwrap_or_default();
        if entry.name.starts_with('.') {
            return age > WRITING;
        }
        let is_kept = age <= MAX_AGE && entry.bytes.saturating_add(kept) <= MOST;
        if is_kept {
            kept += entry.bytes;
        }
        !is_kept
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn what_is_old_or_too_much_is_removed_the_least_recently_used_first() {
        let now = SystemTime::UNIX_EPOCH + 1000 * 24 * HOUR;
        let entry = |name: &str, mib: u64, hours: u32| Entry {
            name: name.to_owned(),
            bytes: mib << 20,
            used: now - HOUR * hours,
        };
        let entries = vec![
            entry("old", 1, 30 * 24 + 1),
            entry("new", 150, 0),
            entry("not much older", 100, 1),
            entry("large and seldom used", 300, 50),
            entry("small and seldom used", 100, 51),
            entry(".being written", 100, 0),
            entry(".left behind", 100, 2),
        ];
        let mut removed: Vec<_> = superfluous(entries, now)
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        removed.sort();
        assert_eq!(removed, [".left behind", "large and seldom used", "old"]);
        let future = Entry {
            used: now + HOUR,
            ..entry("future", 1, 0)
        };
        assert_eq!(superfluous(vec![future], now), []);
    }
}
