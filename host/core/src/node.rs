//! The conditions of a Node.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::ResourceExt;

/// Whether pods on the node run.
pub(crate) fn is_ready(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status == "True")
}

/// The condition `Ready`.
pub(crate) fn ready(node: &Node) -> Option<&NodeCondition> {
    let status = node.status.iter();
    let mut conditions = status.flat_map(|status| &status.conditions).flatten();
    conditions.find(|condition| condition.type_ == "Ready")
}

/// A sentence without a period that reports that the node is not Ready, and why; none if it is Ready.
pub fn not_ready(node: &Node) -> Option<String> {
    if is_ready(node) {
        return None;
    }
    let why = ready(node).and_then(|ready| ready.message.as_deref());
    let why = why.map(|why| why.trim_end_matches('.'));
    let why = why.filter(|why| !why.is_empty());
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    Some(format!("node {:?} is not Ready{why}", node.name_any()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let silent = "Kubelet stopped posting node status.";
        let table = [
            (json!([{"type": "Ready", "status": "True"}]), None),
            (
                json!([{"type": "Ready", "status": "Unknown", "message": silent}]),
                Some("node \"n1\" is not Ready (Kubelet stopped posting node status)"),
            ),
            (
                json!([{"type": "Ready", "status": "False", "message": ""}]),
                Some("node \"n1\" is not Ready"),
            ),
            (Value::Null, Some("node \"n1\" is not Ready")),
        ];
        for (conditions, expected) in table {
            let node = json!({"metadata": {"name": "n1"}, "status": {"conditions": conditions}});
            let node = serde_json::from_value(node).expect("a Node");
            assert_eq!(not_ready(&node).as_deref(), expected);
        }
    }
}
