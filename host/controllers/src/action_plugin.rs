//! The ActionPlugin controller: finds a plugin's component, has it loaded, and keeps the catalogue and
//! the plugin's status true.
//!
//! A version that can't be loaded leaves the one before it serving. Calls under way finish on the
//! version that they began with.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
    conditions::{self, READY},
    keys,
};
use operon_core::{
    action::{ActionLoader, LoadError, Severity},
    action_plugin::{
        elect,
        limits::limits,
        source::{Component, ComponentSource, ConfigMaps},
        status::{Load, Serving, status},
    },
    operation_job::ActionState,
};

use crate::{
    catalogue::{Catalogue, Entry, Loaded, Version},
    effects::{Performers, service_account_user},
    error::Error,
    events::Events,
    metrics::Metrics,
    plugin_watch::Watcher,
    run::{Next, Reconciler},
    status::{StatusWriter, Written},
    store::Cache,
    triggers::Triggers,
};

/// The controller's parts.
pub struct ActionPlugins {
    /// Writes statuses, reads ServiceAccounts.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The user that the host itself is.
    pub host_user: String,
    /// All plugins.
    pub plugins: Cache<ActionPlugin>,
    /// The ConfigMaps of the operator's namespace.
    pub config_maps: Cache<ConfigMap>,
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
    /// Sends Events.
    pub events: Events,
    /// Writes statuses.
    pub status: StatusWriter,
    /// Counts loaded plugins.
    pub metrics: Metrics,
    /// What could not be loaded for good, by plugin: it is not tried again until it changes.
    pub refused: Mutex<HashMap<String, (Version, LoadError)>>,
}

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
        let (load, retry) = match self.rival(&plugin) {
            Some(by) => (Load::Shadowed { by }, false), // (no client)
            None => self.load(&plugin).await,           // (client)
        };
        let mut next = self.write_status(&plugin, &load).await?; // (client)
        next.retry |= retry;
        Ok(next)
    }
}

impl ActionPlugins {
    /// Loads every plugin that serves an action, before any job is looked at. What fails is told and
    /// tried again by the plugin's own pass.
    pub async fn load_all(&self) {
        for plugin in self.plugins.store.state() {
            if self.rival(&plugin).is_none() {
                self.load(&plugin).await;
            }
        }
    }

    /// The older plugin that serves this plugin's action, if there is one.
    fn rival(&self, plugin: &ActionPlugin) -> Option<String> {
        let plugins = self.plugins.store.state();
        let elected = elect(plugins.iter().map(|p| &**p), &plugin.spec.action)?;
        (elected.uid() != plugin.uid()).then(|| elected.name_any())
    }

    /// Sees to it that the plugin's component serves its action. Says what became of it, and whether
    /// trying again may help.
    async fn load(&self, plugin: &ActionPlugin) -> (Load, bool) {
        if self.catalogue.find(&plugin.spec.action).0 == ActionState::NotFound {
            let message = format!("ActionPlugin {:?} is being loaded", plugin.name_any());
            self.set(&plugin.spec.action, Entry::NotLoaded(message));
        }
        match self.try_load(plugin).await {
            Ok(()) => (Load::Loaded, false),
            Err(error) => {
                let action = &plugin.spec.action;
                if self.serving(plugin).is_none() {
                    let message =
                        format!("ActionPlugin {:?}: {}", plugin.name_any(), error.message);
                    self.set(action, Entry::NotLoaded(message));
                }
                let LoadError {
                    reason,
                    message,
                    transient,
                } = error;
                (
                    Load::Failed {
                        reason: reason.to_owned(),
                        message,
                    },
                    transient,
                )
            }
        }
    }

    async fn try_load(&self, plugin: &ActionPlugin) -> Result<(), LoadError> {
        let maps = Maps(&self.config_maps.store, &self.namespace);
        let component = self.source.fetch(plugin, &maps).await?;
        let version = version(plugin, &component);
        let serving = self.serving(plugin);
        if serving
            .as_ref()
            .is_some_and(|loaded| loaded.version == version)
        {
            return Ok(());
        }
        let uid = plugin.uid().unwrap_or_default();
        if let Some(error) = self.known_refusal(&uid, &version) {
            return Err(error);
        }
        match self.load_version(plugin, &component, version.clone()).await {
            Ok(loaded) => {
                tracing::info!(
                    plugin = loaded.plugin,
                    action = plugin.spec.action,
                    digest = loaded.version.digest,
                    "action loaded"
                );
                self.set(&plugin.spec.action, Entry::Loaded(Arc::new(loaded)));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(plugin = plugin.name_any(), reason = error.reason, error = %error, "action could not be loaded");
                if !error.transient {
                    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    refused.insert(uid, (version, error.clone()));
                }
                Err(error)
            }
        }
    }

