//! An API server in memory, behind kube's client: OperationJobs and pods of one namespace, with lists and
//! watches. Requests may fail, be carried out without an answer, take long, or be the last of a process.
//! Watches may lag, or be refused. Every write is checked against the [promises](super::promises).

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use operon_api::{OperationJob, keys};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::{
    chance::Chance,
    promises::{self, Writes},
};
use crate::{fake, status::whole_seconds};

pub(super) const JOBS: &str = "operationjobs";
pub(super) const PODS: &str = "pods";
/// There are none.
const NODES: &str = "nodes";

/// The wall clock of a world: it advances with the paused clock of the running process.
#[derive(Debug)]
struct Clock {
    base: Timestamp,
    began: Option<Instant>,
}

/// What schedules covered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    pub(super) schedules: usize,
    pub(super) writes: usize,
    pub(super) deaths: usize,
    pub(super) failures: usize,
    pub(super) lost_answers: usize,
    pub(super) effects: usize,
}

impl Coverage {
    pub(super) fn add(&mut self, other: &Self) {
        self.schedules += 1;
        self.writes += other.writes;
        self.deaths += other.deaths;
        self.failures += other.failures;
        self.lost_answers += other.lost_answers;
        self.effects += other.effects;
    }
}

/// A change, as watches report it.
struct Change {
    version: u64,
    plural: &'static str,
    event: Value,
}

pub(super) struct State {
    objects: BTreeMap<(&'static str, String), Value>,
    version: u64,
    changes: Vec<Change>,
    /// What watches report ends at this version; none: they do not lag.
    pub(super) shown: Option<u64>,
    /// Whether lists and watches are refused.
    pub(super) is_watch_down: bool,
    pub(super) faults: Option<Chance>,
    /// After how many more writes the process dies.
    pub(super) dies_after: Option<usize>,
    is_dead: bool,
    pub(super) coverage: Coverage,
    pub(super) writes: Writes,
    made: u64,
}

/// The API server.
pub(super) struct Server {
    state: Mutex<State>,
    clock: Mutex<Clock>,
    changed: Notify,
    died: Notify,
}

/// The fate of a write.
enum Fate {
    Done,
    /// It is refused by this code.
    Refused(u16),
    /// It is done, but its answer gets lost.
    Lost,
    /// The process dies, before or after it.
    Dies {
        is_done: bool,
    },
}

pub(super) type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Server {
    pub(super) fn new() -> Self {
        let base = Timestamp::from_second(1_700_000_000).expect("a time");
        Self {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                version: 1,
                changes: Vec::new(),
                shown: None,
                is_watch_down: false,
                faults: None,
                dies_after: None,
                is_dead: false,
                coverage: Coverage::default(),
                writes: Writes::default(),
                made: 0,
            }),
            clock: Mutex::new(Clock { base, began: None }),
            changed: Notify::new(),
            died: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        let clock = self.clock();
        clock.base + clock.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// A process begins; this is called in its paused runtime.
    pub(super) fn process_begins(&self) {
        self.clock().began = Some(Instant::now());
        let mut state = self.state();
        (state.is_dead, state.dies_after) = (false, None);
        state.writes.process_begins();
    }

    /// It ends, and this much later another one can begin.
    pub(super) fn process_ends(&self, away: Duration) {
        let now = self.now();
        let mut clock = self.clock();
        (clock.base, clock.began) = (now + away, None);
    }

    /// Waits until the process dies.
    pub(super) async fn died(&self) {
        loop {
            let died = self.died.notified();
            if self.state().is_dead {
                return;
            }
            died.await;
        }
    }

    /// Lets watches report all there is again.
    pub(super) fn catch_up(&self) {
        self.state().shown = None;
        self.changed.notify_waiters();
    }

    /// Something changed that waiting watches must see.
    pub(super) fn announce(&self) {
        self.changed.notify_waiters();
    }

    pub(super) async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, Failed> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::GET {
            return Ok(self.read(&path, query).await);
        }
        if path.contains("/events") {
            self.state().writes.event(&body);
            return Ok(fake::answer(201, &body));
        }
        self.write(&parts.method, &path, &body).await
    }

