//! What the cluster has, by name: actions, and objects for completion.

use std::collections::BTreeSet;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use operon_api::owner_kind::OwnerKind;
use operon_cli_cluster::{Cluster, Failure, timely};
use operon_cli_model::{Kind, Selectable};

/// How many names are read at most.
const MOST: u32 = 500;

/// What is listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listed {
    /// Objects of a kind of ours.
    Ours(Kind),
    /// Pods, or controllers of pods.
    Selectable(Selectable),
    Namespaces,
    Nodes,
}

/// The actions of the ActionPlugins.
pub(crate) async fn actions(cluster: &Cluster) -> Result<BTreeSet<String>, Failure> {
    let kind = GroupVersionKind::gvk("operon.dev", "v1alpha1", "ActionPlugin");
    let resource = ApiResource::from_gvk_with_plural(&kind, "actionplugins");
    let plugins: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let plugins = timely(plugins.list(&ListParams::default())).await?;
    let action = |plugin: &DynamicObject| Some(plugin.data["spec"]["action"].as_str()?.to_owned());
    Ok(plugins.items.iter().filter_map(action).collect())
}

/// The names of objects, in the namespace or of the cluster.
pub(crate) async fn names(cluster: &Cluster, what: Listed) -> Result<Vec<String>, Failure> {
    let core = |kind| ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let namespaced = |resource| {
        Api::<DynamicObject>::namespaced_with(cluster.client(), &cluster.namespace, &resource)
    };
    let api = match what {
        Listed::Ours(kind) => cluster.api(kind),
        Listed::Selectable(Selectable::Pod) => namespaced(core("Pod")),
        Listed::Selectable(Selectable::Owner(owner)) => namespaced(controllers(owner)),
        Listed::Namespaces => Api::all_with(cluster.client(), &core("Namespace")),
        Listed::Nodes => Api::all_with(cluster.client(), &core("Node")),
    };
    let listed = timely(api.list_metadata(&ListParams::default().limit(MOST))).await?;
    let names = listed.items.into_iter();
    Ok(names.filter_map(|object| object.metadata.name).collect())
}

fn controllers(owner: OwnerKind) -> ApiResource {
    let OwnerKind {
        group,
        version,
        kind,
        ..
    } = owner;
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}
