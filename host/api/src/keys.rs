//! Every label, annotation, finalizer and field manager of Operon, each written once.

/// Holds an OperationJob until its targets are released. The name is upstream's, so that a job moves
/// between the Go operator and Operon without a stuck finalizer.
pub const OPERATION_JOB_FINALIZER: &str = "finalizer.operating.kusionstack.io/protected";

/// The field manager of what the OperationJob controller writes.
pub const OPERATION_JOB_MANAGER: &str = "operon-operationjob";

/// The field manager of what the ActionPlugin controller writes.
pub const ACTION_PLUGIN_MANAGER: &str = "operon-actionplugin";

/// The field manager prefix of an action's own effects: `operon-action-<plugin>`.
pub const ACTION_MANAGER_PREFIX: &str = "operon-action-";

/// On a ServiceAccount of the operator's namespace, a label: an action may act as it. The value is `true`.
pub const ACTION_ACCOUNT: &str = "operon.dev/action-account";

/// On an ActionPlugin, a label: the host of this shard loads it, and no other. One without it is loaded by the host
/// without a shard.
pub const SHARD: &str = "operon.dev/shard";

/// The component name under which Operon's Events appear.
pub const EVENT_COMPONENT: &str = "operon";

/// Holds a ReactiveJob until its Jobs are deleted, and its newest Job until there is a newer one. The name
/// is SAP's, as are those of the two labels and two annotations: its Jobs are taken over as they are.
pub const REACTIVE_JOB_FINALIZER: &str = "batch.cs.sap.com/reactivejob-operator";

/// On a Job: the uid of its ReactiveJob.
pub const CONTROLLER_UID: &str = "batch.cs.sap.com/controller-uid";

/// On a Job: the name of its ReactiveJob.
pub const CONTROLLER_NAME: &str = "batch.cs.sap.com/controller-name";

/// On a Job: the `metadata.generation` of its ReactiveJob when the Job was created.
pub const CONTROLLER_GENERATION: &str = "batch.cs.sap.com/controller-generation";

/// On a Job: the hash of the template that it was created from.
pub const CONTROLLER_HASH: &str = "batch.cs.sap.com/controller-hash";

/// On a Job: the hash of the template that it was created from, in the form in which an API server stores
/// it.
pub const TEMPLATE_HASH: &str = "operon.dev/template-hash";

/// On a Job: the hash of `spec.template` in the template that it was created from.
pub const POD_TEMPLATE_HASH: &str = "operon.dev/pod-template-hash";

/// On a Job: the ConfigMaps and Secrets that it was created for, with their digests, as a JSON object.
pub const CONFIG: &str = "operon.dev/config";

/// On a Job: its number among the Jobs of its ReactiveJob; the newest has the highest.
pub const RUN: &str = "operon.dev/run";

/// On a Job: why it was created.
pub const RUN_REASON: &str = "operon.dev/run-reason";

/// On a Job: which attempt it is, counted from 1: of the same template of a ReactiveJob, of a step, of a
/// node. Of a DaemonJob it is on its pods too.
pub const RUN_ATTEMPT: &str = "operon.dev/run-attempt";

/// On a Job of a JobFlow or DaemonJob: how many Jobs of its step or node failed before it. Only they use up
/// `retry.limit`; deleted Jobs do not.
pub const FAILURES: &str = "operon.dev/failures";

/// On a Job of a ReactiveJob: the template's values of the fields that are changed in place, as a JSON
/// object. A field is written again only when its value in the template changes.
pub const APPLIED: &str = "operon.dev/applied";

/// On a Job: the uid of the Job before; its name is derived from it.
pub const RUN_AFTER: &str = "operon.dev/run-after";

/// On a Job that another operator created: its own uid. A copy of it has another.
pub const ADOPTED: &str = "operon.dev/adopted";

/// On a ReactiveJob: another value than before runs its Job again. On a Job: the value that it ran for.
pub const RERUN: &str = "operon.dev/rerun";

/// The field manager of what the ReactiveJob controller writes.
pub const REACTIVE_JOB_MANAGER: &str = "operon-reactivejob";

/// On a Job of a JobFlow or DaemonJob, a label: the uid of that object. Of a DaemonJob it is on the pods too.
pub const OWNER_UID: &str = "operon.dev/owner-uid";

/// On a Job of a JobFlow, a label: the name of its step.
pub const STEP: &str = "operon.dev/step";

/// On a Job of a DaemonJob, and on its pods, a label: the uid of its node.
pub const NODE_UID: &str = "operon.dev/node-uid";

/// On a Job of a DaemonJob, and on its pods: the name of its node.
pub const NODE_NAME: &str = "operon.dev/node-name";

/// On a Job of a DaemonJob with waves: the wave in which its node got it.
pub const WAVE: &str = "operon.dev/wave";

/// On a Job of a JobFlow or DaemonJob: a digest of the spec that it was created from. For a DaemonJob it is
/// on the pods too.
pub const REVISION: &str = "operon.dev/revision";

/// On a Job of a JobFlow or DaemonJob: its `ttlSecondsAfterFinished`, which it gets when its result is
/// written down.
pub const TTL: &str = "operon.dev/ttl-seconds-after-finished";

/// On a Job of a JobFlow that was created from a JobTemplate: `<namespace>.<name>` of the JobTemplate. The
/// key is job-deploy-operator's.
pub const JOB_TEMPLATE: &str = "createByJobTemplate";

/// On a JobFlow or DaemonJob: another value than before runs again what failed.
pub const RETRY: &str = "operon.dev/retry";

