//! How long objects wait for their reconciles: the age of the one that has waited longest, as of the scrape.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};
use tokio::time::Instant;

/// Since when the first object of each controller waits; none if none does.
#[derive(Clone, Debug, Default)]
pub(super) struct Oldest(Arc<Mutex<BTreeMap<&'static str, Option<Instant>>>>);

impl Oldest {
    pub(super) fn waits_since(&self, controller: &'static str, since: Option<Instant>) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.insert(controller, since);
    }
}

impl Collector for Oldest {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let waits = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if waits.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(
            "queue_oldest_wait",
            "How long the object that has waited longest has been waiting for its reconcile; 0 if none waits.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (controller, since) in waits {
            let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
            let labels = [("controller", controller)];
            ConstGauge::new(seconds).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Objects that wait, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Waiting<K> {
    turns: HashMap<K, u64>,
    order: BTreeMap<u64, Instant>,
    next: u64,
}

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self {
            turns: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Eq + Hash> Waiting<K> {
    /// The object waits from now on, if it does not already.
    pub(crate) fn begin(&mut self, object: K, now: Instant) {
        let Self { turns, order, next } = self;
        turns.entry(object).or_insert_with(|| {
            *next += 1;
            order.insert(*next, now);
            *next
        });
    }

    /// The object does not wait any more.
    pub(crate) fn end(&mut self, object: &K) {
        if let Some(turn) = self.turns.remove(object) {
            self.order.remove(&turn);
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.turns.len()
    }

    /// Since when the first of them waits.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.order.values().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn the_first_that_still_waits_is_the_oldest_however_often_it_is_woken() {
        let (mut waiting, begin) = (Waiting::default(), Instant::now());
        let second = |number| begin + Duration::from_secs(number);
        assert_eq!((waiting.count(), waiting.since()), (0, None));
        for (object, at) in [("a", 0), ("b", 1), ("a", 2), ("c", 3)] {
            waiting.begin(object, second(at));
        }
        assert_eq!((waiting.count(), waiting.since()), (3, Some(second(0))));
        waiting.end(&"a");
        waiting.end(&"none");
        assert_eq!((waiting.count(), waiting.since()), (2, Some(second(1))));
        waiting.begin("a", second(4));
        waiting.end(&"b");
        waiting.end(&"c");
        assert_eq!((waiting.count(), waiting.since()), (1, Some(second(4))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_is_that_of_the_scrape() {
        let (mut registry, oldest) = (Registry::default(), Oldest::default());
        registry.register_collector(Box::new(oldest.clone()));
        let exposed = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("metrics");
            text
        };
        assert_eq!(exposed(), "# EOF\n", "nothing is known yet");
        oldest.waits_since("jobflow", Some(Instant::now()));
        oldest.waits_since("operationjob", None);
        tokio::time::advance(Duration::from_secs(90)).await;
        let text = exposed();
        for line in [
            "# TYPE queue_oldest_wait_seconds gauge",
            "queue_oldest_wait_seconds{controller=\"jobflow\"} 90.0",
            "queue_oldest_wait_seconds{controller=\"operationjob\"} 0.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
