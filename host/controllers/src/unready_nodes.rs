//! Which nodes are not Ready. The watch of nodes keeps it, so a question costs the same however many nodes there are,
//! and a reconcile needs to read a pod for its node only while a node is not Ready.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Node;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use operon_core::node::not_ready;

use crate::store::Store;

/// The nodes that are not Ready, by name, each with a sentence about it.
#[derive(Default)]
pub struct UnreadyNodes(
    /// Copied only if it changes while a reader has it.
    Mutex<Arc<HashMap<String, String>>>,
);

impl UnreadyNodes {
    /// A node changed or is gone, and the store says so already.
    pub fn changed(&self, node: &Node, nodes: &Store<Node>) {
        let name = node.name_any();
        let latest = nodes.get(&ObjectRef::from_obj(node));
        let trouble = latest.and_then(|latest| not_ready(&latest));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&name) == trouble.as_ref() {
            return;
        }
        let known = Arc::make_mut(&mut known);
        match trouble {
            Some(trouble) => known.insert(name, trouble),
            None => known.remove(&name),
        };
    }

    /// The nodes that are not Ready now.
    pub(crate) fn all(&self) -> Arc<HashMap<String, String>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::store::Writer;

    fn node(name: &str, ready: &str) -> Node {
        let condition = json!({"type": "Ready", "status": ready, "message": "Kubelet stopped."});
        let node = json!({"metadata": {"name": name}, "status": {"conditions": [condition]}});
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn a_node_is_among_them_until_it_is_ready_or_gone() {
        let mut writer = Writer::<Node>::default();
        let nodes = UnreadyNodes::default();
        let mut after = |event: Event<Node>| {
            let (Event::Apply(node) | Event::Delete(node)) = &event else {
                unreachable!("one node changes at a time");
            };
            let node = node.clone();
            writer.apply_watcher_event(&event);
            nodes.changed(&node, &writer.as_reader());
            let mut names: Vec<_> = nodes.all().keys().cloned().collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(after(Event::Apply(node("a", "True"))), "");
        assert_eq!(after(Event::Apply(node("a", "Unknown"))), "a");
        assert_eq!(after(Event::Apply(node("b", "False"))), "a b");
        assert_eq!(after(Event::Apply(node("a", "True"))), "b");
        assert_eq!(after(Event::Delete(node("b", "False"))), "");
        let sentence = "node \"a\" is not Ready (Kubelet stopped)";
        assert_eq!(after(Event::Apply(node("a", "False"))), "a");
        assert_eq!(nodes.all()["a"], sentence);
    }
}