    async fn read(&self, path: &str, query: &str) -> Response<Body> {
        let plurals = [JOBS, PODS, NODES];
        let plural = plurals.into_iter().find(|plural| path.ends_with(plural));
        let plural = plural.unwrap_or_default();
        let since = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="))
            .and_then(|version| version.parse().ok());
        let is_watch = query.contains("watch=true");
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state();
                if state.is_watch_down {
                    return refused(500, "InternalError");
                }
                match since {
                    Some(since) if is_watch => {
                        if let Some(events) = state.events(plural, since) {
                            let body = Body::from(events.into_bytes());
                            return Response::builder().body(body).expect("a response");
                        }
                    }
                    _ => return fake::answer(200, &state.list(plural)),
                }
            }
            changed.await;
        }
    }

    async fn write(
        &self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Result<Response<Body>, Failed> {
        let (before, after) = self.state().latencies();
        if !before.is_zero() {
            tokio::time::sleep(before).await;
        }
        let fate = self.state().fate();
        let now = self.now();
        let response = match fate {
            Fate::Refused(code) => refused(code, "Refused"),
            Fate::Dies { is_done: false } => {
                self.die();
                std::future::pending().await
            }
            Fate::Done | Fate::Lost | Fate::Dies { is_done: true } => {
                let is_answered = matches!(fate, Fate::Done);
                self.state().carry_out(method, path, body, now, is_answered)
            }
        };
        self.changed.notify_waiters();
        if matches!(fate, Fate::Dies { .. }) {
            self.die();
            std::future::pending::<()>().await;
        }
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        match fate {
            Fate::Lost => Err("the connection was reset".into()),
            _ => Ok(response),
        }
    }

    fn die(&self) {
        let mut state = self.state();
        state.is_dead = true;
        state.coverage.deaths += 1;
        drop(state);
        self.died.notify_waiters();
    }
}

impl State {
    fn list(&self, plural: &str) -> Value {
        let of_kind = self.objects.iter().filter(|((kind, _), _)| *kind == plural);
        let items: Vec<_> = of_kind.map(|(_, object)| object).collect();
        json!({
            "metadata": {"resourceVersion": self.version.to_string()},
            "items": items,
        })
    }

    /// What a watch reports since this version, if anything.
    fn events(&self, plural: &str, since: u64) -> Option<String> {
        let shown = self.shown.unwrap_or(u64::MAX);
        let is_due = |change: &&Change| {
            change.plural == plural && change.version > since && change.version <= shown
        };
        let due = self.changes.iter().filter(is_due);
        let lines: Vec<_> = due.map(|change| change.event.to_string()).collect();
        (!lines.is_empty()).then(|| lines.join("\n") + "\n")
    }

    fn latencies(&mut self) -> (Duration, Duration) {
        let Some(chance) = &mut self.faults else {
            return (Duration::ZERO, Duration::ZERO);
        };
        let mut latency = || {
            let most = chance.pick(&[2, 2, 2, 900]);
            Duration::from_millis(u64::try_from(chance.seconds(most)).unwrap_or(0))
        };
        (latency(), latency())
    }

    fn fate(&mut self) -> Fate {
        self.coverage.writes += 1;
        if let Some(left) = self.dies_after {
            self.dies_after = left.checked_sub(1);
            if self.dies_after.is_none() {
                return Fate::Dies {
                    is_done: self.version.is_multiple_of(2),
                };
            }
        }
        let Some(chance) = &mut self.faults else {
            return Fate::Done;
        };
        match chance.of(12) {
            0 | 1 => {
                self.coverage.failures += 1;
                Fate::Refused(chance.pick(&[409, 422, 429, 500]))
            }
            2 => {
                self.coverage.lost_answers += 1;
                Fate::Lost
            }
            _ => Fate::Done,
        }
    }

