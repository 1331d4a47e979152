//! Performs the effects of actions.
//!
//! Effects are performed as the plugin's own ServiceAccount, so Kubernetes RBAC decides what an action may
//! do; and always in the job's namespace, whatever namespace the effect names. `guard` refuses what no action may do, and
//! `audit` logs what became of each effect.

mod access;
mod answered;
mod audit;
mod evict;
mod guard;
mod impersonate;
mod kinds;
pub(crate) mod limit;
mod requirements;
mod unanswered;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject, Request},
};
use operon_api::keys;
use operon_core::{
    action::{Effect, ObjectReference, PatchKind, Propagation, guard::Refused},
    action_plugin::account::service_account_user,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use self::{
    access::Access,
    audit::{OnBehalf, TARGET as AUDIT},
    guard::Guard,
};
use self::{
    answered::Asked,
    audit::{Actor, Outcome},
    impersonate::impersonating,
    kinds::{Kinds, own_kinds},
    limit::Turns,
    requirements::Known,
    unanswered::Unanswered,
};
use crate::{
    apply::{client_config, creation_body, describe, within_limit},
    error::Error,
    recent::Recent,
};

/// The longest name of a field manager that the API server accepts.
const MANAGER_BYTES: usize = 128;

/// The field manager of a plugin's effects. A plugin's name may have 253 bytes: a name that is too long is
/// shortened, and a digest distinguishes it.
fn manager(plugin: &str) -> String {
    let name = format!("{}{plugin}", keys::ACTION_MANAGER_PREFIX);
    if name.len() <= MANAGER_BYTES {
        return name;
    }
    let digest = Sha256::digest(plugin.as_bytes());
    let digits = digest
        .iter()
        .take(8)
        .fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
    let end = name.floor_char_boundary(MANAGER_BYTES - 1 - digits.len());
    format!("{}-{digits}", &name[..end])
}

/// What an effect left behind.
#[derive(Debug)]
pub enum Performed {
    /// The object as it is now.
    Object(Box<DynamicObject>),
    /// Nothing that concerns a cache.
    Nothing,
}

/// Performs effects as a plugin's ServiceAccount.
#[derive(Clone)]
pub struct Performer {
    client: Client,
    actor: Arc<Actor>,
    manager: String,
    kinds: Arc<Kinds>,
    known: Arc<Known>,
    turns: Arc<Turns>,
    /// The uids of the pods whose eviction was accepted lately. The answer has no pod, so the cache learns of
    /// the deletion from the watch only; until then the pod is not evicted again.
    evicted: Arc<Recent<String, ()>>,
    /// Of an action: no one else reads these pods again.
    unanswered: Option<Arc<Unanswered>>,
    /// Of an action: what it may do beyond what RBAC decides.
    guard: Option<Arc<Guard>>,
    /// The API server checks the effects and performs none.
    dry_run: bool,
}

/// Creates [`Performer`]s: a client per ServiceAccount, and the kinds that the API server serves.
pub struct Performers {
    config: Config,
    namespace: String,
    clients: Mutex<HashMap<String, Client>>,
    kinds: Arc<Kinds>,
}

impl Performers {
    /// Performers that impersonate ServiceAccounts of the operator's namespace.
    pub fn new(config: Config, client: Client, namespace: String) -> Self {
        let kinds = Arc::new(Kinds::new(client, own_kinds()));
        Self {
            config: client_config(config),
            namespace,
            clients: Mutex::default(),
            kinds,
        }
    }

    /// Performers whose only ServiceAccount has this client, for an API server that serves these kinds.
    #[cfg(test)]
    pub(crate) fn of_client(
        client: Client,
        service_account: &str,
        kinds: impl IntoIterator<Item = ApiResource>,
    ) -> Self {
        let config = Config::new(http::Uri::from_static("http://localhost"));
        let performers = Self::new(config, client.clone(), "operon-system".to_owned());
        let lock = |error: PoisonError<_>| error.into_inner();
        let mut known = performers.kinds.known.lock().unwrap_or_else(lock);
        for kind in kinds {
            known.insert((kind.api_version.clone(), kind.kind.clone()), kind);
        }
        drop(known);
        let mut clients = performers
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients.insert(service_account.to_owned(), client);
        drop(clients);
        performers
    }

    /// A client that acts as this ServiceAccount.
    ///
    /// # Errors
    /// The account's name can't be sent, or the client can't be built.
    pub fn client(&self, service_account: &str) -> Result<Client, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(service_account) {
            return Ok(client.clone());
        }
        let user = service_account_user(&self.namespace, service_account);
        let config = impersonating(self.config.clone(), &user)?;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        clients.insert(service_account.to_owned(), client.clone());
        Ok(client)
    }

    /// A performer of this plugin's component, which has this digest, that acts as this ServiceAccount.
    ///
    /// # Errors
    /// As [`Performers::client`].
    pub fn performer(
        &self,
        (plugin, digest): (&str, &str),
        service_account: &str,
        guard: Guard,
    ) -> Result<Performer, String> {
        let actor = Actor {
            account: service_account_user(&self.namespace, service_account),
            plugin: Some((plugin.to_owned(), digest.to_owned())),
        };
        Ok(Performer {
            actor: Arc::new(actor),
            manager: manager(plugin),
            unanswered: Some(Arc::default()),
            guard: Some(Arc::new(guard)),
            ..self.of_controller(service_account)?
        })
    }

    /// A performer of a controller that acts as a ServiceAccount of its own, which is also its field manager.
    ///
    /// # Errors
    /// As [`Performers::client`].
    pub fn of_controller(&self, account: &str) -> Result<Performer, String> {
        let actor = Actor {
            account: service_account_user(&self.namespace, account),
            plugin: None,
        };
        Ok(Performer {
            client: self.client(account)?,
            actor: Arc::new(actor),
            manager: account.to_owned(),
            kinds: Arc::clone(&self.kinds),
            known: Arc::default(),
            turns: Arc::default(),
            evicted: Arc::default(),
            unanswered: None,
            guard: None,
            dry_run: false,
        })
    }

    /// The API server's name of this kind.
    pub async fn kind(&self, api_version: &str, kind: &str) -> Result<ApiResource, Error> {
        self.kinds.find(api_version, kind).await
    }

    /// Whether the API server serves this kind now.
    ///
    /// # Errors
    /// The API server gave no answer.
    pub async fn is_served(&self, api_version: &str, kind: &str) -> Result<bool, Error> {
        self.kinds.is_served(api_version, kind).await
    }
}

