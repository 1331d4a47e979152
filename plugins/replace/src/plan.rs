//! The decision of a way of replacing on a target, as one value: the effects to perform now and how far the
//! target is. `operate_target` takes the effects from it and `get_ops_progress` the outcome, so the two can
//! never disagree.

use std::time::Duration;

use operon_sdk::{
    ActionError, Cluster, Effect, Event, Failure, Job, MetadataEdit, Operation, Patch, Pod,
    Progress, ProgressReport, ReadError, Requirement, Severity, Target,
};

use crate::budget;
use crate::keys;
use crate::settings::{Removal, Settings};

/// The decision about one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To be performed now.
    pub effects: Vec<Effect>,
    /// What must exist when they are performed.
    pub requirements: Vec<Requirement>,
    /// How many pods may match a label selector for them to be performed.
    pub limit: Option<(u32, String)>,
    /// The pod that replaces the target's, once known.
    pub new_pod: Option<String>,
    /// Whether the new pod replaces the target's only by the effects: it is recorded once they are performed.
    pub claims: bool,
    /// What to remember of the pod's owner.
    pub owner: Option<String>,
    /// Whether the target waits because it is itself the new pod of an unfinished replacement.
    pub not_allowed: bool,
    /// How far the target is.
    pub outcome: Outcome,
}

/// How far a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for this, and requests another call after this time at the latest.
    Wait(Failure, Option<Duration>),
    /// The new pod serves and the old one is deleted.
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
             replaced after {origin:?} is deleted",
            pod.name
        );
        Self {
            not_allowed: true,
            ..Self::wait(keys::NOT_ALLOWED, message).recheck_after(Duration::from_secs(5))
        }
    }

    fn of(outcome: Outcome) -> Self {
        Self {
            effects: Vec::new(),
            requirements: Vec::new(),
            limit: None,
            new_pod: None,
            claims: false,
            owner: None,
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

    /// Adds what must exist when the effects are performed.
    #[must_use]
    pub fn requiring(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }

    /// The effects are performed only while fewer pods than this match the label selector.
    #[must_use]
    pub fn limited_to(mut self, pods: u32, label_selector: &str) -> Self {
        self.limit = Some((pods, label_selector.to_owned()));
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

    /// Records the owner of the target's pod, if that was not done before.
    #[must_use]
    pub fn with_owner(mut self, target: &Target, owner: String) -> Self {
        self.owner = Some(owner).filter(|_| target.extra(keys::OWNER).is_none());
        self
    }

    /// Sets the pod that replaces the target's.
    #[must_use]
    pub fn with_new_pod(mut self, name: &str) -> Self {
        self.new_pod = Some(name.to_owned());
        self
    }

    /// The effects create or claim the new pod.
    #[must_use]
    pub fn claiming(mut self) -> Self {
        self.claims = true;
        self
    }

    /// A wait that ends after this time even if nothing changes.
    #[must_use]
    pub fn recheck_after(mut self, after: Duration) -> Self {
        if let Outcome::Wait(_, recheck) = &mut self.outcome {
            *recheck = Some(after);
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
        if let Some(owner) = &self.owner {
            operation = operation.remember(keys::OWNER, owner);
        }
        operation = match self.not_allowed_sentence() {
            Some(sentence) => operation.remember(keys::NOT_ALLOWED, sentence),
            None => operation.forget(keys::NOT_ALLOWED),
        };
        operation.requirements = self.requirements;
        if let Some((pods, selector)) = &self.limit {
            operation = operation.limited_to(*pods, selector);
        }
        operation.effects = self.effects;
        Ok(operation)
    }

    /// The answer to `get_ops_progress`.
    pub fn report(self, target: &Target) -> ProgressReport {
        let sentence = self.not_allowed_sentence();
        let mut report = match self.outcome {
            Outcome::Wait(failure, recheck) => {
                let report = ProgressReport {
                    failure: Some(failure),
                    ..ProgressReport::processing(target)
                };
                match recheck {
                    Some(after) => report.recheck_after(after),
                    None => report,
                }
            }
            Outcome::Succeeded => ProgressReport::succeeded(target).forget(keys::OWNER),
            Outcome::Failed(failure) => ProgressReport::failed(target, failure),
        };
        if let Some(name) = self.new_pod.filter(|_| !self.claims) {
            report = report.remember(keys::NEW_POD, name);
        }
        if let (Some(owner), Progress::Processing) = (self.owner, report.progress) {
            report = report.remember(keys::OWNER, owner);
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

/// The edit of a pod's metadata as an effect.
pub fn patch(edit: MetadataEdit) -> Effect {
    Effect::Patch(Patch::from(edit))
}

/// The plan while the new pod is not ready yet.
pub fn wait_for_ready(new_pod: &Pod) -> Plan {
    let message = match new_pod.unready_because() {
        Some(cause) => format!("the new pod {:?} is not ready: {cause}", new_pod.name),
        None => format!("the new pod {:?} is not ready", new_pod.name),
    };
    Plan::wait(keys::NEW_POD_NOT_READY, message).with_new_pod(&new_pod.name)
}

/// The plan while the old pod is being deleted and the new pod serves. A job that ends now has replaced
/// the pod all the same: nothing brings the old one back, so the target has succeeded.
pub fn wait_for_origin_to_go(origin: &Pod, new_pod: &Pod, job: &Job) -> Plan {
    let plan = if job.ending {
        Plan::succeed()
    } else {
        Plan::wait(
            "OriginTerminating",
            format!("the new pod serves; {}", terminating(origin)),
        )
    };
    plan.with_new_pod(&new_pod.name)
}

/// What a pod that is being deleted waits for, as far as the pod shows it.
fn terminating(pod: &Pod) -> String {
    let node = pod.node.as_ref();
    let node = node.map_or(String::new(), |node| format!(" on node {node:?}"));
    let finalizers = match pod.finalizers.as_slice() {
        [] => String::new(),
        finalizers => format!("; it is held by the finalizers {}", finalizers.join(", ")),
    };
    format!("pod {:?} is being deleted{node}{finalizers}", pod.name)
}

/// Removes the old pod, now that the new one serves: by eviction, or by deletion where the settings say
/// so. The new pod is read from the API server before, so that no stale store costs the last pod.
pub fn remove(
    origin: &Pod,
    new_pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let message = format!("the new pod serves; pod {:?} is removed", origin.name);
    let plan = Plan::wait("OriginTerminating", message).requiring(new_pod.unchanged());
    let plan = match Settings::of(job).removal {
        Removal::Delete => plan.doing(Effect::Delete(origin.delete())),
        Removal::Evict => match budget::over(origin, cluster)?.as_slice() {
            [] | [_] => plan.doing(Effect::Evict(origin.evict())),
            several => several_budgets(origin, several),
        },
    };
    Ok(plan.with_new_pod(&new_pod.name))
}

fn several_budgets(origin: &Pod, budgets: &[String]) -> Plan {
    let message = format!(
        "the new pod serves, but the PodDisruptionBudgets {} all select pod {:?}, and Kubernetes never evicts \
         such a pod: keep only one of them, delete the pod, or set `removal: delete` in the settings of Replace",
        budgets.join(", "),
        origin.name
    );
    Plan::wait(keys::SEVERAL_BUDGETS, message).recheck_after(Duration::from_secs(10))
}
