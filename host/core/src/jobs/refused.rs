//! Which of the Jobs that the API server refused are tried again in a reconcile. A quota that is exhausted
//! refuses every one of them, so a few attempts are enough to find out that there is quota again; and some
//! may be refused for good, so it is not always the same few.

use k8s_openapi::jiff::Timestamp;

/// How many of them are tried in a reconcile.
pub(crate) const TRIES: usize = 10;

/// Those of the refused that are tried at this time: others in every second, and scattered, because
/// reconciles may come at regular intervals.
pub(crate) fn a_few<T: Copy>(refused: &[T], now: Timestamp) -> impl Iterator<Item = T> {
    let first = scattered(now) % refused.len().max(1);
    let few = refused.len().min(TRIES);
    refused.iter().copied().cycle().skip(first).take(few)
}

/// A number that looks random, of a time: the last steps of splitmix64.
fn scattered(now: Timestamp) -> usize {
    let second = now.as_second().unsigned_abs();
    let mixed = (second ^ (second >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    usize::try_from(mixed >> 33).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_has_its_turn_at_any_interval_of_passes() {
        for count in [11_usize, 100, 1000] {
            let refused: Vec<_> = (0..count).collect();
            for interval in [1, 10, 60, 100, 300, 1000] {
                let mut tried = HashSet::new();
                for pass in 0..2000 {
                    let now = Timestamp::from_second(1_700_000_000 + pass * interval);
                    let few: HashSet<_> = a_few(&refused, now.expect("a time")).collect();
                    assert_eq!(few.len(), TRIES);
                    tried.extend(few);
                }
                assert_eq!(tried.len(), count, "every {interval} s");
            }
        }
    }

    #[test]
    fn few_are_all_tried_and_none_are_none() {
        assert_eq!(a_few(&[1, 2], Timestamp::UNIX_EPOCH).count(), 2);
        assert_eq!(a_few(&[0; 0], Timestamp::UNIX_EPOCH).count(), 0);
    }
}
