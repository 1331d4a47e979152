//! How often something may happen: a token bucket. Pure: `now` is the time since a moment that does not change.

use std::time::Duration;

/// A token bucket, full at first.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The time that one token takes to come back.
    interval: Duration,
    /// How many tokens it holds.
    size: u32,
    /// When it is full again.
    full: Duration,
}

impl Bucket {
    /// A bucket of this size. A token comes back after this time.
    pub fn new(size: u32, interval: Duration) -> Self {
        Self {
            interval,
            size,
            full: Duration::ZERO,
        }
    }

    /// Takes a token; returns whether there was one.
    pub fn take(&mut self, now: Duration) -> bool {
        let full = self.full.max(now) + self.interval;
        if full.saturating_sub(now) > self.interval * self.size {
            return false;
        }
        self.full = full;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_size_at_once_and_then_one_token_for_each_interval() {
        let mut bucket = Bucket::new(3, Duration::from_millis(100));
        // The time, and how many of ten are given then.
        for (now, given) in [(0, 3), (50, 0), (100, 1), (350, 2), (10_000, 3)] {
            let now = Duration::from_millis(now);
            let taken = (0..10).filter(|_| bucket.take(now)).count();
            assert_eq!(taken, given, "{now:?}");
        }
    }
}
