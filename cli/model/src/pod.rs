//! A pod as a row: its state, and what it waits for in the words of the scheduler or the kubelet.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

use crate::tree::{Mark, Row};

/// A pod's row.
pub(crate) fn row(pod: &Pod) -> Row {
    let (mark, state, reason, text) = state(pod);
    Row {
        since: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        reason,
        text,
        ..Row::new(mark, format!("Pod {}", name(pod)), state)
    }
}

/// The pod's name.
pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The mark, the state, the reason, and what there is to say.
fn state(pod: &Pod) -> (Mark, String, String, String) {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or_else(|| "Pending".to_owned());
    if pod.metadata.deletion_timestamp.is_some() {
        let held = pod.metadata.finalizers.iter().flatten().cloned();
        let held: Vec<_> = held.collect();
        let text = if held.is_empty() {
            String::new()
        } else {
            format!("finalizers: {}", held.join(", "))
        };
        let reason = "PodTerminating".to_owned();
        return (Mark::Blocked, "Terminating".to_owned(), reason, text);
    }
    let mut containers = status.init_container_statuses.unwrap_or_default();
    containers.extend(status.container_statuses.unwrap_or_default());
    let conditions = status.conditions.unwrap_or_default();
    match phase.as_str() {
        "Succeeded" => (Mark::Done, phase, String::new(), String::new()),
        "Failed" => {
            let reason = status.reason.unwrap_or_default();
            let ended = containers.iter().find_map(exit);
            let text = ended.unwrap_or_else(|| reason.clone());
            (Mark::Failed, phase, reason, text)
        }
        _ => match blocked(&conditions, &containers) {
            Some((reason, text)) => (Mark::Blocked, phase, reason, text),
            None if is_true(&conditions, "Ready") => {
                let ready = "Ready".to_owned();
                (Mark::Done, ready, String::new(), String::new())
            }
            None => (Mark::Running, phase, String::new(), String::new()),
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
