//! PodDecoration: KusionStack's kind that adds containers and other fields to pods. Operon does not apply
//! PodDecorations and installs no CRD for them; it only reads which pods they select.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The part of a PodDecoration that Operon reads.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "apps.kusionstack.io",
    version = "v1alpha1",
    kind = "PodDecoration",
    plural = "poddecorations",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default",
    doc = "KusionStack's PodDecoration, as far as Operon reads it."
)]
pub struct PodDecorationSpec {
    /// The pods of its namespace that it is for. None without a selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}
