//! PodTransitionRule: which operations may take a pod out of service, and when a pod may return.
//!
//! Group, kind and fields are those of KusionStack's `apps.kusionstack.io/v1alpha1`. A field that Operon
//! does not support is refused by a rule, never ignored.

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector, Time},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    embedded::AnyObject,
    schema::{unsupported, unsupported_items},
};

/// A percentage from 0% to 100%. A rule in CEL would exceed the API server's cost budget, because these values are
/// in a list.
const PERCENTAGE: &str = "^(100|[0-9]{1,2})%$";

/// When operations may take pods out of service.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "apps.kusionstack.io",
    version = "v1alpha1",
    kind = "PodTransitionRule",
    plural = "podtransitionrules",
    shortname = "ptr",
    namespaced,
    status = "PodTransitionRuleStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "When operations may take pods of this namespace out of service, and when these pods may return to service. The PodOpsLifecycle asks the rules.",
    printcolumn(name = "PODS", type_ = "integer", json_path = ".status.selectedPods"),
    printcolumn(name = "WAITING", type_ = "integer", json_path = ".status.waitingPods"),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PodTransitionRuleSpec {
    /// Which pods of the namespace the rules are about, among those that take part in the PodOpsLifecycle. An
    /// empty selector selects all of them.
    pub selector: LabelSelector,

    /// The rules. A pod may go on when all of them allow it. They are checked in this order: a rule sees only
    /// the pods that the previous rules allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
    ))]
    pub rules: Vec<TransitionRule>,
}

/// One rule: exactly one of `availablePolicy` and `labelCheck`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [json!({
    "rule": "has(self.webhook) || has(self.availablePolicy) != has(self.labelCheck)",
    "message": "a rule has exactly one of availablePolicy and labelCheck",
})]))]
pub struct TransitionRule {
    /// The name of the rule, unique in the object.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// While this is true, the rule is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,

    /// When the rule is checked. PreCheck (the default): before an operation takes a pod out of service.
    /// PostCheck: after the operation has acted, before the pod returns to service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<CheckStage>,

    /// Not supported: there is no condition that a pod could meet. Use `filter.labelSelector`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [unsupported_items(
        "conditions are not supported, because no condition is defined: use filter.labelSelector"
    )]))]
    pub conditions: Vec<String>,

    /// Which of the selected pods the rule is checked for. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<TransitionRuleFilter>,

    /// How many of the selected pods may be out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_policy: Option<AvailablePolicy>,

    /// Which labels a pod must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_check: Option<LabelCheck>,

    /// Not supported: whoever may create a PodTransitionRule could make the operator call any address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AnyObject>", extend("x-kubernetes-validations" = [unsupported(
        "webhook is not supported, because users of a namespace could make the operator call any address: use \
         labelCheck, and let your own controller set the label"
    )]))]
    pub webhook: Option<Map<String, Value>>,
}

/// When a rule is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CheckStage {
    /// Before an operation takes the pod out of service.
    #[default]
    PreCheck,
    /// After the operation has acted, before the pod returns to service.
    PostCheck,
}

/// Which of the selected pods a rule is checked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionRuleFilter {
    /// Selects pods by their labels. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

/// How many of the selected pods may be out of service. A pod is out of service while it is not Ready, has
/// finished, or does not have the label `podopslifecycle.kusionstack.io/service-available`, and while an
/// operation that the rule allowed is on it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [json!({
    "rule": "has(self.maxUnavailableValue) != has(self.minAvailableValue)",
    "message": "availablePolicy has exactly one of maxUnavailableValue and minAvailableValue",
})]))]
pub struct AvailablePolicy {
    /// How many pods may be out of service at most: a number, or a percentage of the selected pods such as `25%`.
    /// A percentage is rounded down, but allows at least one pod unless it is `0%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "pattern" = PERCENTAGE))]
    pub max_unavailable_value: Option<IntOrString>,

    /// How many pods must be in service at least: a number, or a percentage of the selected pods such as `75%`.
    /// A percentage is rounded up, but allows one pod to be out of service unless it is `100%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "pattern" = PERCENTAGE))]
    pub min_available_value: Option<IntOrString>,
}

/// Which labels a pod must have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelCheck {
    /// Selects the pods that may go on.
    pub requires: LabelSelector,
}

/// The decisions about the selected pods.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTransitionRuleStatus {
    /// The `metadata.generation` that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The names of the selected pods, at most 500 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,

    /// How many pods are selected.
    #[serde(default)]
    pub selected_pods: i32,

    /// How many of them wait for a rule.
    #[serde(default)]
    pub waiting_pods: i32,

    /// The decisions about pods with an operation: all that were allowed, and at most 100 of those that wait,
    /// in the order of their turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<TransitionDetail>,

    /// When the decisions changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_time: Option<Time>,

    /// `Ready`, `Reconciling` and `Stalled` as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The decision about one pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionDetail {
    /// The name of the pod.
    #[serde(default)]
    pub name: String,

    /// The uid of the pod.
    #[serde(default)]
    pub uid: String,

    /// The stage that was decided about.
    #[serde(default)]
    pub stage: CheckStage,

    /// The operations on the pod that were decided about, each with the time of its begin. The decision is about
    /// no other operation.
    #[serde(default)]
    pub operation: String,

    /// Whether the pod may go on. It stays so until the operation has finished.
    #[serde(default)]
    pub passed: bool,

    /// The names of the rules that allow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_rules: Vec<String>,

    /// Why the pod waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reject_info: Vec<RejectInfo>,
}

/// Why a pod waits for a rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectInfo {
    /// The name of the rule.
    #[serde(default)]
    pub rule_name: String,

    /// What it waits for.
    #[serde(default)]
    pub reason: String,
}
