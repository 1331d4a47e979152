//! DaemonJob: a Job on every node.
//!
//! Group, kind and fields are those of job-deploy-operator's `api.practice.com/v1alpha1`: the fields of
//! a Job's spec stand directly under `spec`. `nodes` and `rollout` are Operon's own, and absent they
//! change nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::NodeSelector,
    apimachinery::pkg::{
        apis::meta::v1::{Condition, LabelSelector, Time},
        util::intstr::IntOrString,
    },
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use crate::job_flow::FlowState;
use crate::{
    embedded::JobSpec,
    job_flow::{GlobalParams, StepRetry},
    schema::amount,
};

/// The spec of a Job, and which nodes it runs on.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "api.practice.com",
    version = "v1alpha1",
    kind = "DaemonJob",
    plural = "daemonjobs",
    shortname = "dj",
    namespaced,
    status = "DaemonJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Job on every node but those of spec.excludeNodeList: the fields of a Job's spec stand directly under spec.",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.failed",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DaemonJobSpec {
    /// What every Job and pod gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_params: Option<GlobalParams>,

    /// The names of nodes that get no Job, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_node_list: Option<String>,

    /// Which nodes get a Job, beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,

    /// The order and speed of the rollout, and what a failure means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,

    /// The spec of the Jobs.
    #[serde(flatten)]
    pub job: JobSpec,
}

/// What stands beside the fields of the Jobs, and is about the object.
const SUSPEND: &str = "While this is true, running Jobs are suspended and no further node gets its Job. \
    A Job that a queue such as Kueue suspended is not resumed.";
const MANAGED_BY: &str = "The controller that runs this object. Absent, `operon.dev/operon` and \
    `kubernetes.io/job-controller` mean Operon. With any other value Operon writes nothing: neither Jobs \
    nor the status.";

/// The schema of what is not the Job's: what stands beside its fields.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
struct Beside {
    /// What every Job and pod gets: environment variables, labels, annotations. It takes precedence over the
    /// template's own values of the same key. `nodeName` has no effect here.
    #[serde(default)]
    global_params: Option<GlobalParams>,

    /// The names of nodes that get no Job, separated by commas: `node1, node2`.
    #[serde(default)]
    #[schemars(length(max = 262_144))]
    exclude_node_list: Option<String>,

    /// Which nodes get a Job, in addition to `excludeNodeList`. Absent means every node that is Ready and not
    /// cordoned, has only taints that the template tolerates, and matches the template's own nodeSelector and
    /// node affinity.
    #[serde(default)]
    nodes: Option<Nodes>,

    /// The order and speed of the rollout, and what failures mean. Absent means all nodes at the same time.
    #[serde(default)]
    rollout: Option<Rollout>,
}

impl JsonSchema for DaemonJobSpec {
    fn schema_name() -> Cow<'static, str> {
        "DaemonJobSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<JobSpec>().to_value();
        let beside = generator.subschema_for::<Beside>().to_value();
        if let (Some(properties), Value::Object(beside)) = (
            schema.get_mut("properties").and_then(Value::as_object_mut),
            &beside["properties"],
        ) {
            for (name, property) in properties.iter_mut() {
                property["description"] = match name.as_str() {
                    "suspend" => json!(SUSPEND),
                    "managedBy" => json!(MANAGED_BY),
                    _ => json!(format!("As `spec.{name}` of a Job.")),
                };
            }
            properties.extend(beside.clone());
        }
        schema["description"] = json!("The spec of the Jobs, and on which nodes they run.");
        Schema::try_from(schema).unwrap_or_default()
    }
}

/// Which nodes get a Job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Selects nodes by their labels. Absent means all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// Selects the nodes that match at least one of these terms. Absent means all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<NodeSelector>,

    /// Includes nodes that are cordoned, tainted or not Ready. The pods then tolerate every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_unschedulable: Option<bool>,

    /// How long Operon waits for a node that is not Ready, in seconds, before it skips the node. The time
    /// counts from when Operon first saw that the node was not Ready. 0 unless set. It applies to nodes that
    /// could not get a Job when the rollout began; for the others see `unavailableTimeoutSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub ready_timeout_seconds: Option<i32>,

    /// How long Operon waits, in seconds, for a node that could get a Job when the rollout began, but is
    /// cordoned, tainted or not Ready when its turn comes. Until then the next wave waits; other nodes of the
    /// same wave do not. After that the node is skipped, and in the end the DaemonJob is Failed with the reason
    /// NodesSkipped. 600 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub unavailable_timeout_seconds: Option<i32>,
}

