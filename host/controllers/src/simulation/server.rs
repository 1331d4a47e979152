//! An API server in memory, behind kube's client: the objects of one namespace, with lists and watches.
//! Requests may fail, be carried out without an answer, take long, or be the last of a process. Watches
//! may lag, or be refused. Every write is checked against the [`Promises`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use super::{
    Chance, Coverage, Objects,
    objects::{merge, name_of, strategic},
    plurals::{BUDGETS, PODS},
};
use crate::fake;

/// The kinds that it serves.
pub(crate) mod plurals {
    pub(crate) const OPERATION_JOBS: &str = "operationjobs";
    pub(crate) const PODS: &str = "pods";
    pub(crate) const NODES: &str = "nodes";
    pub(crate) const JOBS: &str = "jobs";
    pub(crate) const JOB_TEMPLATES: &str = "jobtemplates";
    pub(crate) const REPLICA_SETS: &str = "replicasets";
    pub(crate) const DEPLOYMENTS: &str = "deployments";
    pub(crate) const BUDGETS: &str = "poddisruptionbudgets";
    pub(crate) const COLLA_SETS: &str = "collasets";
    pub(crate) const REVISIONS: &str = "controllerrevisions";
    pub(crate) const LEASES: &str = "leases";
    pub(crate) const WEBHOOKS: &str = "mutatingwebhookconfigurations";
    pub(crate) const RULES: &str = "podtransitionrules";
    pub(crate) const CONTEXTS: &str = "resourcecontexts";
    pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
    pub(crate) const DECORATIONS: &str = "poddecorations";

    pub(crate) const ALL: [&str; 16] = [
        OPERATION_JOBS,
        PODS,
        NODES,
        JOBS,
        JOB_TEMPLATES,
        REPLICA_SETS,
        DEPLOYMENTS,
        BUDGETS,
        COLLA_SETS,
        REVISIONS,
        LEASES,
        WEBHOOKS,
        RULES,
        CONTEXTS,
        CLAIMS,
        DECORATIONS,
    ];
}

/// What is promised of a controller, checked at the write that could break it.
pub(crate) trait Promises: Send {
    /// A process begins, which knows nothing of what was before.
    fn process_begins(&mut self) {}

    /// A write is accepted.
    fn write(&mut self, write: &Write<'_>);

    /// An Event is sent.
    fn event(&mut self, _event: &Value) {}

    /// The promises that were broken.
    fn broken(&self) -> &[String];
}

/// A write of the controller that the API server accepts.
pub(crate) struct Write<'a> {
    /// The cluster before it.
    pub(crate) objects: &'a Objects,
    pub(crate) plural: &'static str,
    /// `status` or `eviction`.
    pub(crate) subresource: Option<&'a str>,
    pub(crate) body: &'a Value,
    /// Null of an object that is created.
    pub(crate) old: &'a Value,
    /// What the object becomes; none: it is deleted.
    pub(crate) new: Option<&'a Value>,
    pub(crate) now: Timestamp,
    /// Whether the controller gets the answer.
    pub(crate) is_answered: bool,
}

/// The wall clock of a world: it goes on with the paused clock of the process that runs.
#[derive(Debug)]
struct Clock {
    base: Timestamp,
    began: Option<Instant>,
}

/// What there is, and what goes wrong.
pub(crate) struct State {
    pub(crate) objects: Objects,
    /// Whether lists and watches are refused.
    pub(crate) is_watch_down: bool,
    pub(crate) faults: Option<Chance>,
    /// The answer to the next write of this kind gets lost.
    pub(crate) loses_answer_of: Option<&'static str>,
    /// After how many more writes the process dies.
    pub(crate) dies_after: Option<usize>,
    is_dead: bool,
    pub(crate) coverage: Coverage,
    pub(crate) promises: Box<dyn Promises>,
}

/// The API server.
pub(crate) struct Server {
    state: Mutex<State>,
    clock: Mutex<Clock>,
    changed: Notify,
    died: Notify,
}

