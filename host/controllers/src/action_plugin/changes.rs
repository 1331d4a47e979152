//! What a change of a plugin, a ServiceAccount or a ConfigMap stops immediately, and which plugins must be
//! reconciled because of it.

use k8s_openapi::{
    api::core::v1::{ConfigMap, ServiceAccount},
    jiff::Timestamp,
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{ActionPlugin, action_plugin::PluginSource};
use operon_core::action_plugin::account::Named;

use crate::{
    catalogue::{Catalogue, Loaded},
    metrics::Metrics,
    store::Store,
    triggers::Triggers,
};

/// A plugin changed or was deleted: stops what may not serve any more, and says which plugins must be
/// reconciled.
pub fn plugin_changed(
    plugin: &ActionPlugin,
    store: &Store<ActionPlugin>,
    catalogue: &Catalogue,
    triggers: &Triggers,
    metrics: &Metrics,
) -> Vec<ObjectRef<ActionPlugin>> {
    if store.get(&ObjectRef::from_obj(plugin)).is_none() {
        metrics.plugin_deleted(&plugin.name_any());
    }
    let mut actions = catalogue.settle(|| store.state(), Timestamp::now());
    metrics.plugins_loaded(catalogue.count());
    for action in &actions {
        triggers.action_changed(action);
    }
    actions.push(plugin.spec.action.clone());
    references(store, |other| actions.contains(&other.spec.action))
}

/// A ServiceAccount of the operator's namespace changed or was deleted: stops what acts as one that no action may
/// act as any more, and says which plugins must be reconciled.
pub fn account_changed(
    account: &ServiceAccount,
    accounts: &Store<ServiceAccount>,
    plugins: &Store<ActionPlugin>,
    catalogue: &Catalogue,
    triggers: &Triggers,
    metrics: &Metrics,
) -> Vec<ObjectRef<ActionPlugin>> {
    let (namespace, name) = (account.namespace().unwrap_or_default(), account.name_any());
    let latest = accounts.get(&ObjectRef::from_obj(account));
    let named = Named {
        namespace: &namespace,
        name: &name,
        account: latest.as_deref(),
    };
    if let Some(refusal) = named.refusal() {
        let acts_as = |loaded: &Loaded| loaded.version.service_account == name;
        let why = |loaded: &Loaded| acts_as(loaded).then(|| refusal.message.clone());
        stop(catalogue, triggers, metrics, why);
    }
    references(plugins, |plugin| plugin.spec.service_account_name == name)
}

/// Stops the loaded components for which there is a reason, and wakes their jobs.
pub(super) fn stop(
    catalogue: &Catalogue,
    triggers: &Triggers,
    metrics: &Metrics,
    why: impl Fn(&Loaded) -> Option<String>,
) {
    for action in catalogue.stop(why) {
        triggers.action_changed(&action);
    }
    metrics.plugins_loaded(catalogue.count());
}

/// A ConfigMap changed: the plugins that take their component, or the certificate authority of a registry, from it
/// must be reconciled.
pub fn config_map_changed(
    config_map: &ConfigMap,
    store: &Store<ActionPlugin>,
) -> Vec<ObjectRef<ActionPlugin>> {
    let name = config_map.name_any();
    references(store, |plugin| {
        let PluginSource {
            builtin: _,
            config_map,
            oci,
        } = &plugin.spec.source;
        let component = config_map.as_ref().map(|source| &source.name);
        let authority = oci
            .as_ref()
            .and_then(|oci| oci.certificate_authority.as_ref());
        let authority = authority.map(|authority| &authority.config_map.name);
        [component, authority].contains(&Some(&name))
    })
}

fn references(
    store: &Store<ActionPlugin>,
    of: impl Fn(&ActionPlugin) -> bool,
) -> Vec<ObjectRef<ActionPlugin>> {
    store
        .state_filter(of)
        .iter()
        .map(|plugin| ObjectRef::from_obj(&**plugin))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::store::Writer;
    use futures::channel::mpsc::unbounded;
    use kube::runtime::watcher::Event;
    use operon_api::action_plugin::ActionPluginSpec;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn pods_left_behind_are_not_counted_for_a_plugin_that_was_deleted() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (catalogue, (queue, _woken)) =
            (Arc::new(Catalogue::new(Timestamp::UNIX_EPOCH)), unbounded());
        let triggers = Triggers::new(queue, Arc::clone(&catalogue), Arc::default());
        let plugin = ActionPlugin::new("plugin", ActionPluginSpec::default());
        let mut plugins = Writer::<ActionPlugin>::default();
        metrics.left_behind("plugin", 2);
        for (event, is_counted) in [
            (Event::Apply(plugin.clone()), true),
            (Event::Delete(plugin.clone()), false),
        ] {
            plugins.apply_watcher_event(&event);
            let store = plugins.as_reader();
            plugin_changed(&plugin, &store, &catalogue, &triggers, &metrics);
            let mut text = String::new();
            encode(&mut text, &registry).expect("metrics");
            let counted = text.contains("operon_pods_left_behind{plugin=\"plugin\"} 2");
            assert_eq!(counted, is_counted, "{text}");
        }
    }
}
