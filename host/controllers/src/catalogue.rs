//! Which actions can be called now: written by the ActionPlugin controller and by the watch of
//! ActionPlugins, read by the OperationJob controller.
//!
//! Each change happens under one lock, together with a check of the existing ActionPlugins. So a load that
//! ends after its ActionPlugin was deleted or changed adds nothing. A reconcile that holds a replaced entry
//! finishes with it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operon_api::ActionPlugin;
use operon_core::{
    action::Action,
    action_plugin::{
        elect,
        version::{Version, rejection},
    },
    operation_job::{ACTION_GRACE, ActionState},
};
use tokio::sync::watch;

use crate::{effects::Performer, plugin_watch::PluginWatch, restraint::Restraint};

/// A loaded action with everything that a reconcile needs to call it.
pub struct Loaded {
    /// The name of its ActionPlugin.
    pub plugin: String,
    /// The action.
    pub action: Arc<dyn Action>,
    /// Performs its effects.
    pub performer: Performer,
    /// What it may read, kept alive as long as it is loaded.
    pub watch: PluginWatch,
    /// The version that it was loaded from.
    pub version: Version,
    /// What holds it back.
    pub restraint: Restraint,
}

/// What is known of an action that an ActionPlugin claims.
enum Entry {
    /// It can be called.
    Loaded(Arc<Loaded>),
    /// Its component is being loaded, and this is what to say meanwhile.
    Loading(String),
    /// It could not be loaded for the ActionPlugin of this uid, for this reason.
    Failed { plugin: String, message: String },
}

/// All actions that an ActionPlugin claims, by `spec.action`.
pub struct Catalogue {
    actions: RwLock<Actions>,
    changes: watch::Sender<()>,
}

struct Actions {
    entries: HashMap<String, Entry>,
    /// When the last ActionPlugin of an action was deleted: only the last seconds, because older deletions
    /// do not matter.
    deleted: HashMap<String, Timestamp>,
    /// When this catalogue began; earlier changes are unknown.
    since: Timestamp,
}