/// On a Job: Operon suspended it, because its object or its template requires it. A Job that is suspended
/// without this annotation is held by another controller or by a user.
pub const SUSPENDED: &str = "operon.dev/suspended";

/// The value of `spec.managedBy` that names Operon; absent means the same.
pub const MANAGED_BY: &str = "operon.dev/operon";

/// On a pod, a label: it takes part in the PodOpsLifecycle. The key, like those of a CollaSet's pods, is
/// KusionStack's.
pub const CONTROL: &str = "kusionstack.io/control";

/// On a pod of a CollaSet, a label: its number; unique among the pods that are not being deleted.
pub const INSTANCE_ID: &str = "collaset.kusionstack.io/instance-id";

/// On a pod of a CollaSet, a label: the ControllerRevision that it was created from.
pub const CONTROLLER_REVISION: &str = "controller-revision-hash";

/// On a pod of a CollaSet, a label: the pod shall be replaced.
pub const TO_REPLACE: &str = "collaset.kusionstack.io/to-replace";

/// On a pod of a CollaSet that is replaced, a label: the number of the new pod.
pub const PAIR_NEW_ID: &str = "collaset.kusionstack.io/replace-pair-new-id";

/// On a new pod of a CollaSet, a label: the name of the pod that it replaces.
pub const PAIR_ORIGIN_NAME: &str = "collaset.kusionstack.io/replace-pair-origin-name";

/// On a pod of a CollaSet that was created to replace another one, a label: the uid of that pod. It stays, so
/// that whoever did not see the pair knows its outcome.
pub const REPLACES: &str = "operon.dev/replaces";

/// On a pod of a CollaSet that is replaced for an update, a label: the ControllerRevision of the new pod.
pub const REPLACED_BY_UPDATE: &str = "collaset.kusionstack.io/replaced-by-replace-update";

/// On a pod of a CollaSet with `byLabel`, a label: the pod gets the template.
pub const UPDATE_INCLUDED: &str = "collaset.kusionstack.io/update-included";

/// On a pod of a CollaSet that is updated in place: which containers it had before, as a JSON object.
pub const IN_PLACE_UPDATE: &str = "operon.dev/in-place-update";

/// On a pod that KusionStack's controller updates in place: which images its containers had before, as a JSON
/// object. Operon takes the update over.
pub const LAST_POD_STATUS: &str = "collaset.kusionstack.io/last-pod-status";

/// On a pod, a label: the pod is deleted as soon as it is out of service.
pub const TO_DELETE: &str = "collaset.kusionstack.io/to-delete";

/// Holds a CollaSet until its pods are deleted. The name is KusionStack's, so that a CollaSet moves between the
/// two operators without a stuck finalizer.
pub const COLLA_SET_FINALIZER: &str = "apps.kusionstack.io/pre-reclaim";

/// On a pod that was excluded from its CollaSet, a label: no CollaSet adopts it by its selector.
pub const ORPHANED: &str = "collaset.kusionstack.io/orphaned";

/// On a PersistentVolumeClaim of a CollaSet, a label: the claim template that it was created from.
pub const CLAIM_TEMPLATE: &str = "collaset.kusionstack.io/pvc-template-name";

/// On a PersistentVolumeClaim of a CollaSet, a label: the hash of the claim template that it was created from.
pub const CLAIM_HASH: &str = "collaset.kusionstack.io/pvc-template-hash";

/// On a PersistentVolumeClaim: the uid of the CollaSet that uses it. Without an owner reference, this says whose it
/// is.
pub const CLAIM_OF: &str = "operon.dev/claim-of";

/// On a ControllerRevision of a CollaSet, a label: the digest of what it holds.
pub const REVISION_DIGEST: &str = "controller.kubernetes.io/hash";

/// On a pod of a CollaSet: the uid of the CollaSet that created it, and how many pods that had created with
/// this one, as `<uid>/<count>`.
pub const CREATION: &str = "operon.dev/creation";

/// The id of a CollaSet's own operations on its pods.
pub const COLLA_SET_OPERATION: &str = "collaset";

/// The ServiceAccount, and the field manager, of what the CollaSet controller writes.
pub const COLLA_SET_MANAGER: &str = "operon-collaset";

/// The ServiceAccount, and the field manager, of what the PodOpsLifecycle controller writes.
pub const POD_OPS_LIFECYCLE_MANAGER: &str = "operon-podopslifecycle";

/// The field manager of the status of PodTransitionRules.
pub const POD_TRANSITION_RULE_MANAGER: &str = "operon-podtransitionrule";

/// On a pod, the prefix of annotations: `<prefix>/<PodTransitionRule>` says why the pod waits for that, as a JSON
/// object. The key is KusionStack's, like the next.
pub const TRANSITION_DETAIL: &str = "detail.podtransitionrule.kusionstack.io";

/// On a pod: the rules of PodTransitionRules that are not checked for it, as a JSON object.
pub const SKIP_RULES: &str = "podtransitionrule.kusionstack.io/skip-rule-conditions";

/// On an object and on its Jobs, a label: the Kueue queue that admits the Jobs. The key is Kueue's.
pub const QUEUE_NAME: &str = "kueue.x-k8s.io/queue-name";

/// The field managers of what the controllers of JobFlow, JobTemplate and DaemonJob write.
pub const JOB_FLOW_MANAGER: &str = "operon-jobflow";
/// See [`JOB_FLOW_MANAGER`].
pub const JOB_TEMPLATE_MANAGER: &str = "operon-jobtemplate";
/// See [`JOB_FLOW_MANAGER`].
pub const DAEMON_JOB_MANAGER: &str = "operon-daemonjob";
