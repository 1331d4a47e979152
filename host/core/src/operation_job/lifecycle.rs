//! How a target takes part in the PodOpsLifecycle: its pod leaves service before the action is called, and
//! returns to service when the action has succeeded, failed, or was cancelled. Pure.
//!
//! An action that removes the pod needs the pod in service until it removes it: it is called all the time,
//! and only an operation that removes the pod waits until the pod is out of service.
//!
//! What has begun is read from the pod's labels. That the action has succeeded is in the status
//! (`operatedTime`) before the pod returns to service, so a pod that has returned is not operated again.

mod service;

use std::time::Duration;

use kube::ResourceExt;
use operon_api::{OperationJob, keys, operation_job::Progress, operation_job::TargetDetail};

pub use self::service::{Service, Turn};
use super::{
    Observed,
    conclude::JobEvent,
    plan::{TargetPlans, TargetStep},
};
use crate::{
    action::{Effect, Failure, Severity},
    pod_lifecycle::{
        labels::GATE,
        pod::{gate, takes_part},
        transition::Gate,
    },
};

/// Whether an action takes part in the PodOpsLifecycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Its ActionPlugin asks for it.
    pub is_wanted: bool,
    /// The PodOpsLifecycle controller runs.
    pub is_enabled: bool,
    /// The action removes the pods of its targets.
    pub removes: bool,
}

/// What a job waits for if its action takes part, and nothing takes pods out of service.
pub fn disabled(observed: &Observed<'_>) -> Option<Failure> {
    let Lifecycle {
        is_wanted,
        is_enabled,
        removes: _,
    } = observed.lifecycle;
    (is_wanted && !is_enabled).then(not_enabled)
}

/// The failure of what needs the PodOpsLifecycle controller where it does not run.
pub fn not_enabled() -> Failure {
    Failure::new(
        "PodOpsLifecycleDisabled",
        "the action takes part in the PodOpsLifecycle (enablePodOpsLifecycle), and its controller is disabled: \
         set the chart's value controllers.podOpsLifecycle.enabled to true",
    )
}

/// Whether the action has succeeded, and the pod is returning to service.
pub(super) fn is_operated(detail: &TargetDetail) -> bool {
    detail.progress == Progress::Processing && detail.operated_time.is_some()
}

/// What a target waits for before it starts: other operations on its pod.
pub(super) fn before_start(observed: &Observed<'_>, detail: &TargetDetail) -> Option<Failure> {
    let Lifecycle {
        is_wanted, removes, ..
    } = observed.lifecycle;
    if !is_wanted || removes {
        return None;
    }
    let pod = observed.pods.get(&detail.name);
    let pod = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none())?;
    Service::of(observed.job, observed.lifecycle).blocked(&pod, observed.now)
}

/// The step of a target that has started and was not operated, of an action that can be called; and when
/// time alone may change it.
pub(super) fn step_of_started(
    observed: &Observed<'_>,
    detail: &TargetDetail,
) -> (TargetStep, Option<Duration>) {
    let Lifecycle {
        is_wanted, removes, ..
    } = observed.lifecycle;
    if let Some(waits) = disabled(observed) {
        return (TargetStep::Await(waits), None);
    }
    // The pod is read only where it matters.
    if removes {
        return (TargetStep::Operate, None);
    }
    let service = Service::of(observed.job, observed.lifecycle);
    let pod = observed.own_pod(detail);
    let has_begun = pod.as_deref().is_some_and(|pod| service.has_begun(pod));
    if !(is_wanted || has_begun) {
        return (TargetStep::Operate, None);
    }
    let Some(pod) = pod else {
        return (TargetStep::Fail(pod_gone(observed.job, detail)), None);
    };
    match service.turn(&pod, observed.now) {
        Turn::Act => (TargetStep::Operate, None),
        Turn::Begin(_, waits) => (TargetStep::Wait(waits), None),
        Turn::Wait(waits, again) => (TargetStep::Wait(waits), again),
    }
}

/// The step of a target whose action has succeeded.
pub(super) fn step_of_operated(observed: &Observed<'_>, detail: &TargetDetail) -> TargetStep {
    let service = Service::of(observed.job, observed.lifecycle);
    let pod = observed.own_pod(detail);
    match pod.and_then(|pod| service.returning(&pod)) {
        Some(waits) if observed.lifecycle.is_enabled => TargetStep::Wait(waits),
        Some(_) => TargetStep::Wait(not_enabled()),
        None => TargetStep::Succeed,
    }
}

/// What is written on the pod of a target for this step: the operation begins, or gives the pod back.
pub(super) fn write(
    observed: &Observed<'_>,
    detail: &TargetDetail,
    step: &TargetStep,
) -> Option<Effect> {
    if detail.progress == Progress::Pending {
        return None;
    }
    let service = Service::of(observed.job, observed.lifecycle);
    let is_operated = is_operated(detail);
    match step {
        TargetStep::Wait(_) if !is_operated => {
            let pod = observed.own_pod(detail)?;
            match service.turn(&pod, observed.now) {
                Turn::Begin(begin, _) => Some(begin),
                Turn::Act | Turn::Wait(..) => None,
            }
        }
        TargetStep::Wait(_) | TargetStep::Succeed | TargetStep::Fail(_) => {
            let pod = observed.own_pod(detail)?;
            service.give_back(&pod, is_operated)
        }
        TargetStep::Keep
        | TargetStep::Start { .. }
        | TargetStep::Operate
        | TargetStep::Release(_)
        | TargetStep::Await(_) => None,
    }
}

/// Why the pod of a target serves while the action operates it, though the action takes part.
pub(super) fn serves_on(observed: &Observed<'_>, detail: &TargetDetail) -> Option<String> {
    if !observed.lifecycle.is_wanted {
        return None;
    }
    let pod = observed.own_pod(detail)?;
    let pod = &*pod;
    let name = pod.name_any();
    if !takes_part(pod) {
        return Some(format!(
            "pod {name:?} does not have the label {}=true, so it is not taken out of service",
            keys::CONTROL
        ));
    }
    (gate(pod) == Gate::Absent).then(|| {
        format!(
            "pod {name:?} does not have the readiness gate {GATE}, so it is not taken out of service"
        )
    })
}

/// One Event for every target that starts, and whose pod is not taken out of service.
pub(super) fn events(observed: &Observed<'_>, run: &TargetPlans) -> Vec<JobEvent> {
    let starts = run.targets.iter().filter_map(|target| {
        let TargetStep::Start { uid } = &target.step else {
            return None;
        };
        let mut detail = target.detail.clone();
        detail.pod_uid = Some(uid.clone());
        Some(JobEvent {
            severity: Severity::Warning,
            reason: "StaysInService",
            target: Some(detail.name.clone()),
            message: serves_on(observed, &detail)?,
        })
    });
    starts.collect()
}

fn pod_gone(job: &OperationJob, detail: &TargetDetail) -> Failure {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    Failure::new(
        "PodNotFound",
        format!(
            "pod {:?} in namespace {namespace:?} was deleted before it was operated",
            detail.name
        ),
    )
}
