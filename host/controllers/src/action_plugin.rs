//! The ActionPlugin controller: finds a plugin's component, has it loaded, and keeps the catalogue and
//! the plugin's status true.
//!
//! What an ActionPlugin rejects is stopped by its watch, before a pass begins. A newer version that cannot
//! be loaded leaves the previous one serving. Calls under way finish on the version that they began with.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, ServiceAccount},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::{
    ActionPlugin,
    conditions::{self, PODS_LEFT_BEHIND, READY},
    keys,
};
use operon_core::{
    action::{ActionLoader, LoadError, Severity},
    action_plugin::{
        elect,
        limits::limits,
        source::{Component, ComponentSource, ConfigMaps},
        status::{LeftBehind as LeftBehindView, Load, Serving, status},
        version::Version,
    },
};

use crate::{
    catalogue::{Catalogue, Loaded},
    effects::{Performers, service_account_user},
    error::Error,
    events::Events,
    left_behind::LeftBehind,
    metrics::Metrics,
    plugin_watch::Watcher,
    run::{Next, Reconciler},
    status::{StatusWriter, Written, whole_seconds},
    store::Cache,
    triggers::Triggers,
};

/// The controller's parts.
pub struct ActionPlugins {
    /// Writes statuses.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The user that the host itself is.
    pub host_user: String,
    /// All plugins.
    pub plugins: Cache<ActionPlugin>,
    /// The ConfigMaps of the operator's namespace.
    pub config_maps: Cache<ConfigMap>,
    /// The ServiceAccounts of the operator's namespace.
    pub accounts: Cache<ServiceAccount>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// Finds components.
    pub source: Arc<dyn ComponentSource>,
    /// Loads components.
    pub loader: Arc<dyn ActionLoader>,
    /// Makes clients that act as a plugin's ServiceAccount.
    pub performers: Performers,
    /// Where loaded actions go.
    pub catalogue: Arc<Catalogue>,
    /// Wakes the jobs of an action that changed.
    pub triggers: Arc<Triggers>,
    /// The pods that vanished jobs left behind.
    pub left_behind: Arc<LeftBehind>,
    /// Sends Events.
    pub events: Events,
    /// Writes statuses.
    pub status: StatusWriter,
    /// Counts loaded plugins.
    pub metrics: Metrics,
    /// What could not be loaded for good, by plugin: it is not tried again until it changes.
    pub refused: Mutex<HashMap<String, (Version, LoadError)>>,
}

/// How long loading takes before the status says that it goes on.
const SOON: Duration = Duration::from_millis(500);

/// How long after that it is compared again.
const AGAIN: Duration = Duration::from_secs(5);

struct Maps<'a>(&'a Store<ConfigMap>, &'a str);

impl ConfigMaps for Maps<'_> {
    fn get(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.0.get(&ObjectRef::new(name).within(self.1))
    }
}

impl Reconciler for ActionPlugins {
    type Object = ActionPlugin;
    const NAME: &'static str = "actionplugin";
    const STATUS_MANAGER: Option<&'static str> = Some(keys::ACTION_PLUGIN_MANAGER);

    async fn reconcile(&self, plugin: Arc<ActionPlugin>) -> Result<Next, Error> {
        let mut attempt = pin!(self.attempt(&plugin)); // (client)
        let mut wait = SOON;
        let (load, retry) = loop {
            match tokio::time::timeout(wait, &mut attempt).await {
                Ok(attempted) => break attempted,
                Err(tokio::time::error::Elapsed { .. }) => {
                    wait = self.tell_loading(&plugin).await; // (client)
                }
            }
        };
        let mut next = self.write_status(&plugin, &load).await?; // (client)
        next.retry |= retry;
        Ok(next)
    }
}

