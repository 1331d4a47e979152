//! OperationJob: a one-shot operation (`spec.action`) on a batch of pods.
//!
//! Field names, casing and meaning are those of KusionStack's `apps.kusionstack.io/v1alpha1`, so its
//! manifests apply unchanged. What its webhooks check and default is CEL, schema and defaults here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector, Time},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    conditions::End,
    schema::{amount, any_object, positive_amount},
};

/// How the message of each condition of a job with `dryRun` says that nothing is changed, unless the job has no targets.
pub const DRY_RUN_SAYS: &str = "in a dry run, which changes nothing";

/// The most targets one job may have.
pub const MAX_TARGETS: usize = 10_000;

/// The most bytes that `spec.parameters` may have as JSON.
pub const MOST_PARAMETERS: usize = 8 * 1024;

/// The action, its targets and its limits.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "apps.kusionstack.io",
    version = "v1alpha1",
    kind = "OperationJob",
    plural = "operationjobs",
    shortname = "opj",
    namespaced,
    status = "OperationJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Runs an action once on a batch of pods of its namespace. spec.action names the action, spec.partition limits how many targets have started.",
    printcolumn(name = "PROGRESS", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "ACTION",
        type_ = "string",
        json_path = ".spec.action",
        priority = 1
    ),
    printcolumn(
        name = "SUCCEEDED",
        type_ = "integer",
        json_path = ".status.succeededPodCount",
        priority = 1
    ),
    printcolumn(
        name = "FAILED",
        type_ = "integer",
        json_path = ".status.failedPodCount",
        priority = 1
    ),
    printcolumn(
        name = "TOTAL",
        type_ = "integer",
        json_path = ".status.totalPodCount",
        priority = 1
    ),
    printcolumn(
        name = "SELECTOR",
        type_ = "string",
        json_path = ".status.selector",
        priority = 1
    ),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.targets) != has(self.targetSelector)",
        "message": "exactly one of targets and targetSelector is required",
        "fieldPath": ".targets"
    },
    {
        "rule": "has(self.targets) == has(oldSelf.targets)",
        "message": "targets can't be replaced by targetSelector, nor the other way; create another job",
        "fieldPath": ".targets"
    },
    {
        "rule": "(has(self.dryRun) && self.dryRun) == (has(oldSelf.dryRun) && oldSelf.dryRun)",
        "message": "dryRun can't be changed; create another job",
        "fieldPath": ".dryRun"
    },
    {
        "rule": "!has(self.partition) || has(oldSelf.partition)",
        "message": "partition can't be set on a job that has none, which means all targets; create another job",
        "fieldPath": ".partition"
    },
    {
        "rule": "!has(self.partition) || !has(oldSelf.partition) || self.partition >= oldSelf.partition",
        "message": "partition may only grow; to operate all targets, remove it",
        "fieldPath": ".partition"
    }
]))]
pub struct OperationJobSpec {
    /// What is done to each target: the `spec.action` of an ActionPlugin, for example `Replace`.
    /// Immutable.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
        extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "action can't be changed; create another job"}])
    )]
    pub action: String,

    /// The pods to operate, by name, in this order; or set `targetSelector`. 1 to 10,000, each once. Immutable. A job with its
    /// status is one object of at most 1.5 MiB: 10,000 targets fit if their names have up to about 20
    /// characters, 5,000 up to 60. Not all of thousands of targets are operated at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 10_000),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            // Equality of a list with keys does not look at the order, which the partition counts by.
            "x-kubernetes-validations" = [{
                "rule": "self == oldSelf && self.map(t, t.name) == oldSelf.map(t, t.name)",
                "message": "targets can't be changed, nor their order; create another job"
            }]
        )
    )]
    pub targets: Vec<PodTarget>,

    /// Selects the pods to operate, in place of `targets`. Pods are selected once, when the job is first seen,
    /// and `status.targets` has them from then on, in the order of their names: pods that are created later are
    /// no targets. Pods that are being deleted or have finished are not selected. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self == oldSelf",
            "message": "targetSelector can't be changed; create another job"
        },
        {
            "rule": "has(self.labelSelector) || has(self.owner) || has(self.nodeName)",
            "message": "at least one of labelSelector, owner and nodeName is required"
        }
    ]))]
    pub target_selector: Option<TargetSelector>,

    /// The arguments of the action, as the action's documentation describes them: at most 8 KiB. Checked by the action before the
    /// first target starts. Immutable: no target is operated with other parameters than those with which the job was
    /// created. If they are changed nevertheless, targets wait, and a release may see the change.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub parameters: serde_json::Map<String, serde_json::Value>,

    /// Nothing is changed: what the action would do first with each target is checked by the API server and listed
    /// in the status. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,

    /// How many targets may have started, counted from the first. Absent means all. May only grow:
    /// raise it step by step to continue, or remove it to operate all targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub partition: Option<i32>,

    /// While this is true, no further target starts. Targets that have started continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// How many targets may be in progress at the same time: a number, or a percentage of all targets such as
    /// `10%`, rounded up. A target that failed counts until it is released. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [positive_amount()]))]
    pub max_concurrent: Option<IntOrString>,

    /// How many pods of each workload may be unavailable when a target starts, those in operation included: a number, or
    /// a percentage of the pods that the workload wants such as `10%`, rounded down, at least 1. What the workload
    /// lacks for other reasons counts as well, and no target starts against a PodDisruptionBudget. Absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [positive_amount()]))]
    pub max_unavailable: Option<IntOrString>,

    /// What happens when too many targets have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,

    /// How many targets may fail before `onFailure` applies: a number, or a percentage of all targets such as
    /// `10%`, rounded down. 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [amount()]))]
    pub max_failures: Option<IntOrString>,

    /// How long a target may take, in seconds after it started. A target that takes longer fails and
    /// is released. Does not apply to targets that have not started. Default: 3 hours.
    #[serde(default = "default_deadline", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i32>,

    /// How long the job is kept after it has finished, in seconds, before it is deleted. Default: 30
    /// minutes. -1 keeps it until a user deletes it. Use -1 if a GitOps tool applies the job: it would
    /// otherwise create and run the job again after each deletion.
    #[serde(
        rename = "TTLSecondsAfterFinished",
        default = "default_ttl",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = -1), extend("x-kubernetes-validations" = [{
        "rule": "self != 0",
        "message": "TTLSecondsAfterFinished must be at least 1; -1 keeps the job until a user deletes it"
    }]))]
    pub ttl_seconds_after_finished: Option<i32>,

    /// If the action takes part in the PodOpsLifecycle: how many seconds the action waits after a pod was
    /// taken out of service. Other actions ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub operation_delay_seconds: Option<i32>,
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "serde asks for the field's own type"
)]
fn default_deadline() -> Option<i32> {
    Some(3 * 60 * 60)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "serde asks for the field's own type"
)]
fn default_ttl() -> Option<i32> {
    Some(30 * 60)
}

