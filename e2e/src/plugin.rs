//! Actions of a story's own. They are cluster-wide, so each has its world's name in its own, and a label
//! by which the world removes it in the end.

use anyhow::{Context as _, bail};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use operon_api::{ActionPlugin, conditions, keys};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{environment, world::World};

/// The operator's namespace.
pub const SYSTEM: &str = "operon-system";

/// The label on everything that a world made outside its namespace.
pub(crate) const LABEL: &str = "e2e.operon.dev/world";

/// What an account of Replace may do to pods.
pub const REPLACE_VERBS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

/// What may be done to pods by the plugins of most stories.
pub fn pod_rules(verbs: &[&str]) -> Value {
    json!([{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}])
}

/// An ActionPlugin in the making, with all that it refers to.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The name of the ActionPlugin, of its ConfigMap and of its account.
    pub name: String,
    /// Its action.
    pub action: String,
    component: Option<Vec<u8>>,
    rules: Option<Value>,
    spec: Value,
    labels: Value,
}

impl Plugin {
    /// A plugin of this world, for the action of that name with the world's name behind it.
    pub fn of(world: &World, action: &str, component: Vec<u8>, rules: Value) -> Self {
        let name = world.named(&action.to_lowercase());
        let action = world.named(action);
        let spec = json!({
            "action": action,
            "source": {"configMap": {"name": name}},
            "serviceAccountName": name,
        });
        Self {
            name,
            action,
            component: Some(component),
            rules: Some(rules),
            spec,
            labels: json!({LABEL: world.namespace}),
        }
    }

    /// The example of this repository that annotates pods.
    pub fn annotate(world: &World) -> Self {
        let component = environment::component("operon_example_annotate");
        Self::of(
            world,
            "Annotate",
            component,
            pod_rules(&["get", "list", "watch", "patch"]),
        )
    }

    /// The built-in Replace, whose account may do this to pods.
    pub fn replace(world: &World, verbs: &[&str]) -> Self {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
            {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
            {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["apps"], "resources": ["replicasets/finalizers"], "verbs": ["update"]},
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
            {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"],
                "verbs": ["get", "list", "watch"]}
        ]);
        // Stories look at several pods that are replaced at the same time.
        Self::of(
            world,
            "Swap",
            environment::component("operon_action_replace"),
            rules,
        )
        .with("settings", json!({"maxReleased": "100%"}))
    }

    /// The guest that does as it should not.
    pub fn hostile(world: &World) -> Self {
        let rules = json!([
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]},
            {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}
        ]);
        Self::of(
            world,
            "Hostile",
            environment::component("operon_hostile_guest"),
            rules,
        )
    }

    /// Under another name, for the same action.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.spec["source"]["configMap"]["name"] = json!(name);
        self.spec["serviceAccountName"] = json!(name);
        self
    }

    /// For the host of this shard.
    #[must_use]
    pub fn shard(mut self, shard: &str) -> Self {
        self.labels[keys::SHARD] = json!(shard);
        self
    }

    /// With this field of the spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// What its account may do.
    pub fn rules(&self) -> &[Value] {
        let rules = self.rules.as_ref().and_then(Value::as_array);
        rules.map_or(&[], Vec::as_slice)
    }

    /// With an account that may do this.
    #[must_use]
    pub fn with_rules(mut self, rules: Value) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Without its account.
    #[must_use]
    pub fn without_account(mut self) -> Self {
        self.rules = None;
        self
    }

    /// Without its component.
    #[must_use]
    pub fn without_component(mut self) -> Self {
        self.component = None;
        self
    }

    /// Installs it, and does not wait.
    pub async fn install(self, world: &World) -> Self {
        if let Some(component) = &self.component {
            world.component(&self.name, component).await;
        }
        if let Some(rules) = &self.rules {
            world.account(&self.name, rules).await;
        }
        let created = self.create_as(&world.client).await;
        created.unwrap_or_else(|error| panic!("failed to create {}: {error}", self.name));
        self
    }

    /// What the API server says to this user of creating the ActionPlugin, without what it refers to.
    pub async fn create_as(&self, user: &Client) -> kube::Result<ActionPlugin> {
        let metadata = json!({"name": self.name, "labels": self.labels});
        let object = json!({"metadata": metadata, "spec": self.spec});
        let object = serde_json::from_value(object).expect("an ActionPlugin");
        let plugins = Api::<ActionPlugin>::all(user.clone());
        plugins.create(&PostParams::default(), &object).await
    }

    /// Installs it, and waits until it serves.
    pub async fn up(self, world: &World) -> Self {
        let plugin = self.install(world).await;
        world.plugin_until(&plugin.name, "True", "Loaded").await;
        plugin
    }
}

impl World {
    /// The API of ActionPlugins.
    pub fn plugins(&self) -> Api<ActionPlugin> {
        Api::all(self.client.clone())
    }

