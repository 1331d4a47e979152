//! The times of Jobs that every kind that has some agrees on: deadlines, retries, and the arithmetic.
//!
//! Waits are counted by this host's clock, from when it first saw what it waits for. The times in objects are
//! those of other machines, whose clocks may differ.

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};
use operon_api::conditions::{READY, find};

/// How long a Job may be blocked before that is reported, unless its object sets another time.
pub(crate) const PROGRESS_DEADLINE: Duration = Duration::from_mins(5);

/// How long a Job is blocked before its object names the cause: what lasts no longer is no trouble.
pub(crate) const NAMED_AFTER: Duration = Duration::from_secs(10);

/// How often the pods of a deleted Job are checked: nothing else reports when they have terminated.
pub(crate) const PODS_RECHECK: Duration = Duration::from_secs(2);

/// The wait before the first retry, unless `retry.backoffSeconds` is set, and the longest.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(1));

/// The wait after the second Job in a row that was deleted before it finished, and the longest wait.
const DELETED_BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(6));

/// `seconds` of a spec as a duration.
pub(crate) fn seconds(value: i32) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

/// The rest of `limit` since `start`; none when it has passed.
pub(crate) fn left(start: Timestamp, limit: Duration, now: Timestamp) -> Option<Duration> {
    let passed = Duration::try_from(now.duration_since(start)).unwrap_or_default();
    limit.checked_sub(passed).filter(|left| !left.is_zero())
}

/// When an object with these conditions was first seen, by this host's clock: until it is Ready for the first
/// time, `Ready` keeps the time of the first status. The time of its creation is that of another machine.
pub(crate) fn first_seen(conditions: &[Condition], now: Timestamp) -> Timestamp {
    let ready = find(conditions, READY).filter(|ready| ready.status != "True");
    ready.map_or(now, |ready| ready.last_transition_time.0.min(now))
}

/// When `wait` is over.
pub(crate) fn after(start: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait);
    wait.map_or(start, |wait| start.saturating_add(wait).unwrap_or(start))
}

/// The wait before another Job, `tries` of them having ended: `first_seconds` before the second, each
/// next one twice as long, up to an hour.
pub(crate) fn backoff(first_seconds: Option<i32>, tries: i64) -> Duration {
    let (first, longest) = RETRY_BACKOFF;
    let doublings = u32::try_from(tries.saturating_sub(1).clamp(0, 16)).unwrap_or(0);
    first_seconds
        .map_or(first, seconds)
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(longest)
}

/// The wait before another Job, the last `deletions` Jobs in a row having been deleted before they
/// finished. The first replacement is created immediately, because a user may want just that; then 10
/// seconds, each next wait twice as long, up to 6 minutes.
pub(crate) fn deleted_backoff(deletions: i64) -> Duration {
    let (first, longest) = DELETED_BACKOFF;
    match u32::try_from(deletions.saturating_sub(2).min(16)) {
        Ok(doublings) => first
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(longest),
        Err(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_as_long_up_to_an_hour() {
        for (first, tries, wait) in [
            (None, 0, 10),
            (None, 1, 10),
            (None, 2, 20),
            (None, 9, 2560),
            (None, 10, 3600),
            (None, i64::MAX, 3600),
            (Some(1), 3, 4),
            (Some(7200), 1, 3600),
        ] {
            let wait = Duration::from_secs(wait);
            assert_eq!(backoff(first, tries), wait, "{first:?} {tries}");
        }
    }

    #[test]
    fn the_first_deleted_job_is_made_again_immediately_and_then_ever_later_up_to_six_minutes() {
        for (deletions, wait) in [
            (i64::MIN, 0),
            (0, 0),
            (1, 0),
            (2, 10),
            (3, 20),
            (7, 320),
            (8, 360),
            (i64::MAX, 360),
        ] {
            let wait = Duration::from_secs(wait);
            assert_eq!(deleted_backoff(deletions), wait, "{deletions}");
        }
    }

    #[test]
    fn what_is_left_is_none_when_nothing_is() {
        let now = Timestamp::UNIX_EPOCH;
        let limit = Duration::from_secs(5);
        assert_eq!(left(now, limit, now), Some(limit));
        assert_eq!(left(now, limit, after(now, limit)), None);
        // A clock that went back.
        assert_eq!(left(after(now, limit), limit, now), Some(limit));
    }
}
