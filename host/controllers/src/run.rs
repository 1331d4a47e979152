//! The loop that all controllers share: a queue of objects, one reconcile at a time per object, fair shares of the
//! reconciles, retries with backoff, metrics, and an end that waits for the running reconciles.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
    stream::{self, FuturesUnordered},
};
use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::ObjectRef,
        scheduler::{ScheduleRequest, scheduler},
    },
};
use serde::Serialize;
use tokio::time::Instant;

pub use operon_core::driver::Next;
use operon_core::shares::{Claim, Place, Shares};

use crate::{
    error::{Class, Error},
    fault::{Faults, contained},
    health::Health,
    metrics::{PassResult, Waiting},
    store::{AbortOnDrop, Cached, Store},
};

/// Reconciles objects of kind `K`.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Object: Cached + Resource<DynamicType = ()> + Serialize;

    /// The controller's name, in logs and metrics.
    const NAME: &'static str;

    /// The field manager of the objects' status, if that has conditions and is this controller's.
    const STATUS_MANAGER: Option<&'static str>;

    /// One reconcile.
    fn reconcile(
        &self,
        object: Arc<Self::Object>,
    ) -> impl Future<Output = Result<Next, Error>> + Send;

    /// The least time between the starts of two reconciles of an object: changes in the meantime are handled together.
    /// It grows with the number of parts that every reconcile looks at, so that many changes of a large object do not
    /// take more processor time than those of many small ones.
    fn pace(_object: &Self::Object) -> Duration {
        PACE
    }

    /// Whose share of the reconciles an object takes: slow reconciles of one owner leave places for those of others.
    #[expect(
        clippy::unnecessary_literal_bound,
        reason = "others return a part of the object"
    )]
    fn owner(_object: &Self::Object) -> &str {
        ""
    }

    /// The controller stands down: what was started for an object ends, and what is remembered of it is forgotten.
    fn leave(&self, _object: &Self::Object) {}

    /// Waits for what reconciles started and did not wait for, when no more of them come.
    fn stop(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The least time between the starts of two reconciles of one object, and the longest that this may become.
pub(crate) const PACE: Duration = Duration::from_millis(25);
const LONGEST_PACE: Duration = Duration::from_millis(250);

/// The pace of an object with so many parts, each of which adds this time.
pub(crate) fn pace_of(parts: usize, each: Duration) -> Duration {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    PACE.saturating_add(each.saturating_mul(parts))
        .min(LONGEST_PACE)
}

/// The first and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// How many objects of one owner are reconciled at the same time, and of all owners.
const CONCURRENCY: usize = 16;
const CONCURRENCY_OF_ALL: usize = 2 * CONCURRENCY;

/// Runs a controller until its queue ends, then waits for the running reconciles.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Object>,
    queue: UnboundedReceiver<ObjectRef<R::Object>>,
    health: Health,
    faults: Faults,
) {
    let runner = Arc::new(Runner {
        reconciler,
        health,
        faults,
        objects: Mutex::default(),
        waiting: Mutex::default(),
    });
    runner.health.metrics().begin_controller(R::NAME);
    let (again, repeated) = unbounded();
    let asked = queue.map(|object| {
        runner.waits(object.namespace.clone(), object.name.clone(), true);
        Some(due(object, Duration::ZERO))
    });
    // The end of the queue ends all requests, also those of objects that wait for another reconcile.
    let asked = asked.chain(stream::iter([None]));
    let requests = stream::select(asked, repeated.map(Some));
    let requests = requests.take_while(|request| std::future::ready(request.is_some()));
    let requests = requests.filter_map(std::future::ready);
    let mut requests = std::pin::pin!(scheduler(requests));
    let places = Shares::new(CONCURRENCY_OF_ALL);
    let (mut starts, mut starting) = (FuturesUnordered::new(), HashSet::new());
    let (mut passes, mut running) = (FuturesUnordered::new(), HashSet::new());
    loop {
        let is_free = |object: &ObjectRef<_>| !running.contains(object);
        let mut requests = requests.as_mut().hold_unless(is_free);
        tokio::select! {
            Some((object, wait)) = passes.next() => {
                running.remove(&object);
                if let Some(wait) = wait {
                    // The receiver is in this function.
                    let _ = again.unbounded_send(due(object, wait));
                }
            }
            Some((named, place)) = starts.next() => {
                starting.remove(&named);
                // As it is now: the wait may have been long.
                let Some(object) = store.get(&named) else {
                    runner.waits(named.namespace, named.name, false);
                    continue;
                };
                running.insert(named.clone());
                let pass = passed(Arc::clone(&runner), object, place);
                passes.push(async move { (named, pass.await) });
            }
            request = requests.next() => {
                let Some(named) = request else { break };
                let Some(object) = store.get(&named) else {
                    runner.waits(named.namespace, named.name, false);
                    continue;
                };
                if starting.insert(named.clone()) {
                    let (places, owner) = (places.clone(), R::owner(&object).to_owned());
                    let place = async move { places.take(&owner, "", Claim::ONE).await };
                    starts.push(async move { (named, place.await) });
                }
            }
        }
    }
    drop(starts);
    while passes.next().await.is_some() {}
    runner.reconciler.stop().await;
}

