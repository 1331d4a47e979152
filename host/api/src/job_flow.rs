//! JobFlow: a graph of Jobs, each of which runs when those that it depends on have succeeded.
//!
//! Group, kind and fields are those of job-deploy-operator's `api.practice.com/v1alpha1`, so its
//! manifests apply unchanged. Every field that it does not have is optional, and absent it changes
//! nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    conditions::End,
    embedded::{EnvVar, JobSpec, Volume, VolumeMount},
};

/// The most steps that a flow may have.
pub const MAX_STEPS: usize = 1000;

/// Steps, and what they have in common.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "api.practice.com",
    version = "v1alpha1",
    kind = "JobFlow",
    plural = "jobflows",
    shortname = "jf",
    namespaced,
    status = "JobFlowStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A graph of Jobs: each step of spec.flows runs as a Job when the steps that it depends on have succeeded.",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Steps", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct JobFlowSpec {
    /// What every Job and pod of the flow gets: environment variables, labels, annotations, a node. It takes
    /// precedence over the step's own values of the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_params: Option<GlobalParams>,

    /// The steps: at least 1, at most 1,000. An edit of a step applies only if the step has not started.
    #[schemars(
        length(min = 1, max = 1000),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub flows: Vec<Step>,

    /// Volumes that steps may mount with `shareVolumeMounts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub share_volumes: Vec<Volume>,

    /// Accepted for compatibility, and ignored. Use `onExit`, or a step with `when`.
    #[serde(
        rename = "ErrorHandler",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub error_handler: Option<Map<String, Value>>,

    /// What happens after a step failed. StopScheduling (the default): no further step starts, except steps
    /// with `when`; running Jobs continue. Continue: every step that does not depend on the failed step still
    /// runs. Cancel: as StopScheduling, and running Jobs are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,

    /// While this is true, running Jobs are suspended and no further step starts. A Job that a queue such as
    /// Kueue suspended is not resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// The controller that runs this object. Absent, `operon.dev/operon` and
    /// `kubernetes.io/job-controller` mean Operon. With any other value Operon writes nothing: neither
    /// Jobs nor the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub managed_by: Option<String>,

    /// How many steps may run at the same time. Absent means any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub parallelism: Option<i32>,

    /// The name of the step that runs last, however the others ended. It has no dependencies, and no step
    /// depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub on_exit: Option<String>,

    /// How long the flow is kept after it has finished, in seconds. Then it is deleted with its Jobs. Absent
    /// means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
}

/// What every Job and pod gets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GlobalParams {
    /// Environment variables of every container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,

    /// The name of the node that every pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,

    /// Labels of every Job and pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of every Job and pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One step: a Job, and when it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.jobTemplate) || has(self.jobTemplateRef)",
        "message": "a step needs jobTemplate or jobTemplateRef"
    },
    {
        "rule": "!has(self.dependencies) || !(self.name in self.dependencies)",
        "message": "a step can't depend on itself",
        "fieldPath": ".dependencies"
    }
]))]
pub struct Step {
    /// Its name, unique in the flow: the Job is `<flow>-<name>`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: String,

    /// The Job's `spec`, as in batch/v1. `restartPolicy` is always Never. `backoffLimit` is 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_template: Option<JobSpec>,

    /// The name of a JobTemplate of this namespace. It is read when the step starts, and takes precedence over
    /// `jobTemplate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub job_template_ref: Option<String>,

    /// The steps that must have succeeded before this one starts, at most 1,000. With `when`, they must only
    /// have finished, and the expression decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1000),
        inner(length(max = 63)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub dependencies: Vec<String>,

    /// Which of `shareVolumes` every container of this step mounts, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub share_volume_mounts: Vec<VolumeMount>,

    /// Whether the step runs: a CEL expression that is evaluated when all dependencies have finished. If it is
    /// false, the step is Skipped. `steps` holds each step that this one depends on, directly or indirectly:
    /// `steps["build"].phase == "Failed"`, `steps["test"].outputs["coverage"] != "0"`. `"true"` always runs the
    /// step. The expression is evaluated after a failure too, so the step can react to it. At most 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32_768))]
    pub when: Option<String>,

    /// The names of the values that the step passes on to other steps: keys of the JSON object that one of its
    /// containers writes as its termination message (`/dev/termination-log`, at most 4 KiB; 12 KiB for all
    /// containers of a pod).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub outputs: Vec<String>,

    /// Which pod and container write the outputs. Absent means the containers that wrote the declared outputs.
    /// In an Indexed Job, index 0 takes precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_from: Option<OutputsFrom>,

    /// Outputs of steps that this one depends on, as environment variables of every container: at most 1,000.
    /// Several inputs may have the same `env`, for steps of which only some run. The last output that exists
    /// applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1000),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["env", "step", "output"])
    )]
    pub inputs: Vec<Input>,

    /// Runs the step again after its Job failed. Absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<StepRetry>,

    /// How long each Job of the step may run, in seconds, before it fails. It becomes the Job's
    /// `activeDeadlineSeconds`, unless the template has a lower value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: Option<i32>,
}

