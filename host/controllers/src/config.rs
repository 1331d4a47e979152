//! What ConfigMaps and Secrets hold, as digests: their content is forgotten while it is being read.
//!
//! They are watched only while an object refers to them. If `operon-reactivejob` may not watch a
//! kind, the answer for that kind is the refusal.
//!
//! Digests are written into Jobs and statuses. That of a Secret is keyed by the uid of the Secret, which only those who
//! may read the Secret know: others can't find out by trial what it holds.

mod watches;

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Resource, ResourceExt, core::NamespaceResourceScope, runtime::reflector::ObjectRef,
};
use operon_api::ReactiveJob;
use operon_core::{
    namespaces::Namespaces,
    reactive_job::{
        ConfigState,
        config::{ABSENT, Reference, references},
    },
};
use ring::hmac;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

pub use self::watches::Watches;
use crate::{
    health::Health,
    store::{Cache, Cached},
};

/// The digest of what one field of an object holds; none if there is no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digest(Option<[u8; 32]>);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Option::<BTreeMap<String, String>>::deserialize(deserializer)?;
        let text = serde_json::to_string(&content.unwrap_or_default());
        let hash = Sha256::digest(text.map_err(serde::de::Error::custom)?);
        Ok(Self(Some(hash.into())))
    }
}

impl Digest {
    /// The first bytes, in hexadecimal digits: enough to find a change.
    fn short(self) -> String {
        self.0.map_or_else(String::new, |hash| hex(&hash[..8]))
    }

    /// All bytes, in hexadecimal digits.
    fn whole(self) -> String {
        self.0.map_or_else(String::new, |hash| hex(&hash))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a String can't fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// A kind with a content that is represented by its digest.
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
            /// Whoever guesses the content can verify the guess by this.
            fn unkeyed(&self) -> String {
                let Self {
                    metadata: _,
                    data,
                    binary_data,
                } = self;
                format!("{}{}", data.short(), binary_data.short())
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

impl SecretContent {
    /// Says nothing about the content to whoever does not know the uid.
    fn keyed(&self) -> String {
        let uid = self.uid().unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, uid.as_bytes());
        let Self {
            metadata: _,
            data,
            binary_data,
        } = self;
        let content = format!("{}/{}", data.whole(), binary_data.whole());
        hex(&hmac::sign(&key, content.as_bytes()).as_ref()[..16])
    }
}

/// What is written of an object, and what older versions of Operon wrote of the same content.
struct Known {
    digest: String,
    before: Option<String>,
}

/// Called with the namespace and the name of an object that may have changed content.
pub type OnConfig = Arc<dyn Fn(&str, &Reference) + Send + Sync>;

/// Called when a kind has been listed for the first time.
pub type OnListed = Arc<dyn Fn() + Send + Sync>;

/// The contents of ConfigMaps and Secrets, as far as objects refer to them and they can be watched.
pub struct Configs {
    client: Client,
    watches: Arc<Watches>,
    on_change: OnConfig,
    on_listed: OnListed,
    namespaces: Namespaces,
    health: Health,
}

/// Why the digest of an object is not known.
enum Unknown {
    Listing,
    Unwatched(String),
}

impl Configs {
    /// Begins these watches, in these namespaces, when objects need them.
    pub fn new(
        client: Client,
        watches: Arc<Watches>,
        on_change: OnConfig,
        on_listed: OnListed,
        namespaces: &Namespaces,
        health: &Health,
    ) -> Self {
        Self {
            client,
            watches,
            on_change,
            on_listed,
            namespaces: namespaces.clone(),
            health: health.optional(),
        }
    }

    /// What is known of the ConfigMaps and Secrets that an object's triggers select.
    pub fn state(&self, object: &ReactiveJob) -> ConfigState {
        let namespace = object.namespace().unwrap_or_default();
        let mut state = ConfigState::default();
        for reference in references(object) {
            match self.digest(&namespace, &reference) {
                Ok(Some(Known { digest, before })) => {
                    let unkeyed = before.map(|before| (reference.to_string(), before));
                    state.unkeyed.extend(unkeyed);
                    state.known.insert(reference.to_string(), digest);
                }
                Ok(None) => {
                    state.known.insert(reference.to_string(), ABSENT.to_owned());
                }
                Err(Unknown::Listing) => state.is_listing = true,
                Err(Unknown::Unwatched(why)) if !state.unwatched.contains(&why) => {
                    state.unwatched.push(why);
                }
                Err(Unknown::Unwatched(_)) => {}
            }
        }
        state
    }

    /// What is known of one object, none if it does not exist.
    fn digest(&self, namespace: &str, reference: &Reference) -> Result<Option<Known>, Unknown> {
        match reference {
            Reference::ConfigMap(name) => {
                let to_reference =
                    |content: &ConfigMapContent| Reference::ConfigMap(content.name_any());
                let cache = self.watches.config_maps(|| self.start(to_reference));
                let cache = known(cache, namespace, "ConfigMaps", "triggers.configMaps")?;
                let found = cache.store.get(&ObjectRef::new(name).within(namespace));
                Ok(found.map(|content| Known {
                    digest: content.unkeyed(),
                    before: None,
                }))
            }
            Reference::Secret(name) => {
                let to_reference = |content: &SecretContent| Reference::Secret(content.name_any());
                let cache = self.watches.secrets(|| self.start(to_reference));
                let cache = known(cache, namespace, "Secrets", "triggers.secrets")?;
                let found = cache.store.get(&ObjectRef::new(name).within(namespace));
                Ok(found.map(|content| Known {
                    digest: content.keyed(),
                    before: Some(content.unkeyed()),
                }))
            }
        }
    }

    fn start<K>(&self, to_reference: fn(&K) -> Reference) -> Cache<K>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let tell = Arc::clone(&self.on_change);
        let on_change = move |content: &K, _: &_| {
            tell(
                &content.namespace().unwrap_or_default(),
                &to_reference(content),
            );
        };
        let cache = Cache::of(Api::all(self.client.clone()))
            .within(&self.namespaces)
            // `kubectl apply` keeps the whole content in one of them.
            .without(|content: &mut K| content.annotations_mut().clear())
            .start(on_change, &self.health);
        let (listed, on_listed) = (cache.listed(), Arc::clone(&self.on_listed));
        // It ends with the cache, which may never be listed.
        tokio::spawn(async move {
            if listed.await {
                on_listed();
            }
        });
        cache
    }
}

/// A cache that has something to say, or why there is none.
fn known<K: Cached>(
    cache: Option<Cache<K>>,
    namespace: &str,
    kinds: &str,
    value: &str,
) -> Result<Cache<K>, Unknown> {
    let Some(cache) = cache else {
        return Err(Unknown::Listing);
    };
    if cache.is_ready() {
        return Ok(cache);
    }
    let trouble = cache.trouble().ok_or(Unknown::Listing)?;
    Err(Unknown::Unwatched(format!(
        "changes of {kinds} in namespace {namespace:?} go unnoticed, because the host can't watch them: {trouble}; the chart's value reactiveJob.{value} grants the permission"
    )))
}

#[cfg(test)]
mod tests;
