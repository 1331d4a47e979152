//! The flags that every command has, and the cluster that they name.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use operon_cli_cluster::Cluster;

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
    /// Connects as the flags say.
    pub(crate) async fn connect(&self) -> anyhow::Result<Cluster> {
        let mut config = self.config().await?;
        if let Some(user) = &self.user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups =
                (!self.groups.is_empty()).then(|| self.groups.clone());
        }
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Cluster::connect(config, namespace)
    }

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
