//! What ConfigMaps and Secrets hold, as digests: their content is forgotten while it is being read.
//!
//! They are watched only once somebody asks for them, and the host may not be allowed to: then that is
//! the answer.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{reflector::ObjectRef, watcher},
};
use operon_api::ReactiveJob;
use operon_core::reactive_job::{
    ConfigState,
    config::{ABSENT, Reference, asks, references},
};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use crate::{health::Health, store::Cache};

/// The digest of what one field of an object holds; empty if there is no such field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Digest(String);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Option::<BTreeMap<String, String>>::deserialize(deserializer)?;
        let text = serde_json::to_string(&content.unwrap_or_default());
        let hash = Sha256::digest(text.map_err(serde::de::Error::custom)?);
        Ok(Self(hash.iter().take(8).fold(
            String::new(),
            |mut digits, byte| {
                let _ = write!(digits, "{byte:02x}");
                digits
            },
        )))
    }
}

/// A kind whose content is known by its digest.
macro_rules! content {
    ($name:ident, $kind:literal, $plural:literal) => {
        #[doc = concat!("A ", $kind, " without its content.")]
        #[derive(Clone, Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            metadata: ObjectMeta,
            #[serde(default)]
            data: Digest,
            #[serde(default)]
            binary_data: Digest,
        }

        impl $name {
            fn digest(&self) -> String {
                let Self {
                    metadata: _,
                    data: Digest(data),
                    binary_data: Digest(binary),
                } = self;
                format!("{data}{binary}")
            }
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

content!(ConfigMapContent, "ConfigMap", "configmaps");
content!(SecretContent, "Secret", "secrets");

/// Called with the namespace and the object whose content may have changed.
pub type OnConfig = Arc<dyn Fn(&str, &Reference) + Send + Sync>;

/// The watches, each begun when it is first asked for.
pub struct Configs {
    client: Client,
    on_change: OnConfig,
    health: Health,
    config_maps: OnceLock<Cache<ConfigMapContent>>,
    secrets: OnceLock<Cache<SecretContent>>,
}

impl Configs {
    /// No watches yet.
    pub fn new(client: Client, on_change: OnConfig, health: &Health) -> Self {
        Self {
            client,
            on_change,
            health: health.optional(),
            config_maps: OnceLock::new(),
            secrets: OnceLock::new(),
        }
    }

    /// What is known of what an object's triggers ask to look at.
    pub fn state(&self, object: &ReactiveJob) -> ConfigState {
        if !asks(object) {
            return ConfigState::Off;
        }
        let namespace = object.namespace().unwrap_or_default();
        let digests = references(object).into_iter().map(|reference| {
            let digest = self.digest(&namespace, &reference)?;
            Ok((
                reference.to_string(),
                digest.unwrap_or_else(|| ABSENT.to_owned()),
            ))
        });
        match digests.collect::<Result<_, String>>() {
            Ok(digests) => ConfigState::Known(digests),
            Err(message) => ConfigState::Unknown { message },
        }
    }

    /// The digest of one object, none if it does not exist.
    fn digest(&self, namespace: &str, reference: &Reference) -> Result<Option<String>, String> {
        match reference {
            Reference::ConfigMap(name) => {
                let cache = self.config_maps();
                known(cache, "ConfigMaps", "triggers.configMaps")?;
                let found = cache.store.get(&ObjectRef::new(name).within(namespace));
                Ok(found.map(|content| content.digest()))
            }
            Reference::Secret(name) => {
                let cache = self.secrets();
                known(cache, "Secrets", "triggers.secrets")?;
                let found = cache.store.get(&ObjectRef::new(name).within(namespace));
                Ok(found.map(|content| content.digest()))
            }
        }
    }

    fn config_maps(&self) -> &Cache<ConfigMapContent> {
        self.config_maps.get_or_init(|| {
            let tell = Arc::clone(&self.on_change);
            let on_change = move |content: &ConfigMapContent, _: &_| {
                let reference = Reference::ConfigMap(content.name_any());
                tell(&content.namespace().unwrap_or_default(), &reference);
            };
            let api = Api::all(self.client.clone());
            let (config, on_change) = (watcher::Config::default(), Arc::new(on_change));
            Cache::start(api, config, (), on_change, &self.health)
        })
    }

    fn secrets(&self) -> &Cache<SecretContent> {
        self.secrets.get_or_init(|| {
            let tell = Arc::clone(&self.on_change);
            let on_change = move |content: &SecretContent, _: &_| {
                let reference = Reference::Secret(content.name_any());
                tell(&content.namespace().unwrap_or_default(), &reference);
            };
            let api = Api::all(self.client.clone());
            let (config, on_change) = (watcher::Config::default(), Arc::new(on_change));
            Cache::start(api, config, (), on_change, &self.health)
        })
    }
}

/// Whether a watch has something to say, or why not.
fn known<K>(cache: &Cache<K>, kinds: &str, value: &str) -> Result<(), String>
where
    K: crate::store::Cached,
{
    if cache.is_ready() {
        return Ok(());
    }
    let trouble = cache
        .trouble()
        .unwrap_or_else(|| "they are being listed".to_owned());
    Err(format!(
        "changes of {kinds} are not noticed: {trouble}; the chart's value reactiveJob.{value} lets the host watch them"
    ))
}