/// The request for a reconcile after a while.
fn due<K: Resource>(object: ObjectRef<K>, after: Duration) -> ScheduleRequest<ObjectRef<K>> {
    ScheduleRequest {
        message: object,
        run_at: Instant::now() + after,
    }
}

/// One pass as a task of its own, which has this place: what it computes delays no other, on a host with several
/// threads. It ends when this is dropped. Returns after which time another one is due.
async fn passed<R: Reconciler>(
    runner: Arc<Runner<R>>,
    object: Arc<R::Object>,
    place: Place,
) -> Option<Duration> {
    let pass = async move {
        let wait = runner.pass(object).await;
        drop(place);
        wait
    };
    let mut task = AbortOnDrop(tokio::spawn(pass));
    // Panics of a reconcile are contained in the pass; a task is cancelled only with its runtime.
    (&mut task.0).await.unwrap_or(Some(BACKOFF.0))
}

struct Runner<R> {
    reconciler: Arc<R>,
    health: Health,
    faults: Faults,
    objects: Mutex<HashMap<String, Pacing>>,
    /// Objects that wait for their turn.
    waiting: Mutex<Waiting<(Option<String>, String)>>,
}

/// When an object was last reconciled, and how often that failed.
#[derive(Clone, Copy)]
struct Pacing {
    started: Instant,
    failures: u32,
}

impl Pacing {
    /// Whether the next reconcile depends on it. An entry of this age is of a deleted object.
    fn matters(self, now: Instant) -> bool {
        let Self { started, failures } = self;
        let age = now.saturating_duration_since(started);
        age < if failures > 0 {
            BACKOFF.1 * 5
        } else {
            LONGEST_PACE
        }
    }
}

impl<R: Reconciler> Runner<R> {
    /// One pass; returns after which time another one is due.
    async fn pass(&self, object: Arc<R::Object>) -> Option<Duration> {
        let key = object.uid().unwrap_or_default();
        if let Some(wait) = self.too_soon(&key, R::pace(&object)) {
            return Some(wait);
        }
        self.waits(object.namespace(), object.name_any(), false);
        let started = Instant::now();
        let result = contained(self.reconciler.reconcile(Arc::clone(&object))).await;
        let metrics = self.health.metrics();
        metrics.reconciled(R::NAME, outcome(&result), started.elapsed());
        let result = match result {
            Ok(result) => result,
            Err(panic) => return Some(self.panicked(key, started, &object, &panic).await),
        };
        match result {
            Ok(next) if !next.retry => {
                self.note(key, started, None);
                next.requeue_after
            }
            Ok(next) => {
                let wait = self.note(key, started, Some(BACKOFF.0));
                Some(next.requeue_after.map_or(wait, |after| after.min(wait)))
            }
            Err(error) => Some(self.failed(key, started, &object, &error)),
        }
    }

