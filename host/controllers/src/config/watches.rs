//! The watches of ConfigMaps and Secrets: each begins when an object first needs it, and ends when none
//! needs it any more.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::runtime::reflector::ObjectRef;
use operon_api::ReactiveJob;
use operon_core::reactive_job::config::{Reference, references};

use super::{ConfigMapContent, SecretContent};
use crate::store::Cache;

/// Which objects need which kinds, and the watches for them. The cache of ReactiveJobs reports every
/// change.
#[derive(Default)]
pub struct Watches(Mutex<State>);

#[derive(Default)]
struct State {
    askers: HashMap<ObjectRef<ReactiveJob>, Kinds>,
    config_maps: Option<Cache<ConfigMapContent>>,
    secrets: Option<Cache<SecretContent>>,
}

/// The kinds that objects need watched.
#[derive(Clone, Copy, Default)]
struct Kinds {
    config_maps: bool,
    secrets: bool,
}

impl Kinds {
    fn of(object: &ReactiveJob) -> Self {
        let mut kinds = Self::default();
        for reference in references(object) {
            match reference {
                Reference::ConfigMap(_) => kinds.config_maps = true,
                Reference::Secret(_) => kinds.secrets = true,
            }
        }
        kinds
    }

    fn is_none(self) -> bool {
        !self.config_maps && !self.secrets
    }
}

impl Watches {
    /// A ReactiveJob changed, or was deleted. Watches that no object needs any more end.
    pub(crate) fn changed(&self, object: &ReactiveJob, is_there: bool) {
        let reference = ObjectRef::from_obj(object);
        let kinds = Some(Kinds::of(object)).filter(|kinds| is_there && !kinds.is_none());
        let mut state = self.lock();
        match kinds {
            Some(kinds) => state.askers.insert(reference, kinds),
            None => state.askers.remove(&reference),
        };
        let needed = state.needed();
        let config_maps = state.config_maps.take_if(|_| !needed.config_maps);
        let secrets = state.secrets.take_if(|_| !needed.secrets);
        drop(state);
        drop((config_maps, secrets));
    }

    /// The objects that need any kind.
    pub(crate) fn askers(&self) -> Vec<ObjectRef<ReactiveJob>> {
        self.lock().askers.keys().cloned().collect()
    }

    /// The watch of ConfigMaps, which begins if an object needs it.
    pub(super) fn config_maps(
        &self,
        start: impl FnOnce() -> Cache<ConfigMapContent>,
    ) -> Option<Cache<ConfigMapContent>> {
        let mut state = self.lock();
        let is_needed = state.needed().config_maps;
        is_needed.then(|| state.config_maps.get_or_insert_with(start).clone())
    }

    /// The watch of Secrets, which begins if an object needs it.
    pub(super) fn secrets(
        &self,
        start: impl FnOnce() -> Cache<SecretContent>,
    ) -> Option<Cache<SecretContent>> {
        let mut state = self.lock();
        let is_needed = state.needed().secrets;
        is_needed.then(|| state.secrets.get_or_insert_with(start).clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn needed(&self) -> Kinds {
        let kinds = self.askers.values();
        kinds.fold(Kinds::default(), |needed, kinds| Kinds {
            config_maps: needed.config_maps || kinds.config_maps,
            secrets: needed.secrets || kinds.secrets,
        })
    }
}
