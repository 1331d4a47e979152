//! The kinds of the page, and an object of one of them.

use std::sync::Arc;

use anyhow::Context as _;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use operon_api::ActionPlugin;
use operon_cli_cluster::{Cluster, parsed};
use operon_cli_model::{Kind, Object};

/// What the page lists: the kinds of the command, and ActionPlugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Ours(Kind),
    Plugin,
}

/// An object.
#[derive(Clone)]
pub(crate) enum Shown {
    Object(Arc<Object>),
    Plugin(Arc<ActionPlugin>),
}

impl What {
    /// All, in the order of the page's menus.
    pub(crate) const ALL: [Self; 6] = [
        Self::Ours(Kind::OperationJob),
        Self::Ours(Kind::JobFlow),
        Self::Ours(Kind::DaemonJob),
        Self::Ours(Kind::ReactiveJob),
        Self::Ours(Kind::CollaSet),
        Self::Plugin,
    ];

    /// The kind as an object names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours(kind) => kind.name(),
            Self::Plugin => "ActionPlugin",
        }
    }

    /// The name in the addresses of the page.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Ours(kind) => kind.plural(),
            Self::Plugin => "actionplugins",
        }
    }

    /// The objects of the cluster, or of this namespace.
    pub(crate) fn api(self, cluster: &Cluster, namespace: Option<&str>) -> Api<DynamicObject> {
        match (self, namespace) {
            (Self::Ours(kind), Some(namespace)) => cluster.within(namespace).api(kind),
            (Self::Ours(kind), None) => cluster.everywhere(kind),
            (Self::Plugin, _) => {
                let kind = GroupVersionKind::gvk("operon.dev", "v1alpha1", self.name());
                let resource = ApiResource::from_gvk_with_plural(&kind, self.plural());
                Api::all_with(cluster.client(), &resource)
            }
        }
    }

    /// The object as the model has it.
    pub(crate) fn parsed(self, object: &DynamicObject) -> anyhow::Result<Shown> {
        match self {
            Self::Ours(kind) => Ok(Shown::Object(Arc::new(parsed(kind, object)?))),
            Self::Plugin => {
                let value = serde_json::to_value(object).context("failed to read the answer")?;
                let plugin = serde_json::from_value(value).context("failed to read the ActionPlugin: the command and the CRDs of the cluster are of different versions; use the command of the same release")?;
                Ok(Shown::Plugin(Arc::new(plugin)))
            }
        }
    }
}

impl Shown {
    /// The version that the API server gave it.
    pub(crate) fn version(&self) -> Option<&str> {
        let metadata = match self {
            Self::Object(object) => object.metadata(),
            Self::Plugin(plugin) => &plugin.metadata,
        };
        metadata.resource_version.as_deref()
    }
}
