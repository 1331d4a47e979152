//! ReactiveJob: runs its Job again whenever the template changes.
//!
//! Group, kind, fields, labels and annotations are those of SAP's `batch.cs.sap.com/v1alpha1`, so its
//! manifests apply unchanged. Every field besides `jobTemplate` is Operon's own, and absent it changes
//! nothing.

use std::collections::BTreeMap;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, JSONSchemaProps, ValidationRule,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedded::JobTemplateSpec;

/// The longest name of a ReactiveJob: with a dash and five characters it names a Job, which a label of
/// 63 characters must hold.
pub const MAX_NAME: usize = 57;

/// What runs, and when it runs again.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "batch.cs.sap.com",
    version = "v1alpha1",
    kind = "ReactiveJob",
    plural = "reactivejobs",
    namespaced,
    status = "ReactiveJobStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Job that runs again whenever spec.jobTemplate changes. Its status is that of the newest Job.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Job",
        type_ = "string",
        json_path = ".status.currentJobName",
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
pub struct ReactiveJobSpec {
    /// The Job to run, as in batch/v1: `metadata` (labels and annotations) and `spec`. Any change of it runs
    /// a new Job. To run a new Job when something else changes, put a digest of that into an annotation.
    #[serde(default)]
    pub job_template: JobTemplateSpec,

    /// While this is true, no new Job starts. Running Jobs continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// What happens to a running Job when the next one is due. Allow (the default): both run. Replace: the
    /// old Job is deleted, and the new one starts when its pods have terminated. Queue: the new Job waits
    /// until the old one has finished; of several changes in that time, only the last one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<ConcurrencyPolicy>,

    /// How many succeeded Jobs are kept besides the newest Job. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub successful_history_limit: Option<i32>,

    /// How many failed Jobs are kept besides the newest Job. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed_history_limit: Option<i32>,

    /// Runs a failed Job again. Absent means never; the Job's own `backoffLimit` applies in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// What runs a new Job. Absent means any change of `jobTemplate`, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,

    /// How long a Job may wait for something (a quota, an image, a ConfigMap, a node), in seconds, before the
    /// condition Stalled reports what it waits for. 300 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: Option<i32>,
}

/// What happens to a running Job when the next one is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The old one is deleted first.
    Replace,
    /// The new one waits.
    Queue,
}

/// Runs a failed Job again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many more Jobs run, at most, after a Job failed. A Job that runs because of a change or on request
    /// starts the count anew.
    #[schemars(range(min = 1, max = 100))]
    pub limit: i32,

    /// How long to wait before the first of them, in seconds. The wait doubles with each further failure, up
    /// to an hour. 10 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub backoff_seconds: Option<i32>,
}

/// What runs a new Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Triggers {
    /// Which part of `jobTemplate` runs a new Job when it changes. JobTemplate (the default): any part.
    /// PodTemplate: `spec.template` only. Changes of `suspend`, `parallelism`, `backoffLimit`,
    /// `activeDeadlineSeconds` and `ttlSecondsAfterFinished` are then applied to the newest Job; all other
    /// changes apply to the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateTrigger>,

    /// Whether a change of a ConfigMap that the pod template refers to runs a new Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_maps: Option<bool>,

    /// Whether a change of a Secret that the pod template refers to runs a new Job. The operator needs the
    /// permission to watch Secrets, which the Helm chart grants only if it is asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<bool>,

    /// How long ConfigMaps and Secrets must stay unchanged before a new Job runs, in seconds. 10 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub debounce_seconds: Option<i32>,
}

/// Which part of `jobTemplate` runs a new Job when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TemplateTrigger {
    /// Any part.
    #[default]
    JobTemplate,
    /// `spec.template`.
    PodTemplate,
}

/// The state of a ReactiveJob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum State {
    /// No Job was created yet.
    #[default]
    New,
    /// The newest Job has not finished, or a new one is due.
    Processing,
    /// It is being deleted, and a finalizer that is not Operon's holds it.
    DeletionBlocked,
    /// It is being deleted, and its Jobs still exist.
    Deleting,
    /// The newest Job succeeded.
    Ready,
    /// The newest Job failed, or no Job could be created.
    Error,
}

impl State {
    /// The state as the status has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::Processing => "Processing",
            Self::DeletionBlocked => "DeletionBlocked",
            Self::Deleting => "Deleting",
            Self::Ready => "Ready",
            Self::Error => "Error",
        }
    }
}

/// The status of a ReactiveJob.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReactiveJobStatus {
    /// The `metadata.generation` that this status is about. -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The value of the annotation `operon.dev/rerun` that this status is about. While it differs from the
    /// annotation, the status does not consider the requested run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_rerun: Option<String>,

    /// New, Processing, Ready, Error, Deleting or DeletionBlocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,

    /// The name of the newest Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_job_name: Option<String>,

    /// What the newest Job was created from. When this changes, a new Job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_inputs: Option<Inputs>,

    /// A ConfigMap or Secret changed. A new Job runs after `debounceSeconds` without a further change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,

    /// The last Jobs, if they were deleted before they finished. Each further deletion in a row makes the
    /// wait before the next Job longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<Deletions>,

    /// The last runs, the newest first; at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub runs: Vec<Run>,

    /// How the last failed run failed. It is kept after the pods are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<RunFailure>,

    /// `Ready` is True if the newest Job succeeded, False if it failed, and Unknown before that; its reason is
    /// the state. `Reconciling` is True while there is progress, `Stalled` when only a change helps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The kinds in `spec.triggers` that the operator cannot watch: a sentence for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub unwatched: Vec<String>,

    /// Jobs that have the labels of this object's Jobs, but were created neither by Operon nor by an operator
    /// that it takes over from. Operon does not change them. At most ten are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ignored_jobs: Vec<String>,
}

