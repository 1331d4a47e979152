//! A pod as an action sees it, and its reading from the object.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, Pod, PodSpec, PodStatus,
};

use super::Attributes;

/// An owner of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerPhase {
    /// Not started yet, or between two runs.
    Waiting,
    /// Running.
    Running,
    /// Ended.
    Terminated,
}

/// How a pod names a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerKind {
    /// In `spec.containers`.
    Ordinary,
    /// In `spec.initContainers`, with the restart policy Always.
    Sidecar,
    /// In `spec.initContainers`.
    Init,
    /// In `spec.ephemeralContainers`.
    Ephemeral,
}

/// A container of the pod, with its state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerView {
    /// The container's name.
    pub name: String,
    /// How the pod names it.
    pub kind: ContainerKind,
    /// The image of the spec.
    pub image: String,
    /// The image that runs or last ran.
    pub image_id: Option<String>,
    /// Its readiness.
    pub ready: bool,
    /// How often it was restarted.
    pub restart_count: u32,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// Why it waits or ended.
    pub reason: Option<String>,
    /// More about that, or the termination message, of at most [`MESSAGE`] bytes.
    pub message: Option<String>,
    /// The exit code of the last ended instance.
    pub exit_code: Option<i32>,
    /// The running or last ended instance.
    pub container_id: Option<String>,
}

/// A condition in the status of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConditionView {
    /// The type.
    pub name: String,
    /// `True`, `False`, `Unknown`
    pub status: String,
    /// One CamelCase word, or empty.
    pub reason: String,
    /// At most [`MESSAGE`] bytes.
    pub message: String,
    /// Seconds since the Unix epoch at which the status last changed.
    pub since: Option<i64>,
}

/// The most bytes of a message of a container or a condition.
pub const MESSAGE: usize = 1024;

/// What an action mostly needs of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodView {
    /// The pod's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The version this view was taken from.
    pub resource_version: String,
    /// It grows with every change of the spec.
    pub generation: i64,
    /// The generation that the kubelet has seen, where it reports one.
    pub observed_generation: Option<i64>,
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
    /// The conditions of its status.
    pub conditions: Vec<ConditionView>,
    /// All its containers, the ordinary ones first.
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
            generation: meta.generation.unwrap_or_default(),
            observed_generation: status.and_then(|s| s.observed_generation),
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
            conditions: status.map(conditions).unwrap_or_default(),
            containers: containers(pod),
        }
    }
}

fn conditions(status: &PodStatus) -> Vec<ConditionView> {
    let conditions = status.conditions.iter().flatten();
    conditions
        .map(|condition| ConditionView {
            name: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone().unwrap_or_default(),
            message: short(condition.message.as_deref().unwrap_or_default()),
            since: condition
                .last_transition_time
                .as_ref()
                .map(|t| t.0.as_second()),
        })
        .collect()
}

/// All containers of the pod; one without a status yet is waiting.
fn containers(pod: &Pod) -> Vec<ContainerView> {
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let ordinary = (&spec.containers, &status.container_statuses);
    let ordinary = views(ordinary.0, ordinary.1.as_deref(), |_| {
        ContainerKind::Ordinary
    });
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let init = views(init, status.init_container_statuses.as_deref(), init_kind);
    let statuses = status.ephemeral_container_statuses.as_deref();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| {
        let image = container.image.as_deref();
        let status = of_name(statuses, &container.name);
        view(&container.name, image, ContainerKind::Ephemeral, status)
    });
    ordinary.chain(init).chain(ephemeral).collect()
}

fn init_kind(container: &Container) -> ContainerKind {
    match container.restart_policy.as_deref() {
        Some("Always") => ContainerKind::Sidecar,
        Some(_) | None => ContainerKind::Init,
    }
}

fn views<'a>(
    containers: &'a [Container],
    statuses: Option<&'a [ContainerStatus]>,
    kind: fn(&Container) -> ContainerKind,
) -> impl Iterator<Item = ContainerView> {
    containers.iter().map(move |container| {
        let status = of_name(statuses, &container.name);
        let image = container.image.as_deref();
        view(&container.name, image, kind(container), status)
    })
}

fn of_name<'a>(statuses: Option<&'a [ContainerStatus]>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

fn view(
    name: &str,
    image: Option<&str>,
    kind: ContainerKind,
    status: Option<&ContainerStatus>,
) -> ContainerView {
    let state = status.and_then(|s| s.state.as_ref());
    let running = state.is_some_and(|s| s.running.is_some());
    let terminated = state.and_then(|s| s.terminated.as_ref());
    let waiting = state.and_then(|s| s.waiting.as_ref());
    let last = status.and_then(|s| s.last_state.as_ref());
    let ended = |state: &ContainerState| state.terminated.as_ref().map(|t| t.exit_code);
    let message = terminated
        .and_then(|t| t.message.as_deref())
        .or_else(|| waiting.and_then(|w| w.message.as_deref()));
    ContainerView {
        name: name.to_owned(),
        kind,
        image: image.unwrap_or_default().to_owned(),
        image_id: status
            .map(|s| s.image_id.clone())
            .filter(|image| !image.is_empty()),
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
        message: message.map(short),
        exit_code: state.and_then(ended).or_else(|| last.and_then(ended)),
        container_id: status.and_then(|s| s.container_id.clone()),
    }
}

/// The beginning of a text that a pod's own processes may have written.
fn short(text: &str) -> String {
    text[..text.floor_char_boundary(MESSAGE)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_containers_are_seen_with_their_kinds_and_the_ordinary_ones_come_first() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"generation": 3},
            "spec": {
                "initContainers": [{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "app", "image": "app:1"}],
                "ephemeralContainers": [{"name": "debug", "image": "busybox"}]
            },
            "status": {
                "observedGeneration": 2,
                "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady",
                    "lastTransitionTime": "1970-01-01T00:01:00Z"}],
                "initContainerStatuses": [{"name": "setup", "ready": true, "restartCount": 0,
                    "image": "", "imageID": "", "state": {"terminated": {"exitCode": 0}}}],
                "containerStatuses": [{"name": "app", "ready": false, "restartCount": 4,
                    "image": "app:1", "imageID": "app@sha256:1",
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"exitCode": 3}}}]
            }
        }))
        .expect("a pod");
        let pod = PodView::from(&pod);
        let names: Vec<_> = pod.containers.iter().map(|c| (&*c.name, c.kind)).collect();
        assert_eq!(
            names,
            [
                ("app", ContainerKind::Ordinary),
                ("setup", ContainerKind::Init),
                ("proxy", ContainerKind::Sidecar),
                ("debug", ContainerKind::Ephemeral)
            ]
        );
        let [app, setup, ..] = &pod.containers[..] else {
            unreachable!("there are four");
        };
        assert_eq!(
            (&*app.image, app.image_id.as_deref(), app.exit_code),
            ("app:1", Some("app@sha256:1"), Some(3))
        );
        assert_eq!(app.message.as_deref(), Some("back-off"));
        assert_eq!((setup.exit_code, setup.image_id.clone()), (Some(0), None));
        assert_eq!((pod.generation, pod.observed_generation), (3, Some(2)));
        assert_eq!(pod.conditions[0].since, Some(60));
    }

    #[test]
    fn a_long_termination_message_is_cut_between_characters() {
        let message = "ä".repeat(MESSAGE);
        assert_eq!(short(&message).chars().count(), MESSAGE / 2);
        assert_eq!(short(&format!("a{message}")).len(), MESSAGE - 1);
    }
}
