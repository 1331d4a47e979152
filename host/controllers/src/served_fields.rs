//! Whether the API server knows all fields of OperationJobs.
//!
//! An API server drops the fields that its CustomResourceDefinition does not have. If that is the one of another
//! operator, or an older one, a job with `dryRun: true` would be a real operation.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Request;
use kube::{Client, CustomResourceExt as _};
use operon_api::OperationJob;
use operon_core::action::Failure;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use crate::apply::within_limit;

/// Where the API server describes the kinds of the group.
const SCHEMAS: &str = "/openapi/v3/apis/apps.kusionstack.io/v1alpha1";

/// How long it is known that all fields are served. A definition that replaces Operon's is not noticed sooner.
const SERVED: Duration = Duration::from_secs(30);

/// How long a reconcile waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon the fields are looked up again that are not served.
const AGAIN: Duration = Duration::from_secs(15);

/// Looks up which fields are served.
pub struct ServedFields {
    /// None: they are not looked up.
    client: Option<Client>,
    known: Mutex<Option<Known>>,
}

/// What was found.
struct Known {
    at: Instant,
    trouble: Option<Failure>,
}

impl ServedFields {
    /// Those of this API server.
    pub fn of(client: Client) -> Self {
        Self {
            client: Some(client),
            known: Mutex::default(),
        }
    }

    /// Whatever is served, jobs run.
    pub fn any() -> Self {
        Self {
            client: None,
            known: Mutex::default(),
        }
    }

    /// Why no target may start, if fields are not served, or it is not known whether they are.
    pub async fn trouble(&self) -> Option<Failure> {
        let client = self.client.as_ref()?;
        let mut known = self.known.lock().await;
        if let Some(Known { at, trouble }) = &*known {
            let lasts = if trouble.is_none() { SERVED } else { AGAIN };
            if at.elapsed() < lasts {
                return trouble.clone();
            }
        }
        let looked_up = tokio::time::timeout(PATIENCE, served(client)).await;
        let trouble = match looked_up.unwrap_or_else(|_| Err(unknown("no answer within 2 s"))) {
            Ok(fields) => lacking(&fields),
            // What was served a moment ago still is.
            Err(_) if known.as_ref().is_some_and(|known| known.trouble.is_none()) => None,
            Err(failure) => Some(failure),
        };
        *known = Some(Known {
            at: Instant::now(),
            trouble: trouble.clone(),
        });
        trouble
    }
}

/// The fields of `spec` that the API server knows.
async fn served(client: &Client) -> Result<BTreeSet<String>, Failure> {
    let request = Request::get(SCHEMAS)
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new());
    let request = request.map_err(|error| unknown(&error.to_string()))?;
    let named = || format!("OpenAPI document {SCHEMAS}");
    let document = within_limit("get", named, client.request::<Value>(request)).await;
    let document = document.map_err(|error| unknown(&error.chain()))?;
    fields(&document).ok_or_else(|| unknown("the OpenAPI document has no OperationJob"))
}

fn unknown(why: &str) -> Failure {
    let message =
        format!("the fields of OperationJobs that the API server knows are not known: {why}");
    Failure::new("CRDUnknown", message)
}

/// The fields of `spec` in an OpenAPI document.
fn fields(document: &Value) -> Option<BTreeSet<String>> {
    let schemas = document.pointer("/components/schemas")?.as_object()?;
    let is_job = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] == "OperationJob"))
    };
    let schema = schemas.values().find(is_job)?;
    let spec = schema.pointer("/properties/spec/properties")?.as_object()?;
    Some(spec.keys().cloned().collect())
}

/// The fields of `spec` that Operon's own definition has.
fn own_fields() -> BTreeSet<String> {
    let versions = OperationJob::crd().spec.versions.into_iter();
    let schemas = versions.filter_map(|version| version.schema?.open_api_v3_schema);
    let spec = schemas.filter_map(|mut schema| schema.properties.as_mut()?.remove("spec"));
    let fields = spec.filter_map(|spec| spec.properties);
    fields.flat_map(BTreeMap::into_keys).collect()
}

/// That the API server lacks fields.
fn lacking(served: &BTreeSet<String>) -> Option<Failure> {
    let own = own_fields();
    let lacking: Vec<_> = own.difference(served).map(String::as_str).collect();
    if lacking.is_empty() {
        return None;
    }
    let message = format!(
        "the CustomResourceDefinition operationjobs.apps.kusionstack.io is not Operon's, or an older one: the API \
         server drops the fields {} of jobs. Apply Operon's (kubectl apply --server-side --force-conflicts -f crds/), or set the chart's value \
         crds.allowForeign to true to run jobs without these fields",
        lacking.join(", ")
    );
    Some(Failure::new("ForeignCRD", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(spec: &[&str]) -> Value {
        let fields: serde_json::Map<_, _> = spec
            .iter()
            .map(|field| ((*field).to_owned(), json!({})))
            .collect();
        json!({"components": {"schemas": {
            "io.k8s.Status": {"type": "object"},
            "io.kusionstack.OperationJob": {
                "properties": {"spec": {"properties": fields}},
                "x-kubernetes-group-version-kind": [{"group": "apps.kusionstack.io", "kind": "OperationJob", "version": "v1alpha1"}],
            },
        }}})
    }

    #[test]
    fn the_fields_that_the_api_server_lacks_are_named() {
        let own = own_fields();
        assert!(
            own.contains("dryRun") && own.contains("TTLSecondsAfterFinished"),
            "{own:?}"
        );
        assert_eq!(lacking(&own), None);
        let known = [
            "action",
            "targets",
            "partition",
            "activeDeadlineSeconds",
            "TTLSecondsAfterFinished",
            "operationDelaySeconds",
        ];
        let served = fields(&document(&known)).expect("fields");
        let failure = lacking(&served).expect("a failure");
        assert_eq!(failure.reason, "ForeignCRD");
        let names = "dryRun, maxConcurrent, maxFailures, maxUnavailable, onFailure, parameters, paused, targetSelector";
        assert!(failure.message.contains(names), "{}", failure.message);
        assert_eq!(fields(&json!({})), None);
    }
}
