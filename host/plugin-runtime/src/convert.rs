//! From the core's values to the guest's: the arguments of a call, and what it reads.
//!
//! The other direction, in which a guest's values are not to be trusted, is `answer`.

use operon_core::action as core;

use crate::bindings::operon::action::{
    cluster::{JobState, ReadError},
    types,
};

/// The target of a question.
pub(crate) fn target(target: &core::Target) -> types::Target {
    let core::Target {
        name,
        uid,
        containers,
        pod,
        extra_info,
        started_at,
        deadline,
        last_failure,
    } = target;
    let last_failure = last_failure.as_ref();
    types::Target {
        name: name.clone(),
        uid: uid.clone(),
        containers: containers.clone(),
        pod: pod.clone().map(self::pod),
        extra_info: attributes(extra_info.clone()),
        started_at: *started_at,
        deadline: *deadline,
        last_failure: last_failure.map(|failure| types::Failure {
            reason: failure.reason.clone(),
            message: failure.message.clone(),
        }),
        extra: Vec::new(),
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
        dry_run,
        lifecycle,
        now,
        settings,
        parameters,
    } = job;
    types::Job {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        action: action.clone(),
        ending: *ending,
        dry_run: *dry_run,
        lifecycle: *lifecycle,
        now: *now,
        settings: settings.clone(),
        parameters: parameters.clone(),
        extra: Vec::new(),
    }
}

/// A pod.
pub(crate) fn pod(pod: core::PodView) -> types::Pod {
    let core::PodView {
        name,
        uid,
        resource_version,
        generation,
        observed_generation,
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
        conditions,
        containers,
    } = pod;
    types::Pod {
        name,
        uid,
        resource_version,
        generation,
        observed_generation,
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
        conditions: conditions.into_iter().map(condition).collect(),
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
    let condition = |one: &core::ConditionView| one.reason.len() + one.message.len();
    let conditions: usize = pod.conditions.iter().map(condition).sum();
    let container = |one: &core::ContainerView| {
        let texts = [&one.image_id, &one.reason, &one.message, &one.container_id];
        let texts = texts.into_iter().flatten().map(String::len);
        one.image.len() + texts.sum::<usize>()
    };
    let containers: usize = pod.containers.iter().map(container).sum();
    512 + attributes(&pod.labels)
        + attributes(&pod.annotations)
        + pod.finalizers.iter().map(String::len).sum::<usize>()
        + conditions
        + containers
        + 256 * (pod.owners.len() + pod.containers.len() + pod.conditions.len())
}

/// Why a read was refused.
pub(crate) fn read_error(error: core::ReadError) -> ReadError {
    match error {
        core::ReadError::NotDeclared(kind) => ReadError::NotDeclared(kind),
        core::ReadError::NotServed(kind) => ReadError::NotServed(kind),
        core::ReadError::BadSelector(error) => ReadError::BadSelector(error.to_string()),
        core::ReadError::TooMuch(what) => ReadError::TooMuch(what),
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

fn condition(condition: core::ConditionView) -> types::Condition {
    let core::ConditionView {
        name,
        status,
        reason,
        message,
        since,
    } = condition;
    types::Condition {
        name,
        status,
        reason,
        message,
        since,
    }
}

fn container(container: core::ContainerView) -> types::Container {
    let core::ContainerView {
        name,
        kind,
        image,
        image_id,
        ready,
        restart_count,
        phase,
        reason,
        message,
        exit_code,
        container_id,
    } = container;
    types::Container {
        name,
        kind: match kind {
            core::ContainerKind::Ordinary => types::ContainerKind::Ordinary,
            core::ContainerKind::Sidecar => types::ContainerKind::Sidecar,
            core::ContainerKind::Init => types::ContainerKind::Init,
            core::ContainerKind::Ephemeral => types::ContainerKind::Ephemeral,
        },
        image,
        image_id,
        ready,
        restart_count,
        phase: match phase {
            core::ContainerPhase::Waiting => types::ContainerPhase::Waiting,
            core::ContainerPhase::Running => types::ContainerPhase::Running,
            core::ContainerPhase::Terminated => types::ContainerPhase::Terminated,
        },
        reason,
        message,
        exit_code,
        container_id,
    }
}

/// The state of a job.
pub(crate) fn job_state(state: core::JobState) -> JobState {
    match state {
        core::JobState::Absent => JobState::Absent,
        core::JobState::Active => JobState::Active,
        core::JobState::Finished => JobState::Finished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_pod_counts_every_text_of_its_containers() {
        let pod = |text: &str| core::PodView {
            name: String::new(),
            uid: String::new(),
            resource_version: String::new(),
            generation: 0,
            observed_generation: None,
            created_at: 0,
            phase: String::new(),
            ready: false,
            ready_since: None,
            deleting: false,
            node: None,
            labels: core::Attributes::new(),
            annotations: core::Attributes::new(),
            finalizers: Vec::new(),
            owners: Vec::new(),
            conditions: Vec::new(),
            containers: vec![core::ContainerView {
                name: String::new(),
                kind: core::ContainerKind::Ordinary,
                image: text.to_owned(),
                image_id: Some(text.to_owned()),
                ready: false,
                restart_count: 0,
                phase: core::ContainerPhase::Waiting,
                reason: Some(text.to_owned()),
                message: Some(text.to_owned()),
                exit_code: None,
                container_id: Some(text.to_owned()),
            }],
        };
        let (small, large) = (pod_size(&pod("")), pod_size(&pod(&"x".repeat(1_000))));
        assert_eq!(large - small, 5 * 1_000);
    }
}
