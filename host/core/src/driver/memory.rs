//! An API server in memory, and the driver's port on it: what the tests of every kind run against.
//!
//! The process may die before any write. Requests may fail, or be carried out without an answer, that of
//! a process that died even later. Caches may lag; like those of production they see the answers to their
//! own writes, and never go back. A status is written over the one that it was decided from only.

mod chance;
mod cluster;
mod late;
pub(crate) mod simulation;

use std::{
    fmt::Debug,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt as _;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::cluster::{Behind, Died, Sent, denied, refused};
pub(crate) use self::{
    chance::Chance,
    cluster::{Cluster, complete, merge, patched, time},
};
use super::{
    Asked, Class, Conclusion, Kind, Next, Port, Question, Refusal, StatusWrite, reconcile,
};
use crate::action::{Effect, Failure, ObjectReference, Propagation};

/// The second at which every world begins.
pub(crate) const START: i64 = 1_700_000_000;

pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// A world that tests observe: one object, and the cluster around it.
pub(crate) trait Reconciles: Clone + Send {
    type Kind: Kind<Status: PartialEq + Debug + Serialize + DeserializeOwned>;
    type Object: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned;

    fn object(&mut self) -> &mut Self::Object;
    fn cluster(&mut self) -> &mut Cluster<StatusOf<Self>>;
    fn view(&self) -> &Cluster<StatusOf<Self>>;

    /// The caches' content around an object.
    fn look(&self) -> SeenOf<Self>;

    /// The status that the object has.
    fn status_of(object: &mut Self::Object) -> &mut Option<StatusOf<Self>>;

    /// The API server's answer to the creation of an object.
    fn refusal(&self, body: &Value) -> Option<Failure>;

    /// What happens between the writes of a reconcile and its conclusion.
    fn between(&mut self) {}

    /// What happens while a status is being written. Whether anything does.
    fn meanwhile(&mut self) -> bool {
        false
    }

    /// One reconcile, and the end of the write of its status; returns its conclusion, unless the process
    /// dies.
    fn pass(&mut self) -> Option<Conclusion<StatusOf<Self>>> {
        self.cluster().concluded = None;
        let deaths = self.view().deaths;
        let result = self.reconcile();
        if result.is_some() && self.meanwhile() && self.view().sent.is_some() {
            self.reconcile();
        }
        if self.view().deaths > deaths {
            // The next process lists anew.
            if let Some(sent) = self.cluster().sent.take() {
                self.cluster().leave(Some(sent));
            }
            self.cluster().catch_up();
            return None;
        }
        if let Some(late) = self.cluster().landing.take() {
            self.store_status(&late, true);
        }
        self.finish_write();
        self.cluster().concluded.take()
    }

    /// One reconcile; nothing if the process dies in it.
    fn reconcile(&mut self) -> Option<Result<Next, Refusal>> {
        let port = MemoryPort {
            world: Mutex::new(self),
            decided_from: Mutex::default(),
        };
        reconcile(&port).now_or_never()
    }

    /// The write of the status is answered, unless the answer is lost.
    fn finish_write(&mut self) {
        let Some(sent) = self.cluster().sent.take() else {
            return;
        };
        let is_lost = self.cluster().loses_answer();
        if !self.store_status(&sent, is_lost) {
            // The next reconcile decides again.
            self.cluster().conflicts += 1;
        } else if is_lost {
            self.cluster().status_failure = Some(unanswered());
        } else {
            self.cluster().events.extend(sent.events);
        }
    }

    /// The API server carries out the write of a status, unless the object has another one than it was
    /// decided from. Whether it did.
    fn store_status(&mut self, sent: &Sent<StatusOf<Self>>, is_unseen: bool) -> bool {
        let Sent { status, over, .. } = sent;
        if *over != self.view().status_version {
            return false;
        }
        // What is written is read back.
        let read: StatusOf<Self> = serde_json::from_value(json!(**status)).expect("a status");
        assert_eq!(read, **status);
        let rest = self.rest();
        let before = Self::status_of(self.object()).replace(read);
        let cluster = self.cluster();
        cluster.status_version += 1;
        cluster.status_writes += 1;
        cluster.behind = is_unseen.then_some(Behind {
            status: before,
            version: *over,
            rest,
        });
        true
    }

    /// The status that the cache holds, and its version.
    fn cached_status(&mut self) -> Versioned<StatusOf<Self>> {
        let rest = self.rest();
        let status = Self::status_of(self.object()).clone();
        let cluster = self.cluster();
        // Whoever reports the rest of the object reports its status with it.
        drop(cluster.behind.take_if(|behind| behind.rest != rest));
        match &cluster.behind {
            Some(behind) => (behind.status.clone(), behind.version),
            None => (status, cluster.status_version),
        }
    }

    /// All of the object but its status.
    fn rest(&mut self) -> Value {
        let mut rest = json!(self.object());
        rest["status"] = Value::Null;
        rest
    }

    /// What the caches hold, if this is the status that they have of the object.
    fn look_with(&mut self, status: Option<StatusOf<Self>>) -> SeenOf<Self> {
        let latest = std::mem::replace(Self::status_of(self.object()), status);
        let seen = self.look();
        *Self::status_of(self.object()) = latest;
        seen
    }

    /// Reconciles until nothing changes any more; then it must stay so, whatever time it is.
    fn settle_within(&mut self, passes: usize) {
        for _ in 0..passes {
            let (before, deaths) = (self.view().writes, self.view().deaths);
            let is_disturbed = self.is_disturbed();
            let conclusion = self.pass();
            if self.view().deaths > deaths || is_disturbed {
                continue;
            }
            if self.view().is_gone {
                return;
            }
            // A reconcile that failed is repeated.
            if let Some(conclusion) = conclusion.filter(|_| self.view().writes == before) {
                self.assert_steady(&conclusion);
                return;
            }
        }
        unreachable!("it never settles: {:#?}", Self::status_of(self.object()));
    }

    /// A deleted object disappears when no finalizer holds it; a finalizer of the garbage collector holds
    /// it for a moment only.
    fn collect_object(&mut self) {
        let meta = self.object().meta();
        let mut finalizers = meta.finalizers.iter().flatten();
        let is_held = finalizers.any(|held| held != FOREGROUND && held != "orphan");
        self.cluster().is_gone = meta.deletion_timestamp.is_some() && !is_held;
    }

    /// Whether something will happen during the next reconcile that requires another one.
    fn is_disturbed(&self) -> bool {
        false
    }

    /// A reconcile that wrote nothing came to this conclusion. Another reconcile must not change anything
    /// either, whatever the order of the objects in the caches, nor a much later one if none was requested.
    fn assert_steady(&self, conclusion: &Conclusion<StatusOf<Self>>) {
        let asks = conclusion.requeue_after;
        assert_ne!(asks, Some(std::time::Duration::ZERO), "it asks for nothing");
        assert_eq!(conclusion.events, [], "an Event without a transition");
        let mut again = self.clone();
        again.cluster().dies_after = None;
        again.cluster().reversed = true;
        let same = again.pass().expect("nobody dies");
        assert_eq!(same.status, conclusion.status);
        assert_eq!(same.requeue_after, asks);
        assert_eq!(
            again.view().writes,
            self.view().writes,
            "nothing is written"
        );
        if asks.is_none() {
            again.cluster().now += 1_000_000;
            let later = again.pass().expect("time alone changes nothing");
            assert_eq!(
                later.status, conclusion.status,
                "time alone changes nothing"
            );
        }
    }

    /// The process dies after so many writes, however many reconciles they take; another one takes over.
    fn die_after(&mut self, writes: usize) {
        self.cluster().dies_after = Some(writes);
        let deaths = self.view().deaths;
        for _ in 0..40 {
            if self.pass().is_none() && self.view().deaths > deaths {
                break;
            }
        }
        self.cluster().dies_after = None;
    }
}

type SeenOf<W> = <<W as Reconciles>::Kind as Kind>::Seen;
type StatusOf<W> = <<W as Reconciles>::Kind as Kind>::Status;

/// A status, and how many there have been with it.
type Versioned<S> = (Option<S>, u64);

/// The driver's port on a world.
struct MemoryPort<'a, W: Reconciles> {
    world: Mutex<&'a mut W>,
    /// One reconcile works on one version of the object.
    decided_from: Mutex<Versioned<StatusOf<W>>>,
}

