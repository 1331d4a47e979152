//! Every label, annotation, `extra_info` key and reason of this action, once. Those of `CollaSets` are
//! `KusionStack`'s and stay as they are; the others are ours.

/// Label on a released origin: the uid of the `ReplicaSet` it was released from.
pub const RELEASED_FROM: &str = "replace.operon.dev/released-from";
/// Annotation on a released origin: the data to put it back (see `mark.rs`).
pub const ORIGIN: &str = "replace.operon.dev/origin";
/// Label on a new pod: the uid of the pod that it replaces. Annotation of the same key: that pod's name.
pub const REPLACES: &str = "replace.operon.dev/replaces";
/// Label on a pod that a job has marked and must finish or put back, annotation on a copy: the job's uid.
/// Only that job undoes it, or another once that job does not exist any more.
pub const JOB: &str = "replace.operon.dev/job";
/// Annotation on a copy: the name that its own copies derive their names from.
pub const BASE_NAME: &str = "replace.operon.dev/base-name";

/// The label by which a `ReplicaSet` of a Deployment distinguishes its pods from its siblings'.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotation of Kubernetes: which pods a `ReplicaSet` removes first. Replace never sets it.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Label on an origin: replace this pod.
pub const TO_REPLACE: &str = "collaset.kusionstack.io/to-replace";
/// Label on an origin: it is being replaced by an update.
pub const REPLACED_BY_UPDATE: &str = "collaset.kusionstack.io/replaced-by-replace-update";
/// Label on a pod: it is to be deleted, through its lifecycle.
pub const TO_DELETE: &str = "collaset.kusionstack.io/to-delete";
/// Label on an origin: the instance id of its new pod.
pub const PAIR_NEW_ID: &str = "collaset.kusionstack.io/replace-pair-new-id";
/// Label on a new pod: the name of its origin.
pub const PAIR_ORIGIN_NAME: &str = "collaset.kusionstack.io/replace-pair-origin-name";
/// Finalizer that `KusionStack`'s OperationJob controller puts on an origin. We only remove it.
pub const PROTECTED: &str = "finalizer.operationjob.kusionstack.io/replace-protected";
/// Label that Operon's `CollaSet` controller sets on a new pod, and never removes: the uid of its origin.
pub const CREATED_FOR: &str = "operon.dev/replaces";
/// Annotation on every pod that Operon's `CollaSet` controller has created.
pub const CREATION: &str = "operon.dev/creation";
/// Label on every pod of a `CollaSet`: the name of its revision. A new pod has the one of its origin.
pub const REVISION: &str = "controller-revision-hash";
/// Label on every pod of a `CollaSet`.
pub const INSTANCE_ID: &str = "collaset.kusionstack.io/instance-id";
/// Label on a pod that serves; its presence counts.
pub const SERVICE_AVAILABLE: &str = "podopslifecycle.kusionstack.io/service-available";

/// The domain of the labels of the pod lifecycle; those of one operation have it with a prefix.
pub const LIFECYCLE: &str = "podopslifecycle.kusionstack.io";

/// Label on a pod: it must stay out of service.
pub const STAY_OFFLINE: &str = "podopslifecycle.kusionstack.io/stay-offline";

/// Label on a pod after its deletion through its lifecycle has started: it does not become available any
/// more.
pub const DELETION_BEGUN: &str = "operating.podopslifecycle.kusionstack.io/pod-delete";

/// `extra_info`: the name of the pod that replaces the target's.
pub const NEW_POD: &str = "NewPod";
/// `extra_info`: the `ReplicaSet` or `CollaSet` of a target that is not finished (see `gone.rs`).
pub const OWNER: &str = "Owner";
/// `extra_info`: why the target has to wait for another replacement to end.
pub const NOT_ALLOWED: &str = "NotAllowedToReplaceNewPod";

/// The pod was set up by a job that does not exist any more, or by another controller: this job continues.
pub const TAKEN_OVER: &str = "TakenOver";
/// The target's pod does not exist, and there is no sign that it was replaced.
pub const POD_NOT_FOUND: &str = "PodNotFound";
/// The kind of the pod's controller can't have a new pod before the old one is deleted.
pub const UNSUPPORTED_OWNER: &str = "UnsupportedOwner";
/// The pod's controller wants fewer pods by now, and will not create a new one.
pub const OWNER_SCALED_DOWN: &str = "OwnerScaledDown";
/// There is no new pod yet.
pub const WAITING_FOR_NEW_POD: &str = "WaitingForNewPod";
/// The new pod is there and not ready.
pub const NEW_POD_NOT_READY: &str = "NewPodNotReady";
/// The released pod got its label back from another client.
pub const ORIGIN_PUT_BACK: &str = "OriginPutBack";
/// Several `PodDisruptionBudgets` select the pod, so no eviction is ever allowed.
pub const SEVERAL_BUDGETS: &str = "SeveralDisruptionBudgets";
/// The new pod ended before it was ready.
pub const NEW_POD_FAILED: &str = "NewPodFailed";
/// The new pod was deleted, and no pod replaces it.
pub const NEW_POD_NOT_FOUND: &str = "NewPodNotFound";
