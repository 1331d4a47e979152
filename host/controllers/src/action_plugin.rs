//! The ActionPlugin controller: finds a plugin's component, has it loaded, and keeps the catalogue and
//! the plugin's status true.
//!
//! What an ActionPlugin rejects is stopped by its watch, before a pass begins. A newer version that cannot
//! be loaded leaves the previous one serving. Calls under way finish on the version that they began with.
//!
//! This file has the order of a reconcile; `load.rs` loads, `report.rs` writes the status, `changes.rs` is
//! called by the watches.

mod changes;
mod load;
mod report;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::{Client, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{ActionPlugin, action_plugin::OciSource, keys};
use operon_core::{
    action::{ActionLoader, LoadError, Watch},
    action_plugin::{elect, source::ComponentSource, status::Load, version::Version},
    operation_job::sooner,
};
use tokio::sync::OnceCell;

pub use self::changes::{account_changed, config_map_changed, plugin_changed};
use crate::{
    catalogue::{Catalogue, Loaded},
    effects::Performers,
    error::Error,
    events::Events,
    left_behind::LeftBehind,
    metrics::Metrics,
    run::{Next, Reconciler},
    status::StatusWriter,
    store::Cache,
    triggers::Triggers,
};

/// The controller's parts.
pub struct ActionPlugins {
    /// Writes statuses.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The user that the host itself is, as far as the API server said; see [`ActionPlugins::host_user`].
    pub host_user: OnceCell<String>,
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
    /// Wakes an ActionPlugin whose action is set aside, or may not read any more.
    pub queue: UnboundedSender<ObjectRef<ActionPlugin>>,
    /// The pods that vanished jobs left behind.
    pub left_behind: Arc<LeftBehind>,
    /// Whether the PodOpsLifecycle controller is enabled.
    pub has_lifecycle: bool,
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

/// How often the API server is asked whether it serves the optional kinds of an action.
const OPTIONAL_KINDS: Duration = Duration::from_mins(1);

/// How often a registry is asked what a tag names now.
const TAGS: Duration = Duration::from_mins(5);

/// How long after that it is compared again.
const AGAIN: Duration = Duration::from_secs(5);

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
        next.requeue_after = sooner(next.requeue_after, self.optional_kinds_due(&plugin));
        next.requeue_after = sooner(next.requeue_after, tag_due(&plugin, &load));
        Ok(next)
    }
}

/// When to ask the registry again what the tag of the plugin's component names.
fn tag_due(plugin: &ActionPlugin, load: &Load) -> Option<Duration> {
    let is_elected = matches!(load, Load::Loaded(_) | Load::Failed { .. });
    let has_tag = plugin
        .spec
        .source
        .oci
        .as_ref()
        .is_some_and(OciSource::has_tag);
    (is_elected && has_tag).then_some(TAGS)
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

    /// When to ask the API server again whether it serves the optional kinds of the loaded action.
    fn optional_kinds_due(&self, plugin: &ActionPlugin) -> Option<Duration> {
        let serving = self.serving(plugin)?;
        let mut watches = serving.action.registration().watches.iter();
        watches.any(Watch::may_be_absent).then_some(OPTIONAL_KINDS)
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

    /// What serves the action for this plugin now.
    fn serving(&self, plugin: &ActionPlugin) -> Option<Arc<Loaded>> {
        let loaded = self.catalogue.loaded(&plugin.spec.action)?;
        (plugin.uid().as_ref() == Some(&loaded.version.plugin)).then_some(loaded)
    }
}