/// What is to become of a write.
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

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Server {
    pub(crate) fn new(promises: Box<dyn Promises>) -> Self {
        let base = Timestamp::from_second(1_700_000_000).expect("a time");
        Self {
            state: Mutex::new(State {
                objects: Objects::new(),
                is_watch_down: false,
                faults: None,
                loses_answer_of: None,
                dies_after: None,
                is_dead: false,
                coverage: Coverage::default(),
                promises,
            }),
            clock: Mutex::new(Clock { base, began: None }),
            changed: Notify::new(),
            died: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        let clock = self.clock();
        clock.base + clock.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// A process begins, in whose paused runtime this is called.
    pub(crate) fn process_begins(&self) {
        self.clock().began = Some(Instant::now());
        let mut state = self.state();
        (state.is_dead, state.dies_after) = (false, None);
        state.promises.process_begins();
    }

    /// It ends, and this much later another one can begin.
    pub(crate) fn process_ends(&self, away: Duration) {
        let now = self.now();
        let mut clock = self.clock();
        (clock.base, clock.began) = (now + away, None);
    }

    /// Waits until the process dies.
    pub(crate) async fn died(&self) {
        loop {
            let died = self.died.notified();
            if self.state().is_dead {
                return;
            }
            died.await;
        }
    }

    /// Lets watches report all there is again.
    pub(crate) fn catch_up(&self) {
        self.state().objects.shown = None;
        self.changed.notify_waiters();
    }

    /// Something changed that waiting watches must see.
    pub(crate) fn announce(&self) {
        self.changed.notify_waiters();
    }

    /// A client of this server.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let api = Arc::clone(self);
        let service = tower::service_fn(move |request| {
            let api = Arc::clone(&api);
            async move { api.serve(request).await }
        });
        Client::new(service, "ns")
    }

    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, Failed> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::GET {
            return Ok(self.read(&path, query).await);
        }
        if path.ends_with("selfsubjectaccessreviews") {
            let mut review = body;
            review["status"] = json!({"allowed": true});
            return Ok(fake::answer(201, &review));
        }
        if path.contains("/events") {
            self.state().promises.event(&body);
            return Ok(fake::answer(201, &body));
        }
        self.write(&parts.method, &path, &body).await
    }

    async fn read(&self, path: &str, query: &str) -> Response<Body> {
        let (plural, rest) = parts(path);
        if let Some(name) = rest.first() {
            return self.state().read(plural, name);
        }
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
                        if let Some(events) = state.objects.events(plural, since) {
                            let body = Body::from(events.into_bytes());
                            return Response::builder().body(body).expect("a response");
                        }
                    }
                    _ => return fake::answer(200, &state.objects.list(plural)),
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
        let fate = self.state().fate(parts(path).0);
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
    /// One object, which the caches do not matter to.
    fn read(&mut self, plural: &'static str, name: &str) -> Response<Body> {
        if self.faults.as_mut().is_some_and(|chance| chance.once_in(8)) {
            self.coverage.failures += 1;
            return refused(500, "InternalError");
        }
        let found = self.objects.get(plural, name);
        found.map_or_else(
            || refused(404, "NotFound"),
            |found| fake::answer(200, found),
        )
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

    fn fate(&mut self, plural: &str) -> Fate {
        self.coverage.writes += 1;
        if self.loses_answer_of == Some(plural) {
            self.loses_answer_of = None;
            self.coverage.lost_answers += 1;
            return Fate::Lost;
        }
        if let Some(left) = self.dies_after {
            self.dies_after = left.checked_sub(1);
            if self.dies_after.is_none() {
                return Fate::Dies {
                    is_done: self.objects.version().is_multiple_of(2),
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
        let (plural, rest) = parts(path);
        let name = rest.first().copied().unwrap_or_default();
        let subresource = rest.get(1).copied();
        if method == Method::POST && rest.is_empty() {
            return self.create(plural, body, now, is_answered);
        }
        let Some(old) = self.objects.get(plural, name).cloned() else {
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
        let mut new = old.clone();
        let new = match (method.as_str(), subresource) {
            // Of pods, the API server takes metadata with the status.
            ("PATCH", Some("status")) if plural == PODS => {
                strategic(&mut new["metadata"], &body["metadata"]);
                strategic(&mut new["status"], &body["status"]);
                Some(new)
            }
            ("PATCH", Some("status")) => {
                new["status"] = body["status"].clone();
                Some(new)
            }
            ("PATCH", None) => {
                if plural == PODS {
                    strategic(&mut new, body);
                } else {
                    merge(&mut new, body);
                }
                count_generation(&mut new, &old);
                Some(new)
            }
            ("PATCH", Some("resize")) if plural == PODS => {
                strategic(&mut new["spec"], &body["spec"]);
                drop_empty_amounts(&mut new["spec"]);
                count_generation(&mut new, &old);
                Some(new)
            }
            ("DELETE", None) => None,
            ("POST", Some("eviction")) => {
                if let Some(refusal) = self.budget_refusal(&old) {
                    return refusal;
                }
                None
            }
            _ => return refused(405, "MethodNotAllowed"),
        };
        if plural == PODS {
            self.coverage.effects += 1;
        }
        self.promises.write(&Write {
            objects: &self.objects,
            plural,
            subresource,
            body,
            old: &old,
            new: new.as_ref(),
            now,
            is_answered,
        });
        let Some(new) = new else {
            self.objects.delete(plural, name, now);
            let leaving = self.objects.get(plural, name);
            return match (subresource, leaving) {
                (Some(_), _) => fake::answer(201, &success()),
                (None, Some(leaving)) => fake::answer(200, leaving),
                (None, None) => fake::answer(200, &success()),
            };
        };
        fake::answer(200, &self.objects.set(plural, new))
    }

    fn create(
        &mut self,
        plural: &'static str,
        body: &Value,
        now: Timestamp,
        is_answered: bool,
    ) -> Response<Body> {
        let name = name_of(body);
        if self.objects.get(plural, name).is_some() {
            return refused(409, "AlreadyExists");
        }
        if plural == PODS {
            self.coverage.effects += 1;
        }
        self.promises.write(&Write {
            objects: &self.objects,
            plural,
            subresource: None,
            body,
            old: &Value::Null,
            new: Some(body),
            now,
            is_answered,
        });
        self.objects.create(plural, body.clone(), now);
        let created = self.objects.get(plural, name);
        created.map_or_else(
            || refused(422, "Invalid"),
            |created| fake::answer(201, created),
        )
    }

    /// Refuses an eviction as Kubernetes does: by a budget that allows none now, or because there are
    /// several.
    fn budget_refusal(&self, pod: &Value) -> Option<Response<Body>> {
        let mut budgets = self.objects.all(BUDGETS);
        budgets.retain(|budget| {
            let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
            let mut wanted = wanted.into_iter().flatten();
            wanted.all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        });
        match budgets.as_slice() {
            [] => None,
            [budget] if budget["status"]["disruptionsAllowed"] != 0 => None,
            [_] => Some(fake::answer(
                429,
                &json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 429,
                    "reason": "TooManyRequests", "message": "the disruption budget needs it",
                    "details": {"causes": [{"reason": "DisruptionBudget", "message": "needs 1 healthy pods"}]},
                }),
            )),
            _ => Some(refused(500, "InternalError")),
        }
    }
}

/// Empty requests and limits are not stored.
fn drop_empty_amounts(spec: &mut Value) {
    let containers = spec["containers"].as_array_mut().into_iter().flatten();
    for container in containers {
        if let Some(resources) = container["resources"].as_object_mut() {
            resources.retain(|_, amounts| amounts.as_object().is_none_or(|all| !all.is_empty()));
        }
    }
}

/// Another spec is another generation.
fn count_generation(new: &mut Value, old: &Value) {
    if new["spec"] != old["spec"] {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// What a path names: the kind, and what follows.
fn parts(path: &str) -> (&'static str, Vec<&str>) {
    let all: Vec<_> = path.split('/').collect();
    let place = |plural: &'static str| Some((all.iter().position(|part| *part == plural)?, plural));
    let found = plurals::ALL.into_iter().filter_map(place).min();
    found.map_or((" ", Vec::new()), |(place, plural)| {
        (plural, all[place + 1..].to_vec())
    })
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
