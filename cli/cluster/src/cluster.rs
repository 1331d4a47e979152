//! The cluster, and what is read from it.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams},
};
use operon_cli_model::{Kind, Object, Related};

use crate::failure::{Failure, Missing, explained};

/// How long the API server may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// How much of a log is read, in bytes.
const LOG: i64 = 256 * 1024;

/// A client, and the namespace that the user means.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The namespace of which objects are read.
    pub namespace: String,
}

impl Cluster {
    /// Connects with this configuration. A failed request is not repeated.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn connect(mut config: Config, namespace: String) -> anyhow::Result<Self> {
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        // A user of the kubeconfig may be one that a command logs in.
        let client = Client::try_from(config).map_err(|error| match Failure::from(error) {
            Failure::Unreachable(cause) => anyhow!("the kubeconfig cannot be used: {cause}"),
            failure => anyhow!("{failure}"),
        })?;
        Ok(Self { client, namespace })
    }

    /// The same cluster, for objects of another namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// A client for other kinds.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of a kind in all namespaces.
    pub fn everywhere(&self, kind: Kind) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind))
    }

    /// The objects of a kind in the namespace.
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    /// Reads an object.
    pub async fn get(&self, kind: Kind, name: &str) -> anyhow::Result<Object> {
        parsed(kind, &self.get_raw(kind, name).await?)
    }

    /// Reads an object with all its fields, also those that this version does not know.
    pub async fn get_raw(&self, kind: Kind, name: &str) -> anyhow::Result<DynamicObject> {
        let found = timely(self.api(kind).get(name)).await;
        found.map_err(|failure| {
            let what = format!("{} {name:?} in namespace {:?}", kind.name(), self.namespace);
            explained(failure, "read", &what, kind)
        })
    }

    /// Reads all objects of a kind, of the namespace or of all, each also with all its fields. One that cannot be read is an
    /// error of its own.
    pub async fn list(
        &self,
        kind: Kind,
        is_everywhere: bool,
    ) -> Result<Vec<anyhow::Result<(Object, DynamicObject)>>, Failure> {
        let api = if is_everywhere {
            self.everywhere(kind)
        } else {
            self.api(kind)
        };
        let listed = timely(api.list(&ListParams::default())).await?;
        let objects = listed.items.into_iter();
        let objects = objects.map(|object| Ok((parsed(kind, &object)?, object)));
        Ok(objects.collect())
    }

    /// Reads the Events of the namespace about an object.
    pub async fn events(&self, uid: &str) -> Result<Vec<Event>, Failure> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let listed = timely(events.list(&about)).await?;
        Ok(listed.items)
    }

    /// Reads the last lines that the containers of a pod wrote: of each its name, and the lines or why there are none.
    ///
    /// # Errors
    /// The pod cannot be read.
    pub async fn logs(
        &self,
        pod: &str,
        lines: usize,
    ) -> anyhow::Result<Vec<(String, Result<String, Failure>)>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = timely(pods.get(pod))
            .await
            .map_err(|failure| match failure {
                Failure::Refused { code: 404, .. } => Missing::error(format!(
                    "there is no pod {pod:?} in namespace {:?}; its log is deleted with it",
                    self.namespace
                )),
                failure => anyhow!("failed to read pod {pod:?}: {failure}"),
            })?;
        let spec = found.spec.unwrap_or_default();
        let containers = spec.init_containers.unwrap_or_default().into_iter();
        let mut logs = Vec::new();
        for container in containers.chain(spec.containers) {
            let params = LogParams {
                container: Some(container.name.clone()),
                tail_lines: i64::try_from(lines).ok(),
                limit_bytes: Some(LOG),
                ..LogParams::default()
            };
            logs.push((container.name, timely(pods.logs(pod, &params)).await));
        }
        Ok(logs)
    }

    /// Reads what the tree of an object needs. What is refused becomes a sentence.
    pub async fn related(&self, object: &Object) -> Related {
        let wanted = object.wanted();
        let mut related = Related::default();
        if let Some(selector) = wanted.jobs {
            let jobs = Api::namespaced(self.client.clone(), &self.namespace);
            let listed = timely(jobs.list(&ListParams::default().labels(&selector))).await;
            take(
                listed.map(|list| list.items),
                "Jobs",
                &mut related.jobs,
                &mut related.unread,
            );
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        if let Some(selector) = wanted.pods {
            let listed = timely(pods.list(&ListParams::default().labels(&selector))).await;
            take(
                listed.map(|list| list.items),
                "pods",
                &mut related.pods,
                &mut related.unread,
            );
        }
        for name in wanted.pod_names {
            let found = timely(pods.get_opt(&name)).await;
            let is_refused = found.is_err();
            let found = found.map(|pod| pod.into_iter().collect());
            take(found, "pods", &mut related.pods, &mut related.unread);
            if is_refused {
                break;
            }
        }
        related
    }
}

fn take<K>(read: Result<Vec<K>, Failure>, what: &str, into: &mut Vec<K>, unread: &mut Vec<String>) {
    match read {
        Ok(read) => into.extend(read),
        Err(failure) => unread.push(format!("{what} are not shown: {failure}")),
    }
}

/// The object as the model has it.
pub fn parsed(kind: Kind, object: &DynamicObject) -> anyhow::Result<Object> {
    let value = serde_json::to_value(object).context("failed to read the answer")?;
    Ok(Object::parse(kind, value)?)
}

/// Awaits a request, but not for ever.
pub async fn timely<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::NoAnswer(LIMIT)),
    }
}

fn resource(kind: Kind) -> ApiResource {
    let kind_of = GroupVersionKind::gvk(kind.group(), "v1alpha1", kind.name());
    ApiResource::from_gvk_with_plural(&kind_of, kind.plural())
}
