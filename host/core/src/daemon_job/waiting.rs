//! The nodes that are waited for, because they get no Job now and may get one soon. Every time is one of
//! this host's clock.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use operon_api::daemon_job::CompletionPolicy;

use super::{
    eligible::Skip,
    standing::NodeState,
    survey::{Place, Survey},
    tries::Tries,
};
use crate::jobs::time::after;

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
    /// Whether this may end in a moment, because the user did not exclude the node.
    pub(super) fn is_passing(self) -> bool {
        match self {
            Self::NotReady | Self::Cordoned | Self::Tainted => true,
            Self::Excluded | Self::NotSelected | Self::NotInTemplate | Self::Deleted => false,
        }
    }
}

/// Since when nodes whose turn it is are waited for: the time of each node begins with its turn, and stops
/// while nothing may start at all.
pub(super) fn turns(survey: &Survey<'_>, now: Timestamp) -> BTreeMap<String, Wait> {
    let mut waits = survey.waits.clone();
    let mut room = survey.room();
    for place in survey.places.iter().filter(|place| survey.may_go(place)) {
        let is_later = place.standing.due_at(now).is_some_and(|at| at > now);
        if place.skip.is_none() {
            let is_due = place.standing.due_at(now).is_some() && !is_later;
            room = room.saturating_sub(usize::from(is_due && !place.is_held_back));
        } else if room > 0 && place.is_absent() && !is_later {
            let wait = waits.entry(place.digest.clone()).or_insert(Wait::Expected);
            if *wait == Wait::Expected {
                *wait = Wait::Since(now);
            }
        }
    }
    waits
}

impl Survey<'_> {
    /// How a node is waited for, if it is or will be. Before the first Job is created, every node that
    /// could get one is expected; afterwards, only the nodes that were expected then, and the nodes that
    /// have had a Job.
    pub(super) fn wait(
        &self,
        digest: &str,
        tries: Tries,
        skip: Option<Skip>,
        now: Timestamp,
    ) -> Option<Wait> {
        let known = self.memory.ledger.waiting.get(digest).copied();
        let has_begun = self.memory.status.is_some_and(|s| s.start_time.is_some());
        match (known, skip) {
            (Some(Wait::Since(at)), Some(_)) if !self.is_held() => Some(Wait::Since(at)),
            (Some(Wait::Expected | Wait::Since(_)), _) => {
                (has_begun || skip.is_none()).then_some(Wait::Expected)
            }
            (_, Some(_)) if tries.attempts > 0 => Some(Wait::Expected),
            (Some(Wait::NotReady(at)), Some(Skip::NotReady)) => Some(Wait::NotReady(at)),
            (_, Some(Skip::NotReady)) if !self.selection.ready_timeout.is_zero() => {
                Some(Wait::NotReady(now))
            }
            (_, None) if !has_begun => Some(Wait::Expected),
            (_, Some(_) | None) => None,
        }
    }

    /// Until when a node is waited for that gets no Job now.
    pub(super) fn until(&self, wait: Wait) -> Option<Timestamp> {
        match wait {
            Wait::Expected => None,
            Wait::Since(at) => Some(after(at, self.selection.unavailable_timeout)),
            Wait::NotReady(at) => Some(after(at, self.selection.ready_timeout)),
        }
    }

    /// Whether a node counts that would get no Job now, for the reason `skip`. Running Jobs continue, and
    /// finished nodes stay finished. A node that is to run again, and does not become available in time,
    /// has failed.
    pub(super) fn counts(
        &self,
        standing: NodeState,
        skip: Option<Skip>,
        wait: Option<Wait>,
        now: Timestamp,
    ) -> Result<NodeState, Skip> {
        let Some(skip) = skip else {
            return Ok(standing);
        };
        match standing {
            NodeState::Due | NodeState::Lost(_) | NodeState::Replacing => {
                let wait = wait.filter(|_| skip.is_passing()).ok_or(skip)?;
                match (wait, self.rules.completion) {
                    _ if self.until(wait).is_none_or(|until| until > now) => Ok(standing),
                    (Wait::Since(_), CompletionPolicy::Always) => Ok(NodeState::Skipped),
                    (Wait::Expected | Wait::Since(_) | Wait::NotReady(_), _) => Err(skip),
                }
            }
            NodeState::Again(_) => {
                let wait = wait.filter(|_| skip.is_passing());
                let until = wait.map(|wait| self.until(wait));
                let is_waited_for = until.is_some_and(|until| until.is_none_or(|at| at > now));
                Ok(if is_waited_for {
                    standing
                } else {
                    NodeState::Failed
                })
            }
            NodeState::Active
            | NodeState::Ending
            | NodeState::Succeeded
            | NodeState::Failed
            | NodeState::Skipped => Ok(standing),
        }
    }

    /// Whether a node's turn has come, or it is not Ready, and it is waited for.
    pub(super) fn is_waited_for(&self, place: &Place<'_>) -> bool {
        let wait = self.waits.get(&place.digest);
        place.is_absent() && wait.is_some_and(|wait| *wait != Wait::Expected)
    }
}

impl Place<'_> {
    /// Whether it is waited for because it can't get a Job now.
    pub(super) fn is_missing(&self) -> bool {
        self.skip.is_some_and(Skip::is_passing)
            && match self.standing {
                NodeState::Due | NodeState::Lost(_) | NodeState::Replacing => true,
                NodeState::Again(_)
                | NodeState::Active
                | NodeState::Ending
                | NodeState::Succeeded
                | NodeState::Failed
                | NodeState::Skipped => false,
            }
    }

    /// Whether it can't get a Job now that it is to get, the first or another.
    pub(super) fn is_absent(&self) -> bool {
        let is_again = matches!(self.standing, NodeState::Again(_));
        self.is_missing() || is_again && self.skip.is_some_and(Skip::is_passing)
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
