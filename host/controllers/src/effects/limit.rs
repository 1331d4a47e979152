//! The limit of an operation: performed only while fewer pods than that match its selector. The host's pods
//! see its own writes, so one operation at a time per selector is enough to keep the limit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use operon_core::{
    action::{ActionError, Failure, PodLimit},
    selector::Selector,
};
use tokio::sync::OwnedMutexGuard;

use super::Performer;
use crate::store::Store;

/// When a target that reached the limit is tried again if its action may not read the pods that count.
pub(crate) const AGAIN: Duration = Duration::from_secs(2);

/// A lock for each namespace and selector in use.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<(String, String), Turn>>);

/// Held by the operation that has its turn.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl Turns {
    fn of(&self, namespace: &str, selector: &str) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        let key = (namespace.to_owned(), selector.to_owned());
        Arc::clone(turns.entry(key).or_default())
    }
}

impl Performer {
    /// Waits for the turn of an operation with this limit. The turn ends when the answer is dropped; there is none if
    /// the limit is reached.
    ///
    /// # Errors
    /// The limit's selector can't be read.
    pub async fn turn(
        &self,
        namespace: &str,
        limit: &PodLimit,
        pods: &Store<Pod>,
    ) -> Result<Option<OwnedMutexGuard<()>>, ActionError> {
        let selector = Selector::parse(&limit.label_selector).map_err(|part| {
            let message = format!("the label selector of a limit can't be read at {part:?}");
            ActionError::Terminal(Failure::new("BadSelector", message))
        })?;
        let turn = self.turns.of(namespace, &limit.label_selector);
        let turn = turn.lock_owned().await;
        let most = usize::try_from(limit.pods).unwrap_or(usize::MAX);
        let is_free = matching(namespace, &selector, pods) < most;
        Ok(is_free.then_some(turn))
    }
}

/// What a target waits for that reached a limit.
pub(crate) fn reached(limit: &PodLimit) -> Failure {
    let PodLimit {
        label_selector,
        pods,
    } = limit;
    let message = format!("waiting until fewer than {pods} pods match {label_selector:?}");
    Failure::new("LimitReached", message)
}

/// How many pods count.
fn matching(namespace: &str, selector: &Selector, pods: &Store<Pod>) -> usize {
    let near = pods.entries(Some(namespace)).into_iter();
    let counts = near.filter(|pod| !pod.is_being_deleted() && pod.is_selected(selector));
    counts.count()
}

#[cfg(test)]
mod tests {
    use crate::store::Writer;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_the_namespace_that_stay_count() {
        let mut writer = Writer::<Pod>::default();
        let deleted = Some("2026-01-01T00:00:00Z");
        for (namespace, name, value, deleted) in [
            ("ns", "a", "x", None),
            ("ns", "b", "x", None),
            ("ns", "c", "x", deleted),
            ("ns", "d", "y", None),
            ("other", "e", "x", None),
        ] {
            let pod = json!({"metadata": {"namespace": namespace, "name": name,
                "labels": {"from": value}, "deletionTimestamp": deleted}});
            let pod = serde_json::from_value(pod).expect("a pod");
            writer.apply_watcher_event(&Event::Apply(pod));
        }
        let selector = Selector::parse("from=x").expect("a selector");
        assert_eq!(matching("ns", &selector, &writer.as_reader()), 2);
    }
}
