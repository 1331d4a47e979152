//! The API server's names of kinds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Client,
    core::{ApiResource, GroupVersionKind, Status, TypeMeta},
    discovery::{self, Scope},
    error::DiscoveryError,
};
use operon_api::{CollaSet, DaemonJob, JobFlow, ReactiveJob, ResourceContext};

use crate::{
    apply::{WRITE_LIMIT, within_limit},
    error::Error,
    recent::Recent,
};

/// How long the API server is not asked again for a kind that no effect can be about: a
/// CustomResourceDefinition may be installed at any time.
const UNUSABLE: Duration = Duration::from_secs(10);

/// The code by which the API server says that it does not serve a group and version.
const NOT_FOUND: u16 = 404;

/// `apiVersion` and `kind`.
type Key = (String, String);

/// The plural names of kinds; those of other kinds than our own are read from the API server once.
pub(super) struct Kinds {
    client: Client,
    pub(super) known: Mutex<HashMap<Key, ApiResource>>,
    unusable: Recent<Key, Unusable>,
    /// Held while the API server is asked, so that one answer serves all who want it.
    asking: tokio::sync::Mutex<()>,
}

/// Why no effect can be about a kind.
#[derive(Clone)]
enum Unusable {
    /// The API server does not serve its group and version.
    NoGroup(Box<Status>),
    /// The API server does not serve it in its group and version.
    NoKind(String),
    /// It is not namespaced.
    ClusterScoped,
}

/// The kinds that controllers write: the API server need not be asked for their plurals.
pub(super) fn own_kinds() -> [ApiResource; 9] {
    [
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<ControllerRevision>(&()),
        ApiResource::erase::<CollaSet>(&()),
        ApiResource::erase::<ResourceContext>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<ReactiveJob>(&()),
        ApiResource::erase::<JobFlow>(&()),
        ApiResource::erase::<DaemonJob>(&()),
    ]
}

