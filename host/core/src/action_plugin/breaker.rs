//! When an action whose calls fault again and again is set aside, and when it is called again. Pure: `now` is the time
//! since a moment that does not change.
//!
//! Calls that operate targets count; calls that release targets are neither counted nor held back. The memory is a
//! cache: a host that starts anew calls the action [`FAULTS`] times before it sets it aside again.

use std::time::Duration;

use crate::action::Failure;

/// How many calls in a row fault, whatever their targets, before the action is set aside. One call without a fault
/// starts the count anew, so an action that fails for some of its targets goes on. A target that is alone reaches it
/// after four minutes of its own backoff.
pub const FAULTS: u32 = 10;

/// The first and the longest time between two calls of an action that is set aside. The first is short, because a host
/// without processor time lets calls run into their timeout too.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// How much later a target may try whose own call faulted: another one says more about the action.
const SUSPECT: Duration = Duration::from_secs(1);

/// How long others wait while one call tries the action.
const WHILE_TRIED: Duration = Duration::from_secs(2);

/// After what time a call that tries the action counts as lost: twice the longest `callTimeout`.
const LOST: Duration = Duration::from_mins(1);

/// How many targets are remembered whose calls faulted.
const SUSPECTS: usize = 16;

/// The reason of targets whose action is set aside.
pub const ACTION_SUSPENDED: &str = "ActionSuspended";

/// What is remembered of the calls of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// The calls in a row that faulted.
    faults: u32,
    /// The targets of the last of them.
    suspects: Vec<String>,
    aside: Option<Aside>,
}

/// An action that is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Aside {
    /// The last fault before it was.
    fault: Failure,
    /// How often it was tried since.
    tries: u32,
    /// When it is tried next.
    next: Duration,
    /// The target whose call tries it, and since when.
    trying: Option<(String, Duration)>,
}

impl Aside {
    /// How long a call waits now that may try the action so much later than others.
    fn left(&self, later: Duration, now: Duration) -> Duration {
        match &self.trying {
            Some((_, since)) if now.saturating_sub(*since) < LOST => WHILE_TRIED,
            Some(_) | None => (self.next + later).saturating_sub(now),
        }
    }
}

impl Breaker {
    /// Whether the action may be called about this target now; otherwise, how long the target waits. If the action is
    /// set aside, this call is the one that tries it. A call that waits may ask again.
    ///
    /// # Errors
    /// The target waits.
    pub fn admit(&mut self, target: &str, now: Duration) -> Result<(), Duration> {
        let Some(aside) = &mut self.aside else {
            return Ok(());
        };
        if matches!(&aside.trying, Some((trying, _)) if trying == target) {
            return Ok(());
        }
        let is_suspect = self.suspects.iter().any(|suspect| suspect == target);
        let later = if is_suspect { SUSPECT } else { Duration::ZERO };
        let left = aside.left(later, now);
        if !left.is_zero() {
            return Err(left);
        }
        aside.trying = Some((target.to_owned(), now));
        Ok(())
    }

    /// The last fault before the action was set aside, if it is, and how long a call waits now whose target did not
    /// fault.
    pub fn wait(&self, now: Duration) -> Option<(&Failure, Duration)> {
        let aside = self.aside.as_ref()?;
        Some((&aside.fault, aside.left(Duration::ZERO, now)))
    }

    /// Notes the end of a call about this target, and its fault if it had one. Returns whether the action was set
    /// aside by it, or serves again.
    pub fn ended(&mut self, target: &str, fault: Option<&Failure>, now: Duration) -> bool {
        let Some(fault) = fault else {
            let was_aside = self.aside.is_some();
            *self = Self::default();
            return was_aside;
        };
        self.faults = self.faults.saturating_add(1);
        self.suspects.retain(|suspect| suspect != target);
        self.suspects.push(target.to_owned());
        if self.suspects.len() > SUSPECTS {
            self.suspects.remove(0);
        }
        match &mut self.aside {
            None if self.faults < FAULTS => false,
            None => {
                self.aside = Some(Aside {
                    fault: fault.clone(),
                    tries: 0,
                    next: now + BACKOFF.0,
                    trying: None,
                });
                true
            }
            Some(aside) => {
                // Others began before it was set aside.
                let tried = aside.trying.take_if(|(trying, _)| trying == target);
                if tried.is_some() {
                    aside.tries = aside.tries.saturating_add(1);
                    aside.next = now + backoff(aside.tries);
                }
                false
            }
        }
    }

