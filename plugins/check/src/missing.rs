//! What a pod lacks of what a job waits for, as it is now.

use operon_sdk::{
    Cluster, Container, ContainerKind, ContainerPhase, Failure, Pod, ReadError, Value,
};

use crate::parameters::{self, Parameters, State};

/// One thing that a pod lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Any client may still set it.
    Later(Failure),
    /// The kubelet may still report it, unless the pod has ended.
    WhileItRuns(Failure),
    /// It cannot come any more.
    Never(Failure),
}

/// Everything that the pod lacks: nothing if it is as the job wants it.
pub(crate) fn missing(
    pod: &Pod,
    wanted: &Parameters,
    cluster: &dyn Cluster,
) -> Result<Vec<Missing>, ReadError> {
    let Parameters {
        condition,
        label,
        container,
    } = wanted;
    let condition = condition.as_ref().and_then(|one| of_condition(pod, one));
    let label = label.as_ref().and_then(|one| of_label(pod, one));
    let container = match container {
        Some(one) => of_container(pod, one, cluster)?,
        None => None,
    };
    Ok([condition, label, container]
        .into_iter()
        .flatten()
        .collect())
}

fn of_condition(pod: &Pod, wanted: &parameters::Condition) -> Option<Missing> {
    let parameters::Condition { kind, status } = wanted;
    let is = match pod.condition(kind) {
        Some(found) if found.status == *status => return None,
        Some(found) => {
            let more = [&*found.reason, &*found.message];
            format!("{}{}", found.status, details(&more))
        }
        None => "absent".to_owned(),
    };
    let message = format!("condition {kind:?} is {is}, and not {status} yet");
    Some(Missing::WhileItRuns(Failure::new(
        "WaitingForCondition",
        message,
    )))
}

fn of_label(pod: &Pod, wanted: &parameters::Label) -> Option<Missing> {
    let parameters::Label { key, value } = wanted;
    let is = match pod.label(key) {
        Some(found) if found == value => return None,
        Some(found) => format!("{found:?}"),
        None => "absent".to_owned(),
    };
    let message = format!("label {key:?} is {is}, and not {value:?} yet");
    Some(Missing::Later(Failure::new("WaitingForLabel", message)))
}

fn of_container(
    pod: &Pod,
    wanted: &parameters::Container,
    cluster: &dyn Cluster,
) -> Result<Option<Missing>, ReadError> {
    let name = &wanted.name;
    let Some(container) = pod.container(name) else {
        let names = pod.containers.iter().map(|one| one.name.as_str());
        let message = format!(
            "there is no container {name:?} yet; the pod has {}",
            names.collect::<Vec<_>>().join(", ")
        );
        // An ephemeral container can still be added.
        let failure = Failure::new("ContainerNotFound", message);
        return Ok(Some(Missing::WhileItRuns(failure)));
    };
    if is_as_wanted(container, wanted) {
        return Ok(None);
    }
    let (is, shall) = (state(container), wish(wanted));
    if container.phase == ContainerPhase::Terminated && has_ended_for_good(pod, container, cluster)?
    {
        let message =
            format!("container {name:?} is {is}, and is not started again, so it is never {shall}");
        let failure = Failure::new("ContainerEnded", message);
        return Ok(Some(Missing::Never(failure)));
    }
    let message = format!("container {name:?} is {is}, and not {shall} yet");
    let failure = Failure::new("WaitingForContainer", message);
    Ok(Some(Missing::WhileItRuns(failure)))
}

fn is_as_wanted(container: &Container, wanted: &parameters::Container) -> bool {
    let is_wanted_phase = match wanted.state {
        State::Running => container.phase == ContainerPhase::Running,
        State::Terminated => container.phase == ContainerPhase::Terminated,
    };
    is_wanted_phase
        && wanted.ready.is_none_or(|ready| container.ready == ready)
        && (wanted.exit_code).is_none_or(|code| container.exit_code == Some(code))
}

/// Whether the kubelet does not start a container again that has ended.
fn has_ended_for_good(
    pod: &Pod,
    container: &Container,
    cluster: &dyn Cluster,
) -> Result<bool, ReadError> {
    let object = cluster.get(&pod.reference())?.unwrap_or_default();
    let spec = &object["spec"];
    let own = [&spec["containers"], &spec["initContainers"]]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .find(|one| one["name"] == container.name.as_str())
        .unwrap_or(&Value::Null);
    let has_rules = own["restartPolicyRules"].is_array();
    let policy = own["restartPolicy"].as_str();
    let policy = policy.or(spec["restartPolicy"].as_str());
    let has_succeeded = container.exit_code == Some(0);
    Ok(match container.kind {
        ContainerKind::Ephemeral => true,
        ContainerKind::Ordinary | ContainerKind::Sidecar | ContainerKind::Init if has_rules => {
            false
        }
        ContainerKind::Init if has_succeeded => true,
        ContainerKind::Ordinary | ContainerKind::Sidecar | ContainerKind::Init => match policy {
            Some("Never") => true,
            Some("OnFailure") => has_succeeded,
            Some(_) | None => false,
        },
    })
}

/// The state of a container, as a message has it.
fn state(container: &Container) -> String {
    let is = match container.phase {
        ContainerPhase::Waiting => "Waiting".to_owned(),
        ContainerPhase::Running => running(Some(container.ready)).to_owned(),
        ContainerPhase::Terminated => terminated(container.exit_code),
    };
    let more = [&container.reason, &container.message];
    let more = more.map(|text| text.as_deref().unwrap_or_default());
    format!("{is}{}", details(&more))
}

/// The state that a job waits for, as a message has it.
fn wish(wanted: &parameters::Container) -> String {
    match wanted.state {
        State::Running => running(wanted.ready).to_owned(),
        State::Terminated => terminated(wanted.exit_code),
    }
}

fn running(ready: Option<bool>) -> &'static str {
    match ready {
        Some(true) => "Running and ready",
        Some(false) => "Running and not ready",
        None => "Running",
    }
}

fn terminated(exit_code: Option<i32>) -> String {
    match exit_code {
        Some(code) => format!("Terminated with exit code {code}"),
        None => "Terminated".to_owned(),
    }
}

/// What the API server adds to a state, in parentheses.
fn details(texts: &[&str]) -> String {
    let texts = texts.iter().filter(|text| !text.is_empty()).copied();
    match texts.collect::<Vec<_>>().join(": ") {
        all if all.is_empty() => all,
        all => format!(" ({all})"),
    }
}