impl<'a, W: Reconciles> MemoryPort<'a, W> {
    fn world(&self) -> MutexGuard<'_, &'a mut W> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decided_from(&self) -> MutexGuard<'_, Versioned<StatusOf<W>>> {
        let decided_from = self.decided_from.lock();
        decided_from.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, effect: &Effect) -> Result<Result<Value, Refusal>, Died> {
        let mut world = self.world();
        let own = W::Object::kind(&()).into_owned();
        let is_own = |object: &ObjectReference| object.kind == own;
        if let Effect::Patch { object, .. } | Effect::Delete { object, .. } = effect
            && is_own(object)
            && let Some(failure) = &world.view().denied
        {
            return Ok(Err(denied(failure)));
        }
        match effect {
            Effect::Create(body) => {
                world.cluster().posts += 1;
                if let Some(failure) = world.refusal(body) {
                    return Ok(Err(denied(&failure)));
                }
                world.cluster().create(body)
            }
            Effect::Patch {
                object,
                body,
                uid,
                resource_version,
                ..
            } => {
                let mut patch = body.clone();
                let conditions = [("uid", uid), ("resourceVersion", resource_version)];
                for (key, value) in conditions {
                    if let Some(value) = value {
                        patch["metadata"][key] = json!(value);
                    }
                }
                if is_own(object) {
                    world.cluster().write()?;
                    *world.object() = patched(world.object(), &patch);
                    world.collect_object();
                    return Ok(Ok(json!(world.object())));
                }
                world.cluster().patch_job(&object.name, &patch)
            }
            Effect::Delete {
                object,
                propagation,
                ..
            } => {
                world.cluster().write()?;
                if is_own(object) {
                    world.cluster().is_gone = true;
                    world.cluster().jobs.clear();
                } else {
                    let foreground = *propagation == Propagation::Foreground;
                    world.cluster().delete_job(&object.name, foreground);
                }
                Ok(Ok(Value::Null))
            }
            Effect::Event { reason, .. } => {
                world.cluster().sent_events.push(reason.clone());
                Ok(Ok(Value::Null))
            }
            Effect::Apply(_) | Effect::Evict { .. } => {
                unreachable!("no kind that owns Jobs does that")
            }
        }
    }
}

