//! Which nodes get a Job, and why others get none. The spec is parsed once, and then applied to every node.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use operon_api::daemon_job::{DaemonJobSpec, Nodes};

use super::{
    INVALID_SPEC,
    rule::{Affinity, Selector},
    template::Template,
};
use crate::{action::Failure, jobs::time::seconds, node::is_ready};

/// `nodes.unavailableTimeoutSeconds`, unless it is set.
const UNAVAILABLE_TIMEOUT: Duration = Duration::from_mins(10);

/// Which nodes get a Job.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    excluded: BTreeSet<String>,
    selector: Selector,
    affinity: Option<Affinity>,
    /// Whether cordoned, tainted and not Ready nodes get one too.
    pub(super) includes_unschedulable: bool,
    /// How long a node is waited for that was not Ready when the rollout began.
    pub(super) ready_timeout: Duration,
    /// How long one is waited for that could get a Job then, and can't when its turn comes.
    pub(super) unavailable_timeout: Duration,
    template: Template,
}

/// Why a node gets no Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    /// `excludeNodeList`.
    Excluded,
    /// `nodes.selector` or `nodes.affinity`.
    NotSelected,
    /// The constraints of the pod template on nodes.
    NotInTemplate,
    /// It is being deleted.
    Deleted,
    /// It is not Ready.
    NotReady,
    /// It is cordoned.
    Cordoned,
    /// It has a taint that the pod template does not tolerate.
    Tainted,
}

impl Skip {
    /// The reason, for this number of nodes.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::NotSelected => "not selected by spec.nodes",
            Self::NotInTemplate => "not allowed by the pod template",
            Self::Deleted => "being deleted",
            Self::NotReady => "not Ready",
            Self::Cordoned => "cordoned",
            Self::Tainted => "tainted",
        }
    }
}

impl Selection {
    /// Reads the node selection of a spec.
    ///
    /// # Errors
    /// The error.
    pub(super) fn read(spec: &DaemonJobSpec) -> Result<Self, Failure> {
        let nodes = spec.nodes.clone().unwrap_or_default();
        let Nodes {
            selector,
            affinity,
            include_unschedulable,
            ready_timeout_seconds,
            unavailable_timeout_seconds,
        } = &nodes;
        Ok(Self {
            excluded: names(spec.exclude_node_list.as_deref().unwrap_or_default()),
            selector: selector
                .as_ref()
                .map_or(Ok(Selector::default()), Selector::read)
                .map_err(|why| invalid("spec.nodes.selector", &why))?,
            affinity: affinity
                .as_ref()
                .map(Affinity::read)
                .transpose()
                .map_err(|why| invalid("spec.nodes.affinity", &why))?,
            includes_unschedulable: *include_unschedulable == Some(true),
            ready_timeout: ready_timeout_seconds.map_or(Duration::ZERO, seconds),
            unavailable_timeout: unavailable_timeout_seconds.map_or(UNAVAILABLE_TIMEOUT, seconds),
            template: Template::read(&spec.job)?,
        })
    }

    /// Why this node gets no Job; nothing if it gets one.
    pub(super) fn skip(&self, node: &Node) -> Option<Skip> {
        let affinity = self.affinity.as_ref();
        if self.excluded.contains(&node.name_any()) {
            return Some(Skip::Excluded);
        }
        if !self.selector.selects(node) || !affinity.is_none_or(|a| a.selects(node)) {
            return Some(Skip::NotSelected);
        }
        if !self.template.selects(node) {
            return Some(Skip::NotInTemplate);
        }
        if node.metadata.deletion_timestamp.is_some() {
            return Some(Skip::Deleted);
        }
        if self.includes_unschedulable {
            return None;
        }
        if !is_ready(node) {
            return Some(Skip::NotReady);
        }
        self.template.refuses(node)
    }

    /// The names in `excludeNodeList` that no node has.
    pub(super) fn unknown<'a>(&'a self, nodes: &BTreeSet<&str>) -> Vec<&'a str> {
        let excluded = self.excluded.iter().map(String::as_str);
        excluded.filter(|name| !nodes.contains(name)).collect()
    }
}

