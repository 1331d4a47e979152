//! JobTemplate: the spec of a Job that steps of JobFlows refer to by name.
//!
//! Group, kind and fields are those of job-deploy-operator's `api.practice.com/v1alpha1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedded::JobSpec;

/// The spec of a Job.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "api.practice.com",
    version = "v1alpha1",
    kind = "JobTemplate",
    plural = "jobtemplates",
    shortname = "jt",
    namespaced,
    status = "JobTemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The spec of a Job that steps of JobFlows refer to by name, in jobTemplateRef.",
    printcolumn(name = "Jobs", type_ = "integer", json_path = ".status.jobs"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplateSpec {
    /// The Job's `spec`, as in batch/v1. An edit changes only Jobs that are created later.
    pub job_template: JobSpec,
}

/// The status of a JobTemplate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplateStatus {
    /// The names of the existing Jobs that were created from it, sorted, at most 100.
    // Always written: what another operator left here would stay otherwise.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub dependency_list: Vec<String>,

    /// How many Jobs that were created from it exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<i32>,
}
