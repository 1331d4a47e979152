//! Which Event repeats a recent one. Events of one key form a series: the first is created, and each
//! repetition counts it up. The key contains everything that identifies an Event, its text included.
//! Repetitions that follow soon are counted, and the count is written with a later one; if none follows, once when
//! the series has ended.

use std::{collections::HashMap, hash::Hash};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long after its last repetition an Event can be counted up: as long as client-go does.
const LASTS: SignedDuration = SignedDuration::from_mins(6);

/// How long after a write of a series its repetitions are only counted.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// How many Events are remembered.
const MOST: usize = 512;

/// The Events that were sent lately.
#[derive(Clone, Debug)]
pub struct Recent<K> {
    sent: HashMap<K, Sent>,
}

/// An Event that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The namespace of the Event object.
    pub namespace: String,
    /// The name of the Event object.
    pub name: String,
    /// How often it happened.
    pub count: i32,
    /// When it happened last.
    pub last: Timestamp,
    /// When this was last written.
    pub written: Timestamp,
    /// Whether it happened again since, and only that was not written.
    pub is_unwritten: bool,
}

/// What an Event is to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// It begins a series.
    None,
    /// It was counted, and there is nothing to send.
    Counted,
    /// The series is to be written, already counted up.
    Due(Sent),
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self {
            sent: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash + Clone> Recent<K> {
    /// What an Event of this key is that happens now.
    pub fn repeated(&mut self, key: &K, now: Timestamp) -> Repetition {
        let Some(sent) = self.sent.get_mut(key).filter(|sent| lasts(sent, now)) else {
            return Repetition::None;
        };
        let counted = Sent {
            count: sent.count.saturating_add(1),
            last: now,
            is_unwritten: true,
            ..sent.clone()
        };
        if now.duration_since(sent.written) < PAUSE {
            *sent = counted;
            return Repetition::Counted;
        }
        Repetition::Due(Sent {
            written: now,
            is_unwritten: false,
            ..counted
        })
    }

    /// Remembers an Event that was sent. If there are too many, the oldest series ends: it is returned if its count is
    /// to be written.
    #[must_use]
    pub fn remember(&mut self, key: K, sent: Sent) -> Option<Sent> {
        self.sent.insert(key, sent);
        let oldest = (self.sent.len() > MOST).then(|| {
            let all = self.sent.iter();
            let oldest = all.min_by_key(|(_, sent)| sent.last)?;
            Some(oldest.0.clone())
        });
        let ended = self.sent.remove(&oldest.flatten()?);
        ended.filter(|sent| sent.is_unwritten)
    }

    /// Forgets the series that have ended. Returns those whose count is to be written.
    #[must_use]
    pub fn ended(&mut self, now: Timestamp) -> Vec<Sent> {
        let ended = self.sent.extract_if(|_, sent| !lasts(sent, now));
        let unwritten = ended.map(|(_, sent)| sent);
        unwritten.filter(|sent| sent.is_unwritten).collect()
    }

    /// How long it is until a series ends whose count is to be written then, if nothing repeats it.
    pub fn ends_in(&self, now: Timestamp) -> Option<SignedDuration> {
        let unwritten = self.sent.values().filter(|sent| sent.is_unwritten);
        let last = unwritten.map(|sent| sent.last).min()?;
        Some(LASTS - now.duration_since(last))
    }

    /// All series end. Returns those whose count is to be written.
    #[must_use]
    pub fn end(&mut self) -> Vec<Sent> {
        let all = std::mem::take(&mut self.sent).into_values();
        all.filter(|sent| sent.is_unwritten).collect()
    }

    /// Forgets an Event, because the API server does not have it any more.
    pub fn forget(&mut self, key: &K) {
        self.sent.remove(key);
    }
}

fn lasts(sent: &Sent, now: Timestamp) -> bool {
    now.duration_since(sent.last) < LASTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn first(name: &str, second: i64) -> Sent {
        Sent {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            count: 1,
            last: at(second),
            written: at(second),
            is_unwritten: false,
        }
    }

    #[test]
    fn an_event_that_says_the_same_is_counted_up_and_one_with_another_text_is_new() {
        let mut recent = Recent::default();
        let (one, other) = (("Loaded", "digest 1"), ("Loaded", "digest 2"));
        assert_eq!(recent.repeated(&one, at(0)), Repetition::None);
        assert_eq!(recent.remember(one, first("e1", 0)), None);
        assert_eq!(recent.repeated(&other, at(1)), Repetition::None);
        assert_eq!(recent.remember(other, first("e2", 1)), None);
        for (key, name, second, count) in [
            (one, "e1", 10, 2),
            (one, "e1", 300, 3),
            (other, "e2", 301, 2),
        ] {
            let sent = due(&mut recent, &key, second).expect("a repetition");
            assert_eq!((sent.name.as_str(), sent.count), (name, count));
            assert_eq!(recent.remember(key, sent), None);
        }
    }

    fn due<K: Eq + Hash + Clone>(recent: &mut Recent<K>, key: &K, second: i64) -> Option<Sent> {
        match recent.repeated(key, at(second)) {
            Repetition::Due(sent) => Some(sent),
            Repetition::None | Repetition::Counted => None,
        }
    }

    #[test]
    fn repetitions_that_follow_soon_are_written_with_a_later_one() {
        let mut recent = Recent::default();
        assert_eq!(recent.remember("a", first("e1", 0)), None);
        for second in [0, 1, 9] {
            assert_eq!(recent.repeated(&"a", at(second)), Repetition::Counted);
        }
        let sent = due(&mut recent, &"a", 10).expect("it is due");
        assert_eq!((sent.count, sent.last), (5, at(10)));
        // The write failed: the next one tries again, and counts from what was written.
        assert_eq!(due(&mut recent, &"a", 11).map(|sent| sent.count), Some(5));
        assert_eq!(recent.remember("a", sent), None);
        assert_eq!(recent.repeated(&"a", at(19)), Repetition::Counted);
        assert_eq!(due(&mut recent, &"a", 20).map(|sent| sent.count), Some(7));
    }

    #[test]
    fn a_series_ends_when_nothing_repeats_it() {
        let mut recent = Recent::default();
        assert_eq!(recent.remember("a", first("e1", 0)), None);
        assert!(due(&mut recent, &"a", 359).is_some());
        assert_eq!(recent.repeated(&"a", at(360)), Repetition::None);
        recent.forget(&"a");
        assert_eq!(recent.repeated(&"a", at(1)), Repetition::None);
    }

    #[test]
    fn as_many_as_there_is_room_for_are_remembered_the_latest_ones() {
        let mut recent = Recent::default();
        for second in 0..1000 {
            // All within the time that a series lasts.
            assert_eq!(recent.remember(second, first("e", second / 10)), None);
        }
        assert_eq!(recent.sent.len(), MOST);
        assert!(due(&mut recent, &999, 110).is_some());
        assert_eq!(recent.repeated(&0, at(110)), Repetition::None);
    }

    /// The names and the counts.
    fn counts(ended: &[Sent]) -> Vec<(&str, i32)> {
        let counts = ended.iter().map(|sent| (sent.name.as_str(), sent.count));
        counts.collect()
    }

    #[test]
    fn repetitions_that_nothing_follows_are_written_once_when_the_series_ends() {
        let mut recent = Recent::default();
        for (key, name) in [("a", "e1"), ("b", "e2")] {
            assert_eq!(recent.remember(key, first(name, 0)), None);
        }
        assert_eq!(recent.ends_in(at(0)), None);
        for second in [1, 9] {
            assert_eq!(recent.repeated(&"a", at(second)), Repetition::Counted);
        }
        assert_eq!(recent.ends_in(at(9)), Some(LASTS));
        assert_eq!(recent.ended(at(368)), []);
        assert_eq!(counts(&recent.ended(at(369))), [("e1", 3)]);
        assert_eq!(recent.ended(at(1000)), []);
        assert_eq!(recent.repeated(&"a", at(370)), Repetition::None);
    }

    #[test]
    fn a_count_that_was_written_is_not_written_again_at_the_end() {
        let mut recent = Recent::default();
        assert_eq!(recent.remember("a", first("e1", 0)), None);
        assert_eq!(recent.repeated(&"a", at(1)), Repetition::Counted);
        let sent = due(&mut recent, &"a", 10).expect("it is due");
        assert_eq!(recent.remember("a", sent), None);
        assert_eq!(recent.ends_in(at(10)), None);
        assert_eq!(recent.end(), []);
    }

    #[test]
    fn counts_are_written_when_the_process_stops_or_there_is_no_room_to_remember_them() {
        let mut recent = Recent::default();
        assert_eq!(recent.remember(-1, first("e1", 0)), None);
        assert_eq!(recent.repeated(&-1, at(0)), Repetition::Counted);
        let others = 0..i32::try_from(MOST).expect("a number");
        let ended = others.filter_map(|key| recent.remember(key, first("e", 1)));
        assert_eq!(counts(&ended.collect::<Vec<_>>()), [("e1", 2)]);
        assert_eq!(recent.repeated(&7, at(2)), Repetition::Counted);
        assert_eq!(counts(&recent.end()), [("e", 2)]);
        assert_eq!(recent.end(), []);
    }
}
