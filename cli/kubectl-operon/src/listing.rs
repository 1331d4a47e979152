//! What the cluster has, by name.

use std::collections::BTreeSet;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

use crate::{
    cluster::{Cluster, timely},
    failure::Failure,
};

/// The actions of the ActionPlugins.
pub(crate) async fn actions(cluster: &Cluster) -> Result<BTreeSet<String>, Failure> {
    let kind = GroupVersionKind::gvk("operon.dev", "v1alpha1", "ActionPlugin");
    let resource = ApiResource::from_gvk_with_plural(&kind, "actionplugins");
    let plugins: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let plugins = timely(plugins.list(&ListParams::default())).await?;
    let action = |plugin: &DynamicObject| Some(plugin.data["spec"]["action"].as_str()?.to_owned());
    Ok(plugins.items.iter().filter_map(action).collect())
}