/// The names of a list that is separated by commas, spaces anywhere in it left out.
fn names(list: &str) -> BTreeSet<String> {
    let without_spaces: String = list.chars().filter(|c| !c.is_whitespace()).collect();
    let names = without_spaces.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// A part of a spec that can't be read.
pub(super) fn invalid(path: &str, why: &str) -> Failure {
    Failure::new(INVALID_SPEC, format!("{path} can't be read: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::template::UNSCHEDULABLE, *};

    fn node(value: Value) -> Node {
        serde_json::from_value(value).expect("a node")
    }

    fn ready(spec: &Value) -> Node {
        node(json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
    }

    fn read(spec: Value) -> Result<Selection, Failure> {
        let spec: DaemonJobSpec = serde_json::from_value(spec).expect("a spec");
        Selection::read(&spec)
    }

    fn of_pod(pod: &Value) -> Selection {
        read(json!({"template": {"spec": pod}})).expect("a selection")
    }

    #[test]
    fn names_are_excluded_with_spaces_anywhere_and_unknown_ones_are_told() {
        let selection = read(json!({"excludeNodeList": " n1, n 2 ,,n3\n, "})).expect("read");
        assert_eq!(selection.skip(&ready(&json!({}))), Some(Skip::Excluded));
        let nodes = BTreeSet::from(["n1", "n2", "other"]);
        assert_eq!(selection.unknown(&nodes), ["n3"]);
        let none = read(json!({"excludeNodeList": ""})).expect("read");
        assert_eq!(none.skip(&ready(&json!({}))), None);
        assert!(none.unknown(&nodes).is_empty());
    }

    #[test]
    fn only_nodes_that_a_pod_can_run_on_get_a_job() {
        let plain = of_pod(&json!({}));
        let not_ready = node(json!({"metadata": {"name": "n1"}}));
        let mut deleted = ready(&json!({}));
        deleted.metadata.deletion_timestamp =
            serde_json::from_value(json!("2024-01-01T00:00:00Z")).ok();
        let soft = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
        let hard = json!({"taints": [{"key": "k", "effect": "NoExecute"}]});
        let mark = json!({"taints": [{"key": UNSCHEDULABLE, "effect": "NoSchedule"}]});
        let cordoned = || ready(&json!({"unschedulable": true}));
        let all = read(json!({"nodes": {"includeUnschedulable": true}})).expect("read");
        for (node, expected, expected_of_all) in [
            (ready(&json!({})), None, None),
            (not_ready, Some(Skip::NotReady), None),
            (deleted, Some(Skip::Deleted), Some(Skip::Deleted)),
            (ready(&soft), None, None),
            (ready(&hard), Some(Skip::Tainted), None),
            (ready(&mark), Some(Skip::Cordoned), None),
            (cordoned(), Some(Skip::Cordoned), None),
        ] {
            assert_eq!(plain.skip(&node), expected);
            assert_eq!(all.skip(&node), expected_of_all);
        }
        let tolerant =
            of_pod(&json!({"tolerations": [{"key": UNSCHEDULABLE, "operator": "Exists"}]}));
        assert_eq!(tolerant.skip(&cordoned()), None);
    }

    #[test]
    fn nodes_are_selected_by_labels_and_affinity() {
        let term = |key: &str| {
            json!({"nodeSelectorTerms": [
                {"matchExpressions": [{"key": key, "operator": "Exists"}]},
            ]})
        };
        for (nodes, expected) in [
            (json!({}), None),
            (json!({"selector": {"matchLabels": {"disk": "ssd"}}}), None),
            (
                json!({"selector": {"matchLabels": {"disk": "hdd"}}, "includeUnschedulable": true}),
                Some(Skip::NotSelected),
            ),
            (json!({"affinity": term("disk")}), None),
            (json!({"affinity": term("gpu")}), Some(Skip::NotSelected)),
        ] {
            let selection = read(json!({"nodes": nodes})).expect("read");
            assert_eq!(selection.skip(&ready(&json!({}))), expected, "{nodes}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_invalid_and_says_where() {
        let bad_term = json!({"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "k", "operator": "Like"}]},
        ]});
        let bad_selector = json!({"matchExpressions": [{"key": "k", "operator": "In"}]});
        let required = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": bad_term,
        }});
        for (spec, place) in [
            (
                json!({"nodes": {"selector": bad_selector}}),
                "spec.nodes.selector",
            ),
            (
                json!({"nodes": {"affinity": bad_term}}),
                "spec.nodes.affinity",
            ),
            (
                json!({"template": {"spec": {"affinity": required}}}),
                "spec.template.spec.affinity.nodeAffinity",
            ),
            (
                json!({"template": {"spec": {"tolerations": "all"}}}),
                "spec.template.spec.tolerations",
            ),
            (
                json!({"template": {"spec": {"nodeSelector": ["a"]}}}),
                "spec.template.spec.nodeSelector",
            ),
        ] {
            let failure = read(spec).expect_err(place);
            assert_eq!(failure.reason, INVALID_SPEC);
            assert!(failure.message.starts_with(place), "{}", failure.message);
        }
    }
}