/// What a Job was created from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// The uid of the Job.
    #[serde(rename = "jobUID")]
    pub job_uid: String,

    /// The `metadata.generation` that these inputs are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,

    /// The hash of `spec.jobTemplate`: 64 hexadecimal digits.
    pub template_hash: String,

    /// The hash of `spec.jobTemplate.spec.template`: 64 hexadecimal digits.
    pub pod_template_hash: String,

    /// The ConfigMaps and Secrets that `spec.triggers` asks to watch, as `ConfigMap/name`, each with a digest
    /// of its content, or `absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BTreeMap<String, String>>,
}

/// A change of ConfigMaps and Secrets for which no Job runs yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// When the last change was seen.
    pub since: Time,

    /// The digests of the ConfigMaps and Secrets since then.
    pub config: BTreeMap<String, String>,
}

/// Jobs that were deleted before they finished.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletions {
    /// How many, in a row.
    pub count: i32,

    /// The uid of the last of them.
    #[serde(rename = "jobUID")]
    pub job_uid: String,

    /// When that one was found to be deleted.
    pub time: Time,
}

/// One run: a Job that was created.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The Job's name.
    pub job_name: String,

    /// Why it ran.
    pub reason: RunReason,

    /// What differs from the previous Job, field by field: at most ten fields, then the number of the others.
    /// Values that may hold a secret are not shown: environment variables, commands, arguments, HTTP probes,
    /// options of volume drivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub changes: Vec<String>,

    /// Which attempt it is, if failed Jobs are run again: 1 is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,

    /// When the Job was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the Job finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// When Operon first saw that the Job had finished, by its own clock, if failed Jobs are run again. The
    /// wait before a retry counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_time: Option<Time>,

    /// The result: Succeeded, Failed, or Lost. Absent while the Job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Why a Job was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RunReason {
    /// There was no Job.
    #[default]
    Created,
    /// `spec.jobTemplate` changed.
    TemplateChanged,
    /// A ConfigMap or Secret changed.
    ConfigChanged,
    /// The annotation `operon.dev/rerun` has another value.
    RerunRequested,
    /// The previous Job failed (`spec.retry`).
    Retry,
    /// The previous Job was deleted before it finished.
    JobLost,
    /// Another operator created the Job, and Operon took it over.
    Adopted,
}

impl RunReason {
    /// The reason as the status has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::TemplateChanged => "TemplateChanged",
            Self::ConfigChanged => "ConfigChanged",
            Self::RerunRequested => "RerunRequested",
            Self::Retry => "Retry",
            Self::JobLost => "JobLost",
            Self::Adopted => "Adopted",
        }
    }
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Outcome {
    /// The Job is Complete.
    Succeeded,
    /// The Job is Failed.
    Failed,
    /// The Job was deleted before it finished.
    Lost,
}

/// How a run failed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunFailure {
    /// The Job's name.
    pub job_name: String,

    /// The Job's reason: `BackoffLimitExceeded`, `DeadlineExceeded`, …
    pub reason: String,

    /// The Job's message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,

    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,

    /// The pod that failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,

    /// Why the pod itself ended, if it says so: `Evicted`, `DeadlineExceeded`, `PreemptionByScheduler`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_reason: Option<String>,

    /// The pod's message about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_message: Option<String>,

    /// The container that failed last, native sidecars aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,

    /// The exit code of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,

    /// Why the container ended: `Error`, `OOMKilled`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_reason: Option<String>,

    /// The last lines of the container's log, at most 2 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// The CustomResourceDefinition, with what can't be said of a field: how long a name may be, and that an
/// object that was not reconciled yet is not up to date.
pub(crate) fn crd() -> CustomResourceDefinition {
    let mut crd = ReactiveJob::crd();
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut());
    schemas
        .filter_map(|schema| schema.open_api_v3_schema.as_mut())
        .for_each(complete);
    crd
}

fn complete(schema: &mut JSONSchemaProps) {
    let rule = ValidationRule {
        rule: format!("size(self.metadata.name) <= {MAX_NAME}"),
        message: Some(format!(
            "the name may have at most {MAX_NAME} characters: it is the beginning of the names of Jobs"
        )),
        field_path: Some(".metadata.name".to_owned()),
        ..ValidationRule::default()
    };
    // A rule can only name a field that the schema has; without one the API server reports it of "<nil>".
    let of_type = |type_: &str| JSONSchemaProps {
        type_: Some(type_.to_owned()),
        ..JSONSchemaProps::default()
    };
    let metadata = JSONSchemaProps {
        properties: Some([("name".to_owned(), of_type("string"))].into()),
        ..of_type("object")
    };
    let properties = schema.properties.get_or_insert_default();
    properties.insert("metadata".to_owned(), metadata);
    schema
        .x_kubernetes_validations
        .get_or_insert_default()
        .push(rule);
}
