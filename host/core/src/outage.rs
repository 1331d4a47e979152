//! The log lines about failed watches: one line when an outage is certain, one at its end. Watches that
//! fail for the same cause are one outage; a watch that is refused is an outage of its own.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a watch fails before that is reported: a watch that restarts immediately is not an outage.
const CERTAIN: SignedDuration = SignedDuration::from_secs(1);

/// Why a watch fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The API server can't be reached or fails itself: all watches are affected alike.
    Unreachable,
    /// The API server refuses to let this kind be watched.
    Refused(String),
}

/// What is to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An outage that is certain now.
    Begun {
        /// The kinds whose watches fail.
        kinds: BTreeSet<String>,
        /// The message of the last failure.
        error: String,
    },
    /// The end of an outage that was reported.
    Over {
        /// The kinds whose watches failed.
        kinds: BTreeSet<String>,
        /// How long it lasted.
        lasted: SignedDuration,
    },
}

/// The present outages. A watch is named by a number.
#[derive(Clone, Debug, Default)]
pub struct Outages(BTreeMap<Cause, Outage>);

#[derive(Clone, Debug)]
struct Outage {
    since: Timestamp,
    watches: BTreeSet<u64>,
    /// All kinds that were affected.
    kinds: BTreeSet<String>,
    is_reported: bool,
}

impl Outages {
    /// A watch of this kind failed.
    pub fn failed(
        &mut self,
        watch: u64,
        kind: &str,
        cause: Cause,
        error: &str,
        now: Timestamp,
    ) -> Vec<Line> {
        let mut lines = self.end(watch, Some(&cause), now);
        let outage = self.0.entry(cause).or_insert_with(|| Outage {
            since: now,
            watches: BTreeSet::new(),
            kinds: BTreeSet::new(),
            is_reported: false,
        });
        outage.watches.insert(watch);
        outage.kinds.insert(kind.to_owned());
        if !outage.is_reported && now.duration_since(outage.since) >= CERTAIN {
            outage.is_reported = true;
            lines.push(Line::Begun {
                kinds: outage.kinds.clone(),
                error: error.to_owned(),
            });
        }
        lines
    }

    /// A watch works, or has ended for good.
    pub fn works(&mut self, watch: u64, now: Timestamp) -> Vec<Line> {
        self.end(watch, None, now)
    }

    /// Whether the API server is known to be out of reach.
    pub fn is_unreachable(&self) -> bool {
        let outage = self.0.get(&Cause::Unreachable);
        outage.is_some_and(|outage| outage.is_reported)
    }

    /// Removes a watch from all outages but that of this cause, and ends the outages that have no watch
    /// left.
    fn end(&mut self, watch: u64, but: Option<&Cause>, now: Timestamp) -> Vec<Line> {
        let mut lines = Vec::new();
        self.0.retain(|cause, outage| {
            if Some(cause) != but {
                outage.watches.remove(&watch);
            }
            let goes_on = !outage.watches.is_empty();
            if !goes_on && outage.is_reported {
                lines.push(Line::Over {
                    kinds: outage.kinds.clone(),
                    lasted: now.duration_since(outage.since),
                });
            }
            goes_on
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn kinds(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn refused(kind: &str) -> Cause {
        Cause::Refused(kind.to_owned())
    }

    fn fail(outages: &mut Outages, watch: u64, kind: &str, second: i64) -> Vec<Line> {
        outages.failed(watch, kind, Cause::Unreachable, "no route", at(second))
    }

    #[test]
    fn an_outage_of_many_watches_is_two_lines() {
        let mut outages = Outages::default();
        assert_eq!(fail(&mut outages, 1, "Pod", 10), []);
        assert_eq!(fail(&mut outages, 2, "Job.batch", 10), []);
        let begun = Line::Begun {
            kinds: kinds(&["Job.batch", "Pod"]),
            error: "no route".to_owned(),
        };
        assert_eq!(fail(&mut outages, 2, "Job.batch", 11), [begun]);
        assert!(outages.is_unreachable());
        for second in 12..60 {
            assert_eq!(fail(&mut outages, 1, "Pod", second), []);
            assert_eq!(fail(&mut outages, 3, "Node", second), []);
        }
        assert_eq!(outages.works(1, at(60)), []);
        assert_eq!(outages.works(3, at(61)), []);
        let over = Line::Over {
            kinds: kinds(&["Job.batch", "Node", "Pod"]),
            lasted: SignedDuration::from_secs(60),
        };
        assert_eq!(outages.works(2, at(70)), [over]);
        assert!(!outages.is_unreachable());
        assert_eq!(outages.works(2, at(71)), []);
    }

    #[test]
    fn a_watch_that_begins_anew_at_once_is_no_outage() {
        let mut outages = Outages::default();
        assert_eq!(fail(&mut outages, 1, "Pod", 10), []);
        assert_eq!(outages.works(1, at(11)), []);
        assert_eq!(fail(&mut outages, 1, "Pod", 99), []);
    }

    #[test]
    fn a_watch_that_is_refused_does_not_prolong_the_outage_of_the_others() {
        let mut outages = Outages::default();
        for second in [10, 11] {
            fail(&mut outages, 1, "Secret", second);
            fail(&mut outages, 2, "Pod", second);
        }
        let lines = outages.failed(1, "Secret", refused("Secret"), "may not", at(20));
        assert_eq!(lines, []);
        let over = Line::Over {
            kinds: kinds(&["Pod", "Secret"]),
            lasted: SignedDuration::from_secs(11),
        };
        assert_eq!(outages.works(2, at(21)), [over]);
        let begun = Line::Begun {
            kinds: kinds(&["Secret"]),
            error: "may not".to_owned(),
        };
        let lines = outages.failed(1, "Secret", refused("Secret"), "may not", at(22));
        assert_eq!(lines, [begun]);
        assert!(!outages.is_unreachable());
    }
}
