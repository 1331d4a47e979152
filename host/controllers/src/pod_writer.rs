//! What OperationJobs write on the pods of actions that take part in the PodOpsLifecycle: an operation begins,
//! or gives the pod back. It is written as the ServiceAccount of the PodOpsLifecycle controller, so an action
//! needs no permission for it. What is written is decided in `operon_core::operation_job::lifecycle`.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_core::{
    action::{ActionError, Effect, Failure},
    operation_job::{
        Observed,
        conclude::Answer,
        lifecycle::{Lifecycle, not_enabled},
        plan::{TargetPlan, TargetPlans, TargetStep},
    },
    shares::{Claim, Place, Shares},
};

use crate::{
    catalogue::Loaded,
    effects::{OnBehalf, Performed, Performer},
    error::Class,
    store::Cache,
};

/// How many pods are written at the same time.
const PODS_AT_ONCE: usize = 16;

/// Writes the labels of the lifecycle.
#[derive(Clone)]
pub struct PodWriter {
    /// All pods.
    pub pods: Cache<Pod>,
    /// Acts as the PodOpsLifecycle controller; none where that is not enabled.
    pub performer: Option<Performer>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The pod has it.
    Yes,
    /// The pod has changed or is gone; the change wakes the job.
    Outdated,
}

impl PodWriter {
    /// Whether this action takes part.
    pub(crate) fn lifecycle(&self, loaded: Option<&Loaded>) -> Lifecycle {
        Lifecycle {
            is_wanted: loaded.is_some_and(|loaded| loaded.version.lifecycle),
            is_enabled: self.performer.is_some(),
            removes: loaded.is_some_and(|loaded| loaded.action.registration().removes_pods),
        }
    }

    /// Takes the pods of targets out of service, or gives them back, as planned. The writes wait in turn with the
    /// `effects` of this plugin. Returns what failed.
    pub(crate) async fn write_all(
        &self,
        observed: &Observed<'_>,
        run: &TargetPlans,
        effects: &Shares,
        plugin: &str,
    ) -> Vec<(usize, Answer)> {
        let job = observed.job.uid().unwrap_or_default();
        let (behalf, job) = (&OnBehalf::of(observed.job), job.as_str());
        let planned = run.targets.iter();
        let planned: Vec<_> = planned
            .filter_map(|plan| Some((plan, plan.write.as_ref()?)))
            .collect();
        let mut failed = Vec::new();
        for some in planned.chunks(PODS_AT_ONCE) {
            let writes = some.iter().map(|(_, effect)| async move {
                let place = effects.take(plugin, job, Claim::ONE).await;
                self.write(behalf, effect, place).await
            });
            let written = join_all(writes).await;
            let results = some.iter().zip(written);
            failed.extend(results.filter_map(|((plan, _), result)| not_written(plan, result)));
        }
        failed
    }

    /// The pod of this uid, if it exists.
    pub(crate) fn pod(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        let pod = self.pods.store.get(&ObjectRef::new(name).within(namespace));
        pod.filter(|pod| uid.is_some() && pod.metadata.uid.as_deref() == uid)
    }

    /// Writes this over the version of the pod that it was decided from. It counts as an effect in flight, which the
    /// place is for.
    ///
    /// # Errors
    /// The controller is not enabled, or the API server refuses the write.
    pub(crate) async fn write(
        &self,
        behalf: &OnBehalf<'_>,
        effect: &Effect,
        _in_flight: Place,
    ) -> Result<Written, ActionError> {
        let Some(performer) = &self.performer else {
            return Err(ActionError::Retry(not_enabled(), None));
        };
        match performer.perform(behalf, effect).await {
            Ok(Performed::Object(object)) => {
                if let Ok(pod) = object.try_parse() {
                    self.pods.wrote(pod);
                }
                Ok(Written::Yes)
            }
            Ok(Performed::Nothing) => Ok(Written::Yes),
            Err(error) if matches!(error.class(), Class::Conflict | Class::Gone) => {
                Ok(Written::Outdated)
            }
            Err(error) => {
                let failure = Failure::new(error.reason(), error.chain());
                Err(ActionError::Retry(failure, None))
            }
        }
    }
}

/// What a write means for the target; none if it can go on. An operation that could not begin on a pod that
/// changed begins on its next version.
fn not_written(plan: &TargetPlan, result: Result<Written, ActionError>) -> Option<(usize, Answer)> {
    let error = match (result, &plan.step) {
        (Ok(Written::Yes), _) | (Ok(Written::Outdated), TargetStep::Wait(_)) => return None,
        (Ok(Written::Outdated), _) => outdated(),
        (Err(error), _) => error,
    };
    let answer = Answer::Error {
        error,
        extra_info: None,
    };
    Some((plan.index, answer))
}

/// The error of a pod that changed while it was given back.
pub(crate) fn outdated() -> ActionError {
    let message = "the pod changed while it was given back to service";
    ActionError::Retry(Failure::new("Conflict", message), None)
}
