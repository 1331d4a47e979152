//! The action Recreate: the pod of a target is evicted or deleted, and the target has succeeded when the
//! controller of the pod has created another one that is ready.
//!
//! What is remembered of the pod is in the status before the pod is removed (`before`), because nothing of it is left
//! afterwards. `after` says from the pods that there are whether another one has taken its place.

pub mod after;
pub mod before;

use operon_sdk::ReadError;
use operon_sdk::prelude::*;

use crate::before::Before;

/// The action.
#[derive(Debug)]
pub struct Recreate;

/// The parameters of a job.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    /// How the pod is removed.
    #[serde(default)]
    removal: Removal,
    /// Overrides the grace period of the pods, in seconds.
    grace_period_seconds: Option<u32>,
}

/// How a pod is removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum Removal {
    /// By an eviction, which respects `PodDisruptionBudgets`.
    #[default]
    Evict,
    /// By a deletion.
    Delete,
}

/// What to do, and how far the target is.
enum Plan {
    /// Remember this before the pod is removed.
    Remember(Before),
    /// Remove the pod.
    Remove(Box<Pod>),
    /// Wait for this, and look again after this time.
    Wait(Failure, Option<Duration>),
    /// Another pod has taken its place.
    Done,
    /// It cannot be done.
    Fail(Failure),
}

impl Action for Recreate {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self
    }

    fn setup(&self) -> Result<Registration, String> {
        let removal = json!({"enum": ["evict", "delete"]});
        let seconds = json!({"type": "integer", "minimum": 0, "maximum": 86_400});
        let parameters = json!({"type": "object", "additionalProperties": false,
            "properties": {"removal": removal, "gracePeriodSeconds": seconds}});
        let owner = |api_version: &str, kind: &str| {
            let waking = Mapping::ExtraInfo(before::OWNER.to_owned());
            Watch::of(api_version, kind)
                .reading(&["spec", "status"])
                .waking(waking)
        };
        let by_uid = Mapping::UidInExtraInfo(before::OWNER_UID.to_owned());
        Ok(Registration::default()
            .watch(Watch::of("v1", "Pod").waking(by_uid))
            .watch(owner("apps/v1", "ReplicaSet"))
            .watch(owner("apps/v1", "StatefulSet"))
            .watch(owner("apps/v1", "DaemonSet"))
            .watch(owner("apps.kusionstack.io/v1alpha1", "CollaSet").if_served())
            .parameters(&parameters)
            .removing_pods())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let operation = Operation::of(target);
        match plan(target, cluster)? {
            Plan::Remember(before) => Ok(before.remembered(operation)),
            Plan::Remove(pod) => remove(operation, &pod, job),
            Plan::Fail(failure) => Err(ActionError::Terminal(failure)),
            Plan::Wait(..) | Plan::Done => Ok(operation),
        }
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        _job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let report = ProgressReport::processing(target);
        match plan(target, cluster)? {
            Plan::Done => Ok(ProgressReport::succeeded(target)),
            Plan::Fail(failure) => Ok(ProgressReport::failed(target, failure)),
            Plan::Remember(_) | Plan::Remove(_) => {
                let message = format!("waiting for pod {:?} to be removed", target.name);
                Ok(report
                    .waiting_for("RemovalRequested", message)
                    .recheck_after(Duration::from_millis(100)))
            }
            Plan::Wait(failure, again) => {
                let report = report.waiting_for(&failure.reason, failure.message);
                Ok(match again {
                    Some(after) => report.recheck_after(after),
                    None => report,
                })
            }
        }
    }
}

fn remove(operation: Operation, pod: &Pod, job: &Job) -> Result<Operation, ActionError> {
    let Parameters {
        removal,
        grace_period_seconds,
    } = job.parameters()?;
    Ok(match removal {
        Removal::Evict => {
            let mut evict = pod.evict();
            evict.grace_period_seconds = grace_period_seconds;
            operation.evict(evict)
        }
        Removal::Delete => {
            let mut delete = pod.delete();
            delete.grace_period_seconds = grace_period_seconds;
            operation.delete(delete)
        }
    })
}

fn plan(target: &Target, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let before = Before::of(target);
    let Some(pod) = &target.pod else {
        let Some(before) = before else {
            let message = format!("pod {:?} was deleted before it was looked at", target.name);
            return Ok(Plan::Fail(Failure::new("PodNotFound", message)));
        };
        return after::plan(target, &before, cluster);
    };
    if before.is_none() {
        return Before::look(pod, cluster);
    }
    if pod.deleting {
        let message = pod.waits_to_terminate();
        return Ok(Plan::Wait(Failure::new("PodTerminating", message), None));
    }
    Ok(Plan::Remove(Box::new(pod.clone())))
}

operon_sdk::register!(Recreate);
