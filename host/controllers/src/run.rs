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
    waiting: Mutex<HashSet<(Option<String>, String)>>,
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
            waiting.insert(key);
        } else {
            waiting.remove(&key);
        }
        self.health.metrics().queued(R::NAME, waiting.len());
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

fn outcome(result: &Result<Result<Next, Error>, String>) -> &'static str {
    match result {
        Ok(Ok(Next { retry: false, .. })) => "ok",
        Ok(Ok(Next { retry: true, .. })) => "retry",
        Ok(Err(_)) => "error",
        Err(_) => "panic",
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Writer;
    use futures::channel::mpsc::unbounded;
    use kube::runtime::watcher;
    use operon_api::JobFlow;
    use operon_core::driver::Refusal;
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::json;

    use super::*;
    use crate::{
        events::Events,
        fake::{self, eventually},
        metrics::Metrics,
    };

    /// Reconciles each flow but one.
    #[derive(Default)]
    struct Flows(Mutex<Vec<String>>);

    impl Reconciler for Flows {
        type Object = JobFlow;
        const NAME: &'static str = "jobflow";
        const STATUS_MANAGER: Option<&'static str> = Some("operon-jobflow");

        fn owner(flow: &JobFlow) -> &str {
            owner_of(flow.metadata.name.as_deref().unwrap_or_default())
        }

        async fn reconcile(&self, flow: Arc<JobFlow>) -> Result<Next, Error> {
            let name = flow.name_any();
            let is_first = {
                let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(name.clone());
                seen.iter().filter(|seen| **seen == name).count() == 1
            };
            assert_ne!(name, "bad", "this flow can't be reconciled");
            if name == "refused" && is_first {
                let status = json!({"code": 404, "reason": "NotFound"});
                let status = serde_json::from_value(status).expect("a Status");
                let refusal = Refusal::answered("failed to patch Job default/a", &status);
                return Err(refusal.into());
            }
            if name.starts_with("slow") {
                tokio::time::sleep(Duration::from_mins(1)).await;
            }
            if name == "stale" {
                return Err(Error::Refused(Refusal {
                    code: 409,
                    reason: "Conflict".to_owned(),
                    message: String::new(),
                    class: Class::Conflict,
                }));
            }
            Ok(Next::default())
        }
    }

    /// A flow's owner is the part of its name before a dash.
    fn owner_of(name: &str) -> &str {
        name.split('-').next().unwrap_or_default()
    }

    fn flow(name: &str) -> JobFlow {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "7"},
            "spec": {"flows": [{"name": "a"}]},
            "status": {"state": "Running"},
        }))
        .expect("a flow")
    }

    #[test]
    fn the_failures_of_an_object_that_was_deleted_are_forgotten() {
        let started = Instant::now();
        for (failures, age, matters) in [
            (0, Duration::ZERO, true),
            (0, Duration::from_secs(1), false),
            (1, Duration::from_mins(2), true),
            (1, Duration::from_hours(1), false),
        ] {
            let pacing = Pacing { started, failures };
            assert_eq!(pacing.matters(started + age), matters, "{failures} {age:?}");
        }
    }

    #[tokio::test]
    async fn a_reconcile_that_panics_is_reported_on_its_object_and_holds_up_no_other() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&sent);
        let client = fake::client(move |request| {
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.push((request.uri().path().to_owned(), request.body().clone()));
            let answer = json!({"apiVersion": "v1", "kind": "Any", "metadata": {"name": "any"}});
            Some(fake::answer(200, &answer))
        });
        let mut registry = Registry::default();
        let health = Health::new(Metrics::register(&mut registry));
        let events = Events::new(&client, None);
        let faults = Faults { client, events };
        let mut writer = Writer::<JobFlow>::default();
        writer.apply_watcher_event(&watcher::Event::Init);
        for name in ["bad", "good", "refused"] {
            writer.apply_watcher_event(&watcher::Event::InitApply(flow(name)));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let (queue, queued) = unbounded();
        let flows = Arc::new(Flows::default());
        let running = run(
            Arc::clone(&flows),
            writer.as_reader(),
            queued,
            health,
            faults,
        );
        let running = tokio::spawn(running);
        let wake = |name: &str| {
            let woken = queue.unbounded_send(ObjectRef::new(name).within("default"));
            woken.expect("the controller runs");
        };
        let times = |name: &str| {
            let seen = flows.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().filter(|seen| *seen == name).count()
        };
        wake("bad");
        eventually("the bad flow is reconciled again", || times("bad") >= 2).await;
        wake("good");
        eventually("the good flow is reconciled", || times("good") == 1).await;
        wake("refused");
        eventually("what was gone was another object", || times("refused") == 2).await;
        let was_sent = |path: &str, texts: &[&str]| {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.iter().any(|(to, body)| {
                to.ends_with(path) && texts.iter().all(|text| body.contains(text))
            })
        };
        let status = [
            "InternalError",
            "Stalled",
            "this flow can't be reconciled",
            "Running",
            r#""resourceVersion":"7""#,
        ];
        assert!(was_sent("/namespaces/default/jobflows/bad/status", &status));
        let event = ["InternalError", "Warning", "this flow can't be reconciled"];
        eventually("an Event is sent", || was_sent("/events", &event)).await;
        assert!(!was_sent("/jobflows/good/status", &[]));
        let mut metrics = String::new();
        encode(&mut metrics, &registry).expect("metrics");
        assert!(
            metrics.contains("operon_panics_total{place=\"jobflow\"}"),
            "{metrics}"
        );
        assert!(!running.is_finished());
        running.abort();
    }

    #[test]
    fn a_large_object_is_reconciled_less_often() {
        let each = Duration::from_millis(2);
        for (parts, pace) in [(0, 25), (1, 27), (50, 125), (100_000, 250)] {
            assert_eq!(pace_of(parts, each), Duration::from_millis(pace), "{parts}");
        }
    }

    /// A controller of flows with these names.
    fn controller(
        names: &[String],
    ) -> (
        Arc<Flows>,
        futures::channel::mpsc::UnboundedSender<ObjectRef<JobFlow>>,
        tokio::task::JoinHandle<()>,
    ) {
        let health = Health::new(Metrics::register(&mut Registry::default()));
        let client = fake::client(|_| None);
        let events = Events::new(&client, None);
        let faults = Faults { client, events };
        let mut writer = Writer::<JobFlow>::default();
        writer.apply_watcher_event(&watcher::Event::Init);
        for name in names {
            writer.apply_watcher_event(&watcher::Event::InitApply(flow(name)));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let (queue, queued) = unbounded();
        let flows = Arc::new(Flows::default());
        let store = writer.as_reader();
        let running = tokio::spawn(run(Arc::clone(&flows), store, queued, health, faults));
        (flows, queue, running)
    }

    fn seen(flows: &Flows) -> Vec<String> {
        let seen = flows.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reconciles_of_one_owner_hold_up_no_other_owner() {
        let mut names: Vec<_> = (0..100).map(|number| format!("slow-{number}")).collect();
        names.push("other".to_owned());
        let (flows, queue, running) = controller(&names);
        let wake_all = || {
            for name in &names {
                let object = ObjectRef::new(name).within("default");
                queue.unbounded_send(object).expect("the controller runs");
            }
        };
        wake_all();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = seen(&flows);
        assert!(first.contains(&"other".to_owned()), "{first:?}");
        let slow = first.iter().filter(|name| owner_of(name) == "slow");
        assert_eq!(slow.count(), CONCURRENCY);
        // Those that wait have one turn, however often they are woken.
        wake_all();
        tokio::time::sleep(Duration::from_mins(10)).await;
        let again = CONCURRENCY + 1;
        assert_eq!(seen(&flows).len(), names.len() + again);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn reconciles_that_have_not_begun_do_not_begin_when_the_queue_ends() {
        let names: Vec<_> = (0..100).map(|number| format!("slow-{number}")).collect();
        let (flows, queue, running) = controller(&names);
        for name in &names {
            let object = ObjectRef::new(name).within("default");
            queue.unbounded_send(object).expect("the controller runs");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(queue);
        assert!(running.await.is_ok());
        assert_eq!(seen(&flows).len(), CONCURRENCY);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_whose_cache_lags_behind_is_reconciled_less_and_less_often() {
        let (flows, queue, running) = controller(&["stale".to_owned()]);
        let stale = ObjectRef::new("stale").within("default");
        queue.unbounded_send(stale).expect("the controller runs");
        let times = || seen(&flows).len();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!((4..=7).contains(&times()), "{} in a second", times());
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!((8..=14).contains(&times()), "{} in a minute", times());
        running.abort();
    }
}