/// Which pods of the job's namespace are operated: those that everything selects that is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSelector {
    /// Selects pods by their labels. An empty one, which would select all, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        "message": "must have matchLabels or matchExpressions: an empty selector would select all pods"
    }, {
        "rule": "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",
        "message": "matchExpressions: In and NotIn need values; Exists and DoesNotExist have none; there are no other operators"
    }]))]
    pub label_selector: Option<LabelSelector>,

    /// Selects the pods of a controller: `deployment/NAME`, `replicaset/NAME`, `statefulset/NAME`,
    /// `daemonset/NAME`, `job/NAME` or `collaset/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 270),
        regex(
            pattern = r"^(deployment|replicaset|statefulset|daemonset|job|collaset)/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
        )
    )]
    pub owner: Option<String>,

    /// Selects the pods on a node, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub node_name: Option<String>,

    /// The containers to operate of each pod, as `targets[].containers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub containers: Option<Vec<String>>,
}

/// What happens when more targets than `maxFailures` have failed. Continue (the default): the others are
/// operated. Pause: no further target starts, and targets that have started continue, until `maxFailures` or
/// `onFailure` is changed. Cancel: targets that have not started fail, and targets in progress are released
/// and fail; that is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnFailure {
    /// The others are operated.
    #[default]
    Continue,
    /// No further target starts.
    Pause,
    /// No further target starts, and those in progress are released.
    Cancel,
}

