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
    ),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
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

    /// A ServiceAccount of the operator's namespace with the label `operon.dev/action-account=true`, but not
    /// the host's own. Its RBAC decides what the action may read and do.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,

    /// The finalizers that the action may add and remove. Effects that change others are refused. The action Replace
    /// removes the one that KusionStack's controllers leave on pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 317)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub finalizers: Vec<String>,

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
    "rule": "[has(self.builtin), has(self.configMap), has(self.oci)].filter(named, named).size() == 1",
    "message": "name exactly one source: builtin, configMap or oci"
}]))]
pub struct PluginSource {
    /// A component of the host's own image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<BuiltinSource>,

    /// A ConfigMap of the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,

    /// An artifact in an OCI registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
}

/// A component of the host's own image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuiltinSource {
    /// The component's name: `replace`, `restart`, `recreate`, `evict`, `resize`, `label`, `annotate`, `check`,
    /// `debug`.
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

/// A component in an OCI registry: an artifact with a WebAssembly layer, as `wkg`, `oras` and `operon plugin push`
/// push it, or an image with one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// The artifact, by tag or by digest: `registry.example/actions/replace:1.0`,
    /// `registry.example/actions/replace@sha256:…`.
    #[schemars(length(min = 3, max = 512))]
    pub reference: String,

    /// Whether a tag is followed. `IfNotPresent`: the tag is resolved once, its digest stands in the status, and the
    /// condition `TagMoved` reports that the tag names another artifact now. `Always`: the tag is read every five
    /// minutes, and what it names is loaded.
    #[serde(default)]
    pub pull_policy: PullPolicy,

    /// Secrets of the operator's namespace, of the type `kubernetes.io/dockerconfigjson`, with credentials for the
    /// registry. The host may read the Secrets that the chart's value `oci.pullSecrets` names. The
    /// `imagePullSecrets` of the plugin's ServiceAccount come after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pull_secrets: Vec<PullSecret>,

    /// The certificate authority of the registry, if it is not a public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<CertificateAuthority>,

    /// Use HTTP without TLS. Without a signature or a `digest`, whoever can change the traffic decides which code
    /// runs.
    #[serde(default)]
    pub plain_http: bool,
}

impl OciSource {
    /// Whether the reference names an artifact by a tag, which can be moved.
    pub fn has_tag(&self) -> bool {
        !self.reference.contains('@')
    }
}

/// Whether a tag is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PullPolicy {
    /// The tag is resolved once.
    #[default]
    IfNotPresent,
    /// What the tag names is loaded.
    Always,
}

/// A Secret of the operator's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The certificate authority of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAuthority {
    /// A ConfigMap of the operator's namespace with certificates in PEM.
    pub config_map: CertificateConfigMap,
}

/// A ConfigMap of the operator's namespace with certificates in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateConfigMap {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in `data`.
    #[serde(default = "default_certificate_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_certificate_key() -> String {
    "ca.crt".to_owned()
}

fn default_key() -> String {
    "plugin.wasm".to_owned()
}

/// The signatures that a component must have: one by any of the keys, or by any of the identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.keys) || has(self.identities)",
    "message": "set keys, identities or both"
}]))]
pub struct Verification {
    /// Public keys in PEM (`-----BEGIN PUBLIC KEY-----`). A signature by one of them is accepted, in a Sigstore
    /// bundle as `cosign` writes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 4096)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub keys: Vec<String>,

    /// Identities that sign without a key of their own (keyless). A signature by one of them is accepted, in a
    /// Sigstore bundle as `cosign` writes it, with a certificate and an entry of a transparency log. The host
    /// needs a trust root: the chart's value `verification.trustedRoot`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub identities: Vec<Identity>,
}

/// Who signed, as a certificate of the trust root's certificate authority says. Both fields must be equal to
/// the certificate's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The URL of the OpenID Connect provider that authenticated the signer, for example
    /// `https://token.actions.githubusercontent.com`.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,

    /// The signer: the subject alternative name of the certificate, which is an email address or a URI. That of a
    /// GitHub workflow is `https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@REF`.
    #[schemars(length(min = 1, max = 1024))]
    pub subject: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { issuer, subject } = self;
        write!(to, "{subject} ({issuer})")
    }
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

/// An artifact of an OCI registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// The reference that was resolved.
    pub reference: String,

    /// The digest of the manifest that the reference named, `sha256:` and 64 hexadecimal digits.
    pub manifest: String,
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

    /// The keys and identities by which the signatures of this component were verified: a key as `sha256:` and the
    /// digest of the public key's DER form, an identity as `SUBJECT (ISSUER)`. Empty if no signature was required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub signers: Vec<String>,

    /// Where the component came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,

    /// The artifact of an OCI registry that was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,

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
