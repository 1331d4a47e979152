//! What a plugin's status says, and the Events that follow a change of it.

use std::sync::Arc;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{
    ActionPlugin,
    conditions::{self, PODS_LEFT_BEHIND, READY, SUSPENDED},
    keys,
};
use operon_core::{
    action::Severity,
    action_plugin::status::{LeftBehind as LeftBehindView, Load, Serving, status},
};

use super::ActionPlugins;
use crate::{
    error::Error,
    run::Next,
    status::{Written, whole_seconds},
};

impl ActionPlugins {
    /// The plugin as it is now, if its spec is still this one.
    fn unchanged(&self, plugin: &ActionPlugin) -> Option<Arc<ActionPlugin>> {
        let now = self.plugins.store.get(&ObjectRef::from_obj(plugin))?;
        let same =
            now.uid() == plugin.uid() && now.metadata.generation == plugin.metadata.generation;
        same.then_some(now)
    }

    /// Writes the status if it differs, then sends the Events.
    pub(super) async fn write_status(
        &self,
        plugin: &ActionPlugin,
        load: &Load,
    ) -> Result<Next, Error> {
        let Some(plugin) = self.unchanged(plugin) else {
            return Ok(Next::default()); // Its change brings another pass.
        };
        let plugin = &*plugin;
        let serving = self.serving(plugin);
        let fault = serving.as_ref().and_then(|loaded| loaded.restraint.aside());
        let serving = serving.as_ref().map(|loaded| Serving {
            aside: fault.as_ref(),
            digest: &loaded.version.digest,
            signers: &loaded.version.signers,
            registration: loaded.action.registration(),
            absent: &loaded.watch.declared.absent,
            has_lifecycle: self.has_lifecycle,
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
        let is_ready = matches!(load, Load::Loaded(_));
        self.metrics
            .plugin(&plugin.name_any(), is_ready, fault.is_some());
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

    /// An Event if the condition Ready says something else than before, and one if pods are left behind, or the action
    /// is set aside, since then.
    async fn tell(&self, plugin: &ActionPlugin, load: &Load, now: &[Condition]) {
        let before = plugin
            .status
            .as_ref()
            .map(|s| s.conditions.as_slice())
            .unwrap_or_default();
        let said = |type_: &str| conditions::find(before, type_).map(|c| (&c.status, &c.message));
        for (reason, action) in [(PODS_LEFT_BEHIND, "Watch"), (SUSPENDED, "Call")] {
            if let Some(condition) = conditions::find(now, reason)
                && said(reason).is_none()
            {
                let (severity, message) = (Severity::Warning, &condition.message);
                self.events
                    .send(plugin, severity, reason, action, message)
                    .await;
            }
        }
        let Some(ready) = conditions::find(now, READY) else {
            return;
        };
        if said(READY) == Some((&ready.status, &ready.message)) {
            return;
        }
        let severity = match load {
            Load::Loaded(_) | Load::Loading { .. } | Load::Deleting => Severity::Normal,
            Load::Shadowed { .. } | Load::Failed { .. } => Severity::Warning,
        };
        self.events
            .send(plugin, severity, &ready.reason, "Load", &ready.message)
            .await;
    }
}
