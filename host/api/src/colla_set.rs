//! CollaSet: a set of identical pods whose operations take part in the PodOpsLifecycle.
//!
//! Group, kind and fields are those of KusionStack's `apps.kusionstack.io/v1alpha1`. A field that Operon
//! does not support is refused by a rule, never ignored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, ResourceExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::embedded::{PodTemplateSpec, VolumeClaimTemplate};

/// How many revisions are kept that no pod has, unless `historyLimit` is set.
pub const HISTORY_LIMIT: i32 = 20;

/// A set of identical pods.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "apps.kusionstack.io",
    version = "v1alpha1",
    kind = "CollaSet",
    plural = "collasets",
    shortname = "cls",
    namespaced,
    status = "CollaSetStatus",
    derive = "PartialEq",
    derive = "Default",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    doc = "A set of identical pods. Scaling in, updates and replacements take a pod out of service first, by the PodOpsLifecycle.",
    printcolumn(name = "DESIRED", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "CURRENT", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(
        name = "AVAILABLE",
        type_ = "integer",
        json_path = ".status.availableReplicas"
    ),
    printcolumn(
        name = "UPDATED",
        type_ = "integer",
        json_path = ".status.updatedReplicas"
    ),
    printcolumn(
        name = "UPDATED_READY",
        type_ = "integer",
        json_path = ".status.updatedReadyReplicas"
    ),
    printcolumn(
        name = "UPDATED_AVAILABLE",
        type_ = "integer",
        json_path = ".status.updatedAvailableReplicas"
    ),
    printcolumn(
        name = "CURRENT_REVISION",
        type_ = "string",
        json_path = ".status.currentRevision"
    ),
    printcolumn(
        name = "UPDATED_REVISION",
        type_ = "string",
        json_path = ".status.updatedRevision"
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "IMAGES",
        type_ = "string",
        json_path = ".spec.template.spec.containers[*].image",
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
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.scaleStrategy) && has(self.scaleStrategy.context) ? self.scaleStrategy.context : '') == \
        (has(oldSelf.scaleStrategy) && has(oldSelf.scaleStrategy.context) ? oldSelf.scaleStrategy.context : '')",
    "message": "scaleStrategy.context can't be changed: the pods have ids of this context",
    "fieldPath": ".scaleStrategy"
}]))]
pub struct CollaSetSpec {
    /// How many pods there are. A pod and the new pod that replaces it count as one.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Which pods belong to the CollaSet. It must match the labels of the template.
    pub selector: LabelSelector,

    /// The pods. Each gets the readiness gate `pod.kusionstack.io/service-ready`.
    pub template: PodTemplateSpec,

    /// While this is true, Operon creates, changes and scales in no pod. A pod that is marked for deletion is
    /// deleted nevertheless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// How many revisions are kept that no pod has. 20 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub history_limit: Option<i32>,

    /// How pods get an edited template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,

    /// Which pods are deleted, excluded and included, and which ids the pods have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_strategy: Option<ScaleStrategy>,

    /// Which names the pods have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming_strategy: Option<NamingStrategy>,

    /// The PersistentVolumeClaims that each pod gets, one of each template. A pod that comes back with its number
    /// mounts the same claims again. The pod gets a volume with the name of the template, which replaces a volume
    /// of this name in the pod template. After an edit of a template, pods are created again, with new claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-validations" = [{
        "rule": "self.all(one, self.exists_one(other, other.metadata.name == one.metadata.name))",
        "message": "two volumeClaimTemplates have the same metadata.name"
    }]))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
}

impl CollaSet {
    /// How the names of new pods end.
    pub fn naming(&self) -> PodNamingSuffixPolicy {
        let strategy = self.spec.naming_strategy.as_ref();
        let policy = strategy.and_then(|strategy| strategy.pod_naming_suffix_policy);
        policy.unwrap_or_default()
    }

    /// How many pods stay at the previous revision.
    pub fn partition(&self) -> usize {
        let rolling = self.rolling_update();
        let partition = rolling.and_then(|rolling| rolling.by_partition.as_ref()?.partition);
        usize::try_from(partition.unwrap_or(0)).unwrap_or(0)
    }

