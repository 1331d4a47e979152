//! What the status of an object is about: which spec, and which request.

use operon_api::{
    conditions::{STALLED, STANDING_DOWN, find},
    job_flow::Phase,
    keys,
};

use super::{Object, Outcome};

impl Object {
    /// What the status does not consider: the last change of the spec, or what an annotation requests.
    pub(crate) fn unseen(&self) -> Option<&'static str> {
        if !self.is_observed() {
            return Some("the last change of its spec");
        }
        let (key, seen, what) = match self {
            Self::JobFlow(flow) => {
                let retried = flow.status.as_ref().and_then(|s| s.retried.as_ref());
                (keys::RETRY, retried, "the requested retry")
            }
            Self::DaemonJob(job) => {
                let retried = job.status.as_ref().and_then(|s| s.retried.as_ref());
                (keys::RETRY, retried, "the requested retry")
            }
            Self::ReactiveJob(job) => {
                let seen = job.status.as_ref().and_then(|s| s.observed_rerun.as_ref());
                (keys::RERUN, seen, "the requested rerun")
            }
            Self::OperationJob(_) | Self::CollaSet(_) => return None,
        };
        let annotations = self.metadata().annotations.as_ref();
        let asked = annotations.and_then(|annotations| annotations.get(key));
        (asked.is_some() && asked != seen && !self.is_invalid()).then_some(what)
    }

    /// The same, if Operon will consider it: while it stands down, the condition that it wrote says more.
    pub(crate) fn awaited(&self) -> Option<&'static str> {
        self.unseen().filter(|_| !self.is_true(STANDING_DOWN))
    }

    /// Whether its spec is invalid, so that no request has an effect.
    fn is_invalid(&self) -> bool {
        find(self.conditions(), STALLED).is_some_and(|stalled| {
            stalled.status == "True"
                && matches!(stalled.reason.as_str(), "InvalidFlow" | "InvalidSpec")
        })
    }

    /// How a wait for its end ends: an invalid spec has failed when no Job runs any more, although the object goes on once
    /// the spec is changed.
    pub fn ending(&self) -> Outcome {
        let is_left = self.metadata().deletion_timestamp.is_some() || self.unseen().is_some();
        if is_left || !self.is_invalid() {
            return self.outcome();
        }
        let runs = match self {
            Self::JobFlow(flow) => {
                let mut steps = flow.status.iter().flat_map(|status| &status.steps);
                steps.any(|step| step.phase == Phase::Running)
            }
            Self::DaemonJob(job) => {
                let active = job.status.as_ref().and_then(|status| status.active);
                active.unwrap_or(0) > 0
            }
            Self::OperationJob(_) | Self::ReactiveJob(_) | Self::CollaSet(_) => {
                return self.outcome();
            }
        };
        if runs {
            Outcome::Unfinished
        } else {
            Outcome::Failed
        }
    }

    pub(super) fn generation_observed(&self) -> Option<i64> {
        let observed = match self {
            Self::OperationJob(job) => job.status.as_ref()?.observed_generation,
            Self::JobFlow(flow) => flow.status.as_ref()?.observed_generation,
            Self::DaemonJob(job) => job.status.as_ref()?.observed_generation,
            Self::ReactiveJob(job) => job.status.as_ref()?.observed_generation,
            Self::CollaSet(set) => set.status.as_ref()?.observed_generation,
        };
        observed.filter(|generation| *generation >= 0)
    }

    /// Whether the status is about the present spec.
    fn is_observed(&self) -> bool {
        match (self.generation_observed(), self.metadata().generation) {
            (Some(observed), Some(generation)) => observed >= generation,
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }
}
