//! Faults of the host itself: a panic ends one reconcile or one change of a cache, never the process. It is
//! logged, counted, and reported on the object that it was about.

use std::{any::Any, fmt::Debug, panic::AssertUnwindSafe};

use futures::FutureExt;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use operon_api::conditions::{Standing, conditions};
use operon_core::action::Severity;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    apply::{describe, within_limit},
    error::Error,
    events::Events,
    status::{Body, whole_seconds},
};

/// The reason of the condition and the Event.
const REASON: &str = "InternalError";

/// Runs the function; if it panics, returns the message of the panic.
pub(crate) fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| said(&*panic))
}

/// Awaits the future; if it panics, returns the message of the panic.
pub(crate) async fn contained<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let result = AssertUnwindSafe(work).catch_unwind().await;
    result.map_err(|panic| said(&*panic))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Reports on objects that the host failed on them.
#[derive(Clone)]
pub struct Faults {
    /// Writes the conditions.
    pub client: Client,
    /// Sends Events.
    pub events: Events,
}

impl Faults {
    /// Reports on an object that its reconcile panicked: by an Event and, as this field manager of its
    /// status, by its conditions. The rest of the status stays.
    pub(crate) async fn report<K>(
        &self,
        object: &K,
        manager: Option<&str>,
        panic: &str,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize,
    {
        let message = format!(
            "Operon failed while it reconciled this object ({panic}). This is a bug in Operon: please report it. Operon retries with backoff"
        );
        self.events
            .send(object, Severity::Warning, REASON, "Reconcile", &message)
            .await;
        let status = manager.and_then(|manager| {
            let now = whole_seconds(Timestamp::now());
            Some((manager, failed(object, &message, now)?))
        });
        match status {
            Some((manager, status)) => self.write(object, manager, &status).await,
            None => Ok(()),
        }
    }

    async fn write<K>(&self, object: &K, manager: &str, status: &Value) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let (client, kind) = (self.client.clone(), ApiResource::erase::<K>(&()));
        let (namespace, name) = (object.namespace(), object.name_any());
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        let body = Body::new(object, object.meta().resource_version.as_deref(), status);
        let (params, patch) = (PatchParams::apply(manager).force(), Patch::Apply(&body));
        let request = api.patch_status(&name, &params, &patch);
        let object = || describe(&kind.kind, namespace.as_deref(), &name);
        within_limit("write the status of", object, request)
            .await
            .map(drop)
    }
}

/// The object's status with conditions that report the failure of the host; none if the status reports it
/// already.
fn failed<K>(object: &K, message: &str, now: Timestamp) -> Option<Value>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let object_now = serde_json::to_value(object).ok()?;
    let before = object_now.get("status").filter(|status| status.is_object());
    let mut status = before.cloned().unwrap_or_else(|| json!({}));
    let previous = status.get("conditions").cloned().unwrap_or_default();
    let previous: Vec<Condition> = serde_json::from_value(previous).unwrap_or_default();
    let generation = object.meta().generation;
    let standing = Standing::Stalled;
    let conditions = conditions(&previous, standing, REASON, message, generation, now);
    if conditions == previous {
        return None;
    }
    status["conditions"] = json!(conditions);
    Some(status)
}

#[cfg(test)]
mod tests {
    use operon_api::JobFlow;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_failure_of_the_host_changes_the_conditions_and_nothing_else_of_a_status() {
        let mut flow: JobFlow = serde_json::from_value(json!({
            "metadata": {"name": "nightly", "namespace": "default", "generation": 3},
            "spec": {"flows": [{"name": "a"}]},
            "status": {"state": "Running", "steps": [{"name": "a", "phase": "Running"}]},
        }))
        .expect("a flow");
        let before = serde_json::to_value(&flow.status).expect("a status");
        let status = failed(&flow, "index out of bounds", at(7)).expect("a change");
        assert_eq!(
            (&status["state"], &status["steps"]),
            (&before["state"], &before["steps"])
        );
        let conditions = status["conditions"].as_array().expect("conditions");
        let said: Vec<_> = conditions
            .iter()
            .map(|c| {
                (
                    c["type"].as_str(),
                    c["status"].as_str(),
                    c["reason"].as_str(),
                )
            })
            .collect();
        let said_of = |type_, status| (Some(type_), Some(status), Some(REASON));
        assert_eq!(
            said,
            [said_of("Ready", "False"), said_of("Stalled", "True")]
        );
        flow.status = serde_json::from_value(status).expect("a status");
        assert_eq!(failed(&flow, "index out of bounds", at(9)), None);
    }

    #[test]
    fn what_a_panic_said_is_kept() {
        let numbers: Vec<u8> = Vec::new();
        let at = numbers.len();
        let panic = contain(|| numbers[at]).expect_err("a panic");
        assert!(panic.contains("index out of bounds"), "{panic}");
    }
}