    /// Whether only pods with the label `collaset.kusionstack.io/update-included` are updated.
    pub fn is_updated_by_label(&self) -> bool {
        let rolling = self.rolling_update();
        rolling.is_some_and(|rolling| rolling.by_label.is_some())
    }

    fn rolling_update(&self) -> Option<&RollingUpdate> {
        self.spec.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    /// What happens to claims when the CollaSet is deleted.
    pub fn claims_when_deleted(&self) -> ClaimRetention {
        self.claim_retention().when_deleted.unwrap_or_default()
    }

    /// What happens to claims of pods that are scaled in.
    pub fn claims_when_scaled(&self) -> ClaimRetention {
        self.claim_retention().when_scaled.unwrap_or_default()
    }

    fn claim_retention(&self) -> ClaimRetentionPolicy {
        let strategy = self.spec.scale_strategy.as_ref();
        let policy =
            strategy.and_then(|strategy| strategy.persistent_volume_claim_retention_policy);
        policy.unwrap_or_default()
    }

    /// The name of the ResourceContext that holds the ids of its pods.
    pub fn context_name(&self) -> String {
        let strategy = self.spec.scale_strategy.as_ref();
        let context = strategy.and_then(|strategy| strategy.context.clone());
        context
            .filter(|context| !context.is_empty())
            .unwrap_or_else(|| self.name_any())
    }
}

/// Which names the pods have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamingStrategy {
    /// How the names of new pods end. Random (the default): in five characters that differ from pod to pod.
    /// PersistentSequence: in the instance id, so a pod that comes back has its previous name; it is created
    /// when the previous pod is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_naming_suffix_policy: Option<PodNamingSuffixPolicy>,
}

/// How the names of new pods end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PodNamingSuffixPolicy {
    /// In five characters that differ from pod to pod.
    #[default]
    Random,
    /// In the instance id.
    PersistentSequence,
}

/// Which pods are deleted, excluded and included, and which ids the pods have. No pod is in two of the lists. A
/// name stays in its list until you remove it; the name of a pod that does not exist any more has no effect.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    disjoint("podToDelete", "podToExclude"),
    disjoint("podToDelete", "podToInclude"),
    disjoint("podToExclude", "podToInclude"),
]))]
pub struct ScaleStrategy {
    /// The names of pods to delete, through the PodOpsLifecycle. They are the first that a scale-in deletes; those
    /// that are deleted beyond that are replaced by new pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "pod_names")]
    pub pod_to_delete: Vec<String>,

    /// The names of pods to exclude: they keep running without a controller, and are not adopted again unless
    /// `podToInclude` names them. To create no other pods instead, lower `replicas` in the same edit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "pod_names")]
    pub pod_to_exclude: Vec<String>,

    /// The names of pods without a controller to adopt, even if the selector does not select them. Such a pod
    /// belongs to the CollaSet as long as it is named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "pod_names")]
    pub pod_to_include: Vec<String>,

    /// How many seconds pass between the moment when a pod is out of service and its deletion by a scale-in.
    /// 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub operation_delay_seconds: Option<i32>,

    /// The name of the ResourceContext that holds the ids of the pods. The pods of all CollaSets of a namespace
    /// that name the same one have different ids. The name of the CollaSet unless set. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")
    )]
    pub context: Option<String>,

    /// What happens to the PersistentVolumeClaims of `volumeClaimTemplates` when pods or the CollaSet are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_retention_policy: Option<ClaimRetentionPolicy>,
}

/// What happens to PersistentVolumeClaims when they are not needed any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRetentionPolicy {
    /// What happens to the claims when the CollaSet is deleted. Delete (the default): they are deleted with it.
    /// Retain: they stay, without an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "claim_retention")]
    pub when_deleted: Option<ClaimRetention>,

    /// What happens to the claims of a pod that is scaled in, and to those of an edited template. Delete (the
    /// default): they are deleted when the pod is gone. Retain: they stay, and a pod that gets the number of the
    /// pod mounts them again. The claims of a pod that was replaced are deleted in either case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "claim_retention")]
    pub when_scaled: Option<ClaimRetention>,
}

