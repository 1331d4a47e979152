//! A call whose action takes part in the PodOpsLifecycle: a removal waits until the pod is out of service, and
//! the pod is given back when the target is released.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use operon_core::{
    action::{Effect, Failure, Operation, OpsProgress, ProgressReport, Unfinished},
    operation_job::{conclude::Answer, lifecycle::Turn, plan::Cause},
};

use super::{Call, Ended};
use crate::{
    effects::OnBehalf,
    pod_writer::{Written, outdated},
};

/// How soon a release that waits for the pod is tried again if nothing changes.
const RECHECK: Duration = Duration::from_secs(1);

impl Call {
    /// What an operation waits for that removes the target's pod: the pod leaves service before.
    pub(super) async fn before_removal(
        &self,
        operation: &Operation,
    ) -> Result<Option<Answer>, Ended> {
        let removes = |effect: &Effect| self.removes_pod(effect);
        if !self.service.holds_removals() || !operation.effects.iter().any(removes) {
            return Ok(None);
        }
        let Some(pod) = self.pod() else {
            return Ok(None);
        };
        let waits = match self.service.turn(&pod, Timestamp::now()) {
            Turn::Act => return Ok(None),
            Turn::Wait(failure, again) => self.waiting(failure, again),
            Turn::Begin(begin, failure) => {
                self.write(&begin).await?;
                self.waiting(failure, None)
            }
        };
        Ok(Some(waits))
    }

    /// The answer to a report of the action. Its pod returns to service before the target succeeds.
    pub(super) fn reported(&self, report: ProgressReport) -> Answer {
        let succeeded = report.progress == OpsProgress::Succeeded;
        let holds = |pod: &Arc<Pod>| self.service.give_back(pod, true).is_some();
        if succeeded && self.pod().as_ref().is_some_and(holds) {
            return Answer::Operated {
                extra_info: report.extra_info,
            };
        }
        Answer::Report(report)
    }

    /// Whether the action may be asked how far it is: not before it was called about a pod that is out of
    /// service.
    pub(super) fn may_have_acted(&self) -> bool {
        let pod = self.pod();
        self.service
            .may_have_acted(pod.as_deref(), Timestamp::now())
    }

    /// The answer to a release that waits until the pod is back in service, if it does.
    pub(super) async fn before_release(&self, cause: Cause) -> Result<Option<Answer>, Ended> {
        let Some(pod) = self.pod().filter(|_| cause != Cause::Overdue) else {
            return Ok(None);
        };
        let Some(failure) = self.service.before_release(&pod, Timestamp::now()) else {
            return Ok(None);
        };
        if let Some(effect) = self.service.give_back(&pod, false) {
            self.write(&effect).await?;
        }
        Ok(Some(Answer::Releasing {
            unfinished: Unfinished {
                failure,
                recheck_after: Some(RECHECK),
            },
            extra_info: self.target.extra_info.clone(),
        }))
    }

    /// Gives the pod back once the target is released, or its release is given up.
    pub(super) async fn give_back(
        &self,
        cause: Cause,
        answer: Result<Answer, Ended>,
    ) -> Result<Answer, Ended> {
        let has_succeeded = match &answer {
            Ok(Answer::Report(_) | Answer::Operated { .. } | Answer::Tried { .. }) => true,
            Ok(Answer::Released { .. }) => false,
            Err(Ended::Failed(_)) if cause == Cause::Overdue => false,
            Ok(Answer::Acted { .. } | Answer::Releasing { .. } | Answer::Error { .. })
            | Err(Ended::Stopped | Ended::Failed(_)) => return answer,
        };
        let pod = self.pod();
        let effect = pod.and_then(|pod| self.service.give_back(&pod, has_succeeded));
        if let Some(effect) = effect
            && self.write(&effect).await? == Written::Outdated
            && self.pod().is_some()
        {
            return Err(outdated().into());
        }
        answer
    }

    /// Writes the target's pod, when one more effect may be in flight.
    async fn write(&self, effect: &Effect) -> Result<Written, Ended> {
        let in_flight = self.effect().await?;
        let behalf = OnBehalf::of_job(&self.job);
        Ok(self.writer.write(&behalf, effect, in_flight).await?)
    }

    fn pod(&self) -> Option<Arc<Pod>> {
        let uid = self.target.uid.as_deref();
        self.writer.pod(&self.job.namespace, &self.target.name, uid)
    }

    pub(super) fn waiting(&self, failure: Failure, again: Option<Duration>) -> Answer {
        Answer::Report(ProgressReport {
            progress: OpsProgress::Processing,
            failure: Some(failure),
            extra_info: self.target.extra_info.clone(),
            recheck_after: again,
        })
    }

    /// Whether an effect removes the target's own pod.
    fn removes_pod(&self, effect: &Effect) -> bool {
        let name = &self.target.name;
        match effect {
            Effect::Delete { object, .. } => {
                (object.api_version.as_str(), object.kind.as_str()) == ("v1", "Pod")
                    && object.name == *name
            }
            Effect::Evict { pod, .. } => pod == name,
            Effect::Patch { .. } | Effect::Apply(_) | Effect::Create(_) | Effect::Event { .. } => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