    /// Notes that a call about this target was stopped, which says nothing about the action: if it tried the action,
    /// the next call does.
    pub fn stopped(&mut self, target: &str) {
        if let Some(aside) = &mut self.aside {
            aside.trying.take_if(|(trying, _)| trying == target);
        }
    }

    /// The last fault before the action was set aside, if it is.
    pub fn aside(&self) -> Option<&Failure> {
        self.aside.as_ref().map(|aside| &aside.fault)
    }
}

fn backoff(tries: u32) -> Duration {
    (BACKOFF.0 * 2_u32.pow(tries.min(10))).min(BACKOFF.1)
}

/// What is said of an action that is set aside because of this fault.
pub fn describe(fault: &Failure) -> String {
    let Failure { reason, message } = fault;
    format!(
        "{FAULTS} calls in a row ended in a fault, the last one in {reason} ({message}); until a call succeeds, one \
         call at a time tries the action again, after {} s to {} min",
        BACKOFF.0.as_secs(),
        BACKOFF.1.as_secs() / 60
    )
}

/// Why a target waits whose action is set aside because of this fault, with its own last failure.
pub fn suspended(plugin: &str, fault: &Failure, last: Option<&Failure>) -> Failure {
    let why = format!("ActionPlugin {plugin:?}: {}", describe(fault));
    let message = match last {
        Some(last) if last.reason == ACTION_SUSPENDED => last.message.clone(),
        Some(last) => format!("{why}. The last failure of this target: {}", last.reason),
        None => why,
    };
    Failure::new(ACTION_SUSPENDED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn fault() -> Failure {
        Failure::new("PluginTrapped", "boom")
    }

    /// A breaker after so many faults of one target in a row, all at second 0.
    fn faulted(faults: u32) -> Breaker {
        let mut breaker = Breaker::default();
        for number in 1..=faults {
            let changed = breaker.ended("bad", Some(&fault()), second(0));
            assert_eq!(changed, number == FAULTS, "{number}");
        }
        breaker
    }

    #[test]
    fn an_action_is_set_aside_by_faults_in_a_row_and_by_no_fewer() {
        for (before, between, after, is_aside) in [
            (FAULTS - 1, false, 0, false),
            (FAULTS, false, 0, true),
            (FAULTS - 1, true, FAULTS - 1, false),
            (FAULTS - 1, true, FAULTS, true),
        ] {
            let mut breaker = faulted(before);
            if between {
                assert!(!breaker.ended("good", None, second(0)));
            }
            for _ in 0..after {
                breaker.ended("bad", Some(&fault()), second(0));
            }
            let found = breaker.aside().cloned();
            assert_eq!(found, is_aside.then(fault), "{before} {between} {after}");
            let admitted = breaker.admit("good", second(0));
            assert_eq!(admitted.is_ok(), !is_aside, "{before} {between} {after}");
        }
    }

    #[test]
    fn one_call_at_a_time_tries_an_action_that_is_set_aside_later_and_later() {
        let mut breaker = faulted(FAULTS);
        let mut now = 0;
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            let early = breaker.admit("good", second(now));
            assert_eq!(early, Err(second(wait)), "at {now}");
            now += wait;
            assert_eq!(breaker.admit("good", second(now)), Ok(()), "at {now}");
            assert_eq!(breaker.admit("other", second(now)), Err(WHILE_TRIED));
            // A call that began before the action was set aside changes nothing.
            assert!(!breaker.ended("old", Some(&fault()), second(now)));
            assert_eq!(breaker.admit("other", second(now)), Err(WHILE_TRIED));
            assert!(!breaker.ended("good", Some(&fault()), second(now)));
            // Its own target has faulted now, so another one tries next.
            breaker.suspects.retain(|suspect| suspect != "good");
        }
        assert_eq!(breaker.admit("good", second(now + 300)), Ok(()));
        assert!(breaker.ended("good", None, second(now + 300)));
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn how_long_a_call_would_wait_is_known_without_making_it() {
        let mut breaker = faulted(FAULTS - 1);
        assert_eq!(breaker.wait(second(0)), None);
        breaker.ended("bad", Some(&fault()), second(0));
        for (now, wait) in [(0, 5), (4, 1), (5, 0), (600, 0)] {
            let known = breaker.clone();
            assert_eq!(breaker.wait(second(now)), Some((&fault(), second(wait))));
            assert_eq!(breaker, known, "it is no call");
        }
        assert_eq!(breaker.admit("good", second(5)), Ok(()));
        assert_eq!(breaker.wait(second(6)), Some((&fault(), WHILE_TRIED)));
        assert_eq!(breaker.wait(second(65)), Some((&fault(), second(0))));
        breaker.ended("good", None, second(65));
        assert_eq!(breaker.wait(second(65)), None);
    }

    #[test]
    fn a_target_whose_own_call_faulted_lets_others_try_first() {
        let mut breaker = faulted(FAULTS);
        assert_eq!(breaker.admit("bad", second(5)), Err(SUSPECT));
        assert_eq!(breaker.admit("good", second(5)), Ok(()));
        let mut alone = faulted(FAULTS);
        assert_eq!(alone.admit("bad", second(6)), Ok(()));
    }

    #[test]
    fn a_trying_call_without_an_end_is_followed_by_another() {
        let mut breaker = faulted(FAULTS);
        assert_eq!(breaker.admit("good", second(5)), Ok(()));
        assert_eq!(breaker.admit("other", second(64)), Err(WHILE_TRIED));
        assert_eq!(breaker.admit("other", second(65)), Ok(()));
    }

    #[test]
    fn a_trying_call_that_is_stopped_is_followed_by_another_immediately() {
        let mut breaker = faulted(FAULTS);
        assert_eq!(breaker.admit("good", second(5)), Ok(()));
        breaker.stopped("other");
        assert_eq!(breaker.admit("other", second(5)), Err(WHILE_TRIED));
        breaker.stopped("good");
        assert_eq!(breaker.admit("other", second(5)), Ok(()));
        assert!(breaker.aside().is_some(), "it says nothing");
    }

    #[test]
    fn few_targets_are_remembered_and_any_call_that_succeeds_ends_it() {
        let mut breaker = Breaker::default();
        for number in 0..1000 {
            breaker.ended(&number.to_string(), Some(&fault()), second(0));
        }
        assert_eq!(breaker.suspects.len(), SUSPECTS);
        assert!(breaker.ended("5", None, second(1)));
        assert_eq!(breaker.admit("999", second(1)), Ok(()));
    }

    #[test]
    fn a_target_is_told_why_it_waits_in_words_that_stay_the_same() {
        let own = Failure::new("PluginTimeout", "slow");
        let first = suspended("act", &fault(), Some(&own));
        assert_eq!(first.reason, ACTION_SUSPENDED);
        for part in [
            "\"act\"",
            "10 calls in a row",
            "PluginTrapped (boom)",
            "target: PluginTimeout",
        ] {
            assert!(first.message.contains(part), "{part}: {}", first.message);
        }
        assert_eq!(suspended("act", &fault(), Some(&first)), first);
        assert!(!suspended("act", &fault(), None).message.contains("target:"));
    }
}
