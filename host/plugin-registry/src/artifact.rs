//! Components in OCI registries: with which credentials, and which artifact of a tag. [`oci`](crate::oci) pulls.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use operon_api::{
    ActionPlugin,
    action_plugin::{Artifact, CertificateConfigMap, OciSource},
};
use operon_core::{
    action::LoadError,
    action_plugin::{
        artifact::{Chosen, choose, resolved},
        source::{ConfigMaps, Objects, Origin, PullSecrets},
    },
};

use crate::{
    found::{Found, Signatures},
    oci::{Bundles, DockerConfig, PullRequest, Pulled, Puller},
    refused,
};

/// The key of credentials in a Secret of the type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// How long an answer of a registry counts: until then the tag is not read again, unless the spec changes.
const FRESH: Duration = Duration::from_mins(4);

/// What tags named when the registry was last asked, by plugin and generation. It is a cache: without it, the
/// registry is asked again.
#[derive(Debug, Default)]
struct Tags(Mutex<HashMap<Key, (Instant, String)>>);

/// The uid and the generation of an ActionPlugin.
type Key = (Option<String>, Option<i64>);

/// Finds components in registries.
#[derive(Debug)]
pub(crate) struct Artifacts {
    puller: Puller,
    tags: Tags,
}

impl Artifacts {
    pub(crate) fn new(puller: Puller) -> Self {
        Self {
            puller,
            tags: Tags::default(),
        }
    }

    /// The component that the source refers to, with its signatures if they are needed, and where it was found.
    pub(crate) async fn find(
        &self,
        plugin: &ActionPlugin,
        source: &OciSource,
        objects: Objects<'_>,
        needs_signature: bool,
    ) -> Result<(Found, Origin), LoadError> {
        let credentials = credentials(plugin, source, objects.pull_secrets).await?;
        let authority = authority(source, objects.config_maps)?;
        let request = PullRequest {
            reference: &source.reference,
            plain_http: source.plain_http,
            ca: authority.as_deref(),
            credentials: &credentials,
            manifest: None,
        };
        let chosen = if source.has_tag() {
            let current = self.current(plugin, &request).await;
            Some(choose(
                source.pull_policy,
                resolved(plugin, source),
                current,
            )?)
        } else {
            None
        };
        let request = PullRequest {
            manifest: chosen.as_ref().map(|chosen| chosen.manifest.as_str()),
            ..request
        };
        let Pulled {
            bytes,
            manifest,
            image: _,
        } = self.puller.pull(&request).await?;
        let Bundles { bundles, left_out } = if needs_signature {
            self.puller.bundles(&request, &manifest).await?
        } else {
            Bundles::default()
        };
        let reference = &source.reference;
        let missing = format!(
            "the registry has no Sigstore bundle for {manifest} of {reference}{left_out}; sign it with `cosign sign --key cosign.key` (an identity: without --key) and the reference by this digest"
        );
        let others = left_out.to_string();
        let has_more = !bundles.is_empty() && !others.is_empty();
        let signatures = Signatures {
            left_out: has_more.then(|| format!("{reference} has signatures of {manifest}{others}")),
            bundles,
            missing,
            incomplete: left_out.unreadable > 0,
        };
        let found = Found::signed_by_manifest(bytes, manifest.clone(), signatures);
        let origin = Origin {
            artifact: Some(Artifact {
                reference: source.reference.clone(),
                manifest,
            }),
            moved_to: chosen.and_then(|Chosen { moved_to, .. }| moved_to),
        };
        Ok((found, origin))
    }

    /// What the tag names now, as the registry said lately or says now.
    async fn current(
        &self,
        plugin: &ActionPlugin,
        request: &PullRequest<'_>,
    ) -> Result<String, LoadError> {
        let metadata = &plugin.metadata;
        let key = (metadata.uid.clone(), metadata.generation);
        if let Some(digest) = self.tags.get(&key, Instant::now()) {
            return Ok(digest);
        }
        let digest = self.puller.resolve(request).await?;
        self.tags.put(key, &digest, Instant::now());
        Ok(digest)
    }
}

