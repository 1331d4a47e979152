//! CollaSets of stories.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use operon_api::{
    CollaSet,
    colla_set::CollaSetStatus,
    conditions::{READY, find},
    keys,
};
use serde_json::{Value, json};

use crate::{pods::PodExt, workload::pod_spec, world::World};

/// A CollaSet whose pods have the label `app=<its name>`.
pub fn colla_set(name: &str, replicas: i32, pod: &Value) -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1",
        "kind": "CollaSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    })
}

/// The status, which may not be written yet.
pub fn status(object: &CollaSet) -> CollaSetStatus {
    object.status.clone().unwrap_or_default()
}

/// The numbers of pods in their sets, sorted.
pub fn instance_ids(pods: &[Pod]) -> Vec<u32> {
    let ids = pods
        .iter()
        .filter_map(|pod| pod.labels().get(keys::INSTANCE_ID)?.parse().ok());
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids
}

impl World {
    /// A CollaSet of pods that do nothing, whose pods serve.
    pub async fn colla_set_up(&self, name: &str, replicas: i32) -> Vec<Pod> {
        self.make::<CollaSet>(colla_set(name, replicas, &pod_spec()))
            .await;
        self.colla_set_serves(name, replicas).await
    }

    /// Waits until a CollaSet is Ready with so many pods, which are returned.
    pub async fn colla_set_serves(&self, name: &str, replicas: i32) -> Vec<Pod> {
        self.eventually(
            &format!("{replicas} pods of CollaSet {name} to serve"),
            async || {
                let object = self.get::<CollaSet>(name).await?;
                let status = status(&object);
                ensure!(
                    status.observed_generation == object.metadata.generation,
                    "{status:?}"
                );
                ensure!(status.available_replicas == replicas, "{status:?}");
                ensure!(status.replicas == replicas, "{status:?}");
                let ready = find(&status.conditions, READY);
                ensure!(
                    ready.is_some_and(|ready| ready.status == "True"),
                    "{status:?}"
                );
                let pods = self.pods(name).await?;
                let live: Vec<_> = pods.into_iter().filter(PodExt::is_live).collect();
                ensure!(i32::try_from(live.len())? == replicas);
                Ok(live)
            },
        )
        .await
    }
}