impl Performer {
    /// A performer with this client, on objects of these kinds.
    #[cfg(test)]
    pub(crate) fn of_client(
        client: Client,
        manager: &str,
        kinds: impl IntoIterator<Item = ApiResource>,
    ) -> Self {
        Self {
            kinds: Arc::new(Kinds::new(client.clone(), kinds)),
            client,
            actor: Arc::new(Actor {
                account: service_account_user("operon-system", manager),
                plugin: None,
            }),
            manager: manager.to_owned(),
            known: Arc::default(),
            turns: Arc::default(),
            evicted: Arc::default(),
            unanswered: None,
            guard: None,
            dry_run: false,
        }
    }

    /// The same performer, of which the API server checks the effects and performs none.
    #[must_use]
    pub fn of_dry_run(&self) -> Self {
        Self {
            evicted: Arc::default(),
            unanswered: None,
            dry_run: true,
            ..self.clone()
        }
    }

    /// Performs one effect for an object, in its namespace. Events are not effects on objects; the caller sends them.
    pub async fn perform(
        &self,
        behalf: &OnBehalf<'_>,
        effect: &Effect,
    ) -> Result<Performed, Error> {
        let namespace = behalf.namespace;
        if self.was_evicted(effect) {
            return Ok(Performed::Nothing);
        }
        let guarded = self.guarded(namespace, effect).await;
        let effect =
            &*guarded.inspect_err(|error| self.note(behalf, effect, &Outcome::Refused(error)))?;
        let done = self.perform_once(namespace, effect).await;
        self.note(behalf, effect, &Outcome::Sent(&done));
        if let (Err(error), Some(unanswered)) = (&done, &self.unanswered) {
            unanswered.note(namespace, effect, error);
        }
        done
    }

