//! Which watches work: for the readiness probe, a metric, and the log. A cache reports each change of its
//! watch here; an outage of the API server is one line at its beginning and one at its end, whatever it
//! affects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{core::Status, runtime::watcher};
use operon_core::outage::{Cause, Line, Outages};

use crate::metrics::Metrics;

/// How long a watch may be down before the host is not ready: a watch that restarts immediately does not
/// count.
const UNREADY_AFTER: Duration = Duration::from_secs(10);

/// The watches of this process; clones share them.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
    is_required: bool,
}

struct Shared {
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<u64, Watched>,
    next: u64,
    outages: Outages,
}

struct Watched {
    kind: String,
    is_required: bool,
    pulse: Pulse,
}

enum Pulse {
    /// The first list is not complete.
    Listing,
    Up,
    Down {
        since: Instant,
        trouble: String,
    },
}

impl Health {
    /// No watches yet.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                metrics,
                state: Mutex::default(),
            }),
            is_required: true,
        }
    }

    /// The same, for watches that the host can do without: they do not make it unready.
    #[must_use]
    pub fn optional(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            is_required: false,
        }
    }

    /// The kinds that the host must watch and that have had no watch for some time.
    pub fn broken(&self) -> BTreeSet<String> {
        let state = self.shared.lock();
        let watches = state.watches.values();
        watches
            .filter(|watch| watch.is_required && watch.is_down_for(UNREADY_AFTER))
            .map(|watch| watch.kind.clone())
            .collect()
    }

    /// Whether the API server is known to be out of reach, which has been logged once for all.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.shared.lock().outages.is_unreachable()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// A watch begins; it lists.
    pub(crate) fn begin(&self, kind: String) -> WatchHealth {
        let id = {
            let mut state = self.shared.lock();
            let id = state.next;
            state.next += 1;
            let watch = Watched {
                kind: kind.clone(),
                is_required: self.is_required,
                pulse: Pulse::Listing,
            };
            state.watches.insert(id, watch);
            state.count(&kind, &self.shared.metrics);
            id
        };
        let health = self.clone();
        WatchHealth { health, id, kind }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sets the metric of a kind: it is up if all its watches are.
    fn count(&self, kind: &str, metrics: &Metrics) {
        let mut watches = self.watches.values().filter(|watch| watch.kind == kind);
        let is_up = |watch: &Watched| matches!(watch.pulse, Pulse::Up);
        let first = watches.next();
        metrics.watched(kind, first.map(|first| is_up(first) && watches.all(is_up)));
    }
}

impl Watched {
    fn is_down_for(&self, least: Duration) -> bool {
        match &self.pulse {
            Pulse::Listing | Pulse::Up => false,
            Pulse::Down { since, trouble: _ } => since.elapsed() >= least,
        }
    }
}

/// How one watch is; it is forgotten when this is dropped.
pub(crate) struct WatchHealth {
    health: Health,
    id: u64,
    kind: String,
}

impl WatchHealth {
    /// The kind, as kubectl takes it.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// The cache has the state of the API server, and the watch continues from there.
    pub(crate) fn up(&self) {
        self.set(Pulse::Up, |outages, id| outages.works(id, Timestamp::now()));
    }

    /// The watch failed.
    pub(crate) fn failed(&self, error: &watcher::Error) {
        let cause = if is_refusal(error) {
            Cause::Refused(self.kind.clone())
        } else {
            Cause::Unreachable
        };
        let text = said(error);
        self.down(text.clone(), |outages, id| {
            outages.failed(id, &self.kind, cause, &text, Timestamp::now())
        });
    }

    /// The kind may not be watched, for this reason.
    pub(crate) fn refused(&self, why: &str) {
        self.down(why.to_owned(), |outages, id| {
            let cause = Cause::Refused(self.kind.clone());
            outages.failed(id, &self.kind, cause, why, Timestamp::now())
        });
    }

    /// The host itself failed, which has been logged.
    pub(crate) fn panicked(&self, panic: &str) {
        self.down(format!("Operon failed: {panic}"), |_, _| Vec::new());
    }