    /// A panic ends this reconcile alone. Others of the object follow, with backoff: the first after this time.
    async fn panicked(
        &self,
        key: String,
        started: Instant,
        object: &R::Object,
        panic: &str,
    ) -> Duration {
        self.health.metrics().panicked(R::NAME);
        let wait = self.note(key, started, Some(BACKOFF.0));
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let kind = R::Object::kind(&());
        tracing::error!(
            controller = R::NAME,
            kind = &*kind,
            namespace,
            name,
            panic,
            retry_after_seconds = wait.as_secs_f64(),
            "a reconcile panicked"
        );
        let report = self.faults.report(object, R::STATUS_MANAGER, panic);
        let written = contained(report).await;
        let error = match written {
            Ok(Ok(())) => return wait,
            // The next reconcile has the other version, and panics on it or does not.
            Ok(Err(error)) if error.class() == Class::Conflict => return wait,
            Ok(Err(error)) => error.chain(),
            Err(panic) => panic,
        };
        tracing::warn!(
            controller = R::NAME,
            kind = &*kind,
            namespace,
            name,
            error,
            "the panic could not be reported on the object"
        );
        wait
    }

    /// The reconcile failed; returns after which time the next one is due.
    fn failed(&self, key: String, started: Instant, object: &R::Object, error: &Error) -> Duration {
        let class = error.class();
        self.health.metrics().failed(R::NAME, class);
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        match class {
            // The missing object may be another one than this. If it is this object, the next reconcile
            // does not find it.
            Class::Conflict | Class::Exists | Class::Gone => {
                tracing::debug!(
                    controller = R::NAME,
                    namespace,
                    name,
                    error = error.chain(),
                    "changed meanwhile"
                );
                // The cache has the other version in a moment, and that wakes the object too.
                self.note(key, started, Some(PACE))
            }
            Class::Unavailable | Class::Denied | Class::Invalid => {
                let wait = self.note(key, started, Some(BACKOFF.0));
                self.log_failure(&namespace, &name, error, wait);
                wait
            }
        }
    }

    fn log_failure(&self, namespace: &str, name: &str, error: &Error, wait: Duration) {
        let (error, retry_after_seconds) = (error.chain(), wait.as_secs_f64());
        // While the API server is out of reach, which has been logged, every reconcile fails.
        if self.health.is_unreachable() {
            tracing::debug!(
                controller = R::NAME,
                namespace,
                name,
                error,
                retry_after_seconds,
                "reconcile failed"
            );
            return;
        }
        tracing::warn!(
            controller = R::NAME,
            namespace,
            name,
            error,
            retry_after_seconds,
            "reconcile failed"
        );
    }

    /// Notes that an object waits for its turn, or does not any more.
    fn waits(&self, namespace: Option<String>, name: String, waits: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace, name);
        if waits {
            waiting.begin(key, Instant::now());
        } else {
            waiting.end(&key);
        }
        let (metrics, count) = (self.health.metrics(), waiting.count());
        metrics.queued(R::NAME, count, waiting.since());
    }

    fn too_soon(&self, key: &str, pace: Duration) -> Option<Duration> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects
            .get(key)
            .and_then(|pacing| pace.checked_sub(pacing.started.elapsed()))
            .filter(|left| !left.is_zero())
    }

    /// Notes a reconcile. If it failed, returns how long to wait: this long after the first failure.
    fn note(&self, key: String, started: Instant, failed: Option<Duration>) -> Duration {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = objects.get(&key).map_or(0, |pacing| pacing.failures);
        let failures = failed.map_or(0, |_| failures.saturating_add(1));
        objects.insert(key, Pacing { started, failures });
        if objects.len() > 10_000 {
            objects.retain(|_, pacing| pacing.matters(Instant::now()));
        }
        let doublings = failures.saturating_sub(1).min(10);
        let first = failed.unwrap_or_default();
        (first * 2_u32.pow(doublings)).min(BACKOFF.1)
    }
}

fn outcome(result: &Result<Result<Next, Error>, String>) -> PassResult {
    match result {
        Ok(Ok(Next { retry: false, .. })) => PassResult::Ok,
        Ok(Ok(Next { retry: true, .. })) => PassResult::Retry,
        Ok(Err(_)) => PassResult::Error,
        Err(_) => PassResult::Panic,
    }
}

#[cfg(test)]
mod tests;
