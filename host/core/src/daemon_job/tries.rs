//! The Jobs that a node has had, as the status remembers them. Every time is one of this host's clock:
//! when something was first seen.

use k8s_openapi::jiff::Timestamp;

/// The Jobs that a node has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// How many.
    pub(super) attempts: u32,
    /// How many of them failed since the user last requested a retry.
    pub(super) failures: u32,
    /// How many in a row were deleted before they finished, up to the last but one.
    pub(super) losses: u32,
    /// The last known state of the last one, and since when.
    pub(super) since: Option<Since>,
}

/// Since when something is known of a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// It runs, and its time is limited; the last digits of its `startTime` distinguish this run from
    /// another.
    Runs(Timestamp, u16),
    /// It failed.
    Failed(Timestamp),
    /// It was deleted before it finished.
    Lost(Timestamp),
}

impl Tries {
    /// This number of Jobs, without further memory of them.
    pub(super) fn of(attempts: u32) -> Self {
        Self {
            attempts,
            ..Self::default()
        }
    }

    /// Since when the last Job is known to have failed.
    pub(super) fn failed_at(self) -> Option<Timestamp> {
        match self.since {
            Some(Since::Failed(at)) => Some(at),
            Some(Since::Runs(..) | Since::Lost(_)) | None => None,
        }
    }

    /// Since when the last Job is known to be lost.
    pub(super) fn lost_at(self) -> Option<Timestamp> {
        match self.since {
            Some(Since::Lost(at)) => Some(at),
            Some(Since::Runs(..) | Since::Failed(_)) | None => None,
        }
    }
}

/// Reads `digest`, `digest:attempts`, or that with more parts, each of which begins with a letter. What
/// can't be read is left out.
pub(super) fn read(entry: &str) -> (String, Tries) {
    let mut parts = entry.split(':');
    let digest = parts.next().unwrap_or_default().to_owned();
    let attempts = parts.next().and_then(|part| part.parse().ok());
    let mut tries = Tries::of(attempts.unwrap_or(1).max(1));
    for part in parts {
        read_part(part, &mut tries);
    }
    (digest, tries)
}

fn read_part(part: &str, tries: &mut Tries) {
    let mut characters = part.chars();
    let letter = characters.next();
    let rest = characters.as_str();
    let second = |text: &str| Timestamp::from_second(text.parse().ok()?).ok();
    match letter {
        Some('f') => tries.failures = rest.parse().unwrap_or_default(),
        Some('l') => tries.losses = rest.parse().unwrap_or_default(),
        Some('r') => {
            let (at, start) = rest.split_once('.').unwrap_or((rest, "0"));
            let start = start.parse().unwrap_or_default();
            tries.since = second(at).map(|at| Since::Runs(at, start));
        }
        Some('e') => tries.since = second(rest).map(Since::Failed),
        Some('g') => tries.since = second(rest).map(Since::Lost),
        Some(_) | None => {}
    }
}

/// Writes an entry that [`read`] reads.
pub(super) fn write(digest: String, tries: Tries) -> String {
    let Tries {
        attempts,
        failures,
        losses,
        since,
    } = tries;
    let mut parts = Vec::new();
    if failures > 0 {
        parts.push(format!("f{failures}"));
    }
    if losses > 0 {
        parts.push(format!("l{losses}"));
    }
    match since {
        Some(Since::Runs(at, start)) => parts.push(format!("r{}.{start}", at.as_second())),
        Some(Since::Failed(at)) => parts.push(format!("e{}", at.as_second())),
        Some(Since::Lost(at)) => parts.push(format!("g{}", at.as_second())),
        None => {}
    }
    match (attempts, parts.as_slice()) {
        (0 | 1, []) => digest,
        (_, []) => format!("{digest}:{attempts}"),
        (_, parts) => format!("{digest}:{attempts}:{}", parts.join(":")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jobs_a_node_has_had_is_read_as_it_was_written_and_nonsense_is_no_panic() {
        for entry in [
            "a",
            "b:3",
            "c:3:f2",
            "d:1:l1:g1700000000",
            "e:4:f1:l2:e1700000000",
            "f:1:r1700000000.4321",
        ] {
            let (digest, tries) = read(entry);
            assert_eq!(write(digest, tries), entry);
        }
        let (_, tries) = read("d:4:f3:l2:g1700000000");
        let at = tries.lost_at().map(Timestamp::as_second);
        assert_eq!((tries.attempts, tries.failures, tries.losses), (4, 3, 2));
        assert_eq!((at, tries.failed_at()), (Some(1_700_000_000), None));
        for entry in [
            "e:-1:-1:-1",
            "f:::",
            "g:1:l2:g99999999999999999999",
            "h:1:r.:e:é:r1.99999",
            ":",
            "",
        ] {
            assert!(read(entry).1.attempts >= 1, "{entry}");
        }
    }
}
