//! A pod as an action sees it, and its reading from the object.

use k8s_openapi::api::core::v1::Pod;

use super::Attributes;

/// An owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `ReplicaSet`
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
    /// Whether this owner is the controller.
    pub controller: bool,
    /// Whether the owner's foreground deletion waits until the object is deleted.
    pub block_owner_deletion: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Not started yet, or between two runs.
    Waiting,
    /// Running.
    Running,
    /// Ended.
    Terminated,
}

/// One of the pod's ordinary containers, with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerView {
    /// The container's name.
    pub name: String,
    /// Its readiness.
    pub ready: bool,
    /// How often it was restarted.
    pub restart_count: u32,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// Why it waits or ended.
    pub reason: Option<String>,
    /// The running or last ended instance.
    pub container_id: Option<String>,
}

/// What an action mostly needs of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// The pod's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The version this view was taken from.
    pub resource_version: String,
    /// Seconds since the Unix epoch.
    pub created_at: i64,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`
    pub phase: String,
    /// The condition `Ready` is true.
    pub ready: bool,
    /// When that condition last changed, in seconds since the Unix epoch.
    pub ready_since: Option<i64>,
    /// The pod has a deletion timestamp.
    pub deleting: bool,
    /// The node it is bound to.
    pub node: Option<String>,
    /// Its labels.
    pub labels: Attributes,
    /// Its annotations.
    pub annotations: Attributes,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Its owners.
    pub owners: Vec<OwnerView>,
    /// Its ordinary containers.
    pub containers: Vec<ContainerView>,
}

impl From<&Pod> for PodView {
    fn from(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let ready = status
            .and_then(|s| s.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|c| c.type_ == "Ready"));
        let owners = meta
            .owner_references
            .iter()
            .flatten()
            .map(|owner| OwnerView {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
                controller: owner.controller.unwrap_or_default(),
                block_owner_deletion: owner.block_owner_deletion.unwrap_or_default(),
            });
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            created_at: meta
                .creation_timestamp
                .as_ref()
                .map_or(0, |t| t.0.as_second()),
            phase: status.and_then(|s| s.phase.clone()).unwrap_or_default(),
            ready: ready.is_some_and(|c| c.status == "True"),
            ready_since: ready
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|t| t.0.as_second()),
            deleting: meta.deletion_timestamp.is_some(),
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            owners: owners.collect(),
            containers: containers(pod),
        }
    }
}

/// The pod's ordinary containers in the order of its spec; one without a status yet is waiting.
fn containers(pod: &Pod) -> Vec<ContainerView> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_deref())
        .unwrap_or_default();
    let spec = pod
        .spec
        .as_ref()
        .map(|s| s.containers.as_slice())
        .unwrap_or_default();
    spec.iter()
        .map(|container| {
            let status = statuses.iter().find(|s| s.name == container.name);
            let state = status.and_then(|s| s.state.as_ref());
            let running = state.is_some_and(|s| s.running.is_some());
            let terminated = state.and_then(|s| s.terminated.as_ref());
            let waiting = state.and_then(|s| s.waiting.as_ref());
            ContainerView {
                name: container.name.clone(),
                ready: status.is_some_and(|s| s.ready),
                restart_count: status.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0)),
                phase: match (running, terminated) {
                    (true, _) => ContainerPhase::Running,
                    (false, Some(_)) => ContainerPhase::Terminated,
                    (false, None) => ContainerPhase::Waiting,
                },
                reason: terminated
                    .and_then(|t| t.reason.clone())
                    .or_else(|| waiting.and_then(|w| w.reason.clone())),
                container_id: status.and_then(|s| s.container_id.clone()),
            }
        })
        .collect()
}
