//! An API server in memory, as much of one as a host needs to lead, to watch and to load actions: lists,
//! watches from a version on, creates, patches. It checks no schemas, though it describes OperationJobs, and no
//! rights. A status must be written over the version that the object has.
//!
//! A host under test is the shipped program, with a kubeconfig that names this server.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, stream};
use kube::CustomResourceExt as _;
use operon_api::OperationJob;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long a test waits for something to become so.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A change of the object of this name is never answered. There is an object of this plural then, named
/// after the plural of that one.
pub(crate) const SILENT: &str = "silent";

/// The server.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    world: Arc<World>,
}

struct World {
    objects: Mutex<Objects>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Objects {
    /// By plural and name: no two of a test are in two namespaces.
    found: BTreeMap<(String, String), Value>,
    /// What happened, in order, by plural; the first has version 1.
    events: Vec<(String, Value)>,
    /// The status of the reviews that a test answers in its own way, by plural.
    reviews: BTreeMap<String, Value>,
}

/// What a path names.
struct Named {
    group_version: String,
    namespace: Option<String>,
    plural: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Api {
    pub(crate) async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let world = Arc::new(World {
            objects: Mutex::default(),
            version: watch::Sender::new(0),
        });
        let router = Router::new().fallback(answer).with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, world })
    }

    /// A kubeconfig that names it.
    pub(crate) fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        })
        .to_string()
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), name.to_owned());
        self.world.lock().found.get(&key).cloned()
    }

    /// Creates an object.
    pub(crate) fn create(&self, plural: &str, object: Value) {
        self.world.created(plural, object);
    }

    /// Answers every review of this plural with this status from now on.
    pub(crate) fn review(&self, plural: &str, status: Value) {
        let mut objects = self.world.lock();
        objects.reviews.insert(plural.to_owned(), status);
    }

    /// Edits an object by a merge patch; a new spec is a new generation.
    pub(crate) fn edit(&self, plural: &str, name: &str, patch: &Value) -> Result<()> {
        let edited = self.world.patched(plural, name, None, patch);
        edited.map(|_| ()).context("there is no such object")
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) -> Result<()> {
        let mut objects = self.world.lock();
        let key = (plural.to_owned(), name.to_owned());
        let deleted = objects.found.remove(&key).context("no such object")?;
        self.world
            .happened(&mut objects, plural, "DELETED", deleted);
        Ok(())
    }

    /// Waits until an object is as it should be, and returns it.
    pub(crate) async fn until(
        &self,
        plural: &str,
        name: &str,
        what: &str,
        so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let begin = Instant::now();
        let mut versions = self.world.version.subscribe();
        loop {
            let found = self.get(plural, name);
            if let Some(object) = found.as_ref().filter(|object| so(object)) {
                return Ok(object.clone());
            }
            let left = LIMIT.saturating_sub(begin.elapsed());
            if tokio::time::timeout(left, versions.changed())
                .await
                .is_err()
            {
                bail!("{what}: not so of {plural} {name}: {found:#?}");
            }
        }
    }
}

impl World {
    fn lock(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change; the object gets the version of it.
    fn happened(
        &self,
        objects: &mut Objects,
        plural: &str,
        what: &str,
        mut object: Value,
    ) -> Value {
        let version = objects.events.len() as u64 + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = (plural.to_owned(), name.to_owned());
        if what != "DELETED" {
            objects.found.insert(key, object.clone());
        }
        let event = json!({"type": what, "object": object});
        objects.events.push((plural.to_owned(), event));
        self.version.send_replace(version);
        object
    }

    fn created(&self, plural: &str, mut object: Value) -> Value {
        let mut objects = self.lock();
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("uid-{}", objects.events.len()));
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
        self.happened(&mut objects, plural, "ADDED", object)
    }

    fn patched(
        &self,
        plural: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Option<Value> {
        let mut objects = self.lock();
        let key = (plural.to_owned(), name.to_owned());
        let before = objects.found.get(&key)?.clone();
        let mut object = before.clone();
        if subresource == Some("status") {
            object["status"] = patch["status"].clone();
        } else {
            merge(&mut object, patch);
        }
        if object["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        Some(self.happened(&mut objects, plural, "MODIFIED", object))
    }

    /// Whether a status is written over another version than the object has, or over none, which might
    /// overwrite what another leader wrote.
    fn is_outdated(&self, plural: &str, name: &str, patch: &Value) -> bool {
        let key = (plural.to_owned(), name.to_owned());
        let objects = self.lock();
        let object = objects.found.get(&key);
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        object.is_some_and(|object| version(object) != version(patch))
    }

    fn list(&self, named: &Named) -> Value {
        let objects = self.lock();
        let items: Vec<&Value> = objects
            .found
            .iter()
            .filter(|((plural, _), _)| *plural == named.plural)
            .map(|(_, object)| object)
            .collect();
        let version = objects.events.len().to_string();
        json!({
            "apiVersion": named.group_version, "kind": "List",
            "metadata": {"resourceVersion": version}, "items": items,
        })
    }

    /// What happened to this kind, or to one object of it, after a version; it never ends.
    fn watch(self: Arc<Self>, plural: String, name: Option<String>, after: usize) -> Body {
        let versions = self.version.subscribe();
        let start = (self, versions, after);
        let lines = stream::unfold(start, move |(world, mut versions, after)| {
            let (plural, name) = (plural.clone(), name.clone());
            async move {
                loop {
                    versions.borrow_and_update();
                    let events: Vec<_> = world.lock().events.iter().skip(after).cloned().collect();
                    if !events.is_empty() {
                        let next = after + events.len();
                        let mine = events.into_iter().filter(|(kind, event)| {
                            let of = event["object"]["metadata"]["name"].as_str();
                            *kind == plural && name.as_deref().is_none_or(|name| of == Some(name))
                        });
                        let lines: Vec<_> = mine.map(|(_, event)| event.to_string()).collect();
                        let lines = lines
                            .iter()
                            .flat_map(|line| [line.as_str(), "\n"])
                            .collect::<String>();
                        return Some((lines, (world, versions, next)));
                    }
                    versions.changed().await.ok()?;
                }
            }
        });
        Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>))
    }
}