    /// Puts a component where plugins are read from, or another one into its place.
    pub async fn component(&self, name: &str, bytes: &[u8]) {
        self.config_map(
            name,
            json!({"binaryData": {"plugin.wasm": ByteString(bytes.to_vec())}}),
        )
        .await;
    }

    /// A ConfigMap of the operator's namespace with this content, instead of any before.
    pub async fn config_map(&self, name: &str, content: Value) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM);
        let mut object = content;
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("ConfigMap");
        object["metadata"] = json!({"name": name, "labels": {LABEL: self.namespace}});
        let params = PatchParams::apply("operon-e2e").force();
        let applied = maps.patch(name, &params, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("failed to apply ConfigMap {name}: {error}"));
    }

    /// An account of the operator's namespace, with these rights everywhere.
    pub async fn account(&self, name: &str, rules: &Value) {
        let metadata = json!({"name": name, "labels": {LABEL: self.namespace}});
        let mut account = json!({"metadata": metadata});
        account["metadata"]["labels"][keys::ACTION_ACCOUNT] = json!("true");
        make(self.accounts(), account).await;
        let rights = Api::<ClusterRole>::all(self.client.clone());
        make(rights, json!({"metadata": metadata, "rules": rules})).await;
        self.bind_account(name).await;
    }

    /// Gives an account made by [`World::account`] its rights.
    pub async fn bind_account(&self, name: &str) {
        let metadata = json!({"name": name, "labels": {LABEL: self.namespace}});
        let binding = json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}]
        });
        make(Api::<ClusterRoleBinding>::all(self.client.clone()), binding).await;
    }

    /// The ServiceAccounts of the operator's namespace.
    pub fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// Sets what an account made by [`World::account`] may do.
    pub async fn set_rules(&self, name: &str, rules: Value) {
        let rights = Api::<ClusterRole>::all(self.client.clone());
        let patch = Patch::Merge(json!({"rules": rules}));
        let patched = rights.patch(name, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("failed to patch ClusterRole {name}: {error}"));
    }

    /// Waits until a plugin's condition `Ready` has this status and reason, for its present generation.
    pub async fn plugin_until(&self, name: &str, status: &str, reason: &str) -> ActionPlugin {
        self.eventually(
            &format!("ActionPlugin {name} is Ready={status} for {reason}"),
            async || {
                let plugin = self.plugins().get(name).await?;
                let found = plugin.status.clone().unwrap_or_default();
                let ready = conditions::find(&found.conditions, conditions::READY)
                    .context("no condition")?;
                let current = found.observed_generation == plugin.metadata.generation;
                if !current || ready.status != status || ready.reason != reason {
                    bail!("{ready:?}");
                }
                Ok(plugin)
            },
        )
        .await
    }

    /// Patches an ActionPlugin.
    pub async fn patch_plugin(&self, name: &str, patch: Value) {
        let patched = self
            .plugins()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.unwrap_or_else(|error| panic!("failed to patch ActionPlugin {name}: {error}"));
    }

    /// Deletes an ActionPlugin.
    pub async fn delete_plugin(&self, name: &str) {
        let deleted = self.plugins().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("failed to delete ActionPlugin {name}: {error}"));
    }
}

/// What the condition `Ready` of a plugin says.
pub fn said(plugin: &ActionPlugin) -> String {
    let status = plugin.status.clone().unwrap_or_default();
    conditions::find(&status.conditions, conditions::READY)
        .map_or_else(String::new, |c| c.message.clone())
}

/// The digest of what serves.
pub fn digest(plugin: &ActionPlugin) -> Option<String> {
    plugin
        .status
        .as_ref()
        .and_then(|status| status.digest.clone())
}

pub(crate) async fn make<K>(api: Api<K>, object: Value)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let kind = K::kind(&());
    let object: K = serde_json::from_value(object)
        .unwrap_or_else(|error| panic!("a {kind} that can't be read: {error}"));
    let made = api.create(&PostParams::default(), &object).await;
    made.unwrap_or_else(|error| panic!("failed to create {kind} {}: {error}", object.name_any()));
}

/// Removes everything that this world made outside its namespace.
pub async fn remove_all(world: &World) {
    let client = || world.client.clone();
    let selector = format!("{LABEL}={}", world.namespace);
    remove(Api::<ActionPlugin>::all(client()), &selector).await;
    remove(Api::<ConfigMap>::namespaced(client(), SYSTEM), &selector).await;
    remove(
        Api::<ServiceAccount>::namespaced(client(), SYSTEM),
        &selector,
    )
    .await;
    remove(Api::<ClusterRoleBinding>::all(client()), &selector).await;
    remove(Api::<ClusterRole>::all(client()), &selector).await;
}

async fn remove<K>(api: Api<K>, selector: &str)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let selected = ListParams::default().labels(selector);
    if let Err(error) = api
        .delete_collection(&DeleteParams::default(), &selected)
        .await
    {
        eprintln!("left behind: {} with {selector}: {error}", K::plural(&()));
    }
}
