//! Evictions that the API server accepted. Its answer has no pod, so the cache learns of the deletion from
//! the watch only; until then the same pod is not evicted again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long an eviction is remembered: longer than a watch lags.
const LAG: Duration = Duration::from_mins(1);

/// The uids of the pods whose eviction was accepted lately. A deletion can't be undone, so an entry is
/// never wrong.
#[derive(Default)]
pub(super) struct Evicted(Mutex<HashMap<String, Instant>>);

impl Evicted {
    /// Whether the eviction of this pod was accepted lately.
    pub(super) fn has(&self, uid: &str) -> bool {
        let evicted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        evicted.get(uid).is_some_and(|at| at.elapsed() < LAG)
    }

    /// Remembers that the eviction of this pod was accepted.
    pub(super) fn accepted(&self, uid: &str) {
        let mut evicted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        evicted.retain(|_, at| at.elapsed() < LAG);
        evicted.insert(uid.to_owned(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_eviction_is_remembered_for_that_pod_alone() {
        let evicted = Evicted::default();
        evicted.accepted("u1");
        assert!(evicted.has("u1"));
        assert!(!evicted.has("u2"));
    }
}