impl ActionPlugins {
    /// Has the plugin's component serve its action, if that is its part. Says what became of it, and
    /// whether trying again may help. It ends as soon as the plugin is changed or deleted, for then it is
    /// not this that is wanted.
    async fn attempt(&self, plugin: &ActionPlugin) -> (Load, bool) {
        if plugin.metadata.deletion_timestamp.is_some() {
            return (Load::Deleting, false);
        }
        if let Some(by) = self.rival(plugin) {
            return (Load::Shadowed { by }, false);
        }
        tokio::select! {
            loaded = self.load(plugin) => loaded,
            // The change itself brings another pass.
            () = self.catalogue.until(|| !self.is_current(plugin)) => (self.loading(plugin), false),
        }
    }

    /// The older plugin that serves this plugin's action, if there is one.
    fn rival(&self, plugin: &ActionPlugin) -> Option<String> {
        let plugins = self.plugins.store.state();
        let elected = elect(plugins.iter().map(|p| &**p), &plugin.spec.action)?;
        (elected.uid() != plugin.uid()).then(|| elected.name_any())
    }

    /// Whether this plugin, with this spec, is the one that serves its action.
    fn is_current(&self, plugin: &ActionPlugin) -> bool {
        let plugins = self.plugins.store.state();
        let elected = elect(plugins.iter().map(|p| &**p), &plugin.spec.action);
        elected.is_some_and(|now| now.uid() == plugin.uid() && now.spec == plugin.spec)
    }

    fn loading(&self, plugin: &ActionPlugin) -> Load {
        let message = self.catalogue.unserved(&plugin.spec.action);
        Load::Loading {
            message: message.unwrap_or_else(|| "another version is being loaded".to_owned()),
        }
    }

    /// Writes that the plugin is being loaded. Says when to try again: a write may come too early, or fail,
    /// which does not end the load.
    async fn tell_loading(&self, plugin: &ActionPlugin) -> Duration {
        match self.write_status(plugin, &self.loading(plugin)).await {
            Ok(next) => next.requeue_after.unwrap_or(AGAIN),
            Err(error) => {
                let plugin = plugin.name_any();
                tracing::warn!(
                    plugin,
                    error = error.chain(),
                    "the status could not be written"
                );
                AGAIN
            }
        }
    }

    async fn load(&self, plugin: &ActionPlugin) -> (Load, bool) {
        let LoadError {
            reason,
            message,
            transient,
        } = match self.try_load(plugin).await {
            Ok(()) => return (Load::Loaded, false),
            Err(error) => error,
        };
        let (action, uid) = (&plugin.spec.action, plugin.uid().unwrap_or_default());
        let told = format!("ActionPlugin {:?}: {message}", plugin.name_any());
        let current = || self.is_current(plugin);
        if self.catalogue.fail(action, &uid, &told, current) {
            self.triggers.action_changed(action);
        }
        let reason = reason.to_owned();
        (Load::Failed { reason, message }, transient)
    }

    async fn try_load(&self, plugin: &ActionPlugin) -> Result<(), LoadError> {
        let account = &plugin.spec.service_account_name;
        self.check_service_account(account)?;
        let maps = Maps(&self.config_maps.store, &self.namespace);
        let component = self.source.fetch(plugin, &maps).await?;
        let version = Version::of(plugin, &component.digest);
        if self.serving(plugin).is_some_and(|s| s.version == version) {
            return Ok(());
        }
        if let Some(error) = self.known_refusal(&version) {
            return Err(error);
        }
        match self.load_version(plugin, &component, version.clone()).await {
            Ok(loaded) => self.publish(plugin, loaded),
            Err(error) => {
                tracing::warn!(plugin = plugin.name_any(), reason = error.reason, error = %error, "action could not be loaded");
                if !error.transient {
                    self.remember_refusal(version, &error);
                }
                Err(error)
            }
        }
    }

