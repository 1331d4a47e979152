//! ReactiveJob: runs its Job again whenever the template changes.
//!
//! Group, kind, fields, labels and annotations are those of SAP's `batch.cs.sap.com/v1alpha1`, so its
//! manifests apply unchanged. Every field besides `jobTemplate` is Operon's own, and absent it changes
//! nothing.

use std::collections::BTreeMap;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, JSON, JSONSchemaProps, ValidationRule,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

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
    /// The Job to run, as in batch/v1: `metadata` (labels and annotations) and `spec`. Any change of
    /// it runs a new Job; put a digest into an annotation to run again when something else changed.
    #[serde(default)]
    pub job_template: JobTemplateSpec,

    /// No new Job starts while this is true. What runs goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// What happens to a Job that still runs when the next one is due. Allow (the default): both run.
    /// Replace: the old one is deleted, and the new one starts when its pods are gone. Queue: the new
    /// one waits until the old one is finished; of several changes meanwhile only the last runs.
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

    /// How long a Job may wait for something (quota, an image, a ConfigMap, a node), in seconds,
    /// before the condition Stalled says what it waits for. 300 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: Option<i32>,
}

/// What happens to a Job that still runs when the next one is due.
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
    /// How many more Jobs run, at most, after one failed, until the template changes.
    #[schemars(range(min = 1, max = 100))]
    pub limit: i32,

    /// How long to wait before the first of them, in seconds; each next one waits twice as long, at
    /// most an hour. 10 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub backoff_seconds: Option<i32>,
}

/// What runs a new Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Triggers {
    /// Which part of `jobTemplate` runs a new Job when it changes. JobTemplate (the default): any.
    /// PodTemplate: `spec.template` only; changes of `suspend`, `parallelism`, `backoffLimit`,
    /// `activeDeadlineSeconds` and `ttlSecondsAfterFinished` are then made to the newest Job itself,
    /// everything else waits for the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateTrigger>,

    /// Whether a change of a ConfigMap that the pod template refers to runs a new Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_maps: Option<bool>,

    /// Whether a change of a Secret that the pod template refers to runs a new Job. The host must
    /// have been allowed to watch Secrets when it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<bool>,

    /// How long ConfigMaps and Secrets must have stayed the same before a new Job runs, in seconds.
    /// 10 unless set.
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

/// Where a ReactiveJob stands, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum State {
    /// No Job was made yet.
    #[default]
    New,
    /// The newest Job is not finished, or a new one is due.
    Processing,
    /// It is being deleted, and somebody else's finalizer holds it.
    DeletionBlocked,
    /// It is being deleted, and its Jobs are not gone yet.
    Deleting,
    /// The newest Job succeeded.
    Ready,
    /// The newest Job failed, or none could be made.
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

/// What is known of a ReactiveJob.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReactiveJobStatus {
    /// The `metadata.generation` that this status is about; -1 before anybody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// New, Processing, Ready, Error, Deleting or DeletionBlocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,

    /// The name of the newest Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_job_name: Option<String>,

    /// What the newest Job stands for: a new one runs when this is not so any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_inputs: Option<Inputs>,

    /// A ConfigMap or Secret changed, and a new Job will run when nothing more has changed for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,

    /// The last Jobs, if they were deleted before they finished: the more in a row, the longer the wait
    /// before the next one is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<Deletions>,

    /// The last runs, the newest first; at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub runs: Vec<Run>,

    /// How the last run that failed did so; kept when its pods are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<RunFailure>,

    /// `Ready` is True if the newest Job succeeded, False if it failed, Unknown before; its reason is
    /// the state. `Reconciling` while something is on its way, `Stalled` when only a change helps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// What `spec.triggers` asks to watch and the host can't watch: a sentence for each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub unwatched: Vec<String>,

    /// Jobs that have the labels of this object's Jobs, but were made by neither this operator nor one
    /// that it takes over from. They are left alone. At most ten are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ignored_jobs: Vec<String>,
}

/// What a Job stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// The uid of the Job.
    #[serde(rename = "jobUID")]
    pub job_uid: String,

    /// The `metadata.generation` at which this was so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,

    /// The hash of `spec.jobTemplate`: 64 hexadecimal digits.
    pub template_hash: String,

    /// The hash of `spec.jobTemplate.spec.template`: 64 hexadecimal digits.
    pub pod_template_hash: String,

    /// The ConfigMaps and Secrets that `spec.triggers` asks to look at, as `ConfigMap/name`, each with
    /// a digest of its content, or `absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BTreeMap<String, String>>,
}

/// A change that is waited out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Since when ConfigMaps and Secrets are as they are.
    pub since: Time,

    /// Their digests.
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

/// One run: a Job that was made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The Job's name.
    pub job_name: String,

    /// Why it ran.
    pub reason: RunReason,

    /// What is different from the Job before, field by field: at most ten, then their number. What
    /// may hold a secret is not shown: environment variables, commands, arguments, HTTP probes, options
    /// of volume drivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub changes: Vec<String>,

    /// Which attempt it is, if failed Jobs are run again: 1 is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,

    /// When the Job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the Job was finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// How it went: Succeeded, Failed, or nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Why a Job was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RunReason {
    /// There was none.
    #[default]
    Created,
    /// `spec.jobTemplate` changed.
    TemplateChanged,
    /// A ConfigMap or Secret changed.
    ConfigChanged,
    /// The annotation `operon.dev/rerun` has another value.
    RerunRequested,
    /// The Job before failed (`spec.retry`).
    Retry,
    /// The Job before was deleted before it was finished.
    JobLost,
    /// Another operator made the Job; it was taken over.
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

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Outcome {
    /// The Job is Complete.
    Succeeded,
    /// The Job is Failed.
    Failed,
    /// The Job was deleted before it was finished.
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

    /// What the pod says of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_message: Option<String>,

    /// The container that failed last, native sidecars aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,

    /// What the container ended with.
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
/// object that nobody has looked at yet is not up to date.
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
    let status = schema.properties.iter_mut().flatten();
    if let Some((_, status)) = status.into_iter().find(|(name, _)| *name == "status") {
        status.default = Some(JSON(json!({"observedGeneration": -1})));
    }
}
