//! The constraints of the pod template on nodes: name, labels, affinity and tolerations, as the scheduler
//! reads them.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use kube::ResourceExt;
use operon_api::embedded::JobSpec;
use serde::de::DeserializeOwned;

use super::{
    eligible::{Skip, invalid},
    rule::{Affinity, Selector},
};
use crate::action::Failure;

/// What Kubernetes puts on a node that is cordoned.
pub(super) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The constraints of the pod template itself.
#[derive(Clone, Debug)]
pub(super) struct Template {
    node_name: Option<String>,
    selector: Selector,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
}

impl Template {
    /// Reads it.
    ///
    /// # Errors
    /// The error.
    pub(super) fn read(job: &JobSpec) -> Result<Self, Failure> {
        let required = [
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ];
        let affinity = part(job, &required)?;
        Ok(Self {
            node_name: part(job, &["nodeName"])?.filter(|name: &String| !name.is_empty()),
            selector: Selector::equal(&part(job, &["nodeSelector"])?.unwrap_or_default()),
            affinity: affinity
                .as_ref()
                .map(Affinity::read)
                .transpose()
                .map_err(|why| invalid(&path(&required), &why))?,
            tolerations: part(job, &["tolerations"])?.unwrap_or_default(),
        })
    }

    /// Whether its pods may be on this node.
    pub(super) fn selects(&self, node: &Node) -> bool {
        let name = self.node_name.as_ref();
        let affinity = self.affinity.as_ref();
        name.is_none_or(|name| *name == node.name_any())
            && self.selector.selects(node)
            && affinity.is_none_or(|affinity| affinity.selects(node))
    }

    /// Why the scheduler would not place a pod there.
    pub(super) fn refuses(&self, node: &Node) -> Option<Skip> {
        let spec = node.spec.as_ref()?;
        let cordon = Taint {
            key: UNSCHEDULABLE.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if spec.unschedulable == Some(true) && !self.tolerates(&cordon) {
            return Some(Skip::Cordoned);
        }
        let keeps_away =
            |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        let taints = spec.taints.iter().flatten();
        let refused = taints.filter(keeps_away).find(|t| !self.tolerates(t))?;
        if refused.key == UNSCHEDULABLE {
            return Some(Skip::Cordoned);
        }
        Some(Skip::Tainted)
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    }
}

/// Whether a toleration is for this taint: an empty key or effect is for all of them.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_for =
        |said: Option<&str>, has: &str| said.is_none_or(|said| said.is_empty() || said == has);
    let value = taint.value.as_deref().unwrap_or_default();
    let is_value = match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == value,
        "Exists" => true,
        _ => false,
    };
    is_value
        && is_for(toleration.key.as_deref(), &taint.key)
        && is_for(toleration.effect.as_deref(), &taint.effect)
}

/// A field of the pod's spec in a Job's spec.
fn part<T: DeserializeOwned>(job: &JobSpec, path_in_pod: &[&str]) -> Result<Option<T>, Failure> {
    let path_in_job: Vec<_> = ["template", "spec"]
        .iter()
        .chain(path_in_pod)
        .copied()
        .collect();
    let value = job.at(&path_in_job).filter(|value| !value.is_null());
    value
        .map(T::deserialize)
        .transpose()
        .map_err(|error| invalid(&path(path_in_pod), &error.to_string()))
}

fn path(path_in_pod: &[&str]) -> String {
    format!("spec.template.spec.{}", path_in_pod.join("."))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(spec: &Value) -> Node {
        let metadata = json!({"name": "n1", "labels": {"disk": "ssd"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a node")
    }

    fn of_pod(pod: &Value) -> Template {
        let job = serde_json::from_value(json!({"template": {"spec": pod}}));
        Template::read(&job.expect("a Job's spec")).expect("a template")
    }

    #[test]
    fn a_toleration_is_for_what_kubernetes_says_it_is_for() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"operator": "Exists", "effect": "NoSchedule"}), true),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "k", "operator": "Equal", "value": "v"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k"}), false),
            (json!({"key": "k", "operator": "Like", "value": "v"}), false),
            (
                json!({"key": "k", "value": "v", "tolerationSeconds": 5}),
                true,
            ),
        ] {
            let template = of_pod(&json!({"tolerations": [toleration]}));
            let node = node(&json!({"taints": [taint]}));
            let is_tolerated = template.refuses(&node).is_none();
            assert_eq!(is_tolerated, expected, "{toleration}");
        }
    }

    #[test]
    fn what_the_template_says_of_nodes_selects_them() {
        let term = |values: Value| {
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "disk", "operator": "In", "values": values}]},
                ]},
            }}})
        };
        for (pod, expected) in [
            (json!({"nodeSelector": {"disk": "ssd"}}), true),
            (json!({"nodeSelector": {"disk": "hdd"}}), false),
            (term(json!(["ssd"])), true),
            (term(json!(["hdd"])), false),
            (json!({"nodeName": "n1"}), true),
            (json!({"nodeName": ""}), true),
            (json!({"nodeName": "n2"}), false),
            (json!({"affinity": null, "nodeSelector": null}), true),
        ] {
            assert_eq!(of_pod(&pod).selects(&node(&json!({}))), expected, "{pod}");
        }
    }
}