    async fn perform_once(&self, namespace: &str, effect: &Effect) -> Result<Performed, Error> {
        match effect {
            Effect::Patch {
                object,
                subresource,
                kind,
                body,
                uid,
                resource_version,
            } => {
                let body =
                    with_preconditions(*kind, body, uid.as_deref(), resource_version.as_deref())?;
                let asked = Asked::new(namespace, object, uid.as_deref());
                self.patch(asked, subresource.as_deref(), *kind, body).await
            }
            Effect::Apply(body) => self.apply(namespace, body).await,
            Effect::Create(body) => self.create(namespace, body).await,
            Effect::Delete {
                object,
                uid,
                resource_version,
                grace_period_seconds,
                propagation,
            } => {
                let preconditions = Preconditions {
                    uid: uid.clone(),
                    resource_version: resource_version.clone(),
                };
                let params = DeleteParams {
                    grace_period_seconds: *grace_period_seconds,
                    preconditions: Some(preconditions),
                    dry_run: self.dry_run,
                    ..match propagation {
                        Propagation::Background => DeleteParams::background(),
                        Propagation::Foreground => DeleteParams::foreground(),
                    }
                };
                let asked = Asked::new(namespace, object, uid.as_deref());
                self.delete(asked, &params).await
            }
            Effect::Evict {
                pod,
                uid,
                resource_version,
                grace_period_seconds,
            } => {
                let preconditions = Preconditions {
                    uid: uid.clone(),
                    resource_version: resource_version.clone(),
                };
                self.evict(namespace, pod, preconditions, *grace_period_seconds)
                    .await
            }
            Effect::Event { .. } => Ok(Performed::Nothing),
        }
    }

    async fn patch(
        &self,
        asked: Asked<'_>,
        subresource: Option<&str>,
        kind: PatchKind,
        body: Value,
    ) -> Result<Performed, Error> {
        let Asked {
            namespace, object, ..
        } = asked;
        subresource.map_or(Ok(()), check_segment)?;
        let api = self.api(namespace, object).await?;
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            dry_run: self.dry_run,
            ..PatchParams::default()
        };
        let patch = match kind {
            PatchKind::Merge => Patch::Merge(body),
            PatchKind::Strategic => Patch::Strategic(body),
            PatchKind::Json => {
                Patch::Json(serde_json::from_value(body).map_err(|error| Error::Effect {
                    message: format!("its JSON patch can't be read: {error}"),
                })?)
            }
        };
        let request = async {
            match subresource {
                None => api.patch(&object.name, &params, &patch).await,
                Some(part) => {
                    api.patch_subresource(part, &object.name, &params, &patch)
                        .await
                }
            }
        };
        let done = within_limit("patch", || named(namespace, object), request).await?;
        Ok(asked.performed(done))
    }

    async fn apply(&self, namespace: &str, body: &Value) -> Result<Performed, Error> {
        let (object, body) = placed(namespace, body)?;
        let api = self.api(namespace, &object).await?;
        let params = PatchParams {
            dry_run: self.dry_run,
            ..PatchParams::apply(&self.manager)
        };
        let patch = Patch::Apply(&body);
        let request = api.patch(&object.name, &params, &patch);
        within_limit("apply", || named(namespace, &object), request)
            .await
            .map(|done| Asked::about(namespace, &object, &body).performed(done))
    }

    async fn create(&self, namespace: &str, body: &Value) -> Result<Performed, Error> {
        let (object, body) = placed(namespace, body)?;
        let api = self.api(namespace, &object).await?;
        let params = PostParams {
            field_manager: Some(self.manager.clone()),
            dry_run: self.dry_run,
        };
        // As it is: the API server explains best why an object is invalid.
        let request = Request::new(api.resource_url())
            .create(&params, creation_body(&body))
            .map_err(|error| Error::Effect {
                message: error.to_string(),
            })?;
        let request = self.client.request(request);
        within_limit("create", || named(namespace, &object), request)
            .await
            .map(|done| Asked::new(namespace, &object, None).performed(done))
    }

    /// An object as it is now.
    pub async fn get(
        &self,
        namespace: &str,
        object: &ObjectReference,
    ) -> Result<DynamicObject, Error> {
        let api = self.api(namespace, object).await?;
        within_limit("get", || named(namespace, object), api.get(&object.name)).await
    }

    async fn delete(&self, asked: Asked<'_>, params: &DeleteParams) -> Result<Performed, Error> {
        let Asked {
            namespace, object, ..
        } = asked;
        let api = self.api(namespace, object).await?;
        let request = api.delete(&object.name, params);
        match within_limit("delete", || named(namespace, object), request).await {
            Ok(done) => Ok(done
                .left()
                .map_or(Performed::Nothing, |left| asked.performed(left))),
            Err(Error::Write {
                source: kube::Error::Api(status),
                ..
            }) if status.code == 404 => Ok(Performed::Nothing),
            Err(error) => Err(error),
        }
    }

    async fn api(
        &self,
        namespace: &str,
        object: &ObjectReference,
    ) -> Result<Api<DynamicObject>, Error> {
        check_segment(&object.name)?;
        let resource = self.kinds.find(&object.api_version, &object.kind).await?;
        Ok(Api::namespaced_with(
            self.client.clone(),
            namespace,
            &resource,
        ))
    }
}