/// What happens to a PersistentVolumeClaim when it is not needed any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ClaimRetention {
    /// It is deleted.
    #[default]
    Delete,
    /// It stays.
    Retain,
}

/// The schema of a [`ClaimRetention`], which leaves the description to the field.
fn claim_retention(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Delete", "Retain"]})
}

/// Names of pods, each once. Rules compare each name with each: their number is limited.
fn pod_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": 253},
        "maxItems": 200,
        "x-kubernetes-list-type": "set",
    })
}

/// The rule that no name is in both lists.
fn disjoint(one: &str, other: &str) -> Value {
    json!({
        "rule": format!("!has(self.{one}) || !has(self.{other}) || self.{one}.all(name, !(name in self.{other}))"),
        "message": format!("{one} and {other} must not name the same pod"),
    })
}

/// How pods get an edited template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Which pods get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,

    /// How a pod gets it. InPlaceIfPossible (the default): images, labels, annotations, and CPU and memory of
    /// containers are changed in the pod; for any other change the pod is created again. InPlaceOnly: as
    /// before, but pods that would have to be created again stay as they are. Recreate: the pod is deleted and
    /// created again. Replace: a new pod is created first, and the old one is deleted when the new one serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_upgrade_policy: Option<PodUpgradePolicy>,

    /// How many seconds pass between the moment when a pod is out of service and its update. 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub operation_delay_seconds: Option<i32>,
}

/// Which pods get an edited template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.byLabel) || !has(self.byPartition)",
    "message": "byLabel and byPartition must not both be set",
}]))]
pub struct RollingUpdate {
    /// All but a number of pods. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_partition: Option<ByPartition>,

    /// Only pods with the label `collaset.kusionstack.io/update-included`, which a pod loses when its update has
    /// finished. Not together with `byPartition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_label: Option<ByLabel>,
}

/// Only pods with a label. It has no fields.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ByLabel {}

/// All but a number of pods.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ByPartition {
    /// How many pods stay at the previous revision. 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub partition: Option<i32>,
}

/// How a pod gets an edited template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PodUpgradePolicy {
    /// The pod is changed where that is possible, and created again otherwise.
    #[default]
    InPlaceIfPossible,
    /// The pod is changed where that is possible, and stays as it is otherwise.
    InPlaceOnly,
    /// The pod is deleted and created again.
    Recreate,
    /// A new pod is created, and the old one is deleted when the new one serves.
    Replace,
}

/// The status of a CollaSet. Counts are of pods that neither have finished nor are being deleted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollaSetStatus {
    /// The `metadata.generation` that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The name of the ControllerRevision that the pods had before the last edit of the template. It becomes
    /// `updatedRevision` when as many pods as desired are updated and Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,

    /// The name of the ControllerRevision of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_revision: Option<String>,

    /// `spec.selector` as text, for the subresource `scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// How many pods there are.
    #[serde(default)]
    pub replicas: i32,

    /// How many pods have a node.
    #[serde(default)]
    pub scheduled_replicas: i32,

    /// How many pods are Ready.
    #[serde(default)]
    pub ready_replicas: i32,

    /// How many pods serve: they have the label `podopslifecycle.kusionstack.io/service-available`.
    #[serde(default)]
    pub available_replicas: i32,

    /// How many pods have the revision of the template.
    #[serde(default)]
    pub updated_replicas: i32,

    /// How many of the updated pods are Ready.
    #[serde(default)]
    pub updated_ready_replicas: i32,

    /// How many of the updated pods serve.
    #[serde(default)]
    pub updated_available_replicas: i32,

    /// How many pods an operation of the CollaSet itself takes out of service.
    #[serde(default)]
    pub operating_replicas: i32,

    /// How many pods are being deleted.
    #[serde(default)]
    pub terminating_replicas: i32,

    /// How many pods were created so far. The names of pods are derived from it, so that no name is used
    /// again.
    #[serde(default)]
    pub created_pods: i64,

    /// `Ready`, `Reconciling` and `Stalled` as kstatus reads them; `Available`: as many pods as desired
    /// serve; `Scale`: there are as many pods as desired; `Update`: all pods have the revision of the
    /// template. `StandingDown`: Operon writes nothing, because KusionStack's controllers run; present
    /// only then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
