//! What holds an action back whose calls fault again and again, or which sends too many Events. The decisions are
//! core's; this is their memory, of one loaded component. It is a cache: a component that is loaded again starts anew.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use operon_core::{
    action::{ActionError, Failure},
    action_plugin::breaker::{Breaker, suspended},
    operation_job::Suspended,
    rate::Bucket,
};
use tokio::time::Instant;

/// How many Events an action may send at once, and how soon one more. Nobody reads more, and the API server keeps
/// each for an hour.
const EVENTS: (u32, Duration) = (200, Duration::from_millis(50));

/// The memory of one loaded component.
pub struct Restraint {
    began: Instant,
    breaker: Mutex<Breaker>,
    events: Mutex<Bucket>,
    changed: Box<dyn Fn() + Send + Sync>,
}

impl Default for Restraint {
    fn default() -> Self {
        Self::new(|| {})
    }
}

impl Restraint {
    /// Nothing is held back. The function is called when the action is set aside, and when it serves again.
    pub fn new(changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            began: Instant::now(),
            breaker: Mutex::default(),
            events: Mutex::new(Bucket::new(EVENTS.0, EVENTS.1)),
            changed: Box::new(changed),
        }
    }

    /// Whether the action may be called to operate this target, which failed like this before.
    ///
    /// # Errors
    /// The action is set aside, and the target waits.
    pub(crate) fn admit(
        &self,
        plugin: &str,
        target: &str,
        last: Option<&Failure>,
    ) -> Result<(), ActionError> {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = breaker.admit(target, self.began.elapsed());
        admitted.map_err(|wait| {
            let fault = breaker.aside().cloned();
            let fault = fault.unwrap_or_else(|| Failure::new("PluginTrapped", ""));
            ActionError::Retry(suspended(plugin, &fault, last), Some(wait))
        })
    }

    /// Notes the end of a call that operated this target, and its fault if it had one.
    pub(crate) fn ended(&self, target: &str, fault: Option<&Failure>) {
        let now = self.began.elapsed();
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let has_changed = breaker.ended(target, fault, now);
        drop(breaker);
        if has_changed {
            (self.changed)();
        }
    }

    /// The last fault before the action was set aside, if it is.
    pub fn aside(&self) -> Option<Failure> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.aside().cloned()
    }

    /// That the action of this plugin is set aside, if it is.
    pub(crate) fn suspended(&self, plugin: &str) -> Option<Suspended> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, wait) = breaker.wait(self.began.elapsed())?;
        Some(Suspended {
            plugin: plugin.to_owned(),
            fault: fault.clone(),
            wait,
        })
    }

    /// Whether the action may send one more Event now.
    pub(crate) fn takes_event(&self) -> bool {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.take(self.began.elapsed())
    }
}
