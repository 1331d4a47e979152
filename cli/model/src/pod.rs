//! A pod as a row: its state, and what it waits for in the words of the scheduler or the kubelet.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

use crate::tree::{Mark, Row};

/// A pod's row.
pub(crate) fn row(pod: &Pod) -> Row {
    Row {
        since: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        ..standing(pod)
    }
}

/// The pod's name.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The row, but for its times.
fn standing(pod: &Pod) -> Row {
    let row = |mark: Mark, state: &str| Row::new(mark, format!("Pod {}", name(pod)), state);
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or("Pending");
    if pod.metadata.deletion_timestamp.is_some() {
        let held = pod.metadata.finalizers.as_deref().unwrap_or_default();
        let text = if held.is_empty() {
            String::new()
        } else {
            format!("finalizers: {}", held.join(", "))
        };
        return row(Mark::Blocked, "Terminating").saying("PodTerminating", text);
    }
    let mut containers = status.init_container_statuses.unwrap_or_default();
    containers.extend(status.container_statuses.unwrap_or_default());
    let conditions = status.conditions.unwrap_or_default();
    match phase {
        "Succeeded" => row(Mark::Done, phase),
        "Failed" => {
            let reason = status.reason.unwrap_or_default();
            let ended = containers.iter().find_map(exit);
            let text = ended.unwrap_or_else(|| reason.clone());
            row(Mark::Failed, phase).saying(reason, text)
        }
        _ => match blocked(&conditions, &containers) {
            Some((reason, text)) => row(Mark::Blocked, phase).saying(reason, text),
            None if is_true(&conditions, "Ready") => row(Mark::Done, "Ready"),
            None => row(Mark::Running, phase),
        },
    }
}

/// What a pod waits for that the scheduler or the kubelet reports: the reason, and what there is to say.
fn blocked(
    conditions: &[PodCondition],
    containers: &[ContainerStatus],
) -> Option<(String, String)> {
    let unscheduled = conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled {
        let reason = condition.reason.clone().unwrap_or_default();
        let text = condition.message.clone().unwrap_or_else(|| reason.clone());
        return Some((reason, text));
    }
    containers.iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        if matches!(reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let message = waiting.message.as_deref().unwrap_or_default();
        let named = format!("container {} {reason}", container.name);
        Some((reason.to_owned(), crate::text::reasoned(&named, message)))
    })
}

fn exit(container: &ContainerStatus) -> Option<String> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    (ended.exit_code != 0).then(|| {
        let message = ended.message.as_deref().unwrap_or_default();
        let code = format!(
            "container {} exited with {}",
            container.name, ended.exit_code
        );
        crate::text::reasoned(&code, message)
    })
}

fn is_true(conditions: &[PodCondition], type_: &str) -> bool {
    let mut conditions = conditions.iter();
    conditions.any(|one| one.type_ == type_ && one.status == "True")
}