impl OperationJob {
    /// The targets, in their order: those of the spec, or those that `spec.targetSelector` selected. Empty while
    /// these are not known.
    pub fn targets(&self) -> &[PodTarget] {
        match (&self.spec.target_selector, &self.status) {
            (None, _) => &self.spec.targets,
            (Some(_), Some(status)) => &status.targets,
            (Some(_), None) => &[],
        }
    }
}

/// One pod to operate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTarget {
    /// The name of a pod in the job's namespace.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,

    /// The containers to operate, each once. Absent or empty means all ordinary containers of the pod.
    /// Replace ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub containers: Option<Vec<String>>,
}

/// The progress of a job or a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Progress {
    /// Not started.
    #[default]
    Pending,
    /// Being operated.
    Processing,
    /// Finished without success; `error` has the cause.
    Failed,
    /// Finished with success.
    Succeeded,
}

impl Progress {
    /// Whether it is Succeeded or Failed, which are final.
    pub fn is_finished(self) -> bool {
        self.end().is_some()
    }

    /// How a job with this progress has finished, if it has.
    pub fn end(self) -> Option<End> {
        match self {
            Self::Pending | Self::Processing => None,
            Self::Failed => Some(End::Failed),
            Self::Succeeded => Some(End::Complete),
        }
    }
}

/// The status of the job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationJobStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pending: no target has started. Processing: some have started. Succeeded: all have succeeded.
    /// Failed: all have finished and some failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,

    /// When the job was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the job finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,

    /// The same as `endTime`, for compatibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Time>,

    /// What `spec.targetSelector` selects by, in one line: `deployment/web`, `app=web`, `node/worker-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The targets that `spec.targetSelector` selected when the job was first seen. They do not change any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub targets: Vec<PodTarget>,

    /// The number of targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_pod_count: Option<i32>,

    /// How many targets succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_pod_count: Option<i32>,

    /// How many targets failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_pod_count: Option<i32>,

    /// The first digits of the digest of `spec.parameters` with which the job was first seen. Absent without
    /// parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_digest: Option<String>,

    /// When the job was canceled, because more targets failed than `spec.maxFailures` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled_time: Option<Time>,

    /// If the job is being deleted: when the release of a target first failed. A target that cannot be
    /// released a minute later is abandoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_failed_time: Option<Time>,

    /// Every target with its progress: started targets first, then the others, in the order of the targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub target_details: Vec<TargetDetail>,

    /// `Ready` when the job has succeeded, `Reconciling` while it is in progress, `Stalled` when it has
    /// failed or is blocked. `Complete` or `Failed` when it has finished. `StandingDown`: Operon writes nothing, because KusionStack's controllers run;
    /// present only then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The status of one target.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetDetail {
    /// The pod's name.
    pub name: String,

    /// Pending, Processing, Failed or Succeeded.
    #[serde(default)]
    pub progress: Progress,

    /// The uid of the pod when the target started. A later pod of the same name is not this target.
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,

    /// When the target started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// If the action takes part in the PodOpsLifecycle: when it had operated the pod. The target succeeds when
    /// the pod is back in service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operated_time: Option<Time>,

    /// When the target finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,

    /// What the action recorded. Replace records `NewPod`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_info: BTreeMap<String, String>,

    /// Of a dry run: what the action would do first, one entry for each effect, with 512 bytes in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub dry_run: Vec<String>,

    /// Why the target failed, or what it waits for. Cleared on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TargetError>,
}

/// Why a target failed, or what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetError {
    /// One CamelCase word.
    pub reason: String,
    /// The cause, and what to do about it.
    pub message: String,
}