impl Kinds {
    /// These kinds are known.
    pub(super) fn new(client: Client, kinds: impl IntoIterator<Item = ApiResource>) -> Self {
        let known = kinds.into_iter().map(|kind| {
            let key = (kind.api_version.clone(), kind.kind.clone());
            (key, kind)
        });
        Self {
            client,
            known: Mutex::new(known.collect()),
            unusable: Recent::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The name of a kind.
    ///
    /// # Errors
    /// The API server does not serve it, it is not namespaced, or there was no answer.
    pub(super) async fn find(&self, api_version: &str, kind: &str) -> Result<ApiResource, Error> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(answer) = self.remembered(&key) {
            return answer;
        }
        // Not for longer than one question takes: an API server without an answer must not hold up all in turn.
        let turn = tokio::time::timeout(WRITE_LIMIT, self.asking.lock());
        let _turn = turn.await;
        if let Some(answer) = self.remembered(&key) {
            return answer;
        }
        self.ask(key).await
    }

    /// Whether the API server serves a kind now.
    ///
    /// # Errors
    /// The kind is not namespaced, or there was no answer.
    pub(super) async fn is_served(&self, api_version: &str, kind: &str) -> Result<bool, Error> {
        let key = (api_version.to_owned(), kind.to_owned());
        match self.ask(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_served() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remembered(&self, key: &Key) -> Option<Result<ApiResource, Error>> {
        if let Some((unusable, _)) = self.unusable.get(key) {
            return Some(Err(unusable.error(key)));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned().map(Ok)
    }

    /// Asks the API server, and remembers its answer.
    async fn ask(&self, key: Key) -> Result<ApiResource, Error> {
        let answer = self.discover(&key).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(resource) => {
                self.unusable.forget(&key);
                known.insert(key, resource.clone());
                Ok(resource)
            }
            Err(unusable) => {
                known.remove(&key);
                let error = unusable.error(&key);
                self.unusable.keep(key, unusable, UNUSABLE);
                Err(error)
            }
        }
    }

    async fn discover(&self, key: &Key) -> Result<Result<ApiResource, Unusable>, Error> {
        let (api_version, kind) = key;
        let unknown = |source| unknown(key, source);
        let types = TypeMeta {
            api_version: api_version.clone(),
            kind: kind.clone(),
        };
        let gvk = GroupVersionKind::try_from(&types).map_err(|_| unknown(None))?;
        let request = discovery::pinned_kind(&self.client, &gvk);
        let described = || format!("kind {kind:?} of {api_version:?}");
        match within_limit("find", described, request).await {
            Ok((_, capabilities)) if capabilities.scope == Scope::Cluster => {
                Ok(Err(Unusable::ClusterScoped))
            }
            Ok((resource, _)) => Ok(Ok(resource)),
            Err(Error::Write { source, .. }) => match source {
                kube::Error::Api(status) if status.code == NOT_FOUND => {
                    Ok(Err(Unusable::NoGroup(status)))
                }
                kube::Error::Discovery(DiscoveryError::MissingKind(name)) => {
                    Ok(Err(Unusable::NoKind(name)))
                }
                source => Err(unknown(Some(source))),
            },
            Err(other) => Err(other),
        }
    }
}

impl Unusable {
    fn error(&self, key: &Key) -> Error {
        match self {
            Self::NoGroup(status) => unknown(key, Some(kube::Error::Api(status.clone()))),
            Self::NoKind(name) => {
                let missing = DiscoveryError::MissingKind(name.clone());
                unknown(key, Some(kube::Error::Discovery(missing)))
            }
            Self::ClusterScoped => Error::ClusterScoped {
                api_version: key.0.clone(),
                kind: key.1.clone(),
            },
        }
    }
}

fn unknown((api_version, kind): &Key, source: Option<kube::Error>) -> Error {
    Error::UnknownKind {
        api_version: api_version.clone(),
        kind: kind.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use serde_json::json;

    use super::*;
    use crate::fake::{self, answer};

    /// An API server that serves Widgets of `example.com/v1` if it says so, and the cluster-scoped Planets.
    struct Served {
        kinds: Kinds,
        are_widgets: Arc<AtomicBool>,
        questions: Arc<AtomicUsize>,
    }

    fn served() -> Served {
        let (are_widgets, questions) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (widgets, asked) = (Arc::clone(&are_widgets), Arc::clone(&questions));
        let client = fake::client(move |request| {
            asked.fetch_add(1, Ordering::Relaxed);
            if !request.uri().path().ends_with("/example.com/v1") {
                let status = json!({"status": "Failure", "message": "not found", "reason": "NotFound", "code": 404});
                return Some(answer(404, &status));
            }
            let resource = |kind: &str, is_namespaced: bool| {
                let plural = format!("{}s", kind.to_lowercase());
                json!({"name": plural, "singularName": "", "kind": kind,
                    "namespaced": is_namespaced, "verbs": ["get"]})
            };
            let mut resources = vec![resource("Planet", false)];
            if widgets.load(Ordering::Relaxed) {
                resources.push(resource("Widget", true));
            }
            let list = json!({"kind": "APIResourceList", "groupVersion": "example.com/v1",
                "resources": resources});
            Some(answer(200, &list))
        });
        Served {
            kinds: Kinds::new(client, []),
            are_widgets,
            questions,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_answers_for_all_effects_also_where_a_kind_is_of_no_use() {
        for (api_version, kind, is_not_served) in [
            ("example.com/v1", "Widget", true),
            ("example.com/v1", "Planet", false),
            ("other.example.com/v1", "Widget", true),
        ] {
            let Served {
                kinds, questions, ..
            } = served();
            let find = || kinds.find(api_version, kind);
            let (first, second) = tokio::join!(find(), find());
            for answer in [first, second, find().await] {
                let error = answer.expect_err("no effect can be about it");
                assert_eq!(error.is_not_served(), is_not_served, "{}", error.chain());
            }
            let asked = || questions.load(Ordering::Relaxed);
            assert_eq!(asked(), 1, "{kind}");
            tokio::time::sleep(UNUSABLE).await;
            find().await.expect_err("it is the same");
            assert_eq!(asked(), 2, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_installed_is_found_soon_and_not_asked_for_again() {
        let Served {
            kinds,
            are_widgets,
            questions,
        } = served();
        let find = || kinds.find("example.com/v1", "Widget");
        find().await.expect_err("it is not installed");
        are_widgets.store(true, Ordering::Relaxed);
        tokio::time::sleep(UNUSABLE).await;
        for _ in 0..3 {
            assert_eq!(find().await.expect("it is installed").plural, "widgets");
        }
        assert_eq!(questions.load(Ordering::Relaxed), 2);
        // Whoever asks whether it is served gets the answer of now.
        are_widgets.store(false, Ordering::Relaxed);
        let is_served = async || kinds.is_served("example.com/v1", "Widget").await.ok();
        assert_eq!(is_served().await, Some(false));
        find().await.expect_err("it is gone");
        are_widgets.store(true, Ordering::Relaxed);
        assert_eq!(is_served().await, Some(true));
        find().await.expect("it is back");
    }
}