impl Tags {
    fn get(&self, key: &Key, now: Instant) -> Option<String> {
        let Self(tags) = self;
        let tags = tags.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, digest) = tags.get(key)?;
        (now.saturating_duration_since(*since) < FRESH).then(|| digest.clone())
    }

    /// Forgets all others that are too old.
    fn put(&self, key: Key, digest: &str, now: Instant) {
        let Self(tags) = self;
        let mut tags = tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.retain(|_, (since, _)| now.saturating_duration_since(*since) < FRESH);
        tags.insert(key, (now, digest.to_owned()));
    }
}

/// The credentials of the plugin's pull secrets, then those of its ServiceAccount. A Secret that only the
/// ServiceAccount names, and that the host may not read or that is for something else, is left out: some clusters
/// put such names into every ServiceAccount.
async fn credentials(
    plugin: &ActionPlugin,
    source: &OciSource,
    secrets: &dyn PullSecrets,
) -> Result<Vec<DockerConfig>, LoadError> {
    let mut found = Vec::new();
    for secret in &source.pull_secrets {
        found.push(credential(&secret.name, secrets).await?);
    }
    for name in secrets.of_account(&plugin.spec.service_account_name) {
        if source.pull_secrets.iter().all(|secret| secret.name != name) {
            found.extend(credential(&name, secrets).await.ok());
        }
    }
    Ok(found)
}

async fn credential(name: &str, secrets: &dyn PullSecrets) -> Result<DockerConfig, LoadError> {
    let Some(secret) = secrets.get(name).await? else {
        return Err(LoadError {
            reason: "PullSecretNotFound",
            message: format!(
                "there is no Secret {name:?} in the operator's namespace; spec.source.oci.pullSecrets names it"
            ),
            transient: true,
        });
    };
    let data = secret
        .data
        .as_ref()
        .and_then(|data| data.get(DOCKER_CONFIG));
    let Some(data) = data else {
        return Err(LoadError {
            reason: "BadPullSecret",
            message: format!(
                "the Secret {name:?} has no key {DOCKER_CONFIG:?}; create it with `kubectl create secret docker-registry {name}`"
            ),
            transient: true,
        });
    };
    // Nothing reports a change of the Secret.
    DockerConfig::parse(name, &data.0).map_err(|error| LoadError {
        transient: true,
        ..error
    })
}