/// The order and speed of the rollout, and what failures mean.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// While this is true, no further node gets its Job. Running Jobs continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// On how many nodes Jobs may run at the same time: a number, or a percentage of all nodes
    /// such as `10%`. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [amount()]))]
    pub parallelism: Option<IntOrString>,

    /// Always (the default): the DaemonJob has finished when every node has, and nodes that join later get no
    /// Job. Never: it is Ready when every node has finished, and nodes that join later get a Job; while they
    /// run, it is Running again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_policy: Option<CompletionPolicy>,

    /// What happens when more nodes than `maxFailures` have failed. FailFast (the default): no further node gets
    /// a Job, running Jobs continue, and the DaemonJob is Failed. Continue: every node gets its Job, and the
    /// DaemonJob is Failed in the end. Pause: no further node gets a Job until failed nodes are retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<NodeFailurePolicy>,

    /// How many nodes may fail: a number, or a percentage of all nodes such as `10%`. 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [amount()]))]
    pub max_failures: Option<IntOrString>,

    /// Runs the Job of a node again after it failed. Absent means never. A Job that was deleted before it
    /// finished is created again in any case, and does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<StepRetry>,

    /// How long each Job may run, in seconds, before it fails. It becomes the Job's `activeDeadlineSeconds`,
    /// unless the template has a lower value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: Option<i32>,

    /// The nodes that get their Job first. The others follow when all of these have succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,

    /// A node label, for example `topology.kubernetes.io/zone`. The nodes of each value are one wave, in the
    /// order of the values. Nodes without the label are the last wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: Option<String>,

    /// How long to wait, in seconds, between two waves. 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub pause_seconds: Option<i32>,
}

/// The nodes that get their Job first.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Selects the canaries by their labels. While it selects no node, no Job starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// How many canaries there are, in the order of their names: a number, or a percentage of all nodes such as
    /// `10%`. Absent means all nodes that the selector selects, or 1 without a selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [amount()]))]
    pub count: Option<IntOrString>,
}

/// When a DaemonJob has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CompletionPolicy {
    /// When every node has finished.
    #[default]
    Always,
    /// Never: nodes that join later get a Job.
    Never,
}

/// What happens when too many nodes have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NodeFailurePolicy {
    /// No further node gets a Job.
    #[default]
    FailFast,
    /// Every node gets its Job.
    Continue,
    /// No further node gets a Job until failed nodes are retried.
    Pause,
}

/// The status of a DaemonJob.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonJobStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pending, Running, Succeed, Failed or Terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<FlowState>,

    /// How many nodes have succeeded, and how many there are: `12/15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,

    /// How many nodes have a Job or will get one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,

    /// On how many nodes a Job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<i32>,

    /// On how many nodes the Job succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<i32>,

    /// On how many nodes the Job failed and is not run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<i32>,

    /// How many nodes get no Job because they are excluded, not selected, cordoned, tainted or not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<i32>,

    /// When the first Job was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When Operon saw that the last node had finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// Nodes whose Job failed, and why; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub failed_nodes: Vec<FailedNode>,

    /// Nodes whose Job makes no progress, and why; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub blocked_nodes: Vec<BlockedNode>,

    /// The current or last wave, and when its last node finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<Wave>,

    /// A digest of the Job's spec and `globalParams` that the results below belong to. When it changes, every
    /// node gets a new Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,

    /// The nodes that have succeeded, each as 12 hexadecimal digits of a digest of its uid. It is kept after
    /// the Jobs are deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub completed_nodes: Vec<String>,

    /// The nodes whose Job failed and is not run again, as the same digits. If a node had more than one Job,
    /// `:` and their number follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub failed_node_digests: Vec<String>,

    /// The nodes that have had a Job and have not finished, in the same form. After each further `:` follows
    /// `f` and how many Jobs failed, `l` and how many in a row were deleted before they finished, or the second
    /// in which Operon first saw that the last Job runs (`r`), failed (`e`) or is deleted (`g`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub started_node_digests: Vec<String>,

    /// The nodes whose Job the API server refused, as the same digits. They are tried after the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub refused_node_digests: Vec<String>,

    /// The nodes that could get a Job when the rollout began and have had none, as the same digits. After `:`
    /// follows the second since which Operon waits for the node. After `:n` follows the second since which a
    /// node is not Ready that could not get a Job when the rollout began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub waiting_node_digests: Vec<String>,

    /// The canaries, as the same digits. They are chosen once for a revision, when the first of them gets its
    /// Job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub canary_node_digests: Vec<String>,

    /// The status of each Job, by `<job>/<namespace>`, if there are at most 100.
    // Always written, as a whole: what another operator left here would stay otherwise.
    #[serde(default)]
    #[schemars(
        with = "BTreeMap<String, crate::embedded::AnyObject>",
        extend("x-kubernetes-map-type" = "atomic")
    )]
    pub job_status_list: BTreeMap<String, Map<String, Value>>,

    /// The last value of the annotation `operon.dev/retry` that took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried: Option<String>,

    /// `Complete` or `Failed` is True when the DaemonJob has finished, with success or without; never with
    /// `completionPolicy: Never`. `Ready` is True if every node succeeded, or failed within `maxFailures`.
    /// `Reconciling` is True while Jobs run, `Stalled` when only a change helps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A node whose Job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedNode {
    /// The node's name.
    pub name: String,

    /// Why the Job failed, in one CamelCase word.
    pub reason: String,

    /// Why the Job failed, in a sentence.
    pub message: String,

    /// The name of its last Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,

    /// How many Jobs it has had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,

    /// The exit code of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// A node whose Job makes no progress.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedNode {
    /// The node's name.
    pub name: String,

    /// The name of its Job.
    pub job_name: String,

    /// What the Job waits for, in one CamelCase word.
    pub reason: String,

    /// What the Job waits for, in a sentence.
    pub message: String,

    /// When Operon first saw that the Job waits.
    pub since: Time,
}

/// A wave of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// `canary`, the label `rollout.topologyKey` and its value as `<key>=<value>`, or `rest`.
    pub name: String,

    /// When Operon first saw that the last of its nodes had finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}
