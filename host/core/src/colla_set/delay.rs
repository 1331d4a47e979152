//! How long an operation waits after a pod has left service, for clients that notice late.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Whether a delay of so many seconds is over since a time in nanoseconds. If not, the next look is due at the end
/// of it, unless it is due sooner.
pub(super) fn is_over(
    seconds: Option<i32>,
    since: i128,
    now: Timestamp,
    requeue_after: &mut Option<Duration>,
) -> bool {
    let left = left(seconds, since, now);
    if let Some(left) = left {
        *requeue_after = Some(requeue_after.map_or(left, |known| known.min(left)));
    }
    left.is_none()
}

/// What is left of the delay; none: it is over.
fn left(seconds: Option<i32>, since: i128, now: Timestamp) -> Option<Duration> {
    let waited = now.as_nanosecond() - since;
    let waited = SignedDuration::from_nanos(i64::try_from(waited).unwrap_or(0).max(0));
    let left = SignedDuration::from_secs(i64::from(seconds.unwrap_or(0))) - waited;
    let left = Duration::try_from(left).ok();
    left.filter(|left| !left.is_zero())
}