/// Which pod and container write the outputs of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputsFrom {
    /// The name of the container. Absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,

    /// The index of a pod of an Indexed Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub index: Option<i32>,
}

/// An output of another step as an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The variable's name.
    #[schemars(length(min = 1, max = 253))]
    pub env: String,

    /// The name of the step.
    #[schemars(length(min = 1, max = 63))]
    pub step: String,

    /// One of its `outputs`.
    #[schemars(length(min = 1, max = 63))]
    pub output: String,
}

/// How a failed Job is run again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRetry {
    /// How many more Jobs run, at most, after Jobs failed.
    #[schemars(range(min = 1, max = 100))]
    pub limit: i32,

    /// How long to wait before the first of them, in seconds. The wait doubles with each further failure, up
    /// to an hour. 10 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub backoff_seconds: Option<i32>,
}

/// What happens after a step failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FailurePolicy {
    /// No further step starts, except steps with `when`.
    #[default]
    StopScheduling,
    /// Every step that does not depend on the failed step still runs.
    Continue,
    /// As StopScheduling, and running Jobs are deleted.
    Cancel,
}

/// The state of a JobFlow or a DaemonJob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FlowState {
    /// No Job has started.
    #[default]
    Pending,
    /// A Job runs or has succeeded, and more is to do.
    Running,
    /// All Jobs that were to run succeeded.
    Succeed,
    /// A Job failed.
    Failed,
    /// It is being deleted.
    Terminating,
}

impl FlowState {
    /// The state as the status has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeed => "Succeed",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
        }
    }

    /// How an object that has finished with this state has finished.
    pub fn end(self) -> Option<End> {
        match self {
            Self::Pending | Self::Running | Self::Terminating => None,
            Self::Succeed => Some(End::Complete),
            Self::Failed => Some(End::Failed),
        }
    }
}

/// The status of a JobFlow.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFlowStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pending, Running, Succeed, Failed or Terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<FlowState>,

    /// How many steps have succeeded or were skipped, and how many there are: `3/5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,

    /// When the first step started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the flow finished: no step runs, and none will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// Every step, in the order of the spec. It is kept after the Jobs are deleted.
    // Owned as a whole: an owner for every field of every step is two thirds of a status again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub steps: Vec<StepStatus>,

    /// The status of each existing Job, by `<job>/<namespace>`, if the flow has at most 100 steps.
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

    /// `Complete` or `Failed` is True when the flow has finished, with success or without. `Ready` is True if the
    /// flow succeeded. `Reconciling` is True while it runs, `Stalled` when only a change helps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The phase of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// A dependency has not finished, or its turn has not come.
    #[default]
    Waiting,
    /// It could start, but something prevents it. The reason says what.
    Blocked,
    /// It has a Job that has not finished, or waits for a retry.
    Running,
    /// Its Job succeeded.
    Succeeded,
    /// Its Job failed, and is not run again.
    Failed,
    /// It does not run, because its `when` is false or a dependency has not succeeded.
    Skipped,
    /// Its Job was deleted because another step failed.
    Cancelled,
}

impl Phase {
    /// The phase as the status, and a `when`, have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Blocked => "Blocked",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether a step of this phase will not change by itself any more.
    pub fn is_over(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled => true,
            Self::Waiting | Self::Blocked | Self::Running => false,
        }
    }
}

/// The status of a step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step's name.
    pub name: String,

    /// Waiting, Blocked, Running, Succeeded, Failed, Skipped or Cancelled.
    pub phase: Phase,

    /// The reason for the phase, in one CamelCase word, if there is more to say than the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// The reason for the phase, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// The name of its last Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,

    /// The uid of its last Job.
    #[serde(rename = "jobUID", default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,

    /// How many Jobs it has had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,

    /// How many of its Jobs failed. Only these use up `retry.limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,

    /// A digest of the template that its last Job was created from. It shows whether an edit was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,

    /// When its first Job was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the step finished. While it reads outputs or waits for a retry: when Operon first saw that its Job
    /// had finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// The outputs that the step passes on to other steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,

    /// Its last Jobs, if they were deleted before they finished. Each further deletion in a row makes the wait
    /// before the next Job longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<Deletions>,

    /// True if the step started, because of its `when`, after another step had failed. That failure does not
    /// cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_failure: Option<bool>,

    /// True if the step was removed from the spec after it had started. It is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned: Option<bool>,
}

/// Jobs of a step that were deleted before they finished.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletions {
    /// How many, in a row.
    pub count: i32,

    /// Which attempt the last of them was.
    pub attempt: i32,

    /// When that Job and its pods were found to be deleted.
    pub time: Time,
}