/// The certificates in PEM that the source names.
fn authority(
    source: &OciSource,
    config_maps: &dyn ConfigMaps,
) -> Result<Option<Vec<u8>>, LoadError> {
    let Some(authority) = &source.certificate_authority else {
        return Ok(None);
    };
    let CertificateConfigMap { name, key } = &authority.config_map;
    let config_map = config_maps.get(name);
    let text = config_map
        .as_ref()
        .and_then(|map| map.data.as_ref()?.get(key));
    match (&config_map, text) {
        (_, Some(text)) => Ok(Some(text.clone().into_bytes())),
        (None, None) => Err(refused(
            "CertificateAuthorityNotFound",
            format!(
                "there is no ConfigMap {name:?} in the operator's namespace; spec.source.oci.certificateAuthority names it"
            ),
        )),
        (Some(_), None) => Err(refused(
            "CertificateAuthorityNotFound",
            format!(
                "the ConfigMap {name:?} has no key {key:?} in data; spec.source.oci.certificateAuthority names it"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use futures::{FutureExt as _, future::BoxFuture};
    use k8s_openapi::{
        ByteString,
        api::core::v1::{ConfigMap, Secret},
    };
    use operon_api::action_plugin::{ActionPluginSpec, CertificateAuthority, PullSecret};

    use super::*;

    /// Secrets by name; without content: the host may not read it.
    #[derive(Default)]
    struct Secrets {
        secrets: BTreeMap<&'static str, Option<&'static str>>,
        of_account: Vec<&'static str>,
    }

    impl PullSecrets for Secrets {
        fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, LoadError>> {
            let answer = match self.secrets.get(name) {
                None => Ok(None),
                Some(None) => Err(refused("PullSecretForbidden", "forbidden".to_owned())),
                Some(Some(config)) => {
                    let content = ByteString(config.as_bytes().to_vec());
                    Ok(Some(Secret {
                        data: Some([(DOCKER_CONFIG.to_owned(), content)].into()),
                        ..Secret::default()
                    }))
                }
            };
            async move { answer }.boxed()
        }

        fn of_account(&self, _name: &str) -> Vec<String> {
            self.of_account
                .iter()
                .map(|&name| name.to_owned())
                .collect()
        }
    }

    const LOGIN: Option<&str> = Some(r#"{"auths": {"a.example": {"auth": "dTpw"}}}"#);

    /// How many credentials are found, or why none are.
    fn found(named: &[&str], secrets: &Secrets) -> Result<usize, &'static str> {
        let source = OciSource {
            pull_secrets: named
                .iter()
                .map(|&name| PullSecret {
                    name: name.to_owned(),
                })
                .collect(),
            ..OciSource::default()
        };
        let plugin = ActionPlugin::new("plugin", ActionPluginSpec::default());
        let found = credentials(&plugin, &source, secrets).now_or_never();
        let found = found.expect("nothing is waited for");
        found.map(|found| found.len()).map_err(|error| error.reason)
    }

    #[test]
    fn a_named_secret_must_be_usable_and_one_of_the_account_may_not_be() {
        let secrets = Secrets {
            secrets: [
                ("good", LOGIN),
                ("other", LOGIN),
                ("foreign", None),
                ("broken", Some("no JSON")),
            ]
            .into(),
            of_account: vec!["good", "foreign", "absent", "broken"],
        };
        assert_eq!(found(&[], &secrets), Ok(1));
        assert_eq!(found(&["good"], &secrets), Ok(1), "each once");
        assert_eq!(found(&["other"], &secrets), Ok(2));
        for (name, reason) in [
            ("foreign", "PullSecretForbidden"),
            ("absent", "PullSecretNotFound"),
            ("broken", "BadPullSecret"),
        ] {
            assert_eq!(found(&["good", name], &secrets), Err(reason));
        }
    }

    struct Maps;

    impl ConfigMaps for Maps {
        fn get(&self, name: &str) -> Option<Arc<ConfigMap>> {
            let data = [("ca.crt".to_owned(), "PEM".to_owned())].into();
            let map = ConfigMap {
                data: Some(data),
                ..ConfigMap::default()
            };
            (name == "authority").then(|| Arc::new(map))
        }
    }

    #[test]
    fn a_certificate_authority_that_does_not_exist_is_named() {
        let of = |name: &str, key: &str| {
            let config_map = CertificateConfigMap {
                name: name.to_owned(),
                key: key.to_owned(),
            };
            let source = OciSource {
                certificate_authority: Some(CertificateAuthority { config_map }),
                ..OciSource::default()
            };
            authority(&source, &Maps).map_err(|error| error.message)
        };
        assert_eq!(of("authority", "ca.crt"), Ok(Some(b"PEM".to_vec())));
        let no_key = of("authority", "tls.crt").expect_err("no such key");
        assert!(no_key.contains("has no key \"tls.crt\""), "{no_key}");
        let no_map = of("other", "ca.crt").expect_err("no such map");
        assert!(no_map.contains("no ConfigMap \"other\""), "{no_map}");
        assert_eq!(authority(&OciSource::default(), &Maps), Ok(None));
    }

    #[test]
    fn an_answer_counts_for_some_minutes_and_for_one_generation() {
        let (tags, start) = (Tags::default(), Instant::now());
        let key = |generation| (Some("uid".to_owned()), Some(generation));
        tags.put(key(1), "sha256:1", start);
        assert_eq!(tags.get(&key(1), start).as_deref(), Some("sha256:1"));
        assert_eq!(tags.get(&key(2), start), None);
        assert_eq!(tags.get(&key(1), start + FRESH), None);
    }
}
