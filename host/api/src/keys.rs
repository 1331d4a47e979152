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

/// The component name under which Operon's Events appear.
pub const EVENT_COMPONENT: &str = "operon";
