//! From the core's values to the guest's: the arguments of a call, and what it reads.
//!
//! The other direction, in which a guest's values are not to be trusted, is `answer`.

use operon_core::action as core;

use crate::bindings::operon::action::{cluster::ReadError, types};

/// The target of a question.
pub(crate) fn target(target: &core::Target) -> types::Target {
    let core::Target {
        name,
        uid,
        containers,
        pod,
        extra_info,
    } = target;
    types::Target {
        name: name.clone(),
        uid: uid.clone(),
        containers: containers.clone(),
        pod: pod.clone().map(self::pod),
        extra_info: attributes(extra_info.clone()),
    }
}

/// The job of a question.
pub(crate) fn job(job: &core::JobView) -> types::Job {
    let core::JobView {
        namespace,
        name,
        uid,
        action,
        ending,
        now,
        settings,
    } = job;
    types::Job {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        action: action.clone(),
        ending: *ending,
        now: *now,
        settings: settings.clone(),
    }
}

/// A pod.
pub(crate) fn pod(pod: core::PodView) -> types::Pod {
    let core::PodView {
        name,
        uid,
        resource_version,
        created_at,
        phase,
        ready,
        ready_since,
        deleting,
        node,
        labels,
        annotations,
        finalizers,
        owners,
        containers,
    } = pod;
    types::Pod {
        name,
        uid,
        resource_version,
        created_at,
        phase,
        ready,
        ready_since,
        deleting,
        node,
        labels: attributes(labels),
        annotations: attributes(annotations),
        finalizers,
        owners: owners.into_iter().map(owner).collect(),
        containers: containers.into_iter().map(container).collect(),
    }
}

/// About how many bytes a pod is for the guest.
pub(crate) fn pod_size(pod: &core::PodView) -> usize {
    let attributes = |map: &core::Attributes| -> usize {
        map.iter()
            .map(|(name, value)| name.len() + value.len() + 16)
            .sum()
    };
    512 + attributes(&pod.labels)
        + attributes(&pod.annotations)
        + pod.finalizers.iter().map(String::len).sum::<usize>()
        + 256 * (pod.owners.len() + pod.containers.len())
}

/// Why a read was refused.
pub(crate) fn read_error(error: core::ReadError) -> ReadError {
    match error {
        core::ReadError::NotDeclared(kind) => ReadError::NotDeclared(kind),
        core::ReadError::BadSelector(error) => ReadError::BadSelector(error.to_string()),
    }
}

fn attributes(attributes: core::Attributes) -> types::Attributes {
    attributes.into_iter().collect()
}

fn owner(owner: core::OwnerView) -> types::OwnerReference {
    let core::OwnerView {
        api_version,
        kind,
        name,
        uid,
        controller,
        block_owner_deletion,
    } = owner;
    types::OwnerReference {
        api_version,
        kind,
        name,
        uid,
        controller,
        block_owner_deletion,
    }
}

fn container(container: core::ContainerView) -> types::Container {
    let core::ContainerView {
        name,
        ready,
        restart_count,
        phase,
        reason,
        container_id,
    } = container;
    types::Container {
        name,
        ready,
        restart_count,
        phase: match phase {
            core::ContainerPhase::Waiting => types::ContainerPhase::Waiting,
            core::ContainerPhase::Running => types::ContainerPhase::Running,
            core::ContainerPhase::Terminated => types::ContainerPhase::Terminated,
        },
        reason,
        container_id,
    }
}
