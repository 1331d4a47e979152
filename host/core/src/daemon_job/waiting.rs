//! The nodes that are waited for, because they get no Job now and may get one soon. Every time is one of
//! this host's clock.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::{
    eligible::Skip,
    standing::Standing,
    survey::{Place, Survey},
};

/// How the status remembers a node that is, or will be, waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It could get a Job when the rollout began, and has had none.
    Expected,
    /// Its turn came at this time, and it could not get a Job.
    Since(Timestamp),
    /// It could not get a Job when the rollout began; since this time it is not Ready.
    NotReady(Timestamp),
}

/// Reads `digest`, `digest:second` or `digest:nsecond`.
pub(super) fn read(entry: &str) -> (String, Wait) {
    let (digest, rest) = entry.split_once(':').unwrap_or((entry, ""));
    let second = |text: &str| Timestamp::from_second(text.parse().ok()?).ok();
    let wait = match rest.strip_prefix('n') {
        Some(rest) => second(rest).map(Wait::NotReady),
        None => second(rest).map(Wait::Since),
    };
    (digest.to_owned(), wait.unwrap_or(Wait::Expected))
}

/// Writes an entry that [`read`] reads.
pub(super) fn write((digest, wait): (String, Wait)) -> String {
    match wait {
        Wait::Expected => digest,
        Wait::Since(at) => format!("{digest}:{}", at.as_second()),
        Wait::NotReady(at) => format!("{digest}:n{}", at.as_second()),
    }
}

impl Skip {
    /// Whether this may be over in a moment, without anybody meaning to leave the node out.
    pub(super) fn is_passing(self) -> bool {
        match self {
            Self::NotReady | Self::Cordoned | Self::Tainted => true,
            Self::Excluded | Self::NotSelected | Self::NotInTemplate | Self::Deleted => false,
        }
    }
}

/// Since when nodes are waited for whose turn it is: the time begins with the turn of each, and stands still
/// while nothing may start at all.
pub(super) fn turns(survey: &Survey<'_>, now: Timestamp) -> BTreeMap<String, Wait> {
    let mut waits = survey.waits.clone();
    let mut room = survey.room();
    for place in survey.places.iter().filter(|place| survey.may_go(place)) {
        if place.skip.is_none() {
            let is_due = place.standing.due_at(now).is_some_and(|at| at <= now);
            room = room.saturating_sub(usize::from(is_due && !place.is_held_back));
        } else if room > 0 && place.is_missing() {
            let wait = waits.entry(place.digest.clone()).or_insert(Wait::Expected);
            if *wait == Wait::Expected {
                *wait = Wait::Since(now);
            }
        }
    }
    waits
}

impl Place<'_> {
    /// Whether it is waited for because it can't get a Job now.
    pub(super) fn is_missing(&self) -> bool {
        self.skip.is_some_and(Skip::is_passing)
            && match self.standing {
                Standing::Due | Standing::Lost(_) | Standing::Replacing => true,
                Standing::Again(_)
                | Standing::Active
                | Standing::Ending
                | Standing::Succeeded
                | Standing::Failed
                | Standing::Skipped => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_waited_for_is_read_as_it_was_written_and_nonsense_is_no_panic() {
        for entry in ["a", "b:1700000000", "c:n1700000000"] {
            assert_eq!(write(read(entry)), entry);
        }
        for entry in ["", ":", "d:n", "e:x", "f:99999999999999999999"] {
            assert_eq!(read(entry).1, Wait::Expected, "{entry}");
        }
    }
}
