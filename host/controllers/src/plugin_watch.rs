//! The objects that a loaded action may read: a cache for every kind that it declared, watched as its own
//! ServiceAccount. Pods come from the host's own cache, once it is certain that the account may read them. The rights
//! are checked again as long as the caches exist; see `rights.rs`.

mod rights;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
};
use operon_core::{
    action::{LoadError, Registration, Watch},
    action_plugin::registration,
};

pub use self::rights::OnRevoked;
use self::rights::Rights;
use crate::{
    effects::Performers,
    store::{AbortOnDrop, Cache},
    triggers::{Rule, Triggers},
    view::{Declared, DeclaredKind},
};

/// How long a kind may take to be listed for the first time.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// The caches of one loaded action.
#[derive(Default)]
pub struct PluginWatch {
    /// The caches of its view of the cluster.
    pub declared: Declared,
    /// The caches behind it, kept going.
    caches: Vec<Cache<DynamicObject>>,
    /// Checks the rights to all of it again, and ends with it.
    _reviews: Option<AbortOnDrop>,
}

impl PluginWatch {
    /// Which of the caches may be behind in this namespace, and why.
    pub fn stale(&self, namespace: &str) -> Option<String> {
        self.caches.iter().find_map(|cache| cache.stale(namespace))
    }

    /// Whether a watch is down, wherever.
    pub fn is_interrupted(&self) -> bool {
        self.caches.iter().any(|cache| cache.trouble().is_some())
    }
}

/// The account and the client of the caches.
pub struct Watcher<'a> {
    /// Creates clients.
    pub performers: &'a Performers,
    /// The plugin's ServiceAccount.
    pub service_account: &'a str,
    /// The action that is woken.
    pub action: &'a str,
    /// The host's pods. The other kinds are watched in the same namespaces.
    pub pods: &'a Cache<Pod>,
    /// The queue that is woken.
    pub triggers: &'a Arc<Triggers>,
    /// Called when the account may not read a declared kind any more.
    pub on_revoked: OnRevoked,
}

impl Watcher<'_> {
    /// Creates the caches that a registration requires, and waits until each is complete.
    ///
    /// # Errors
    /// The account may not read a kind, the API server does not serve it, or it could not be listed.
    pub async fn start(&self, registration: &Registration) -> Result<PluginWatch, LoadError> {
        let client = self
            .performers
            .client(self.service_account)
            .map_err(|message| LoadError {
                reason: "InvalidServiceAccount",
                message,
                transient: false,
            })?;
        let mut declared = Declared::default();
        let mut caches = Vec::new();
        let mut rights = Rights {
            client: client.clone(),
            service_account: self.service_account.to_owned(),
            namespaces: self.pods.namespaces().clone(),
            kinds: Vec::new(),
        };
        for (watch, selector) in registration::watches(self.action, registration)? {
            let key = (watch.api_version.clone(), watch.kind.clone());
            let Some(resource) = self.resource(watch).await? else {
                declared.absent.insert(key);
                continue;
            };
            rights.add(&resource, watch.is_cluster_scoped).await?;
            if (watch.api_version.as_str(), watch.kind.as_str()) == ("v1", "Pod") {
                declared.pods = Some((self.pods.store.clone(), selector));
                continue;
            }
            let rule = Rule::new(self.action, watch, selector);
            let cache = self.cache(&client, watch, rule, &resource).await?;
            let kind = DeclaredKind {
                resource,
                store: cache.store.clone(),
                is_cluster_scoped: watch.is_cluster_scoped,
            };
            declared.others.insert(key, kind);
            caches.push(cache);
        }
        let reads = !rights.kinds.is_empty();
        let reviews = || tokio::spawn(rights.keep_checking(Arc::clone(&self.on_revoked)));
        Ok(PluginWatch {
            declared,
            caches,
            _reviews: reads.then(|| AbortOnDrop(reviews())),
        })
    }

    /// The API server's name of the kind; none if the kind is optional and not served.
    async fn resource(&self, watch: &Watch) -> Result<Option<ApiResource>, LoadError> {
        if watch.is_cluster_scoped {
            return Ok(Some(ApiResource::erase::<Node>(&())));
        }
        match self.performers.kind(&watch.api_version, &watch.kind).await {
            Ok(resource) => Ok(Some(resource)),
            Err(error) if watch.is_optional && error.is_not_served() => Ok(None),
            Err(error) => Err(LoadError {
                reason: "UnknownKind",
                message: error.chain(),
                transient: true,
            }),
        }
    }

    async fn cache(
        &self,
        client: &Client,
        watch: &Watch,
        rule: Rule,
        resource: &ApiResource,
    ) -> Result<Cache<DynamicObject>, LoadError> {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
        let mut source = Cache::of_kind(api, resource.clone())
            .without(shed_all_but(watch.fields.clone()))
            .packed();
        if !watch.is_cluster_scoped {
            source = source.within(self.pods.namespaces());
        }
        if !watch.label_selector.is_empty() {
            source = source.labels(&watch.label_selector);
        }
        let triggers = Arc::clone(self.triggers);
        let on_change = move |object: &_, _: &_| triggers.object_changed(&rule, object);
        let cache = source.start(on_change, &self.pods.optional_health());
        if cache.ready_within(LIST_LIMIT).await {
            return Ok(cache);
        }
        Err(LoadError {
            reason: "WatchTimeout",
            message: format!(
                "{} could not be listed within {} s",
                resource.plural,
                LIST_LIMIT.as_secs()
            ),
            transient: true,
        })
    }
}

/// Takes off an object all top-level fields but these; nothing if there are none.
fn shed_all_but(fields: Vec<String>) -> impl Fn(&mut DynamicObject) + Send + Sync + 'static {
    move |object| {
        if let (false, Some(data)) = (fields.is_empty(), object.data.as_object_mut()) {
            data.retain(|field, _| fields.contains(field));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_declared_fields_of_an_object_are_kept() {
        let whole = json!({"metadata": {"name": "a"}, "spec": {"b": 1}, "status": {"c": 2}});
        for (fields, kept) in [
            (vec![], json!({"spec": {"b": 1}, "status": {"c": 2}})),
            (vec!["spec"], json!({"spec": {"b": 1}})),
            (vec!["metadata"], json!({})),
        ] {
            let mut object: DynamicObject =
                serde_json::from_value(whole.clone()).expect("an object");
            shed_all_but(fields.into_iter().map(str::to_owned).collect())(&mut object);
            assert_eq!(object.data, kept);
            assert_eq!(object.metadata.name.as_deref(), Some("a"));
        }
    }
}
