//! Builders for what an action answers: operations, progress reports and errors. All of them start
//! from the target, because an answer holds the target's `extra_info` whole.

use std::time::Duration;

use serde_json::Value;

use crate::{
    ActionError, Attributes, Delete, Effect, Event, Evict, Failure, Operation, Patch, PodLimit,
    Progress, ProgressReport, Requirement, Severity, Target, Unfinished,
};

impl Operation {
    /// No effects, and the target's `extra_info` stays as it is.
    pub fn of(target: &Target) -> Self {
        Self {
            requirements: Vec::new(),
            limit: None,
            effects: Vec::new(),
            extra_info: target.extra_info.clone(),
            unfinished: None,
            extra: Vec::new(),
        }
    }

    /// The release has not finished when the effects have been performed: the host calls again when
    /// something changes, and after this time at the latest.
    #[must_use]
    pub fn unfinished(
        mut self,
        reason: &str,
        message: impl Into<String>,
        recheck: Duration,
    ) -> Self {
        self.unfinished = Some(Unfinished {
            failure: Failure::new(reason, message),
            recheck_after: Some(milliseconds(recheck)),
        });
        self
    }

    /// Adds what must exist when the effects are performed.
    #[must_use]
    pub fn requiring(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }

    /// The effects are performed only while fewer pods than this match the label selector. Without effects, the target
    /// waits until that is so.
    #[must_use]
    pub fn limited_to(mut self, pods: u32, label_selector: &str) -> Self {
        self.limit = Some(PodLimit {
            label_selector: label_selector.to_owned(),
            pods,
        });
        self
    }

    /// Adds any effect.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// Adds several effects.
    #[must_use]
    pub fn effects(mut self, effects: impl IntoIterator<Item = Effect>) -> Self {
        self.effects.extend(effects);
        self
    }

    /// Adds a patch.
    #[must_use]
    pub fn patch(self, patch: impl Into<Patch>) -> Self {
        self.effect(Effect::Patch(patch.into()))
    }

    /// Adds the server-side apply of a whole object.
    #[must_use]
    pub fn apply(self, object: &Value) -> Self {
        self.effect(Effect::Apply(object.to_string()))
    }

    /// Adds the creation of an object.
    #[must_use]
    pub fn create(self, object: &Value) -> Self {
        self.effect(Effect::Create(object.to_string()))
    }

    /// Adds a deletion.
    #[must_use]
    pub fn delete(self, delete: Delete) -> Self {
        self.effect(Effect::Delete(delete))
    }

    /// Adds an eviction, which respects a `PodDisruptionBudget`.
    #[must_use]
    pub fn evict(self, evict: Evict) -> Self {
        self.effect(Effect::Evict(evict))
    }

    /// Adds an Event of type Normal. Send one per transition, not one per reconcile.
    #[must_use]
    pub fn event(self, reason: &str, message: impl Into<String>) -> Self {
        self.event_of(Severity::Normal, reason, message.into())
    }

    /// Adds an Event of type Warning: somebody should look at it. Send one per transition, not one per reconcile.
    #[must_use]
    pub fn warning(self, reason: &str, message: impl Into<String>) -> Self {
        self.event_of(Severity::Warning, reason, message.into())
    }

    fn event_of(self, severity: Severity, reason: &str, message: String) -> Self {
        self.effect(Effect::Event(Event {
            severity,
            reason: reason.to_owned(),
            message,
        }))
    }

    /// Sets one entry of the target's `extra_info`.
    #[must_use]
    pub fn remember(mut self, key: &str, value: impl Into<String>) -> Self {
        set(&mut self.extra_info, key, value.into());
        self
    }

    /// Removes one entry of the target's `extra_info`.
    #[must_use]
    pub fn forget(mut self, key: &str) -> Self {
        self.extra_info.retain(|(name, _)| name != key);
        self
    }
}

impl ProgressReport {
    /// The target is not finished. Say why with [`waiting_for`](Self::waiting_for).
    pub fn processing(target: &Target) -> Self {
        Self::new(target, Progress::Processing)
    }

    /// The target is done.
    pub fn succeeded(target: &Target) -> Self {
        Self::new(target, Progress::Succeeded)
    }

