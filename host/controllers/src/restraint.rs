//! What holds an action back whose calls fault again and again, or which sends too many Events. The decisions are
//! core's; this is their memory, of one loaded component. It is a cache: a component that is loaded again starts anew.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use operon_core::{
    action::{ActionError, Failure},
    action_plugin::breaker::{Breaker, suspended},
    operation_job::Suspended,
    rate::Bucket,
};
use tokio::time::Instant;

/// How many Events an action may send in a burst, and how soon one more. No person reads more, and the API server keeps
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
    pub(crate) fn admit<'r>(
        &'r self,
        plugin: &str,
        target: &'r str,
        last: Option<&Failure>,
    ) -> Result<Admitted<'r>, ActionError> {
        self.may_begin(plugin, target, last)?;
        Ok(Admitted {
            restraint: self,
            target,
            has_ended: false,
            is_refused: AtomicBool::new(false),
        })
    }

    fn may_begin(
        &self,
        plugin: &str,
        target: &str,
        last: Option<&Failure>,
    ) -> Result<(), ActionError> {
        let mut breaker = self.breaker();
        let Err(wait) = breaker.admit(target, self.began.elapsed()) else {
            return Ok(());
        };
        let fault = breaker.aside().cloned();
        let fault = fault.unwrap_or_else(|| Failure::new("PluginTrapped", ""));
        let why = suspended(plugin, &fault, last);
        Err(ActionError::Retry(why, Some(wait)))
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last fault before the action was set aside, if it is.
    pub fn aside(&self) -> Option<Failure> {
        self.breaker().aside().cloned()
    }

    /// That the action of this plugin is set aside, if it is.
    pub(crate) fn suspended(&self, plugin: &str) -> Option<Suspended> {
        let breaker = self.breaker();
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

/// A call that operates a target. One that is dropped without an end was stopped, and says nothing about the action.
pub(crate) struct Admitted<'r> {
    restraint: &'r Restraint,
    target: &'r str,
    has_ended: bool,
    /// It was refused when it had waited for its place.
    is_refused: AtomicBool,
}

impl Admitted<'_> {
    /// Whether the call may still begin after it has waited for its place: calls of other targets may have ended
    /// meanwhile.
    ///
    /// # Errors
    /// The action has been set aside, and the target waits.
    pub(crate) fn again(&self, plugin: &str, last: Option<&Failure>) -> Result<(), ActionError> {
        let answer = self.restraint.may_begin(plugin, self.target, last);
        self.is_refused.store(answer.is_err(), Ordering::Relaxed);
        answer
    }

    /// The call ended, with this fault if it had one. One that was refused says nothing about the action.
    pub(crate) fn ended(mut self, fault: Option<&Failure>) {
        if *self.is_refused.get_mut() {
            return;
        }
        self.has_ended = true;
        let now = self.restraint.began.elapsed();
        let has_changed = self.restraint.breaker().ended(self.target, fault, now);
        if has_changed {
            (self.restraint.changed)();
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.restraint.breaker().stopped(self.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use operon_core::action_plugin::breaker::FAULTS;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_stopped_leaves_its_turn_to_try_the_action_to_the_next() {
        let restraint = Restraint::default();
        for _ in 0..FAULTS {
            let admitted = restraint.admit("act", "bad", None);
            let fault = Failure::new("PluginTrapped", "boom");
            admitted.expect("it serves").ended(Some(&fault));
        }
        assert!(restraint.admit("act", "good", None).is_err());
        tokio::time::advance(Duration::from_secs(5)).await;
        let tries = restraint.admit("act", "good", None).expect("it tries");
        assert!(
            restraint.admit("act", "other", None).is_err(),
            "one at a time"
        );
        drop(tries);
        let tries = restraint.admit("act", "other", None).expect("it tries");
        tries.ended(None);
        assert!(restraint.aside().is_none());
        assert!(restraint.admit("act", "bad", None).is_ok());
    }
}
