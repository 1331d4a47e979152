//! ActionPlugin: the component of an action, its ServiceAccount and limits, and whether it is loaded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::any_object;

/// An action to load.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "operon.dev",
    version = "v1alpha1",
    kind = "ActionPlugin",
    plural = "actionplugins",
    shortname = "ap",
    status = "ActionPluginStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An action that OperationJobs select by spec.action: the source of its WebAssembly component, and the ServiceAccount that it acts as.",
    printcolumn(name = "ACTION", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "SOURCE", type_ = "string", json_path = ".status.source"),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "DIGEST", type_ = "string", json_path = ".status.shortDigest"),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "SIGNERS",
        type_ = "string",
        json_path = ".status.signers",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ActionPluginSpec {
    /// What `spec.action` of an OperationJob selects. Immutable. If several ActionPlugins name one
    /// action, the oldest serves it and the others have the reason `ActionTaken`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
        extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "action can't be changed; create another ActionPlugin"}])
    )]
    pub action: String,

    /// Where the component comes from.
    pub source: PluginSource,

    /// The digest of the unzipped component, `sha256:` and 64 hexadecimal digits. If set, any other
    /// content is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,

    /// If set, only a component with one of these signatures is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verification>,

    /// Pods leave service before the action operates them and return afterwards, by the PodOpsLifecycle. Its
    /// controller must be enabled; otherwise targets wait.
    #[serde(default)]
    pub enable_pod_ops_lifecycle: bool,

    /// A ServiceAccount of the operator's namespace, but not the host's own. Its RBAC decides what the
    /// action may read and do.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,

    /// The action's settings, validated against the schema that the action declares.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub settings: serde_json::Map<String, serde_json::Value>,

    /// The limits of one call of the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PluginLimits>,
}

/// Where a component comes from. Set exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.builtin) != has(self.configMap)",
    "message": "name exactly one source: builtin or configMap"
}]))]
pub struct PluginSource {
    /// A component of the host's own image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<BuiltinSource>,

    /// A ConfigMap of the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
}

/// A component of the host's own image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuiltinSource {
    /// The component's name: `replace`, `restart`, `recreate`, `evict`.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
}

/// A component in a ConfigMap's `binaryData`, as it is or gzipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// The ConfigMap's namespace. Only the operator's own is allowed, and it is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,

    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in `binaryData`.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "plugin.wasm".to_owned()
}

/// The signatures that a component must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Public keys in PEM (`-----BEGIN PUBLIC KEY-----`). The component must have a signature by one of them,
    /// in a Sigstore bundle as `cosign` writes it.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 4096)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub keys: Vec<String>,
}

/// The limits of one call of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// The memory of one call, from 1Mi to 256Mi. Default: 32Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(Ki|Mi)$"))]
    pub memory: Option<String>,

    /// The time of one call, including waiting, from 10ms to 30s. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}(ms|s)$"))]
    pub call_timeout: Option<String>,
}

/// The status of the plugin.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionPluginStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The digest of the component that serves the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// The first digits of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_digest: Option<String>,

    /// The keys by which the signatures of this component were verified, each as `sha256:` and the digest of the
    /// public key's DER form. Empty if no signature was required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub signers: Vec<String>,

    /// Where the component came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,

    /// The version of the interface that the component implements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_version: Option<String>,

    /// The kinds that the action reads. `(not served)`: an optional kind that the API server does not serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub watches: Vec<String>,

    /// `Ready` when a component serves the action. The reason and message of `Ready` also say why a
    /// newer version could not be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
