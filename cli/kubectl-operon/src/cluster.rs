//! The cluster that the flags name, and what is read from it.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use operon_cli_model::{Kind, Object, Related};

use crate::failure::{Failure, explained};

/// How long the API server may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// The flags of kubectl that name cluster, namespace and user.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of kubectl")]
pub(crate) struct Flags {
    /// The namespace [default: that of the context]
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig [default: as kubectl, $KUBECONFIG or ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Act as this user, or as system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", global = true, value_name = "USER")]
    user: Option<String>,
    /// Act as a member of this group; can be repeated
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "user"
    )]
    groups: Vec<String>,
}

impl Flags {
    /// The cluster and the user, as kubectl finds them.
    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let read = match &self.kubeconfig {
            Some(file) => match Kubeconfig::read_from(file) {
                Ok(read) => Config::from_custom_kubeconfig(read, &options).await,
                Err(error) => Err(error),
            },
            None if self.context.is_some() => Config::from_kubeconfig(&options).await,
            None => {
                let inferred = Config::infer().await;
                return inferred.map_err(|error| {
                    let cause = error.source().map(ToString::to_string);
                    anyhow!(
                        "there is no cluster: {}; set --kubeconfig or KUBECONFIG, as for kubectl",
                        cause.unwrap_or_default()
                    )
                });
            }
        };
        read.map_err(|error| {
            anyhow!("{error}; `kubectl config get-contexts` lists what a kubeconfig has")
        })
    }

    /// The namespace that was typed.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The kubeconfig that was typed.
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }
}

/// A client, and the namespace that the user means.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// Connects as the flags say.
    pub(crate) async fn connect(flags: &Flags) -> anyhow::Result<Self> {
        let mut config = flags.config().await?;
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        if let Some(user) = &flags.user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups =
                (!flags.groups.is_empty()).then(|| flags.groups.clone());
        }
        let namespace = flags
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        // A user of the kubeconfig may be one that a command logs in.
        let client = Client::try_from(config).map_err(|error| match Failure::from(error) {
            Failure::Unreachable(cause) => anyhow!("the kubeconfig cannot be used: {cause}"),
            failure => anyhow!("{failure}"),
        })?;
        Ok(Self { client, namespace })
    }

    /// A client for other kinds.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of a kind in the namespace.
    pub(crate) fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    /// Reads an object.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> anyhow::Result<Object> {
        parsed(kind, &self.get_raw(kind, name).await?)
    }

    /// Reads an object with all its fields, also those that this version does not know.
    pub(crate) async fn get_raw(&self, kind: Kind, name: &str) -> anyhow::Result<DynamicObject> {
        let found = timely(self.api(kind).get(name)).await;
        found.map_err(|failure| {
            let what = format!("{} {name:?} in namespace {:?}", kind.name(), self.namespace);
            explained(failure, "read", &what, kind)
        })
    }

    /// Reads all objects of a kind, of the namespace or of all, each also with all its fields. One that cannot be read is an
    /// error of its own.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        is_everywhere: bool,
    ) -> Result<Vec<anyhow::Result<(Object, DynamicObject)>>, Failure> {
        let api: Api<DynamicObject> = if is_everywhere {
            Api::all_with(self.client.clone(), &resource(kind))
        } else {
            self.api(kind)
        };
        let listed = timely(api.list(&ListParams::default())).await?;
        let objects = listed.items.into_iter();
        let objects = objects.map(|object| Ok((parsed(kind, &object)?, object)));
        Ok(objects.collect())
    }

    /// Reads what the tree of an object needs. What is refused becomes a sentence.
    pub(crate) async fn related(&self, object: &Object) -> Related {
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
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &self.namespace);
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
pub(crate) fn parsed(kind: Kind, object: &DynamicObject) -> anyhow::Result<Object> {
    let value = serde_json::to_value(object).context("failed to read the answer")?;
    Ok(Object::parse(kind, value)?)
}

/// Awaits a request, but not for ever.
pub(crate) async fn timely<T>(
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
