//! The PodOpsLifecycle controller: moves the labels and the readiness gate of pods that take part. What
//! comes next for a pod is decided in `operon_core::pod_lifecycle`.

use std::{sync::Arc, time::Duration};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::runtime::reflector::ObjectRef;
use operon_core::{
    action::{Failure, Severity},
    pod_lifecycle::pod::{Step, step, takes_part},
};

use crate::{
    driven::OwnedCache,
    effects::{OnBehalf, Performed, Performer},
    error::{Class, Error},
    events::Events,
    pod_transition_rule::RuleBook,
    run::{Next, Reconciler},
    store::Cache,
};

/// When a pod is looked at again whose version was refused.
const CONFLICT: Duration = Duration::from_secs(1);

/// The controller's parts.
pub struct PodOpsLifecycle {
    /// All pods.
    pub pods: Cache<Pod>,
    /// Decides when operations may take a pod out of service.
    pub rules: RuleBook,
    /// Writes pods.
    pub performer: Performer,
    /// Sends Events.
    pub events: Events,
}

impl Reconciler for PodOpsLifecycle {
    type Object = Pod;
    const NAME: &'static str = "podopslifecycle";
    const STATUS_MANAGER: Option<&'static str> = None;

    async fn reconcile(&self, pod: Arc<Pod>) -> Result<Next, Error> {
        let now = Timestamp::now();
        let (step, failure) = step(&pod, |pod| self.rules.answers(pod), now);
        if let Some(Failure { reason, message }) = failure {
            self.send(&pod, Severity::Warning, &reason, &message).await;
        }
        match self.take(&pod, &step, now).await {
            // The watch reports the newer version, which asks for another reconcile; if there is none, time does.
            Err(error) if error.class() == Class::Conflict => Ok(Next {
                requeue_after: Some(CONFLICT),
                retry: false,
            }),
            Err(error) if error.class() == Class::Gone => Ok(Next::default()),
            result => result.map(|()| Next::default()),
        }
    }
}

impl PodOpsLifecycle {
    /// Writes the pod, over the version that this was decided from.
    async fn take(&self, pod: &Pod, step: &Step, now: Timestamp) -> Result<(), Error> {
        let Some(write) = step.write(pod, now) else {
            return Ok(());
        };
        let written = self.performer.perform(&OnBehalf::of(pod), &write).await?;
        if let Performed::Object(written) = written {
            self.wrote(*written);
        }
        if let Some((reason, message)) = step.event() {
            self.send(pod, Severity::Normal, reason, message).await;
        }
        if let Some(rules) = step.waits() {
            let message = format!("waiting for {rules}");
            self.send(pod, Severity::Normal, "WaitsForRule", &message)
                .await;
        }
        Ok(())
    }

    async fn send(&self, pod: &Pod, severity: Severity, reason: &str, message: &str) {
        self.events
            .send(pod, severity, reason, "Reconcile", message)
            .await;
    }

    fn wrote(&self, written: kube::core::DynamicObject) {
        // What was read from JSON is JSON.
        let written = serde_json::to_value(written).unwrap_or_default();
        OwnedCache::wrote(&self.pods, &written);
    }
}

/// Wakes the controller for pods that take part.
pub struct LifecycleTriggers(UnboundedSender<ObjectRef<Pod>>);

impl LifecycleTriggers {
    /// Wakes by this queue.
    pub fn new(queue: UnboundedSender<ObjectRef<Pod>>) -> Self {
        Self(queue)
    }

    /// A pod changed.
    pub fn pod_changed(&self, pod: &Pod) {
        if takes_part(pod) {
            // A closed queue means that the process ends.
            let _ = self.0.unbounded_send(ObjectRef::from_obj(pod));
        }
    }
}