/// A name becomes a segment of the request's path: it must be exactly one segment, or an effect could reach
/// an object that it does not name.
fn check_segment(name: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if !name.is_empty() && name.len() <= 253 && name.chars().all(fits) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::Effect {
        message: format!("{name:?} is not a valid name of an object or subresource"),
    })
}

fn named(namespace: &str, object: &ObjectReference) -> String {
    describe(&object.kind, Some(namespace), &object.name)
}

/// Which object this is; none if it does not say.
fn reference(body: &Value) -> Option<ObjectReference> {
    let text = |pointer: &str| Some(body.pointer(pointer)?.as_str()?.to_owned());
    Some(ObjectReference {
        api_version: text("/apiVersion")?,
        kind: text("/kind")?,
        name: text("/metadata/name")?,
    })
}

/// A whole object with its namespace set, refused if it names another.
fn placed(namespace: &str, body: &Value) -> Result<(ObjectReference, Value), Error> {
    let reference = reference(body).ok_or_else(|| Error::Effect {
        message: "an object needs apiVersion, kind and metadata.name".to_owned(),
    })?;
    let other = body["metadata"]["namespace"].as_str();
    if let Some(other) = other.filter(|other| *other != namespace) {
        let ObjectReference { kind, name, .. } = &reference;
        let rule = format!("an effect may not leave the job's namespace {namespace:?}");
        return Err(Error::EffectRefused {
            verb: "write",
            object: describe(kind, Some(other), name),
            refused: Refused::new("metadata.namespace", rule),
        });
    }
    let mut body = body.clone();
    if let Some(metadata) = body.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Ok((reference, body))
}

/// The patch with its preconditions in it, in the patch's own language.
fn with_preconditions(
    kind: PatchKind,
    body: &Value,
    uid: Option<&str>,
    resource_version: Option<&str>,
) -> Result<Value, Error> {
    let mut body = body.clone();
    let conditions = [("uid", uid), ("resourceVersion", resource_version)];
    let conditions = conditions
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    match kind {
        PatchKind::Merge | PatchKind::Strategic => {
            let metadata = body
                .as_object_mut()
                .map(|object| object.entry("metadata").or_insert_with(|| json!({})))
                .and_then(Value::as_object_mut)
                .ok_or_else(|| Error::Effect {
                    message: "a merge patch must be a JSON object".to_owned(),
                })?;
            for (key, value) in conditions {
                metadata.insert(key.to_owned(), value.into());
            }
        }
        PatchKind::Json => {
            let steps = body.as_array_mut().ok_or_else(|| Error::Effect {
                message: "a JSON patch must be a JSON array".to_owned(),
            })?;
            for (key, value) in conditions {
                let path = format!("/metadata/{key}");
                steps.insert(0, json!({ "op": "test", "path": path, "value": value }));
            }
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
