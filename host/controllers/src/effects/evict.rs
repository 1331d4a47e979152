//! Evictions. One that was accepted is remembered for a while, because the answer has no pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
    core::{Request, Status},
};
use operon_core::action::Effect;
use serde_json::json;

use super::{Performed, Performer, check_segment};
use crate::{
    apply::{describe, within_limit},
    error::Error,
};

/// How long an accepted eviction is remembered: longer than a watch lags.
const EVICTION_LAG: Duration = Duration::from_mins(1);

impl Performer {
    /// Whether the eviction was accepted lately.
    pub(super) fn was_evicted(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Evict { uid: Some(uid), .. } => self.evicted.get(uid).is_some(),
            Effect::Evict { uid: None, .. }
            | Effect::Patch { .. }
            | Effect::Apply(_)
            | Effect::Create(_)
            | Effect::Delete { .. }
            | Effect::Event { .. } => false,
        }
    }

    pub(super) async fn evict(
        &self,
        namespace: &str,
        pod: &str,
        preconditions: Preconditions,
        grace_period_seconds: Option<u32>,
    ) -> Result<Performed, Error> {
        check_segment(pod)?;
        let uid = preconditions.uid.clone();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let options = DeleteParams {
            grace_period_seconds,
            preconditions: Some(preconditions),
            dry_run: self.dry_run,
            ..DeleteParams::default()
        };
        // kube's own request names its options `delete_options`, which the API server ignores: it would
        // evict any pod of the name.
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod},
            "deleteOptions": options,
        });
        let request = Request::new(api.resource_url())
            .create_subresource(
                "eviction",
                pod,
                &PostParams {
                    dry_run: self.dry_run,
                    ..PostParams::default()
                },
                body.to_string().into_bytes(),
            )
            .map_err(|error| Error::Effect {
                message: error.to_string(),
            })?;
        let request = self.client.request::<Status>(request);
        within_limit("evict", || describe("Pod", Some(namespace), pod), request).await?;
        if let Some(uid) = uid {
            self.evicted.keep(uid, (), EVICTION_LAG);
        }
        Ok(Performed::Nothing)
    }
}
