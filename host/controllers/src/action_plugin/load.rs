//! From the component that a plugin names to an action that serves: found, loaded, published, unless the
//! plugin was changed meanwhile. What could not be loaded for good is not tried again.

use std::sync::{Arc, PoisonError};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::ActionPlugin;
use operon_core::{
    action::LoadError,
    action_plugin::{
        account::Named,
        limits::limits,
        source::{Component, ConfigMaps, Objects, Origin, PullSecrets},
        status::Load,
        version::Version,
    },
};

use super::{ActionPlugins, changes::stop};
use crate::{
    access,
    apply::within_limit,
    catalogue::Loaded,
    effects::Guard,
    error::Error,
    plugin_watch::{OnRevoked, Watcher},
    restraint::Restraint,
    store::Store,
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
        let account = plugins.account(name);
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
        self.check_service_account(account).await?;
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
                self.publish(plugin, loaded).await?;
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
    async fn publish(&self, plugin: &ActionPlugin, loaded: Loaded) -> Result<(), LoadError> {
        let (action, digest) = (&plugin.spec.action, loaded.version.digest.clone());
        let label = loaded.action.registration().job_label.clone();
        let account = &plugin.spec.service_account_name;
        let wanted = || self.is_current(plugin) && self.may_act_as(account);
        if self.catalogue.publish(action, loaded, wanted) {
            tracing::info!(plugin = plugin.name_any(), action, digest, "action loaded");
            self.metrics.plugins_loaded(self.catalogue.count());
            self.triggers.action_changed(action);
            let name = plugin.name_any();
            self.left_behind
                .action_loaded(action, &name, label.as_deref(), &self.pods.store);
            return Ok(());
        }
        self.check_service_account(account).await?;
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
        let is_interrupted = loaded.watch.is_interrupted();
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
            on_revoked: self.on_revoked(plugin),
        };
        let watch = watcher.start(action.registration()).await?;
        let guard = Guard {
            finalizers: spec.finalizers.clone(),
            pods: Some(self.pods.store.clone()),
        };
        let acting = (name.as_str(), version.digest.as_str());
        let performer = self
            .performers
            .performer(acting, &spec.service_account_name, guard);
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

    /// The account may not read a kind any more that the action declared: what was read of it is dropped with the
    /// component, which is loaded again as soon as the account may.
    fn on_revoked(&self, plugin: &ActionPlugin) -> OnRevoked {
        let catalogue = Arc::clone(&self.catalogue);
        let triggers = Arc::clone(&self.triggers);
        let (metrics, queue) = (self.metrics.clone(), self.queue.clone());
        let (name, reference) = (plugin.name_any(), ObjectRef::from_obj(plugin));
        let account = plugin.spec.service_account_name.clone();
        Arc::new(move |why| {
            let acts_as = |version: &Version| version.service_account == account;
            let is_meant = |loaded: &Loaded| loaded.plugin == name && acts_as(&loaded.version);
            tracing::warn!(plugin = name, why, "the action is stopped");
            stop(&catalogue, &triggers, &metrics, |loaded| {
                is_meant(loaded).then(|| why.to_owned())
            });
            // The queue is closed only when the host ends.
            let _ = queue.unbounded_send(reference.clone());
        })
    }

    /// What is found here is not remembered: the account's own change brings another pass, and what is not known
    /// of the host is asked again.
    async fn check_service_account(&self, name: &str) -> Result<(), LoadError> {
        let account = self.account(name);
        let named = self.named(name, account.as_deref());
        let host = self.host_user().await?;
        named.refusal_by_host(host).map_or(Ok(()), Err)
    }

    /// The user that the host is; none if the API server does not say. What it said does not change.
    async fn host_user(&self) -> Result<Option<&str>, LoadError> {
        if let Some(user) = self.host_user.get() {
            return Ok(Some(user));
        }
        let user = access::user(&self.client)
            .await
            .map_err(|error| LoadError {
                reason: "HostUserUnknown",
                message: format!(
                    "failed to ask the API server which user the host is: {}",
                    error.chain()
                ),
                transient: true,
            })?;
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(self.host_user.get_or_init(async || user).await))
    }

    fn may_act_as(&self, name: &str) -> bool {
        let account = self.account(name);
        self.named(name, account.as_deref()).refusal().is_none()
    }

    fn named<'a>(&'a self, name: &'a str, account: Option<&'a ServiceAccount>) -> Named<'a> {
        Named {
            namespace: &self.namespace,
            name,
            account,
        }
    }

    fn account(&self, name: &str) -> Option<Arc<ServiceAccount>> {
        let account = ObjectRef::new(name).within(&self.namespace);
        self.accounts.store.get(&account)
    }
}
