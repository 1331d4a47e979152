//! The PodOpsLifecycle controller: moves the labels and the readiness gate of pods that take part. What
//! comes next for a pod is decided in `operon_core::pod_lifecycle`.

use std::{sync::Arc, time::Duration};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_core::{
    action::{Failure, Severity},
    pod_lifecycle::{
        deletion::deletion,
        pod::{Step, step, takes_part},
    },
};

use crate::{
    driven::OwnedCache,
    effects::{Performed, Performer},
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
        let answers = self.rules.answers(&pod);
        let (step, failure) = step(&pod, &answers, Timestamp::now());
        if let Some(failure) = failure {
            let Failure { reason, message } = failure;
            self.events
                .send(&*pod, Severity::Warning, &reason, "Reconcile", &message)
                .await;
        }
        match self.take(&pod, &step).await {
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
    /// Writes the labels, then the readiness gate, each over the version of the pod that it was decided from. A
    /// pod that is at rest, or waits, is deleted if it shall be.
    async fn take(&self, pod: &Pod, step: &Step) -> Result<(), Error> {
        let namespace = pod.namespace().unwrap_or_default();
        if step.is_none() {
            return self.delete(pod, &namespace).await;
        }
        let mut version = pod.resource_version();
        if let Some(labels) = step.labels(pod, version.clone()) {
            let Performed::Object(written) = self.performer.perform(&namespace, &labels).await?
            else {
                return Ok(());
            };
            version = written.resource_version();
            self.wrote(*written);
            if let Some(rules) = step.waits() {
                let message = format!("waiting for {rules}");
                self.events
                    .send(pod, Severity::Normal, "WaitsForRule", "Reconcile", &message)
                    .await;
            }
        }
        if let Some(gate) = step.gate(pod, version, Timestamp::now())
            && let Performed::Object(written) = self.performer.perform(&namespace, &gate).await?
        {
            self.wrote(*written);
            if let Some((reason, message)) = step.event() {
                self.events
                    .send(pod, Severity::Normal, reason, "Reconcile", message)
                    .await;
            }
        }
        Ok(())
    }

    async fn delete(&self, pod: &Pod, namespace: &str) -> Result<(), Error> {
        let Some(next) = deletion(pod, Timestamp::now()) else {
            return Ok(());
        };
        if let Performed::Object(written) = self.performer.perform(namespace, &next).await? {
            self.wrote(*written);
        }
        if next.removes() {
            let message = "the pod is out of service and is deleted";
            self.events
                .send(pod, Severity::Normal, "PodDeletion", "Reconcile", message)
                .await;
        }
        Ok(())
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