    fn carry_out(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        now: Timestamp,
        is_answered: bool,
    ) -> Response<Body> {
        let mut path = path.split('/').skip_while(|part| *part != "ns").skip(1);
        let plural = match path.next() {
            Some(JOBS) => JOBS,
            Some(PODS) => PODS,
            _ => return refused(404, "NotFound"),
        };
        let name = path.next().unwrap_or_default();
        let Some(old) = self.get(plural, name).cloned() else {
            return refused(404, "NotFound");
        };
        let conditions = [
            &body["metadata"],
            &body["preconditions"],
            &body["deleteOptions"]["preconditions"],
        ];
        if conditions.iter().any(|wanted| differs(&old, wanted)) {
            return refused(409, "Conflict");
        }
        if plural == PODS {
            self.coverage.effects += 1;
            let by = promises::operating(body).unwrap_or_default();
            let job = self.get(JOBS, &by).map(job);
            self.writes.effect(&by, job.as_ref(), &old, body);
        }
        match (method.as_str(), path.next()) {
            ("PATCH", Some("status")) => {
                let mut new = old.clone();
                new["status"] = body["status"].clone();
                self.writes.status(&job(&old), &job(&new), now, is_answered);
                fake::answer(200, &self.set(JOBS, new))
            }
            ("PATCH", None) => {
                let mut new = old.clone();
                merge(&mut new, body);
                let is_held = |object: &Value| {
                    let finalizers = object["metadata"]["finalizers"].as_array();
                    let mut finalizers = finalizers.into_iter().flatten();
                    finalizers.any(|held| held == keys::OPERATION_JOB_FINALIZER)
                };
                if plural == JOBS && is_held(&old) && !is_held(&new) {
                    let pods = self.all(PODS);
                    self.writes.let_go(&job(&old), &pods);
                }
                fake::answer(200, &self.set(plural, new))
            }
            ("DELETE", None) => {
                if plural == JOBS {
                    self.writes.expire(&job(&old), now);
                }
                self.delete(plural, name, now);
                fake::answer(200, &success())
            }
            ("POST", Some("eviction")) => {
                self.delete(PODS, name, now);
                fake::answer(201, &success())
            }
            _ => refused(405, "MethodNotAllowed"),
        }
    }

    pub(super) fn get(&self, plural: &'static str, name: &str) -> Option<&Value> {
        self.objects.get(&(plural, name.to_owned()))
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        let of_kind = self.objects.iter().filter(|((kind, _), _)| *kind == plural);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn all_jobs(&self) -> Vec<OperationJob> {
        self.all(JOBS).iter().map(job).collect()
    }

    pub(super) fn create(&mut self, plural: &'static str, mut object: Value) {
        self.made += 1;
        object["metadata"]["uid"] = json!(format!("{plural}-{}", self.made));
        object["metadata"]["namespace"] = json!("ns");
        object["metadata"]["generation"] = json!(1);
        self.set(plural, object);
    }

    /// Stores an object, if that is a change; an object that is being deleted and has no finalizer
    /// disappears.
    pub(super) fn set(&mut self, plural: &'static str, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if self.get(plural, name) == Some(&object) {
            return object;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = (plural, name.to_owned());
        let is_deleted = object["metadata"]["deletionTimestamp"].is_string();
        let finalizers = object["metadata"]["finalizers"].as_array();
        let is_held = finalizers.is_some_and(|held| !held.is_empty());
        // A deleted pod disappears when the kubelet reports its end.
        let goes = plural == JOBS && is_deleted && !is_held;
        let kind = match (goes, self.objects.contains_key(&key)) {
            (true, _) => "DELETED",
            (false, true) => "MODIFIED",
            (false, false) => "ADDED",
        };
        if goes {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, object.clone());
        }
        self.report(plural, kind, &object);
        object
    }

    fn report(&mut self, plural: &'static str, kind: &str, object: &Value) {
        self.changes.push(Change {
            version: self.version,
            plural,
            event: json!({"type": kind, "object": object}),
        });
    }

    pub(super) fn delete(&mut self, plural: &'static str, name: &str, now: Timestamp) {
        let Some(mut object) = self.get(plural, name).cloned() else {
            return;
        };
        if object["metadata"]["deletionTimestamp"].is_null() {
            let second = whole_seconds(now);
            object["metadata"]["deletionTimestamp"] = json!(second.to_string());
            self.set(plural, object);
        }
    }

    /// The kubelet removes pods that are deleted.
    pub(super) fn remove_deleted_pods(&mut self) {
        let is_deleted = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
        for mut pod in self.all(PODS).into_iter().filter(is_deleted) {
            self.version += 1;
            pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            self.objects.remove(&(PODS, name.to_owned()));
            self.report(PODS, "DELETED", &pod);
        }
    }

    /// Watches report nothing newer from now on.
    pub(super) fn lag(&mut self) {
        self.shown = Some(self.shown.unwrap_or(self.version));
    }
}

fn job(object: &Value) -> OperationJob {
    serde_json::from_value(object.clone()).expect("an OperationJob")
}

/// Whether an object is not the one, or the version, that a write is meant for.
fn differs(object: &Value, wanted: &Value) -> bool {
    ["uid", "resourceVersion"]
        .iter()
        .any(|key| !wanted[key].is_null() && wanted[key] != object["metadata"][key])
}

fn success() -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "code": 200})
}

fn refused(code: u16, reason: &str) -> Response<Body> {
    fake::answer(
        code,
        &json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
            "message": "refused",
            "details": {"causes": [{"field": "spec", "reason": "FieldValueInvalid", "message": "no"}]},
        }),
    )
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}