    /// The target can't be done.
    pub fn failed(target: &Target, failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::new(target, Progress::Failed)
        }
    }

    fn new(target: &Target, progress: Progress) -> Self {
        Self {
            progress,
            failure: None,
            extra_info: target.extra_info.clone(),
            recheck_after: None,
            extra: Vec::new(),
        }
    }

    /// Sets what the target waits for.
    #[must_use]
    pub fn waiting_for(mut self, reason: &str, message: impl Into<String>) -> Self {
        self.failure = Some(Failure::new(reason, message));
        self
    }

    /// Requests another call after this time, even if nothing changed in the cluster.
    #[must_use]
    pub fn recheck_after(mut self, after: Duration) -> Self {
        self.recheck_after = Some(milliseconds(after));
        self
    }

    /// Sets one entry of the target's `extra_info`.
    #[must_use]
    pub fn remember(mut self, key: &str, value: impl Into<String>) -> Self {
        set(&mut self.extra_info, key, value.into());
        self
    }

    /// Removes one entry of the target's `extra_info`.
    #[must_use]
    pub fn forget(mut self, key: &str) -> Self {
        self.extra_info.retain(|(name, _)| name != key);
        self
    }
}

impl Failure {
    /// `reason` is one CamelCase word; `message` is the cause and what to do about it.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

impl ActionError {
    /// A later attempt may succeed: the host calls again, with backoff.
    pub fn retry(reason: &str, message: impl Into<String>) -> Self {
        Self::Retry((Failure::new(reason, message), None))
    }

    /// A later attempt may succeed: the host calls again after this time.
    pub fn retry_after(reason: &str, message: impl Into<String>, after: Duration) -> Self {
        Self::Retry((Failure::new(reason, message), Some(milliseconds(after))))
    }

    /// It will never go better: the target is Failed.
    pub fn terminal(reason: &str, message: impl Into<String>) -> Self {
        Self::Terminal(Failure::new(reason, message))
    }
}

/// A time as the contract has it. Rounded up, because a call that is too early finds nothing changed.
fn milliseconds(time: Duration) -> u32 {
    let part = u64::from(time.subsec_nanos().div_ceil(1_000_000));
    let milliseconds = time.as_secs().saturating_mul(1_000).saturating_add(part);
    u32::try_from(milliseconds).unwrap_or(u32::MAX)
}

fn set(attributes: &mut Attributes, key: &str, value: String) {
    match attributes.iter_mut().find(|(name, _)| name == key) {
        Some((_, present)) => *present = value,
        None => attributes.push((key.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_time_is_rounded_up_to_milliseconds_and_ends_at_the_largest() {
        let target = testing::target_without_pod("foo", None);
        for (time, expected) in [
            (Duration::from_secs(2), 2_000),
            (Duration::from_micros(1), 1),
            (Duration::MAX, u32::MAX),
        ] {
            let report = ProgressReport::processing(&target).recheck_after(time);
            assert_eq!(report.recheck_after, Some(expected));
            let error = ActionError::retry_after("A", "b", time);
            assert_eq!(
                error,
                ActionError::Retry((Failure::new("A", "b"), Some(expected)))
            );
        }
    }

    #[test]
    fn an_event_is_normal_or_a_warning() {
        let target = testing::target_without_pod("foo", None);
        let operation = Operation::of(&target).event("A", "a").warning("B", "b");
        let severities = operation.effects.iter().map(|effect| match effect {
            Effect::Event(event) => Some(event.severity),
            _ => None,
        });
        let severities: Vec<_> = severities.collect();
        assert_eq!(
            severities,
            [Some(Severity::Normal), Some(Severity::Warning)]
        );
    }

    #[test]
    fn remembering_a_key_twice_keeps_one_entry_and_the_last_value() {
        let target = testing::target_without_pod("foo", None);
        let operation = Operation::of(&target)
            .remember("NewPod", "a")
            .remember("Other", "x")
            .remember("NewPod", "b")
            .forget("Other");
        assert_eq!(operation.extra_info, [("NewPod".into(), "b".into())]);
    }
}