impl Catalogue {
    /// An empty catalogue that begins now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            actions: RwLock::new(Actions {
                entries: HashMap::new(),
                deleted: HashMap::new(),
                since: now,
            }),
            changes: watch::Sender::new(()),
        }
    }

    /// The action, if it can be called, and what to say of it otherwise.
    pub fn find(&self, action: &str) -> (ActionState, Option<Arc<Loaded>>) {
        let actions = self.read();
        match actions.entries.get(action) {
            None => {
                let since = *actions.deleted.get(action).unwrap_or(&actions.since);
                (ActionState::NotFound { since }, None)
            }
            Some(Entry::Loading(message)) => (not_loaded(message, false), None),
            Some(Entry::Failed { message, .. }) => (not_loaded(message, true), None),
            Some(Entry::Loaded(loaded)) => (ActionState::Loaded, Some(Arc::clone(loaded))),
        }
    }

    /// The component that serves the action.
    pub fn loaded(&self, action: &str) -> Option<Arc<Loaded>> {
        match self.read().entries.get(action) {
            Some(Entry::Loaded(loaded)) => Some(Arc::clone(loaded)),
            Some(Entry::Loading(_) | Entry::Failed { .. }) | None => None,
        }
    }

    /// Why nothing serves the action, if an ActionPlugin claims it.
    pub fn unserved(&self, action: &str) -> Option<String> {
        match self.read().entries.get(action) {
            Some(Entry::Loading(message) | Entry::Failed { message, .. }) => Some(message.clone()),
            Some(Entry::Loaded(_)) | None => None,
        }
    }

    /// How many actions can be called.
    pub fn count(&self) -> usize {
        let loaded = |entry: &&Entry| matches!(entry, Entry::Loaded(_));
        self.read().entries.values().filter(loaded).count()
    }

    /// ActionPlugins changed: drops actions that none claims any more, stops components that the elected
    /// ActionPlugin rejects, and expects new versions. Returns the changed actions.
    pub fn settle(
        &self,
        plugins: impl FnOnce() -> Vec<Arc<ActionPlugin>>,
        now: Timestamp,
    ) -> Vec<String> {
        let mut actions = self.write();
        let plugins = plugins();
        let names = plugins.iter().map(|plugin| &plugin.spec.action);
        let mut names: Vec<String> = actions.entries.keys().chain(names).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|action| {
            let elected = elect(plugins.iter().map(|plugin| &**plugin), action);
            actions.settle(action, elected, now)
        });
        drop(actions);
        self.changes.send_replace(());
        names
    }

    /// Stops the loaded components for which there is a reason, as the end of a sentence. Returns the changed
    /// actions.
    pub fn stop(&self, why: impl Fn(&Loaded) -> Option<String>) -> Vec<String> {
        let mut actions = self.write();
        let mut stopped = Vec::new();
        for (action, entry) in &mut actions.entries {
            let next = match entry {
                Entry::Loaded(loaded) => {
                    why(loaded).map(|why| stopped_because(&loaded.plugin, loaded, &why))
                }
                Entry::Loading(_) | Entry::Failed { .. } => None,
            };
            if let Some(next) = next {
                *entry = Entry::Loading(next);
                stopped.push(action.clone());
            }
        }
        drop(actions);
        self.changes.send_replace(());
        stopped
    }

    /// The action is loaded. Nothing happens unless it is still `wanted`.
    pub fn publish(&self, action: &str, loaded: Loaded, wanted: impl FnOnce() -> bool) -> bool {
        self.set(action, wanted, |_| Some(Entry::Loaded(Arc::new(loaded))))
    }

    /// The action could not be loaded for the ActionPlugin of this uid: the component that serves it
    /// continues. Nothing happens unless that version is still `wanted`. Returns whether the failure is
    /// new.
    pub fn fail(
        &self,
        action: &str,
        plugin: &str,
        message: &str,
        wanted: impl FnOnce() -> bool,
    ) -> bool {
        let failed = || Entry::Failed {
            plugin: plugin.to_owned(),
            message: message.to_owned(),
        };
        self.set(action, wanted, |entry| match entry {
            Some(Entry::Loaded(_)) => None,
            Some(Entry::Failed { message: known, .. }) => (known != message).then(failed),
            Some(Entry::Loading(_)) | None => Some(failed()),
        })
    }

    /// Sets an entry to the next one, if it is wanted and exists; returns whether it did.
    fn set(
        &self,
        action: &str,
        wanted: impl FnOnce() -> bool,
        next: impl FnOnce(Option<&Entry>) -> Option<Entry>,
    ) -> bool {
        let mut actions = self.write();
        if !wanted() {
            return false;
        }
        let Some(entry) = next(actions.entries.get(action)) else {
            return false;
        };
        actions.entries.insert(action.to_owned(), entry);
        drop(actions);
        self.changes.send_replace(());
        true
    }

    /// Waits until every action that is claimed was loaded or failed, but no longer than this.
    pub async fn tried(&self, limit: Duration) -> bool {
        let mut changes = self.changes.subscribe();
        let none_loading = |(): &()| {
            let loading = |entry: &Entry| matches!(entry, Entry::Loading(_));
            !self.read().entries.values().any(loading)
        };
        let tried = changes.wait_for(none_loading);
        tokio::time::timeout(limit, tried).await.is_ok()
    }

    /// Waits until the condition holds; it is checked after every change.
    pub async fn until(&self, so: impl Fn() -> bool) {
        let mut changes = self.changes.subscribe();
        // The sender lives as long as `self`.
        let _ = changes.wait_for(|()| so()).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, Actions> {
        self.actions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Actions> {
        self.actions.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actions {
    /// Brings one action in line with the ActionPlugin that is elected for it. Returns whether it changed.
    fn settle(&mut self, action: &str, elected: Option<&ActionPlugin>, now: Timestamp) -> bool {
        let Some(plugin) = elected else {
            if self.entries.remove(action).is_none() {
                return false;
            }
            let age = |at: Timestamp| u64::try_from(now.as_second() - at.as_second()).unwrap_or(0);
            self.deleted
                .retain(|_, at| age(*at) < ACTION_GRACE.as_secs());
            self.deleted.insert(action.to_owned(), now);
            return true;
        };
        let name = plugin.name_any();
        let next = match self.entries.get(action) {
            None => being_loaded(&name),
            Some(Entry::Failed { plugin: of, .. }) if plugin.uid().as_ref() != Some(of) => {
                being_loaded(&name)
            }
            Some(Entry::Loaded(loaded)) => match rejection(plugin, &loaded.version) {
                Some(why) => stopped_because(&name, loaded, &why),
                None => return false,
            },
            Some(Entry::Loading(_) | Entry::Failed { .. }) => return false,
        };
        self.entries.insert(action.to_owned(), Entry::Loading(next));
        true
    }
}

fn not_loaded(message: &str, has_failed: bool) -> ActionState {
    let message = message.to_owned();
    ActionState::NotLoaded {
        message,
        has_failed,
    }
}

fn being_loaded(plugin: &str) -> String {
    format!("ActionPlugin {plugin:?} is being loaded")
}

fn stopped_because(plugin: &str, loaded: &Loaded, why: &str) -> String {
    let digest = &loaded.version.digest;
    format!(
        "{}; component {digest} was stopped: {why}",
        being_loaded(plugin)
    )
}

#[cfg(test)]
mod tests {
    use operon_api::action_plugin::ActionPluginSpec;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn plugin(uid: &str) -> Vec<Arc<ActionPlugin>> {
        let spec = ActionPluginSpec {
            action: "Act".to_owned(),
            ..ActionPluginSpec::default()
        };
        let mut plugin = ActionPlugin::new("plugin", spec);
        plugin.metadata.uid = Some(uid.to_owned());
        vec![Arc::new(plugin)]
    }

    fn since(second_: i64) -> ActionState {
        let since = second(second_);
        ActionState::NotFound { since }
    }

    fn said(catalogue: &Catalogue) -> String {
        catalogue.unserved("Act").unwrap_or_default()
    }

    #[test]
    fn an_action_is_unknown_since_its_plugin_was_deleted_or_the_catalogue_began() {
        let catalogue = Catalogue::new(second(100));
        assert_eq!(catalogue.find("Act").0, since(100));
        assert_eq!(catalogue.settle(|| plugin("a"), second(200)), ["Act"]);
        assert!(said(&catalogue).contains("being loaded"));
        assert_eq!(catalogue.settle(Vec::new, second(300)), ["Act"]);
        assert_eq!(catalogue.find("Act").0, since(300));
        // Later changes of others do not restart it.
        assert!(catalogue.settle(Vec::new, second(310)).is_empty());
        assert_eq!(catalogue.find("Act").0, since(300));
    }

    #[test]
    fn a_load_that_ends_after_its_plugin_was_deleted_adds_nothing() {
        let catalogue = Catalogue::new(second(100));
        catalogue.settle(|| plugin("a"), second(200));
        catalogue.settle(Vec::new, second(300));
        assert!(!catalogue.fail("Act", "a", "broken", || false));
        assert_eq!(catalogue.find("Act").0, since(300));
    }

    #[test]
    fn a_plugin_that_is_created_again_is_not_blamed_for_the_previous_one() {
        let catalogue = Catalogue::new(second(100));
        catalogue.settle(|| plugin("a"), second(200));
        assert!(catalogue.fail("Act", "a", "broken", || true));
        assert!(!catalogue.fail("Act", "a", "broken", || true), "no news");
        assert!(catalogue.settle(|| plugin("a"), second(201)).is_empty());
        assert_eq!(said(&catalogue), "broken");
        assert_eq!(catalogue.settle(|| plugin("b"), second(202)), ["Act"]);
        assert!(said(&catalogue).contains("being loaded"));
    }

    #[tokio::test]
    async fn actions_that_take_long_to_load_are_not_waited_for_without_end() {
        let catalogue = Catalogue::new(second(100));
        assert!(catalogue.tried(Duration::ZERO).await, "there is none");
        catalogue.settle(|| plugin("a"), second(200));
        assert!(!catalogue.tried(Duration::from_millis(10)).await);
        catalogue.fail("Act", "a", "broken", || true);
        assert!(catalogue.tried(Duration::from_mins(1)).await);
    }
}
