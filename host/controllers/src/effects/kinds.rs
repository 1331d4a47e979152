//! The API server's names of kinds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Client,
    core::{ApiResource, GroupVersionKind, TypeMeta},
    discovery::{self, Scope},
};
use operon_api::{CollaSet, ResourceContext};

use crate::{apply::within_limit, error::Error};

/// The plural names of kinds; those of other kinds than our own are read from the API server once.
pub(super) struct Kinds {
    client: Client,
    pub(super) known: Mutex<HashMap<(String, String), ApiResource>>,
}

/// The kinds that controllers write which can be disabled: the API server need not be asked for their plurals.
pub(super) fn own_kinds() -> [ApiResource; 5] {
    [
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<ControllerRevision>(&()),
        ApiResource::erase::<CollaSet>(&()),
        ApiResource::erase::<ResourceContext>(&()),
    ]
}

impl Kinds {
    /// These kinds are known.
    pub(super) fn new(client: Client, kinds: impl IntoIterator<Item = ApiResource>) -> Self {
        let known = kinds.into_iter().map(|kind| {
            let key = (kind.api_version.clone(), kind.kind.clone());
            (key, kind)
        });
        Self {
            client,
            known: Mutex::new(known.collect()),
        }
    }

    /// The name of a kind.
    pub(super) async fn find(&self, api_version: &str, kind: &str) -> Result<ApiResource, Error> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(resource) = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(resource.clone());
        }
        self.ask(api_version, kind).await
    }

    /// Whether the API server serves a kind now.
    pub(super) async fn is_served(&self, api_version: &str, kind: &str) -> Result<bool, Error> {
        match self.ask(api_version, kind).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_served() => {
                let key = (api_version.to_owned(), kind.to_owned());
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.remove(&key);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, api_version: &str, kind: &str) -> Result<ApiResource, Error> {
        let key = (api_version.to_owned(), kind.to_owned());
        let unknown = |source| Error::UnknownKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            source,
        };
        let types = TypeMeta {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        };
        let gvk = GroupVersionKind::try_from(&types).map_err(|_| unknown(None))?;
        let request = discovery::pinned_kind(&self.client, &gvk);
        let described = || format!("kind {kind:?} of {api_version:?}");
        let found = within_limit("find", described, request).await;
        let (resource, capabilities) = found.map_err(|error| match error {
            Error::Write { source, .. } => unknown(Some(source)),
            other => other,
        })?;
        if capabilities.scope == Scope::Cluster {
            return Err(Error::ClusterScoped {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            });
        }
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, resource.clone());
        Ok(resource)
    }
}