    /// Lets what was loaded serve, unless it is not what is wanted any more.
    fn publish(&self, plugin: &ActionPlugin, loaded: Loaded) -> Result<(), LoadError> {
        let (action, digest) = (&plugin.spec.action, loaded.version.digest.clone());
        let label = loaded.action.registration().job_label.clone();
        let account = &plugin.spec.service_account_name;
        let wanted = || self.is_current(plugin) && self.has_account(account);
        if self.catalogue.publish(action, loaded, wanted) {
            tracing::info!(plugin = plugin.name_any(), action, digest, "action loaded");
            self.metrics.plugins_loaded(self.catalogue.count());
            self.triggers.action_changed(action);
            let name = plugin.name_any();
            self.left_behind
                .action_loaded(action, &name, label.as_deref(), &self.pods.store);
            return Ok(());
        }
        self.check_service_account(account)?;
        Err(LoadError {
            reason: "Changed",
            message: "the ActionPlugin was changed or deleted while it was loaded".to_owned(),
            transient: true,
        })
    }

    fn known_refusal(&self, version: &Version) -> Option<LoadError> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused
            .get(&version.plugin)
            .filter(|(known, _)| known == version)
            .map(|(_, error)| error.clone())
    }

    fn remember_refusal(&self, version: Version, error: &LoadError) {
        let plugins = self.plugins.store.state();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|uid, _| plugins.iter().any(|p| p.uid().as_ref() == Some(uid)));
        refused.insert(version.plugin.clone(), (version, error.clone()));
    }

    async fn load_version(
        &self,
        plugin: &ActionPlugin,
        component: &Component,
        version: Version,
    ) -> Result<Loaded, LoadError> {
        let (name, spec) = (plugin.name_any(), &plugin.spec);
        let limits = limits(spec.limits.as_ref()).map_err(|message| LoadError {
            reason: "BadLimits",
            message,
            transient: false,
        })?;
        let settings = serde_json::Value::Object(spec.settings.clone());
        let action = self
            .loader
            .load(&spec.action, &component.bytes, &settings, &limits)
            .await?;
        let watcher = Watcher {
            performers: &self.performers,
            service_account: &spec.service_account_name,
            action: &spec.action,
            pods: &self.pods,
            triggers: &self.triggers,
        };
        let watch = watcher.start(action.registration()).await?;
        let performer = self.performers.performer(&name, &spec.service_account_name);
        let performer = performer.map_err(|message| LoadError {
            reason: "InvalidServiceAccount",
            message,
            transient: false,
        })?;
        Ok(Loaded {
            plugin: name,
            action,
            performer,
            watch,
            version,
        })
    }

    /// What is found here is not remembered: the account's own change brings another pass.
    fn check_service_account(&self, name: &str) -> Result<(), LoadError> {
        if self.host_user == service_account_user(&self.namespace, name) {
            return Err(LoadError {
                reason: "HostServiceAccount",
                message: format!(
                    "spec.serviceAccountName {name:?} is the host's own account; give the action one of its own, with only the rights that it needs"
                ),
                transient: false,
            });
        }
        if self.has_account(name) {
            return Ok(());
        }
        Err(LoadError {
            reason: "ServiceAccountNotFound",
            message: format!(
                "spec.serviceAccountName {name:?} does not exist in namespace {:?}",
                self.namespace
            ),
            transient: false,
        })
    }

    fn has_account(&self, name: &str) -> bool {
        let account = ObjectRef::new(name).within(&self.namespace);
        self.accounts.store.get(&account).is_some()
    }

    /// What serves the action for this plugin now.
    fn serving(&self, plugin: &ActionPlugin) -> Option<Arc<Loaded>> {
        let loaded = self.catalogue.loaded(&plugin.spec.action)?;
        (plugin.uid().as_ref() == Some(&loaded.version.plugin)).then_some(loaded)
    }

    /// The plugin as it is now, if its spec is still this one.
    fn unchanged(&self, plugin: &ActionPlugin) -> Option<Arc<ActionPlugin>> {
        let now = self.plugins.store.get(&ObjectRef::from_obj(plugin))?;
        let same =
            now.uid() == plugin.uid() && now.metadata.generation == plugin.metadata.generation;
        same.then_some(now)
    }

    async fn write_status(&self, plugin: &ActionPlugin, load: &Load) -> Result<Next, Error> {
        let Some(plugin) = self.unchanged(plugin) else {
            return Ok(Next::default()); // Its change brings another pass.
        };
        let plugin = &*plugin;
        let serving = self.serving(plugin);
        let serving = serving.as_ref().map(|loaded| Serving {
            digest: &loaded.version.digest,
            registration: loaded.action.registration(),
        });
        let now = whole_seconds(Timestamp::now());
        let left = serving
            .as_ref()
            .and_then(|_| self.left_behind.pods(&plugin.spec.action));
        let left = left
            .as_ref()
            .map(|(label, pods)| LeftBehindView { label, pods });
        let count = left.map_or(0, |left| left.pods.len());
        self.metrics.left_behind(&plugin.name_any(), count);
        let next = status(plugin, serving.as_ref(), load, left, now);
        let api = Api::all(self.client.clone());
        let (version, current) = (plugin.resource_version(), plugin.status.as_ref());
        let (manager, version) = (keys::ACTION_PLUGIN_MANAGER, version.as_deref());
        let written = self
            .status
            .write(&api, manager, plugin, version, current, &next);
        match written.await? {
            Written::Unchanged => Ok(Next::default()),
            Written::Later(wait) => Ok(Next {
                requeue_after: Some(wait),
                retry: false,
            }),
            Written::Yes(written) => {
                self.plugins.wrote(*written);
                self.tell(plugin, load, &next.conditions).await;
                Ok(Next::default())
            }
        }
    }

    /// An Event if the condition Ready says something else than before, and one if pods are left behind
    /// since then.
    async fn tell(
        &self,
        plugin: &ActionPlugin,
        load: &Load,
        now: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    ) {
        let before = plugin
            .status
            .as_ref()
            .map(|s| s.conditions.as_slice())
            .unwrap_or_default();
        let said = |type_: &str| conditions::find(before, type_).map(|c| (&c.status, &c.message));
        if let Some(left) = conditions::find(now, PODS_LEFT_BEHIND)
            && said(PODS_LEFT_BEHIND).is_none()
        {
            let (reason, message) = (PODS_LEFT_BEHIND, &left.message);
            self.events
                .send(plugin, Severity::Warning, reason, "Watch", message)
                .await;
        }
        let Some(ready) = conditions::find(now, READY) else {
            return;
        };
        if said(READY) == Some((&ready.status, &ready.message)) {
            return;
        }
        let severity = match load {
            Load::Loaded | Load::Loading { .. } | Load::Deleting => Severity::Normal,
            Load::Shadowed { .. } | Load::Failed { .. } => Severity::Warning,
        };
        self.events
            .send(plugin, severity, &ready.reason, "Load", &ready.message)
            .await;
    }
}

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

