//! Which of the verbs the user may not use, remembered for a short while: a page that changes all the time does not ask the
//! API server each time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use operon_cli_cluster::{Access, Cluster};

/// How long an answer holds. A right that was just granted is seen after that.
const KEPT: Duration = Duration::from_secs(30);

/// What the API server answered.
#[derive(Default)]
pub(crate) struct Rights {
    known: Mutex<HashMap<Access, (Instant, Option<String>)>>,
}

impl Rights {
    /// Why the user may not do this. None if the user may, or if it is not known: the API server decides when it is done.
    pub(crate) async fn refusal(&self, cluster: &Cluster, access: Access) -> Option<String> {
        let now = Instant::now();
        let known = self.known().get(&access).cloned();
        if let Some((asked, refusal)) = known
            && now.duration_since(asked) < KEPT
        {
            return refusal;
        }
        let refusal = cluster.refusal(&access).await.unwrap_or_default();
        let mut known = self.known();
        known.retain(|_, (asked, _)| now.duration_since(*asked) < KEPT);
        known.insert(access, (now, refusal.clone()));
        refusal
    }

    /// Asks again from now on, because an answer turned out to be wrong.
    pub(crate) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Access, (Instant, Option<String>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
