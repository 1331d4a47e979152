//! How long an operation waits after a pod has left service, for clients that notice late.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// What is left of a delay of so many seconds since a time in nanoseconds; none: it is over.
pub(super) fn left(seconds: Option<i32>, since: i128, now: Timestamp) -> Option<Duration> {
    let waited = now.as_nanosecond() - since;
    let waited = SignedDuration::from_nanos(i64::try_from(waited).unwrap_or(0).max(0));
    let left = SignedDuration::from_secs(i64::from(seconds.unwrap_or(0))) - waited;
    let left = Duration::try_from(left).ok();
    left.filter(|left| !left.is_zero())
}

/// The sooner of two times.
pub(super) fn sooner(known: Option<Duration>, other: Duration) -> Option<Duration> {
    known.into_iter().chain([other]).min()
}
