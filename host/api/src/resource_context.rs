//! ResourceContext: which ids the instances of workloads have, and what is remembered of each.
//!
//! Group, kind, fields and keys are those of KusionStack's `apps.kusionstack.io/v1alpha1`, so that no id is
//! lost when its CollaSets are taken over.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In the data of an id: the name of the CollaSet that has it.
pub const OWNER: &str = "Owner";

/// In the data of an id: the ControllerRevision of its pod.
pub const REVISION: &str = "Revision";

/// In the data of an id, `true`: its pod has not been created yet.
pub const JUST_CREATE: &str = "PodJustCreate";

/// In the data of an id, `true`: its pod is deleted for an update. KusionStack sets it, Operon does not.
pub const RECREATE_UPDATE: &str = "PodRecreateUpdate";

/// In the data of an id, `true`: its pod is scaled in, and the id is free afterwards.
pub const SCALE_IN: &str = "ScaleIn";

/// In the data of an id: the id of the pod that replaces its pod.
pub const REPLACE_NEW_ID: &str = "ReplaceNewPodID";

/// In the data of an id: the id of the pod that its pod replaces.
pub const REPLACE_ORIGIN_ID: &str = "ReplaceOriginPodID";

/// The ids of a CollaSet's pods, or of several CollaSets that share them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "apps.kusionstack.io",
    version = "v1alpha1",
    kind = "ResourceContext",
    plural = "resourcecontexts",
    shortname = "rc",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "The ids of a CollaSet's pods, or of several CollaSets that share them. CollaSets write it.",
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ResourceContextSpec {
    /// The ids, each once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<ContextDetail>>,
}

/// One id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextDetail {
    /// The number of a pod, as in its label `collaset.kusionstack.io/instance-id`.
    pub id: i64,

    /// What is remembered of the pod: `Owner`, the name of its CollaSet; `Revision`, the name of its
    /// ControllerRevision; `PodJustCreate`, it has not been created yet; `ScaleIn`, it is scaled in;
    /// `ReplaceNewPodID` and `ReplaceOriginPodID`, the other pod while one replaces the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, String>>,
}