impl<W: Reconciles> Port<W::Kind> for MemoryPort<'_, W> {
    fn seen(&self) -> Option<SeenOf<W>> {
        let mut world = self.world();
        let cached = world.cached_status();
        (*self.decided_from()).clone_from(&cached);
        let (status, _) = cached;
        (!world.view().is_gone).then(|| world.look_with(status))
    }

    fn seen_again(&self, _before: SeenOf<W>) -> SeenOf<W> {
        let mut world = self.world();
        world.between();
        let (status, _) = self.decided_from().clone();
        world.look_with(status)
    }

    fn known(&self, object: &ObjectReference) -> Option<Value> {
        let world = self.world();
        let cluster = world.view();
        let job = match &cluster.late {
            Some(late) => late.get(&object.name),
            None => cluster.jobs.get(&object.name),
        };
        job.map(|job| json!(job))
    }

    async fn get(&self, object: &ObjectReference) -> Result<Value, Refusal> {
        let mut world = self.world();
        let cluster = world.cluster();
        let found = cluster.jobs.get(&object.name).map(|job| json!(job));
        cluster.answered(&object.name, false);
        found.ok_or_else(|| refused(404, "NotFound", "not found"))
    }

    async fn perform(&self, effect: &Effect) -> Result<Value, Refusal> {
        if let Some(refusal) = self.world().cluster().fault() {
            return Err(refusal);
        }
        let Ok(answer) = self.write(effect) else {
            // A process that died never gets the answers that it waits for.
            return pending().await;
        };
        let is_lost = self.world().cluster().loses_answer();
        if let Some(name) = name_in(effect) {
            self.world().cluster().answered(name, is_lost);
        }
        if is_lost {
            return Err(unanswered());
        }
        answer
    }

    async fn ask(&self, question: &Question) -> Asked {
        let mut world = self.world();
        let cluster = world.cluster();
        cluster.asked.push(question.clone());
        match question {
            Question::Log(_) => Asked {
                log: cluster.log.clone(),
                ..Asked::default()
            },
            Question::Warning(_) => Asked {
                warning: cluster.warning.clone(),
                ..Asked::default()
            },
            Question::Event(_) => Asked::default(),
        }
    }

    fn status_write(&self) -> StatusWrite<StatusOf<W>> {
        let mut world = self.world();
        if let Some(failure) = world.cluster().status_failure.take() {
            return StatusWrite::Failed(failure);
        }
        match &world.view().sent {
            Some(sent) => StatusWrite::Sent(Arc::clone(&sent.status)),
            None => StatusWrite::None,
        }
    }

    fn report(&self, _seen: &SeenOf<W>, conclusion: Conclusion<StatusOf<W>>) -> Next {
        let mut world = self.world();
        let next = Next {
            requeue_after: conclusion.requeue_after,
            retry: false,
        };
        world.cluster().concluded = Some(conclusion.clone());
        let Conclusion { status, events, .. } = conclusion;
        let (decided_from, over) = self.decided_from().clone();
        if decided_from.as_ref() == Some(&status) {
            return next;
        }
        let sent = Some(Sent {
            status: Arc::new(status),
            events,
            over,
        });
        let cluster = world.cluster();
        match cluster.fault() {
            Some(failure) if failure.class == Class::Conflict => cluster.conflicts += 1,
            Some(failure) => cluster.status_failure = Some(failure),
            None => match cluster.write() {
                Ok(()) => cluster.sent = sent,
                Err(Died) => cluster.leave(sent),
            },
        }
        next
    }
}

/// What comes back of a request whose answer is lost.
fn unanswered() -> Refusal {
    Refusal::unanswered("RequestFailed", "the connection was closed".to_owned())
}

/// The name of the object that an effect writes.
fn name_in(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Create(body) | Effect::Apply(body) => body["metadata"]["name"].as_str(),
        Effect::Patch { object, .. } | Effect::Delete { object, .. } => Some(&object.name),
        Effect::Evict { pod, .. } => Some(pod),
        Effect::Event { .. } => None,
    }
}
