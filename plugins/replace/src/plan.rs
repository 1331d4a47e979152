//! What a way of replacing decides about a target, as one value: the effects to perform now and how
//! far the target is. `operate_target` takes the effects from it and `get_ops_progress` the outcome,
//! so the two can never disagree.

use operon_sdk::{
    ActionError, Effect, Event, Failure, Job, Operation, Pod, ProgressReport, Severity, Target,
};

use crate::keys;

/// The decision about one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To be performed now.
    pub effects: Vec<Effect>,
    /// The pod that stands for the target's, once known.
    pub new_pod: Option<String>,
    /// Whether the target waits because it is itself the new pod of an unfinished replacement.
    pub not_allowed: bool,
    /// How far the target is.
    pub outcome: Outcome,
}

/// How far a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for this, and is to be asked again after these milliseconds at the latest.
    Wait(Failure, Option<u32>),
    /// The new pod serves and the old one is gone.
    Succeeded,
    /// It can't be replaced, for this reason.
    Failed(Failure),
}

impl Plan {
    /// Wait for a change in the cluster.
    pub fn wait(reason: &str, message: impl Into<String>) -> Self {
        Self::of(Outcome::Wait(Failure::new(reason, message), None))
    }

    /// Give up.
    pub fn fail(reason: &str, message: impl Into<String>) -> Self {
        Self::of(Outcome::Failed(Failure::new(reason, message)))
    }

    /// Nothing is left to do.
    pub fn succeed() -> Self {
        Self::of(Outcome::Succeeded)
    }

    /// Wait until another replacement, of which this pod is the new one, has ended.
    pub fn not_allowed(pod: &Pod, origin: &str) -> Self {
        let message = format!(
            "pod {:?} is the new pod of the unfinished replacement of pod {origin:?}: it can be \
             replaced when {origin:?} is gone",
            pod.name
        );
        Self {
            not_allowed: true,
            ..Self::wait(keys::NOT_ALLOWED, message).recheck_after(5_000)
        }
    }

    fn of(outcome: Outcome) -> Self {
        Self {
            effects: Vec::new(),
            new_pod: None,
            not_allowed: false,
            outcome,
        }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn doing(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// Adds an event about the target's pod.
    #[must_use]
    pub fn event(self, reason: &str, message: impl Into<String>) -> Self {
        self.doing(Effect::Event(Event {
            severity: Severity::Normal,
            reason: reason.to_owned(),
            message: message.into(),
        }))
    }

    /// Says which pod stands for the target's.
    #[must_use]
    pub fn with_new_pod(mut self, name: &str) -> Self {
        self.new_pod = Some(name.to_owned());
        self
    }

    /// A wait that ends after some milliseconds even if nothing changes.
    #[must_use]
    pub fn recheck_after(mut self, milliseconds: u32) -> Self {
        if let Outcome::Wait(_, recheck) = &mut self.outcome {
            *recheck = Some(milliseconds);
        }
        self
    }

    /// The answer to `operate_target`.
    ///
    /// # Errors
    /// The failure that the plan ends in.
    pub fn operation(self, target: &Target) -> Result<Operation, ActionError> {
        if let Outcome::Failed(failure) = self.outcome {
            return Err(ActionError::Terminal(failure));
        }
        let mut operation = Operation::of(target);
        if let Some(name) = &self.new_pod {
            operation = operation.remember(keys::NEW_POD, name);
        }
        operation = match self.not_allowed_sentence() {
            Some(sentence) => operation.remember(keys::NOT_ALLOWED, sentence),
            None => operation.forget(keys::NOT_ALLOWED),
        };
        operation.effects = self.effects;
        Ok(operation)
    }

    /// The answer to `get_ops_progress`.
    pub fn report(self, target: &Target) -> ProgressReport {
        let sentence = self.not_allowed_sentence();
        let mut report = match self.outcome {
            Outcome::Wait(failure, recheck) => ProgressReport {
                failure: Some(failure),
                recheck_after: recheck,
                ..ProgressReport::processing(target)
            },
            Outcome::Succeeded => ProgressReport::succeeded(target),
            Outcome::Failed(failure) => ProgressReport::failed(target, failure),
        };
        if let Some(name) = self.new_pod {
            report = report.remember(keys::NEW_POD, name);
        }
        match sentence {
            Some(sentence) => report.remember(keys::NOT_ALLOWED, sentence),
            None => report.forget(keys::NOT_ALLOWED),
        }
    }

    fn not_allowed_sentence(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Wait(failure, _) if self.not_allowed => Some(failure.message.clone()),
            Outcome::Wait(..) | Outcome::Succeeded | Outcome::Failed(_) => None,
        }
    }
}

/// The plan while the new pod is not ready yet.
pub fn wait_for_ready(new_pod: &Pod) -> Plan {
    let message = match new_pod.unready_because() {
        Some(cause) => format!("the new pod {:?} is not ready: {cause}", new_pod.name),
        None => format!("the new pod {:?} is not ready", new_pod.name),
    };
    Plan::wait("NewPodNotReady", message).with_new_pod(&new_pod.name)
}

/// The plan while the origin is going and the new pod serves. A job that ends now has replaced the
/// pod all the same: nothing brings the origin back, so it counts as done.
pub fn wait_for_origin_to_go(origin: &Pod, new_pod: &Pod, job: &Job) -> Plan {
    let plan = if job.ending {
        Plan::succeed()
    } else {
        let message = format!(
            "the new pod serves; pod {:?} is on its way out",
            origin.name
        );
        Plan::wait("OriginTerminating", message)
    };
    plan.with_new_pod(&new_pod.name)
}
