//! Which actions can be asked now: written by the ActionPlugin controller, read by the OperationJob
//! controller. Swapping an entry is atomic; a pass that holds the old one finishes on it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use operon_api::action_plugin::PluginLimits;
use operon_core::{action::Action, operation_job::ActionState};

use crate::{effects::Performer, plugin_watch::PluginWatch};

/// A loaded action with all that a pass needs to ask it.
pub struct Loaded {
    /// The name of its ActionPlugin.
    pub plugin: String,
    /// The action.
    pub action: Arc<dyn Action>,
    /// Performs its effects.
    pub performer: Performer,
    /// What it may read, kept alive as long as it is loaded.
    pub watch: PluginWatch,
    /// What it was made from.
    pub version: Version,
}

/// Everything that a loaded action is made from; when any of it changes, it is loaded anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The component's digest.
    pub digest: String,
    /// `spec.settings` as JSON text.
    pub settings: String,
    /// `spec.limits`
    pub limits: Option<PluginLimits>,
    /// `spec.serviceAccountName`
    pub service_account: String,
    /// `spec.enablePodOpsLifecycle`
    pub lifecycle: bool,
}

/// What is known of one action.
#[derive(Clone)]
pub enum Entry {
    /// It can be asked.
    Loaded(Arc<Loaded>),
    /// It can't, because of this.
    NotLoaded(String),
}

/// All actions that an ActionPlugin claims, by `spec.action`.
#[derive(Default)]
pub struct Catalogue {
    entries: RwLock<HashMap<String, Entry>>,
}

impl Catalogue {
    /// The action, if it can be asked, and what to say of it otherwise.
    pub fn find(&self, action: &str) -> (ActionState, Option<Arc<Loaded>>) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        match entries.get(action) {
            None => (ActionState::NotFound, None),
            Some(Entry::NotLoaded(message)) => (
                ActionState::NotLoaded {
                    message: message.clone(),
                },
                None,
            ),
            Some(Entry::Loaded(loaded)) if loaded.version.lifecycle => {
                let message = format!(
                    "ActionPlugin {:?} asks for enablePodOpsLifecycle, which this version does not do yet",
                    loaded.plugin
                );
                (ActionState::Unsupported { message }, None)
            }
            Some(Entry::Loaded(loaded)) => (ActionState::Loaded, Some(Arc::clone(loaded))),
        }
    }

    /// The component that serves the action for this plugin.
    pub fn loaded(&self, action: &str) -> Option<Arc<Loaded>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        match entries.get(action) {
            Some(Entry::Loaded(loaded)) => Some(Arc::clone(loaded)),
            Some(Entry::NotLoaded(_)) | None => None,
        }
    }

    /// Sets what is known of an action; none forgets it. Says how many are loaded now.
    pub fn set(&self, action: &str, entry: Option<Entry>) -> usize {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some(entry) => entries.insert(action.to_owned(), entry),
            None => entries.remove(action),
        };
        entries
            .values()
            .filter(|entry| matches!(entry, Entry::Loaded(_)))
            .count()
    }
}
