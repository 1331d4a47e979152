//! Why a new pod is not ready, in the cluster's own words: the scheduler's sentence, or the readiness
//! gates that are closed. The typed pod has only its containers' states.

use operon_sdk::{Cluster, ObjectReference, ReadError, Value};

use crate::keys;
use crate::plan::{Outcome, Plan};

/// The plan with a message about why its new pod is not ready, if the cluster has the details.
pub fn explained(mut plan: Plan, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let Outcome::Wait(failure, _) = &mut plan.outcome else {
        return Ok(plan);
    };
    let Some(name) = plan.new_pod.as_deref() else {
        return Ok(plan);
    };
    if failure.reason == keys::NEW_POD_NOT_READY {
        let pod = cluster.get(&ObjectReference::new("v1", "Pod", name))?;
        if let Some(cause) = pod.as_ref().and_then(cause) {
            failure.message = format!("the new pod {name:?} {cause}");
        }
    }
    Ok(plan)
}

/// What a pod (JSON) waits for, if it is the scheduler or a readiness gate.
fn cause(pod: &Value) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array();
    let condition = |kind: &str| {
        let mut conditions = conditions.into_iter().flatten();
        conditions.find(|condition| condition["type"] == kind)
    };
    if let Some(scheduled) = condition("PodScheduled").filter(|found| found["status"] == "False") {
        let says = scheduled["message"]
            .as_str()
            .filter(|text| !text.is_empty());
        let says = says
            .or_else(|| scheduled["reason"].as_str())
            .unwrap_or("no reason");
        return Some(format!("can't be scheduled: {says}"));
    }
    let containers = condition("ContainersReady").is_some_and(|found| found["status"] == "True");
    let gates = pod["spec"]["readinessGates"].as_array();
    let gates = gates.into_iter().flatten();
    let gates = gates.filter_map(|gate| gate["conditionType"].as_str());
    let closed = |gate: &&str| condition(gate).is_none_or(|found| found["status"] != "True");
    let closed: Vec<&str> = gates.filter(closed).collect();
    if !containers || closed.is_empty() {
        return None;
    }
    Some(format!(
        "is not ready: its containers are ready, but its readiness gate {} is not",
        closed.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::json;

    #[test]
    fn the_scheduler_and_closed_gates_are_quoted() {
        let sentence = "0/3 nodes are available: 3 didn't match pod anti-affinity rules.";
        let unscheduled = json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": sentence}
        ]}});
        assert!(cause(&unscheduled).is_some_and(|cause| cause.contains(sentence)));
        let gated = |gate: &str, containers: &str| {
            json!({
                "spec": {"readinessGates": [{"conditionType": "example.com/open"}]},
                "status": {"conditions": [
                    {"type": "ContainersReady", "status": containers},
                    {"type": "example.com/open", "status": gate}
                ]}
            })
        };
        let closed = cause(&gated("False", "True"));
        assert!(closed.is_some_and(|cause| cause.contains("example.com/open")));
        assert_eq!(cause(&gated("True", "True")), None);
        assert_eq!(cause(&gated("False", "False")), None);
    }
}