/// A ServiceAccount of the operator's namespace changed or was deleted: stops what acts as one that does
/// not exist any more, and says which plugins must be reconciled.
pub fn account_changed(
    account: &ServiceAccount,
    accounts: &Store<ServiceAccount>,
    plugins: &Store<ActionPlugin>,
    catalogue: &Catalogue,
    triggers: &Triggers,
    metrics: &Metrics,
) -> Vec<ObjectRef<ActionPlugin>> {
    let name = account.name_any();
    if accounts.get(&ObjectRef::from_obj(account)).is_none() {
        for action in catalogue.revoke(&name) {
            triggers.action_changed(&action);
        }
        metrics.plugins_loaded(catalogue.count());
    }
    references(plugins, |plugin| plugin.spec.service_account_name == name)
}

/// A ConfigMap changed: the plugins whose component it holds must be reconciled.
pub fn config_map_changed(
    config_map: &ConfigMap,
    store: &Store<ActionPlugin>,
) -> Vec<ObjectRef<ActionPlugin>> {
    let name = config_map.name_any();
    let refers = |plugin: &ActionPlugin| {
        plugin
            .spec
            .source
            .config_map
            .as_ref()
            .is_some_and(|source| source.name == name)
    };
    references(store, refers)
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
    use futures::channel::mpsc::unbounded;
    use kube::runtime::{reflector::store::Writer, watcher::Event};
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