/// A JSON merge patch.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            object.as_object_mut().and_then(|object| object.remove(key));
        } else {
            merge(&mut object[key.as_str()], value);
        }
    }
}

async fn answer(State(world): State<Arc<World>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = query(parts.uri.query().unwrap_or_default());
    let body = to_bytes(body, 64 << 20).await.unwrap_or_default();
    if parts.uri.path().starts_with("/openapi/v3/") {
        return json_of(StatusCode::OK, &described());
    }
    let Some(named) = named(parts.uri.path()) else {
        return failure(StatusCode::NOT_FOUND, "NotFound");
    };
    let watches = query.get("watch").is_some_and(|watch| *watch != "false");
    match (parts.method, &named.name) {
        (Method::PATCH, Some(name)) if name == SILENT => {
            world.created(SILENT, json!({"metadata": {"name": named.plural}}));
            std::future::pending().await
        }
        (Method::POST, _) => create(&world, &named, &body),
        (Method::PATCH, Some(name)) => {
            let patch = serde_json::from_slice(&body).unwrap_or_default();
            let subresource = named.subresource.as_deref();
            if subresource == Some("status") && world.is_outdated(&named.plural, name, &patch) {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            found(world.patched(&named.plural, name, subresource, &patch))
        }
        (Method::GET, Some(name)) => {
            let key = (named.plural.clone(), name.clone());
            let object = world.lock().found.get(&key).cloned();
            found(object)
        }
        (Method::GET, None) if watches => {
            let name = query.get("fieldSelector");
            let name = name.and_then(|selector| selector.strip_prefix("metadata.name%3D"));
            let name = name.map(str::to_owned);
            let after = query.get("resourceVersion").and_then(|v| v.parse().ok());
            world
                .watch(named.plural, name, after.unwrap_or(0))
                .into_response()
        }
        (Method::GET, None) => json_of(StatusCode::OK, &world.list(&named)),
        _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

/// The description of OperationJobs.
fn described() -> Value {
    let crd = serde_json::to_value(OperationJob::crd()).unwrap_or_default();
    let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["x-kubernetes-group-version-kind"] = json!([{"kind": "OperationJob"}]);
    json!({"components": {"schemas": {"OperationJob": schema}}})
}

/// The parameters of a request, as they are encoded.
fn query(text: &str) -> HashMap<&str, &str> {
    let parameters = text.split('&');
    parameters.filter_map(|p| p.split_once('=')).collect()
}

fn create(world: &World, named: &Named, body: &Bytes) -> Response {
    let mut object: Value = serde_json::from_slice(body).unwrap_or_default();
    let review = match named.plural.as_str() {
        "selfsubjectreviews" => Some(json!({"userInfo": {"username": "operon"}})),
        "selfsubjectaccessreviews" => Some(json!({"allowed": true})),
        _ => None,
    };
    if let Some(usual) = review {
        let other = world.lock().reviews.get(&named.plural).cloned();
        object["status"] = other.unwrap_or(usual);
        return json_of(StatusCode::CREATED, &object);
    }
    if let Some(namespace) = &named.namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    json_of(StatusCode::CREATED, &world.created(&named.plural, object))
}

/// `/api/v1/…` or `/apis/GROUP/VERSION/…`; none if nothing follows.
fn named(path: &str) -> Option<Named> {
    let mut segments = path.trim_matches('/').split('/');
    let group_version = match segments.next()? {
        "api" => segments.next()?.to_owned(),
        _ => format!("{}/{}", segments.next()?, segments.next()?),
    };
    let mut plural = segments.next()?.to_owned();
    let mut namespace = None;
    if plural == "namespaces" {
        namespace = segments.next().map(str::to_owned);
        segments.next()?.clone_into(&mut plural);
    }
    Some(Named {
        group_version,
        namespace,
        plural,
        name: segments.next().map(str::to_owned),
        subresource: segments.next().map(str::to_owned),
    })
}

fn found(object: Option<Value>) -> Response {
    object.map_or_else(
        || failure(StatusCode::NOT_FOUND, "NotFound"),
        |object| json_of(StatusCode::OK, &object),
    )
}

fn failure(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16(),
    });
    json_of(code, &status)
}

fn json_of(code: StatusCode, value: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (code, json, value.to_string()).into_response()
}
