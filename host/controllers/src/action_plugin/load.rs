//! From the component that a plugin names to an action that serves: found, loaded, published, unless the
//! plugin was changed meanwhile. What could not be loaded for good is not tried again.

use std::sync::{Arc, PoisonError};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::ActionPlugin;
use operon_core::{
    action::LoadError,
    action_plugin::{
        limits::limits,
        source::{Component, ConfigMaps, Objects, Origin, PullSecrets},
        status::Load,
        version::Version,
    },
};

use super::ActionPlugins;
use crate::{
    apply::within_limit,
    catalogue::Loaded,
    effects::{Guard, service_account_user},
    error::Error,
    plugin_watch::Watcher,
    restraint::Restraint,
};

struct Maps<'a>(&'a Store<ConfigMap>, &'a str);

impl ConfigMaps for Maps<'_> {
    fn get(&self, name: &str) -> Option<Arc<ConfigMap>> {
        self.0.get(&ObjectRef::new(name).within(self.1))
    }
}

struct Secrets<'a>(&'a ActionPlugins);

impl PullSecrets for Secrets<'_> {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, LoadError>> {
        Box::pin(async move {
            let Self(plugins) = self;
            let api: Api<Secret> = Api::namespaced(plugins.client.clone(), &plugins.namespace);
            let object = || format!("the Secret {name:?}");
            let found = within_limit("read", object, api.get_opt(name)).await;
            found.map_err(|error| pull_secret_error(&plugins.namespace, name, &error))
        })
    }

    fn of_account(&self, name: &str) -> Vec<String> {
        let Self(plugins) = self;
        let account = ObjectRef::new(name).within(&plugins.namespace);
        let account = plugins.accounts.store.get(&account);
        let named = account.and_then(|account| account.image_pull_secrets.clone());
        let named = named.into_iter().flatten();
        named.map(|secret| secret.name).collect()
    }
}

/// Why the host could not read a Secret with credentials. It does not watch Secrets, so it tries again.
fn pull_secret_error(namespace: &str, name: &str, error: &Error) -> LoadError {
    let (reason, message) = if error.is_forbidden() {
        (
            "PullSecretForbidden",
            format!(
                "the host may not read the Secret {name:?} in namespace {namespace:?}; add its name to the chart's value oci.pullSecrets"
            ),
        )
    } else {
        (
            "PullSecretUnreadable",
            format!(
                "the Secret {name:?} in namespace {namespace:?} can't be read: {}",
                error.chain()
            ),
        )
    };
    LoadError {
        reason,
        message,
        transient: true,
    }
}

impl ActionPlugins {
    /// Loads the plugin's component. Says what became of it, and whether trying again may help.
    pub(super) async fn load(&self, plugin: &ActionPlugin) -> (Load, bool) {
        let LoadError {
            reason,
            message,
            transient,
        } = match self.try_load(plugin).await {
            Ok(origin) => return (Load::Loaded(origin), false),
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

    async fn try_load(&self, plugin: &ActionPlugin) -> Result<Origin, LoadError> {
        let account = &plugin.spec.service_account_name;
        self.check_service_account(account)?;
        let objects = Objects {
            config_maps: &Maps(&self.config_maps.store, &self.namespace),
            pull_secrets: &Secrets(self),
        };
        let component = self.source.fetch(plugin, objects).await?;
        let version = Version::of(plugin, &component.digest, &component.signers);
        if let Some(serving) = self.serving(plugin).filter(|s| s.version == version)
            && !self.has_other_kinds(&serving).await
        {
            return Ok(component.origin);
        }
        if let Some(error) = self.known_refusal(&version) {
            return Err(error);
        }
        match self.load_version(plugin, &component, version.clone()).await {
            Ok(loaded) => {
                self.publish(plugin, loaded)?;
                Ok(component.origin)
            }
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

    /// Whether an optional kind of a loaded action has appeared in the API server, or is gone. A kind that is watched
    /// may be gone only if a watch is interrupted. Without an answer of the API server nothing has changed.
    async fn has_other_kinds(&self, loaded: &Loaded) -> bool {
        let watches = loaded.action.registration().watches.iter();
        let is_interrupted = loaded.watch.stale().is_some();
        for watch in watches.filter(|watch| watch.may_be_absent()) {
            let (api_version, kind) = (&watch.api_version, &watch.kind);
            let key = (api_version.clone(), kind.clone());
            let was_served = !loaded.watch.declared.absent.contains(&key);
            if was_served && !is_interrupted {
                continue;
            }
            match self.performers.is_served(api_version, kind).await {
                Ok(is_served) if is_served != was_served => return true,
                Ok(_) => {}
                Err(error) => tracing::debug!(
                    kind,
                    error = error.chain(),
                    "whether the API server serves the kind is not known"
                ),
            }
        }
        false
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
        let guard = Guard {
            finalizers: spec.finalizers.clone(),
            pods: Some(self.pods.store.clone()),
        };
        let performer = self
            .performers
            .performer(&name, &spec.service_account_name, guard);
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
            restraint: self.restraint(plugin),
        })
    }

    /// What holds a loaded component back. The status reports when it is set aside, and when it serves again.
    fn restraint(&self, plugin: &ActionPlugin) -> Restraint {
        let (queue, plugin) = (self.queue.clone(), ObjectRef::from_obj(plugin));
        Restraint::new(move || {
            // A closed queue means that the process ends.
            let _ = queue.unbounded_send(plugin.clone());
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
}