    /// Why the cache may be behind, if the watch is down.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.health.shared.lock();
        match &state.watches.get(&self.id)?.pulse {
            Pulse::Listing | Pulse::Up => None,
            Pulse::Down { since: _, trouble } => Some(trouble.clone()),
        }
    }

    fn down(&self, trouble: String, note: impl FnOnce(&mut Outages, u64) -> Vec<Line>) {
        let since = {
            let state = self.health.shared.lock();
            match state.watches.get(&self.id).map(|watch| &watch.pulse) {
                Some(Pulse::Down { since, trouble: _ }) => *since,
                Some(Pulse::Listing | Pulse::Up) | None => Instant::now(),
            }
        };
        self.set(Pulse::Down { since, trouble }, note);
    }

    fn set(&self, pulse: Pulse, note: impl FnOnce(&mut Outages, u64) -> Vec<Line>) {
        let lines = {
            let mut state = self.health.shared.lock();
            if let Some(watch) = state.watches.get_mut(&self.id) {
                watch.pulse = pulse;
            }
            state.count(&self.kind, &self.health.shared.metrics);
            note(&mut state.outages, self.id)
        };
        lines.iter().for_each(log);
    }
}

impl Drop for WatchHealth {
    fn drop(&mut self) {
        let lines = {
            let mut state = self.health.shared.lock();
            state.watches.remove(&self.id);
            state.count(&self.kind, &self.health.shared.metrics);
            state.outages.works(self.id, Timestamp::now())
        };
        lines.iter().for_each(log);
    }
}

/// Whether the API server answered that this kind may not, or can't, be watched. That a version is too old
/// or that there are too many requests is no refusal.
fn is_refusal(error: &watcher::Error) -> bool {
    let code = refusal(error).map_or(0, |status| status.code);
    (400..500).contains(&code) && ![408, 410, 429].contains(&code)
}

/// The answer of the API server, if a watch failed by one.
pub(crate) fn refusal(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// The error of a failed watch, in a sentence: for a refusal, the API server's own message, because kube's
/// text contains the whole answer as a Rust debug dump.
fn said(error: &watcher::Error) -> String {
    let status = match (refusal(error), error) {
        (Some(status), _) => status,
        (
            None,
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error),
        ) => return error.to_string(),
        (None, watcher::Error::NoResourceVersion | watcher::Error::WatchError(_)) => {
            return error.to_string();
        }
    };
    if status.message.is_empty() {
        return format!("{} ({})", status.reason, status.code);
    }
    status.message.clone()
}

fn log(line: &Line) {
    let list = |kinds: &BTreeSet<String>| kinds.iter().cloned().collect::<Vec<_>>().join(", ");
    match line {
        Line::Begun { kinds, error } => tracing::warn!(
            kinds = list(kinds),
            error,
            "watches are interrupted; until they work again, changes of these kinds go unnoticed"
        ),
        Line::Over { kinds, lasted } => tracing::warn!(
            kinds = list(kinds),
            seconds = lasted.as_secs(),
            "watches work again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn exposed(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).expect("metrics");
        let lines = text.lines().map(str::to_owned);
        lines
            .filter(|line| line.starts_with("operon_watch_up{"))
            .collect()
    }

    #[test]
    fn a_metric_says_whether_all_watches_of_a_kind_work() {
        let mut registry = Registry::default();
        let health = Health::new(Metrics::register(&mut registry));
        let one = health.begin("Job.batch".to_owned());
        let other = health.optional().begin("Job.batch".to_owned());
        let up = |value| [format!("operon_watch_up{{kind=\"Job.batch\"}} {value}")];
        assert_eq!(exposed(&registry), up(0));
        one.up();
        assert_eq!(exposed(&registry), up(0));
        other.up();
        assert_eq!(exposed(&registry), up(1));
        one.failed(&watcher::Error::NoResourceVersion);
        assert_eq!(exposed(&registry), up(0));
        assert!(one.trouble().is_some() && other.trouble().is_none());
        drop(one);
        assert_eq!(exposed(&registry), up(1));
        drop(other);
        assert_eq!(exposed(&registry), [""; 0]);
    }
}
