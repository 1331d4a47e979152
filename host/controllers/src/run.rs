//! The loop that all controllers share: a queue of objects to look at, one pass at a time per object,
//! retries with backoff, metrics, and an end that waits for the passes under way.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, channel::mpsc::UnboundedReceiver, future::BoxFuture};
use kube::{
    Resource, ResourceExt,
    runtime::{
        controller::{self, Action},
        reflector::{ObjectRef, Store},
    },
};

pub use operon_core::driver::Next;

use crate::{
    error::{Class, Error},
    metrics::Metrics,
};

/// Passes over objects of kind `K`.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Object: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static;

    /// The controller's name, in logs and metrics.
    const NAME: &'static str;

    /// One pass.
    fn reconcile(
        &self,
        object: Arc<Self::Object>,
    ) -> impl Future<Output = Result<Next, Error>> + Send;

    /// Waits for what reconciles started and did not wait for, when no more of them come.
    fn stop(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The least time between the starts of two passes over one object: what happens meanwhile is looked
/// at together.
pub(crate) const PACE: Duration = Duration::from_millis(25);

/// The first and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// How many objects are looked at at once.
const CONCURRENCY: u16 = 16;

/// Runs a controller until its queue ends, then waits for the passes under way.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Object>,
    queue: UnboundedReceiver<ObjectRef<R::Object>>,
    metrics: Metrics,
) {
    let runner = Arc::new(Runner {
        reconciler,
        metrics,
        objects: Mutex::default(),
        waiting: Mutex::default(),
    });
    let (asked, told) = (Arc::clone(&runner), Arc::clone(&runner));
    let stopped = Arc::clone(&runner);
    let queue = queue.map(move |object| {
        asked.waits(object.namespace.clone(), object.name.clone(), true);
        Ok::<_, std::convert::Infallible>(object)
    });
    let passes = controller::applier(
        |object,
         runner: Arc<Runner<R>>|
         -> BoxFuture<'static, Result<Action, std::convert::Infallible>> {
            async move { Ok(runner.pass(object).await) }.boxed()
        },
        |_, never, _| match *never {},
        runner,
        store,
        queue,
        controller::Config::default().concurrency(CONCURRENCY),
    );
    passes
        .for_each(|pass| {
            if let Err(controller::Error::ObjectNotFound(vanished)) = pass {
                told.waits(vanished.namespace.clone(), vanished.name.clone(), false);
            }
            std::future::ready(())
        })
        .await;
    stopped.reconciler.stop().await;
}

struct Runner<R> {
    reconciler: Arc<R>,
    metrics: Metrics,
    objects: Mutex<HashMap<String, Pacing>>,
    /// Objects whose turn has not come.
    waiting: Mutex<HashSet<(Option<String>, String)>>,
}

/// When an object was last looked at, and how often in vain.
#[derive(Clone, Copy)]
struct Pacing {
    started: Instant,
    failures: u32,
}

impl<R: Reconciler> Runner<R> {
    async fn pass(&self, object: Arc<R::Object>) -> Action {
        let key = object.uid().unwrap_or_default();
        if let Some(wait) = self.too_soon(&key) {
            return Action::requeue(wait);
        }
        self.waits(object.namespace(), object.name_any(), false);
        let started = Instant::now();
        let result = self.reconciler.reconcile(Arc::clone(&object)).await;
        self.metrics
            .reconciled(R::NAME, outcome(&result), started.elapsed());
        match result {
            Ok(next) if !next.retry => {
                self.note(key, started, false);
                next.requeue_after
                    .map_or_else(Action::await_change, Action::requeue)
            }
            Ok(next) => {
                let wait = self.note(key, started, true);
                Action::requeue(next.requeue_after.map_or(wait, |after| after.min(wait)))
            }
            Err(error) => self.failed(key, started, &object, &error),
        }
    }

    fn failed(&self, key: String, started: Instant, object: &R::Object, error: &Error) -> Action {
        let class = error.class();
        self.metrics.failed(R::NAME, class);
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        match class {
            Class::Conflict | Class::Exists => {
                tracing::debug!(
                    controller = R::NAME,
                    namespace,
                    name,
                    error = error.chain(),
                    "changed meanwhile"
                );
                Action::requeue(PACE)
            }
            Class::Gone => Action::await_change(),
            Class::Unavailable | Class::Denied | Class::Invalid => {
                let wait = self.note(key, started, true);
                tracing::warn!(
                    controller = R::NAME,
                    namespace,
                    name,
                    error = error.chain(),
                    retry_after_seconds = wait.as_secs_f64(),
                    "pass failed"
                );
                Action::requeue(wait)
            }
        }
    }

    /// Notes that an object waits for its turn, or does not any more.
    fn waits(&self, namespace: Option<String>, name: String, waits: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace, name);
        if waits {
            waiting.insert(key);
        } else {
            waiting.remove(&key);
        }
        self.metrics.queued(R::NAME, waiting.len());
    }

    fn too_soon(&self, key: &str) -> Option<Duration> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects
            .get(key)
            .and_then(|pacing| PACE.checked_sub(pacing.started.elapsed()))
    }

    /// Notes a pass, and says how long to wait if it failed.
    fn note(&self, key: String, started: Instant, failed: bool) -> Duration {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = objects.get(&key).map_or(0, |pacing| pacing.failures);
        let failures = if failed {
            failures.saturating_add(1)
        } else {
            0
        };
        objects.insert(key, Pacing { started, failures });
        if objects.len() > 10_000 {
            objects.retain(|_, pacing| pacing.failures > 0 || pacing.started.elapsed() < PACE);
        }
        let doublings = failures.saturating_sub(1).min(10);
        (BACKOFF.0 * 2_u32.pow(doublings)).min(BACKOFF.1)
    }
}

fn outcome(result: &Result<Next, Error>) -> &'static str {
    match result {
        Ok(Next { retry: false, .. }) => "ok",
        Ok(Next { retry: true, .. }) => "retry",
        Err(_) => "error",
    }
}
