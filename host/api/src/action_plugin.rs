//! ActionPlugin: where an action's component comes from, what it may do, and whether it is loaded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    doc = "An action that OperationJobs select by spec.action: a WebAssembly component, where it comes from and as whom it acts.",
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
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ActionPluginSpec {
    /// What `spec.action` of an OperationJob selects. If two ActionPlugins claim one action, the
    /// older one serves it and the other says so in its status.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"),
        extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "action can't be changed; create another ActionPlugin"}])
    )]
    pub action: String,

    /// Where the component comes from.
    pub source: PluginSource,

    /// The component's digest, `sha256:` and 64 hexadecimal digits. If set, any other content is
    /// refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,

    /// Operate pods in the manner of PodOpsLifecycle: traffic is taken off before and put back after.
    #[serde(default)]
    pub enable_pod_ops_lifecycle: bool,

    /// The ServiceAccount, in the operator's namespace, whose RBAC decides what the action may read
    /// and do.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,

    /// Settings for the action: handed to its `setup`, checked against the schema that it declares.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub settings: serde_json::Map<String, serde_json::Value>,

    /// How much one call of the action may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<PluginLimits>,
}

/// Where a component comes from: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "has(self.configMap)", "message": "name a source: configMap"}]))]
pub struct PluginSource {
    /// A ConfigMap of the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
}

/// A component in a ConfigMap's `binaryData`, as it is or gzipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapSource {
    /// The ConfigMap's namespace. Only the operator's own is read, so that nobody else can place
    /// code; absent means that one.
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

/// How much one call of an action may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// Memory of one call, from 1Mi to 256Mi. 32Mi unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,5}(Ki|Mi)$"))]
    pub memory: Option<String>,

    /// Time for one call, waiting included, from 10ms to 30s. 1s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}(ms|s)$"))]
    pub call_timeout: Option<String>,
}

/// What is known of the plugin.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionPluginStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The digest of the component that serves the action now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// The first characters of the digest, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_digest: Option<String>,

    /// Where the component came from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,

    /// The interface version that the component was checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_version: Option<String>,

    /// The kinds that the action reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub watches: Vec<String>,

    /// `Ready` when a component serves the action; its reason and message say what is wrong with a
    /// version that could not be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true
    })
}