    fn known_refusal(&self, uid: &str, version: &Version) -> Option<LoadError> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused
            .get(uid)
            .filter(|(known, _)| known == version)
            .map(|(_, error)| error.clone())
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
        self.check_service_account(&spec.service_account_name)
            .await?;
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

    async fn check_service_account(&self, name: &str) -> Result<(), LoadError> {
        if self.host_user == service_account_user(&self.namespace, name) {
            return Err(LoadError {
                reason: "HostServiceAccount",
                message: format!(
                    "spec.serviceAccountName {name:?} is the host's own account; give the action one of its own, with only the rights that it needs"
                ),
                transient: false,
            });
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        match accounts.get_opt(name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(LoadError {
                reason: "ServiceAccountNotFound",
                message: format!(
                    "spec.serviceAccountName {name:?} does not exist in namespace {:?}",
                    self.namespace
                ),
                transient: true,
            }),
            Err(error) => Err(LoadError {
                reason: "ServiceAccountUnknown",
                message: format!("ServiceAccount {name:?} could not be read: {error}"),
                transient: true,
            }),
        }
    }

    /// What serves the action for this plugin now.
    fn serving(&self, plugin: &ActionPlugin) -> Option<Arc<Loaded>> {
        let loaded = self.catalogue.loaded(&plugin.spec.action)?;
        (loaded.plugin == plugin.name_any()).then_some(loaded)
    }

    fn set(&self, action: &str, entry: Entry) {
        self.metrics
            .plugins_loaded(self.catalogue.set(action, Some(entry)));
        self.triggers.action_changed(action);
    }

    async fn write_status(&self, plugin: &ActionPlugin, load: &Load) -> Result<Next, Error> {
        let serving = self.serving(plugin);
        let serving = serving.as_ref().map(|loaded| Serving {
            digest: &loaded.version.digest,
            registration: loaded.action.registration(),
        });
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let next = status(plugin, serving.as_ref(), load, now);
        let api = Api::all(self.client.clone());
        let manager = keys::ACTION_PLUGIN_MANAGER;
        let written = self
            .status
            .write(&api, manager, plugin, plugin.status.as_ref(), &next)
            .await?;
        match written {
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

    /// An Event, if the Ready condition says something else than before.
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
        let said = conditions::find(before, READY).map(|c| (&c.status, &c.message));
        let Some(ready) = conditions::find(now, READY) else {
            return;
        };
        if said == Some((&ready.status, &ready.message)) {
            return;
        }
        let severity = match load {
            Load::Loaded => Severity::Normal,
            Load::Shadowed { .. } | Load::Failed { .. } => Severity::Warning,
        };
        self.events
            .send(plugin, severity, &ready.reason, "Load", &ready.message)
            .await;
    }
}

/// A plugin changed or was deleted: says which plugins must be looked at, and forgets what a deleted
/// one served.
pub fn plugin_changed(
    plugin: &ActionPlugin,
    store: &Store<ActionPlugin>,
    catalogue: &Catalogue,
    triggers: &Triggers,
    metrics: &Metrics,
) -> Vec<ObjectRef<ActionPlugin>> {
    let action = &plugin.spec.action;
    let gone = store.get(&ObjectRef::from_obj(plugin)).is_none();
    let claimants: Vec<_> = store
        .state()
        .into_iter()
        .filter(|other| other.spec.action == *action)
        .collect();
    if gone && claimants.is_empty() {
        metrics.plugins_loaded(catalogue.set(action, None));
        triggers.action_changed(action);
    }
    claimants
        .iter()
        .map(|claimant| ObjectRef::from_obj(&**claimant))
        .collect()
}

/// A ConfigMap changed: the plugins whose component it holds must be looked at.
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
    store
        .state_filter(refers)
        .iter()
        .map(|plugin| ObjectRef::from_obj(&**plugin))
        .collect()
}

fn version(plugin: &ActionPlugin, component: &Component) -> Version {
    let spec = &plugin.spec;
    Version {
        digest: component.digest.clone(),
        settings: serde_json::Value::Object(spec.settings.clone()).to_string(),
        limits: spec.limits.clone(),
        service_account: spec.service_account_name.clone(),
        lifecycle: spec.enable_pod_ops_lifecycle,
    }
}
